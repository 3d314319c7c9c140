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
    inputs, targets = asked_of(config, str(usual[0]), str(usual[1]), features)
    for field, names in (("data.input", inputs), ("data.target", targets)):
        for name in names:
            if (nested := features[name].shape) is None or isinstance(nested, dict):
                raise DataError(field, name, "holds several features; name one of numbers, or of images")
    images_in = {name for name in inputs if type(features[name]).__name__ == "Image"}
    of = {each.target or str(usual[1]): each.problem for each in config.of_heads.values()}
    named = {name: tuple(getattr(features[name], "names", None) or ()) for name in targets}
    classes = {name: names for name, names in named.items() if of[name] == "classification"}
    found = {split: split for split in SPLITS if split in builder.info.splits}
    if "train" not in found:
        raise DataError("data.source", config.source, f"has no split train; it has {', '.join(builder.info.splits)}")
    others = sorted(set(builder.info.splits) - set(found))
    notes = (f"Splits that are none of {', '.join(SPLITS)} are left out: {', '.join(others)}.",) if others else ()
    return Source(
        {split: part_of(builder, split, inputs, targets, images_in, config) for split in found},
        () if config.heads else next(iter(classes.values()), ()),
        decoding({name: decoder(config) if name in images_in else as_they_are for name in inputs}),
        notes=notes,
        beside=partial(feature_beside, builder),
        classes_of=classes if config.heads else {},
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


def rows_of(builder: Any, split: str, names: list[str], images_in: set[str]) -> Iterator[dict[str, np.ndarray]]:
    """Some features of a split, in the order of its files each time; images are not decoded yet."""
    tfds = package("tensorflow_datasets", "tfds")
    rows = builder.as_dataset(
        split=split,
        decoders={name: tfds.decode.SkipDecoding() for name in images_in} or None,
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
    )
    yield from rows.map(lambda row: {name: row[name] for name in names}).batch(CHUNK_ROWS).as_numpy_iterator()


def part_of(
    builder: Any, split: str, inputs: list[str], targets: list[str], images_in: set[str], config: DataConfig
) -> Part:
    """Streams a split; `images_in` are the inputs that are images."""
    where, names = f"{builder.info.full_name}, {split}", list(dict.fromkeys((*inputs, *targets)))

    def stream() -> Iterator[Chunk]:
        start = 0
        for rows in rows_of(builder, split, names, images_in):
            x = {
                name: encoded(rows[name], where, start) if name in images_in else numbers_of(rows[name], name)
                for name in inputs
            }
            yield chunk_of(x, {name: rows[name] for name in targets}, config)
            start += len(rows[names[0]])

    return stream


def numbers_of(values: np.ndarray, name: str) -> np.ndarray:
    """An input of numbers, `(n, …)`.

    Raises:
        DataError: it holds texts.

    """
    if values.dtype.kind in "OSU":
        raise DataError(
            "data.input",
            name,
            "holds texts, where a model takes numbers: write a function of your own that returns their token "
            "ids, (n, length), and data.reader: function",
        )
    return values[:, None] if values.ndim == 1 else values


def encoded(contents: np.ndarray, where: str, start: int) -> np.ndarray:
    """Images `(n,)` that are not decoded yet."""
    x = np.empty(len(contents), object)
    x[:] = [Encoded(f"{where}, row {row}", content) for row, content in enumerate(contents, start)]
    return x


def feature_beside(builder: Any, part: str, field: str, name: str) -> np.ndarray:
    """A feature that is neither input nor target, `(rows,)`."""
    if name not in builder.info.features:
        raise column_missing(field, name, builder.info.features)
    return np.concatenate([rows[name] for rows in rows_of(builder, part, [name], set())])


def identity(config: DataConfig) -> str:
    """The digest of all that it holds: a version may be prepared anew."""
    return f"{images.identity()} {digest_of(read(config))}"


READER = Reader(read, identity, fields=FIELDS, called=True)
