"""Data: readers by name, and the way from a config to checked examples in three splits that share none."""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.artifact import digest_file
from tasks.contract.errors import DataError
from tasks.data.artifact import DataArtifact
from tasks.data.config import TREATMENT, DataConfig, ReaderName
from tasks.data.dataset import Dataset
from tasks.data.heads import Head, Input
from tasks.data.opening import read_dataset
from tasks.data.readers import (
    digits,
    folder,
    function,
    huggingface,
    keras_datasets,
    npz,
    parquet,
    shapes,
    sklearn_sets,
    table,
    tfds,
    tfrecord,
)
from tasks.data.remote import addresses_shown
from tasks.data.source import OPTIONAL, Reader
from tasks.data.splits import SPLITS, Split
from tasks.data.tables.slimline_columns import as_json

__all__ = [
    "READERS",
    "SPLITS",
    "DataArtifact",
    "DataConfig",
    "Dataset",
    "Reader",
    "Split",
    "content",
    "describe",
    "fingerprint",
    "open_data",
    "open_prepared",
]

READERS: dict[ReaderName, Reader] = {
    "digits": digits.READER,
    "shapes": shapes.READER,
    "sklearn": sklearn_sets.READER,
    "keras": keras_datasets.READER,
    "npz": npz.READER,
    "parquet": parquet.READER,
    "folder": folder.READER,
    "table": table.READER,
    "tfrecord": tfrecord.READER,
    "huggingface": huggingface.READER,
    "tfds": tfds.READER,
    "function": function.READER,
}


@addresses_shown()
def fingerprint(config: DataConfig) -> str:
    """The digest of what `open_data` would read, without decoding it: equal as long as the data set is; sha256, hex.

    Covers the content of every file (never its place), what else the reader's result depends on, and the config but for
    `treatment`, which decides nothing about the examples.

    Raises:
        DataError: a file that is not there, or a folder that is laid out in no known way.

    """
    reader = reader_of(config)
    read = {
        "config": config.model_dump(
            mode="json",
            exclude={
                **dict.fromkeys((*TREATMENT, "source", "test_source"), True),
                "heads": {"__all__": {"weight", "loss"}},
                "table": {"vocabulary"},  # a path too: its content is among the files'
            },
        ),
        "identity": reader.identity(config),
        "files": {name: digest_file(path) for name, path in reader.files(config).items()},
    }
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def open_prepared(data: DataArtifact) -> Dataset:
    """The data set that a run prepared, read again from where its config says.

    Raises:
        DataError: it cannot be read, or is another one now.

    """
    opened = open_data(data.config)
    if opened.digest != data.digest:
        source = data.config.source or data.config.reader
        raise DataError(
            "data.source",
            source,
            "has changed since this run began: start it again. A function gives the same examples in the same order "
            "each time",
        )
    return opened


def content(config: DataConfig) -> str:
    """What a stage's key holds of the data: as `fingerprint`, or what was read where only reading tells that.

    So a function of the user's own is called once, and not again for a key.
    """
    return open_data(config).digest if READERS[config.reader].called else fingerprint(config)


@addresses_shown()
def open_data(config: DataConfig, *, anew: bool = False) -> Dataset:
    """Reads, checks and splits. The last data set is kept, so that the stages of one process read it once.

    `anew` forgets what a function of the user's own returned before: it may return something else by now.

    Raises:
        DataError: the data cannot be trained on; names the field, the value, and the way out.

    """
    reader = reader_of(config)
    if anew and reader.called:
        _opened.cache_clear()
    files = reader.files(config)
    stamps = tuple((name, str(path), path.stat().st_size, path.stat().st_mtime_ns) for name, path in files.items())
    return _opened(config, stamps, str(Path.cwd()))


@lru_cache(maxsize=1)
def _opened(config: DataConfig, stamps: tuple[tuple[str, str, int, int], ...], directory: str) -> Dataset:  # noqa: ARG001 - the key
    return read_dataset(READERS[config.reader].read(config), config)


def reader_of(config: DataConfig) -> Reader:
    """The config's reader.

    Raises:
        DataError: the config sets a field that this reader would pass over.

    """
    reader = READERS[config.reader]
    for field in OPTIONAL:
        value = getattr(config, field)
        if field not in reader.fields and value != DataConfig.model_fields[field].default:
            raise DataError(f"data.{field}", value, f"the reader {config.reader!r} does not use this; leave it out")
    return reader


def _balance(targets: np.ndarray, head: Head) -> dict[str, int]:
    """How often each class, or each of several labels, stands in targets, by its name."""
    if head.problem == "multilabel":
        counts = targets.sum(axis=0).astype(int)
    else:
        counts = np.bincount(targets.reshape(-1), minlength=len(head.classes))
    return dict(zip(head.classes, counts.tolist(), strict=True))


def describe(dataset: Dataset) -> dict[str, Any]:
    """What a person wants to know of a data set before trusting it, as JSON values.

    Of several inputs or outputs what is said of one is said of the first, and `heads` and `inputs_like` say it of each.
    """
    summary: dict[str, Any] = {
        "reader": dataset.config.reader,
        "digest": dataset.digest,
        "counts": dict(dataset.counts),
        "duplicates": dataset.duplicates,
        "streamed": dataset.streamed,
        **_of_input(dataset, dataset.inputs[0]),
        **_of_head(dataset, dataset.heads[0]),
    }
    if dataset.groups:
        summary["groups"] = {split: len(np.unique(groups)) for split, groups in dataset.groups.items()}
    if len(dataset.inputs) > 1:
        summary["input_shapes"] = {name: list(shape) for name, shape in dataset.input_shapes.items()}
        summary["inputs_like"] = {each.name: _of_input(dataset, each) for each in dataset.inputs}
    if len(dataset.heads) > 1:
        summary["heads"] = [head.model_dump(mode="json") for head in dataset.heads]
        summary["heads_like"] = {head.name: _of_head(dataset, head) for head in dataset.heads}
    named = {
        "columns": dataset.columns,
        "encoding": tuple(map(as_json, dataset.encoding)),
        "notes": dataset.notes,
    }
    return summary | {name: list(values) for name, values in named.items() if values}


def _of_input(dataset: Dataset, one: Input) -> dict[str, Any]:
    return {
        "input_shape": list(one.shape),
        "dtype": one.dtype.name,
        "mean": one.mean.tolist(),
        "std": one.std.tolist(),
        "minimum": one.minimum,
        "maximum": one.maximum,
        "scaling": dataset.scaling(one.name),
    }


def _of_head(dataset: Dataset, head: Head) -> dict[str, Any]:
    summary: dict[str, Any] = {"problem": head.problem, "output_shape": list(head.output_shape)}
    if head.target_columns:
        summary["target_columns"] = list(head.target_columns)
    if not head.classes:
        return summary | {"variance": head.variance}
    balance = {split: _balance(head.of(dataset.targets[split]), head) for split in SPLITS}
    return summary | {"classes": list(head.classes), "balance": balance}
