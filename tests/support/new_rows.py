"""New data, read by what travels with a version."""

from typing import Any

from tasks.data import DataConfig, Dataset, describe
from tasks.data.new import open_new
from tasks.data.tables.slimline_columns import from_json


def new_rows(data: Dataset, config: DataConfig, *, labels: bool = True) -> Any:
    """What a data set's profile, as JSON, makes of new data."""
    kept = describe(data)
    return open_new(
        config,
        labels=labels,
        inputs=data.input_shapes,
        heads=data.heads,
        limit=1000,
        columns=kept["columns"],
        encoding=tuple(map(from_json, kept.get("encoding", ()))),
    )
