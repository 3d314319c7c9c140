"""A compression that a program has asked for, in a process of its own: `python -m flows.apart RECIPE FAILURE`.

Nothing that imports Prefect is imported here: it reads its settings once, and they are settled by the command.
"""

import json
import sys
from pathlib import Path

from flows import cli
from tasks.contract.errors import InvalidInput, SlimlineError


def main(recipe: str, failure: str) -> int:
    """Run a recipe, print what it ended with as JSON, and put a failure beside; returns what the command returns."""
    return cli.main(["run", recipe, "--json"], failed=lambda error: _keep(error, Path(failure)))


def _keep(error: SlimlineError, file: Path) -> None:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    of = (error.field, error.value, error.remedy) if isinstance(error, InvalidInput) else (str(error),)
    file.write_text(json.dumps({"kinds": kinds, "arguments": of}, default=str))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
