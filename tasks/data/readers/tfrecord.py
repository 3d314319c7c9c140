"""TFRecord files of `tf.train.Example`, plain or compressed.

The first record says what its features are, and `data.features` what it cannot: the type and shape of bytes.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig, Feature
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
    listed_files,
    named,
)

FIELDS = ("source", "test_source", "input", "target", "image_size", "color", *BESIDE, "features")
CHUNK_RECORDS = 128
# Writers call shards train-00000-of-00010.tfrecord, train.tfrecord-00000-of-00010, mnist-train.tfrecord-00000-of-00001.
SPLIT = re.compile(r"(?:^|[^a-z])(?:(train)|(val|valid|validation)|(test))(?:ing)?(?![a-z])")
NAMED = ("train", "validation", "test")
# What encoded images begin with: PNG, JPEG, GIF, BMP, WebP, TIFF.
IMAGE = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|BM|RIFF....WEBP|II\*\0|MM\0\*", re.DOTALL)

Files = list[tuple[str, Path]]


def read(config: DataConfig) -> Source:
    """Images uint8 `(n, height, width, channels)`, or numbers `(n, …)` as their feature has them.

    Raises:
        DataError: no TFRecord, a feature that is missing or of no type that can be read.

    """
    parts = files_by_part(config)
    for field, path in (file for files in parts.values() for file in files):
        check_end(field, path)
    first = first_record(*next(iter(parts.values()))[0])
    inputs, targets = asked_of(config, "image", "label", sorted(first.features.feature))
    x = {name: feature_of(config, "data.input", name, first) for name in inputs}
    y = {name: feature_of(config, "data.target", name, first) for name in targets}
    if image := next((name for name, feature in y.items() if feature.type == "image"), ""):
        raise DataError("data.target", image, "holds images; a target is numbers, or a text")
    every = (*x.values(), *y.values())
    notes = [f"{feature.name} is {feature.type} {shape_of(feature)}".rstrip() for feature in every]
    return Source(
        {part: record_part(files, x, y, config) for part, files in parts.items()},
        decode=decoding({name: decoder(config) if each.type == "image" else as_they_are for name, each in x.items()}),
        notes=(f"Features of the records: {', '.join(notes)}.",),
        beside=partial(feature_beside, config, parts, first),
    )


def files_by_part(config: DataConfig) -> dict[str, Files]:
    """The files of each part: by the split that their names have in them, or `all`.

    Raises:
        DataError: there are none, or only some of their names say a split.

    """
    parts = by_name("data.source", config.source)
    if config.test_source:
        test = [file for files in by_name("data.test_source", config.test_source).values() for file in files]
        parts = {"train" if part == "all" else part: files for part, files in parts.items()} | {"test": test}
    return parts


def by_name(field: str, value: str) -> dict[str, Files]:
    """One field's files, by split."""
    paths = [path for path in listed_files(field, value) if ".tfrec" in path.name.lower() or path == Path(value)]
    if not paths:
        raise DataError(field, value, "holds no TFRecord file, which have .tfrecord or .tfrec in their names")
    parts: dict[str, Files] = {}
    for path in paths:
        found = SPLIT.search(path.name.lower())
        split = next(name for name, part in zip(NAMED, found.groups(), strict=True) if part) if found else "all"
        parts.setdefault(split, []).append((field, path))
    if len(paths) == 1 or field == "data.test_source":
        return {"all": [(field, path) for path in paths]}
    if set(parts) != {"all"} and ("all" in parts or "train" not in parts):
        raise DataError(field, value, "name all of its files with train, validation or test in them, or none")
    return parts


def feature_of(config: DataConfig, field: str, name: str, first: Any) -> Feature:
    """What a feature is: as the config says, completed by the first record.

    Raises:
        DataError: it is not there, or nothing says what its bytes are.

    """
    values = first.features.feature
    if name not in values:
        raise column_missing(field, name, sorted(values))
    kind = values[name].WhichOneof("kind")
    said = next((feature for feature in config.features if feature.name == name), None)
    if kind != "bytes_list":
        count = len(getattr(values[name], kind).value) if kind else 0
        if said and said.type != "numbers":
            raise DataError(
                "data.features", f"{name}: {said.type}", f"the records hold numbers, {count} of each example"
            )
        shape = said.shape if said and said.shape else () if count == 1 and field != "data.input" else (count,)
        if not count or int(np.prod(shape)) != count:
            raise DataError("data.features", f"{name}: shape {shape}", f"the first record has {count} numbers")
        return Feature(name=name, type="numbers", shape=shape)
    content = values[name].bytes_list.value
    if len(content) != 1:
        raise DataError(field, name, f"has {len(content)} texts or images in the first record; an example has one")
    if said and said.type == "numbers":
        raise DataError("data.features", f"{name}: numbers", "the records hold bytes; say of which type, such as uint8")
    if said and said.type not in ("image", "text", "tensor"):
        size = len(content[0]) // np.dtype(said.type).itemsize
        return said.model_copy(update={"shape": said.shape or (size,)})
    if said:
        return said
    if IMAGE.match(content[0]):
        return Feature(name=name, type="image")
    if field != "data.input":
        return Feature(name=name, type="text")
    raise DataError(
        field,
        name,
        f"holds {len(content[0])} bytes that are no image; say what they are, such as data.features: "
        f"[{{name: {name}, type: uint8, shape: [28, 28, 1]}}], or type: tensor for tf.io.serialize_tensor",
    )


def shape_of(feature: Feature) -> str:
    """A feature's shape as a note has it."""
    return "x".join(map(str, feature.shape))


def record_part(files: Files, inputs: dict[str, Feature], targets: dict[str, Feature], config: DataConfig) -> Part:
    """Streams the records of several files, one after the other."""
    features = [*inputs.values(), *targets.values()]

    def stream() -> Iterator[Chunk]:
        for field, path in files:
            for start, records in records_of(field, path):
                values = parsed(field, path, start, records, features)
                x, y = values[: len(inputs)], values[len(inputs) :]
                yield chunk_of(dict(zip(inputs, x, strict=True)), dict(zip(targets, y, strict=True)), config)

    return stream


def feature_beside(
    config: DataConfig, parts: dict[str, Files], first: Any, part: str, field: str, name: str
) -> np.ndarray:
    """A feature of all records of a part, `(rows,)`."""
    feature = feature_of(config, field, name, first)
    values = [
        parsed(source, path, start, records, [feature])[0]
        for source, path in parts[part]
        for start, records in records_of(source, path)
    ]
    return np.concatenate(values)


def records_of(field: str, path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """A file's records, some at a time, and the number of the first of them.

    Raises:
        DataError: the file is damaged; says in which record.

    """
    import tensorflow as tf

    records = tf.data.TFRecordDataset(str(path), compression_of(field, path), buffer_size=1 << 20)
    start = 0
    try:
        for batch in records.batch(CHUNK_RECORDS).as_numpy_iterator():
            yield start, batch.tolist()
            start += len(batch)
    except tf.errors.OpError as error:
        good = start
        try:
            for _ in records.skip(start).as_numpy_iterator():
                good += 1
        except tf.errors.OpError:
            place = f"{path}, record {good}"
            raise DataError(field, place, f"is damaged ({reason(error)}); write the file again") from error
        raise DataError(field, str(path), f"cannot be read ({reason(error)}); try again") from error


def reason(error: Any) -> str:
    """What TensorFlow says went wrong, without where in a pipeline."""
    return re.sub(r"^\{\{.*?\}\} ?| \[Op:.*|\n.*", "", str(error.message), flags=re.DOTALL)


def compression_of(field: str, path: Path) -> str:
    """How a file is compressed, as TensorFlow names it: by trying, as names need not say it."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 12)
    except OSError as error:
        raise DataError(field, str(path), f"cannot be read ({error})") from error
    try:
        zlib.decompressobj(wbits=47).decompress(head)  # of either header
    except zlib.error:
        return ""
    return "GZIP" if head[:2] == b"\x1f\x8b" else "ZLIB" if head else ""


def check_end(field: str, path: Path) -> None:
    """Refuses a compressed file that is cut off: between two records TensorFlow takes that for its end."""
    if not compression_of(field, path):
        return
    unpack = zlib.decompressobj(wbits=47)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                while block:
                    unpack = zlib.decompressobj(wbits=47) if unpack.eof else unpack
                    unpack.decompress(block, 1 << 22)
                    block = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    except (OSError, zlib.error) as error:
        raise DataError(field, str(path), f"is damaged ({error}); write the file again") from error
    if not unpack.eof:
        raise DataError(field, str(path), "is cut off; write the file again, or copy it anew")


def first_record(field: str, path: Path) -> Any:
    """The first `tf.train.Example` of a file."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    _, records = next(records_of(field, path), (0, []))
    if not records:
        raise DataError(field, str(path), "holds no records")
    try:
        return tf.train.Example.FromString(records[0])
    except DecodeError as error:
        raise DataError(field, f"{path}, record 0", f"is no tf.train.Example ({error})") from error


def parsed(field: str, path: Path, start: int, records: list[bytes], features: Sequence[Feature]) -> list[np.ndarray]:
    """The features of some records, an array `(n, …)` each; images are not decoded yet.

    Raises:
        DataError: a record that lacks a feature, or has it otherwise than the first record.

    """
    import tensorflow as tf

    columns = []
    for feature in features:
        if feature.type != "numbers":
            columns.append(tf.io.FixedLenFeature((), tf.string))
            continue
        whole = is_whole(records[0], feature.name)
        columns.append(tf.io.FixedLenFeature(feature.shape, tf.int64 if whole else tf.float32))
    spec = {feature.name: column for feature, column in zip(features, columns, strict=True)}
    try:
        values = {name: value.numpy() for name, value in tf.io.parse_example(records, spec).items()}
    except (tf.errors.OpError, UnicodeDecodeError) as error:  # the second where the message quotes the record
        raise DataError(*fault(field, path, start, records, features, error)) from error
    names = [f"{path}, record {start + place}" for place in range(len(records))]
    return [of_type(feature, values[feature.name], field, names) for feature in features]


def is_whole(record: bytes, name: str) -> bool:
    """Whether a record's numbers are whole ones; which others than the first have of another kind is refused."""
    import tensorflow as tf

    return bool(tf.train.Example.FromString(record).features.feature[name].WhichOneof("kind") == "int64_list")


def of_type(feature: Feature, values: np.ndarray, field: str, names: list[str]) -> np.ndarray:
    """A feature's values `(n, …)` of what `tf.io.parse_example` made of them."""
    if feature.type == "numbers":
        return values
    if feature.type == "image":
        encoded = np.empty(len(values), object)
        encoded[:] = [Encoded(name, content) for name, content in zip(names, values, strict=True)]
        return encoded
    decoded: list[Any] = []
    for name, content in zip(names, values.tolist(), strict=True):
        try:
            decoded.append(of_bytes(feature, content))
        except (ValueError, TypeError) as error:
            value = f"{name}: {feature.name}"
            raise DataError(
                field, value, f"is no {feature.type} {shape_of(feature)} ({error})".replace("  ", " ")
            ) from error
        if feature.type != "text" and decoded[-1].shape != decoded[0].shape:
            value = f"{name}: {feature.name}"
            raise DataError(field, value, f"has shape {decoded[-1].shape} after {decoded[0].shape}; make them alike")
    return np.array(decoded)


def of_bytes(feature: Feature, content: bytes) -> Any:
    """One example's value: a text, or an array.

    Raises:
        ValueError, TypeError: the bytes are none.

    """
    if feature.type == "text":
        return content.decode()
    if feature.type == "tensor":
        import tensorflow as tf
        from google.protobuf.message import DecodeError
        from tensorflow.core.framework.tensor_pb2 import TensorProto

        try:
            array = np.asarray(tf.make_ndarray(TensorProto.FromString(content)))
        except DecodeError as error:
            raise ValueError(str(error)) from error
        return array.reshape(feature.shape or array.shape)
    return np.frombuffer(content, np.dtype(feature.type).newbyteorder("<")).reshape(feature.shape).astype(feature.type)


def fault(
    field: str, path: Path, start: int, records: list[bytes], features: Sequence[Feature], error: Any
) -> tuple[str, str, str]:
    """Field, value and remedy of the first record that is not as the features are."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    first: dict[str, str] = {}
    for number, record in enumerate(records, start):
        place = f"{path}, record {number}"
        try:
            values = tf.train.Example.FromString(record).features.feature
        except DecodeError as undecoded:
            return field, place, f"is no tf.train.Example ({undecoded})"
        for feature in features:
            if feature.name not in values:
                return field, place, f"has no feature {feature.name!r}; it has {', '.join(sorted(values))}"
            kind = values[feature.name].WhichOneof("kind") or "nothing"
            count = len(getattr(values[feature.name], kind).value) if kind != "nothing" else 0
            expected = int(np.prod(feature.shape)) if feature.type == "numbers" else 1
            if kind != first.setdefault(feature.name, kind) or count != expected:
                was = f"{expected} in {first[feature.name]}"
                return field, place, f"has {count} values of {feature.name!r} in {kind} where {was} are expected"
    return field, str(path), f"cannot be parsed ({error})"


def files(config: DataConfig) -> dict[str, Path]:
    """The files, by part and order."""
    return named(files_by_part(config))


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """Pillow decides the pixels."""
    return images.identity()


READER = Reader(read, identity, files, FIELDS)
