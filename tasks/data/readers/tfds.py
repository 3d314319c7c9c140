"""Data sets of `tensorflow_datasets`, by name, from its own folder or the network: `mnist`, `name/config:version`."""

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers import images
from tasks.data.readers.images import Encoded, decoder
from tasks.data.source import Chunk, Part, Reader, Source, as_they_are, column_missing, digest_of, package
from tasks.data.splits import SPLITS

FIELDS = ("source", "input", "target", "image_size", "color", "group", "time", "slice")
CHUNK_ROWS = 128


def read(config: DataConfig) -> Source:
    """Images uint8 `(n, height, width, channels)`, or numbers `(n, …)`, of the feature `data.input`.

    Where `data.input` and `data.target` are empty, those that the data set itself calls supervised.

    Raises:
        DataError: no such data set or feature, the package is missing, or texts.

    """
    builder = prepared(config)
    features = builder.info.features
    usual = builder.info.supervised_keys or ("image", "label")
    names = [config.input or usual[0]] + ([config.target or usual[1]] if config.problem != "reconstruction" else [])
    for field, name in zip(("data.input", "data.target"), names, strict=False):
        if not isinstance(name, str) or name not in features:
            raise column_missing(field, str(name), features)
        if (nested := features[name].shape) is None or isinstance(nested, dict):
            raise DataError(field, name, "holds several features; name one of numbers, or of images")
    is_image = type(features[names[0]]).__name__ == "Image"
    classes = getattr(features[names[1]], "names", None) if len(names) > 1 else None
    found = {split: split for split in SPLITS if split in builder.info.splits}
    if "train" not in found:
        raise DataError("data.source", config.source, f"has no split train; it has {', '.join(builder.info.splits)}")
    others = sorted(set(builder.info.splits) - set(found))
    notes = (f"Splits that are none of {', '.join(SPLITS)} are left out: {', '.join(others)}.",) if others else ()
    return Source(
        {split: part_of(builder, split, names, is_image=is_image) for split in found},
        tuple(classes or ()) if config.problem == "classification" else (),
        decoder(config) if is_image else as_they_are,
        notes=notes,
        beside=partial(feature_beside, builder),
    )


def prepared(config: DataConfig) -> Any:
    """The builder of a name, once its files are there."""
    if not config.source:
        raise DataError("data.source", config.source, "name a data set of tensorflow_datasets, such as mnist")
    tfds = package("tensorflow_datasets", "tfds")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress; standard output belongs to the caller
            builder = tfds.builder(config.source)
            builder.download_and_prepare()
    except Exception as error:  # each data set is code of its own: it may raise anything
        raise DataError(
            "data.source",
            config.source,
            f"tensorflow_datasets cannot load it ({type(error).__name__}: {first_line(error)}); correct the "
            "name, or check the network connection",
        ) from error
    return builder


def first_line(error: Exception) -> str:
    """What an error says, without the lists of all data sets that follow."""
    return str(error).strip().split("\n", maxsplit=1)[0]


def rows_of(builder: Any, split: str, names: list[str], *, is_image: bool) -> Iterator[dict[str, np.ndarray]]:
    """Some features of a split, in the order of its files each time."""
    tfds = package("tensorflow_datasets", "tfds")
    rows = builder.as_dataset(
        split=split,
        decoders={names[0]: tfds.decode.SkipDecoding()} if is_image else None,
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    yield from rows.map(lambda row: {name: row[name] for name in names}).batch(CHUNK_ROWS).as_numpy_iterator()


def part_of(builder: Any, split: str, names: list[str], *, is_image: bool) -> Part:
    """Streams a split."""

    def stream() -> Iterator[Chunk]:
        start = 0
        for rows in rows_of(builder, split, names, is_image=is_image):
            x = rows[names[0]]
            if is_image:
                x = encoded(x, f"{builder.info.full_name}, {split}", start)
            elif x.dtype.kind in "OSU":
                raise DataError(
                    "data.input",
                    names[0],
                    "holds texts, where a model takes numbers: write a function of your own that returns their token "
                    "ids, (n, length), and data.reader: function",
                )
            start += len(x)
            yield x[:, None] if not is_image and x.ndim == 1 else x, rows[names[1]] if names[1:] else None

    return stream


def encoded(contents: np.ndarray, where: str, start: int) -> np.ndarray:
    """Images `(n,)` that are not decoded yet."""
    x = np.empty(len(contents), object)
    x[:] = [Encoded(f"{where}, row {row}", content) for row, content in enumerate(contents, start)]
    return x


def feature_beside(builder: Any, part: str, field: str, name: str) -> np.ndarray:
    """A feature that is neither input nor target, `(rows,)`."""
    if name not in builder.info.features:
        raise column_missing(field, name, builder.info.features)
    return np.concatenate([rows[name] for rows in rows_of(builder, part, [name], is_image=False)])


def identity(config: DataConfig) -> str:
    """The digest of all that it holds: a version may be prepared anew."""
    return f"{images.identity()} {digest_of(read(config))}"


READER = Reader(read, identity, fields=FIELDS, called=True)
