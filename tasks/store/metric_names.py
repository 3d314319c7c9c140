"""Names of metrics as MLflow takes them: a column of a table may be called anything."""

import re

LONGEST = 250  # what MLflow's database has room for


def metric_name(name: str) -> str:
    """The name as a plain path, with `_` for what MLflow refuses: `age (years)` becomes `age _years_`."""
    parts = [part for part in re.sub(r"[^\w.\- :/]", "_", name).split("/") if part.strip(". ")]
    return "/".join(parts)[:LONGEST].rstrip("/. ")
