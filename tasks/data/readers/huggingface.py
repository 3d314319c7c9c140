"""Data sets of Hugging Face's `datasets`, by name, from its cache or the hub: `user/name:config@revision`."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers import images
from tasks.data.readers.images import Encoded, decoder
from tasks.data.source import (
    BESIDE,
    Chunk,
    Part,
    Reader,
    Source,
    as_they_are,
    asked_of,
    chunk_of,
    column_missing,
    decoding,
    digest_of,
    package,
)
from tasks.data.splits import SPLITS

FIELDS = ("source", "input", "target", "image_size", "color", *BESIDE)
CHUNK_ROWS = 256
NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?")
CALLED = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",), "train": ("train",)}


def read(config: DataConfig) -> Source:
    """Images uint8 `(n, height, width, channels)`, or numbers `(n, …)`, of the column `data.input` (`image`).

    Raises:
        DataError: no such data set or column, the package is missing, or texts.

    """
    loaded = loaded_by(config)
    parts, notes = by_split(loaded, config.source)
    features = next(iter(parts.values())).features
    inputs, targets = asked_of(config, "image", "label", features)
    images_in = {name for name in inputs if type(features[name]).__name__ == "Image"}
    for name in images_in:
        parts = {split: part.cast_column(name, undecoded(features[name])) for split, part in parts.items()}
    # labels of several at once, or of numbers, are no places in a list of names
    of = {each.target or "label": each.problem for each in config.of_heads.values()}
    named = {name: tuple(getattr(features[name], "names", None) or ()) for name in targets}
    classes = {name: names for name, names in named.items() if of[name] == "classification"}
    return Source(
        {split: part_of(part, inputs, targets, images_in, config) for split, part in parts.items()},
        () if config.heads else next(iter(classes.values()), ()),
        decoding({name: decoder(config) if name in images_in else as_they_are for name in inputs}),
        notes=notes,
        beside=partial(column_beside, parts),
        classes_of=classes if config.heads else {},
    )


def loaded_by(config: DataConfig) -> Any:
    """The `DatasetDict` of a name."""
    match = NAME.fullmatch(config.source)
    if not match:
        raise DataError("data.source", config.source, "write it as user/name, user/name:config or user/name@revision")
    datasets = package("datasets", "huggingface")
    try:
        return datasets.load_dataset(match["name"], match["config"], revision=match["revision"])
    except Exception as error:  # the library has errors of its own, and of the hub and each file format
        raise DataError(
            "data.source",
            config.source,
            f"datasets cannot load it ({type(error).__name__}: {error}); correct the name, or add its config as "
            "user/name:config",
        ) from error


def by_split(loaded: Any, source: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The splits that are train, validation and test by their names, and a note on those that are none."""
    found = {split: name for split, called in CALLED.items() for name in reversed(called) if name in loaded}
    if "train" not in found:
        raise DataError("data.source", source, f"has no split train; it has {', '.join(loaded)}")
    others = sorted(set(loaded) - set(found.values()))
    notes = (f"Splits that are none of {', '.join(SPLITS)} are left out: {', '.join(others)}.",) if others else ()
    return {split: loaded[name] for split, name in found.items()}, notes


def undecoded(feature: Any) -> Any:
    """The same feature, which gives an image's bytes."""
    return type(feature)(mode=feature.mode, decode=False)


def part_of(part: Any, inputs: list[str], targets: list[str], images_in: set[str], config: DataConfig) -> Part:
    """Streams the rows of a split, which Arrow maps from its file; `images_in` are the inputs that are images."""
    # of all other columns nothing is decoded
    columns = {name: part.select_columns([name]) for name in dict.fromkeys((*inputs, *targets))}
    columns |= {name: each.with_format("numpy") for name, each in columns.items() if name not in images_in}

    def stream() -> Iterator[Chunk]:
        for start in range(0, len(part), CHUNK_ROWS):
            rows = {name: each[start : start + CHUNK_ROWS][name] for name, each in columns.items()}
            x = {
                name: encoded(rows[name], config.source, start) if name in images_in else numbers_of(rows[name], name)
                for name in inputs
            }
            yield chunk_of(x, {name: np.asarray(rows[name]) for name in targets}, config)

    return stream


def numbers_of(values: np.ndarray, name: str) -> np.ndarray:
    """An input of numbers, `(n, …)`.

    Raises:
        DataError: it holds something else.

    """
    if values.dtype.kind in "OSU":
        raise DataError(
            "data.input",
            name,
            "holds texts, or lists of several lengths, where a model takes numbers: write a function of your "
            "own that returns them, such as token ids (n, length), and data.reader: function",
        )
    return values[:, None] if values.ndim == 1 else values


def encoded(values: list[dict[str, Any]], source: str, start: int) -> np.ndarray:
    """Images `(n,)` that are not decoded yet: their bytes, or the files that hold them."""
    x = np.empty(len(values), object)
    x[:] = [
        Encoded(f"{source}, row {row}", value["bytes"] or Path(value["path"]))
        for row, value in enumerate(values, start)
    ]
    return x


def column_beside(parts: dict[str, Any], part: str, field: str, column: str) -> np.ndarray:
    """A column that is neither input nor target, `(rows,)`."""
    if column not in parts[part].features:
        raise column_missing(field, column, parts[part].features)
    return np.asarray(parts[part].select_columns([column]).with_format("numpy")[:][column])


def identity(config: DataConfig) -> str:
    """The digest of all that it holds: a name on the hub may stand for something else tomorrow."""
    return f"{images.identity()} {digest_of(read(config))}"


READER = Reader(read, identity, fields=FIELDS, called=True)
