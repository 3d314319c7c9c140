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
from tasks.data.source import Chunk, Part, Reader, Source, as_they_are, column_missing, digest_of, package
from tasks.data.splits import SPLITS

FIELDS = ("source", "input", "target", "image_size", "color", "group", "time", "slice")
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
    names = [config.input or "image"] + ([config.target or "label"] if config.problem != "reconstruction" else [])
    for field, name in zip(("data.input", "data.target"), names, strict=False):
        if name not in features:
            raise column_missing(field, name, features)
    is_image = type(features[names[0]]).__name__ == "Image"
    if is_image:
        parts = {split: part.cast_column(names[0], undecoded(features[names[0]])) for split, part in parts.items()}
    classes = getattr(features[names[1]], "names", None) if len(names) > 1 else None
    return Source(
        {split: part_of(part, names, config.source, is_image=is_image) for split, part in parts.items()},
        tuple(classes or ()) if config.problem == "classification" else (),
        decoder(config) if is_image else as_they_are,
        notes=notes,
        beside=partial(column_beside, parts),
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


def part_of(part: Any, names: list[str], source: str, *, is_image: bool) -> Part:
    """Streams the rows of a split, which Arrow maps from its file."""
    columns = part.select_columns(names)  # of all others nothing is decoded
    rows_in = columns if is_image else columns.with_format("numpy")

    def stream() -> Iterator[Chunk]:
        for start in range(0, len(part), CHUNK_ROWS):
            rows = rows_in[start : start + CHUNK_ROWS]
            x = rows[names[0]]
            if is_image:
                x = encoded(x, source, start)
            elif x.dtype.kind in "OSU":
                raise DataError(
                    "data.input",
                    names[0],
                    "holds texts, or lists of several lengths, where a model takes numbers: write a function of your "
                    "own that returns them, such as token ids (n, length), and data.reader: function",
                )
            yield x[:, None] if not is_image and x.ndim == 1 else x, np.asarray(rows[names[1]]) if names[1:] else None

    return stream


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
