"""The files of a table, by kind: what columns each has, and its rows as Arrow's record batches."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import existing, files_of, partitions
from tasks.data.tables import csv_file, text_folder
from tasks.data.tables.config import TableConfig
from tasks.data.tables.first_lines import layout_of, other_encoding

ROWS = 8192  # of a batch
TEXT = tuple(kind + packed for kind in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".zst"))
LINES = tuple(kind + packed for kind in (".jsonl", ".ndjson") for packed in ("", ".gz", ".bz2", ".zst"))
NULL = "__HIVE_DEFAULT_PARTITION__"  # what Hive, Spark and Arrow call a folder of rows that lack the value
WHOLE = re.compile(r"-?\d{1,18}")
SUFFIXES = (*TEXT, ".parquet", ".orc", *LINES)
FOLDER = "/"  # the kind of a folder of texts


class TableFile(NamedTuple):
    """A file or a folder of texts, the field that names it, and the columns that its folders are: `year=2024/`."""

    field: str
    path: Path
    folders: Mapping[str, Any]  # Arrow scalars by name


def files_by_part(config: DataConfig) -> dict[str, list[TableFile]]:
    """The files of each part; a folder without tables may be one of texts. Raises as `files_of`."""
    root = existing("data.source", config.source)
    of_texts = root.is_dir() and not any(path.name.lower().endswith(SUFFIXES) for path in partitions(root))
    parts = of_texts and text_folder.parts_of(config)
    return {
        part: [
            TableFile(field, path, folders)
            for (field, path), folders in zip(files, _folders(config, files), strict=True)
        ]
        for part, files in (parts or files_of(config, SUFFIXES)).items()
    }


def named(config: DataConfig) -> dict[str, Path]:
    """Files under names that say their part, their place in it and their folders' columns, not where they lie.

    A text's name has its class.
    """
    parts = files_by_part(config)
    return {
        "/".join([part, *(f"{name}={value}" for name, value in file.folders.items()), str(place)]): file.path
        for part, files in parts.items()
        for place, file in enumerate(files)
        if not file.path.is_dir()
    } | {
        f"{part}/{text.relative_to(file.path).as_posix()}": text
        for part, files in parts.items()
        for file in files
        if file.path.is_dir()
        for text in text_folder.texts_in(file.path)
    }


def _folders(config: DataConfig, files: list[tuple[str, Path]]) -> list[Mapping[str, Any]]:
    """The columns that each file's folders are, below the folder that a field names; whole numbers, or else texts."""
    texts: list[dict[str, str | None]] = []
    for field, path in files:
        root = existing(field, getattr(config, field.removeprefix("data.")))
        folders = path.relative_to(root).parts[:-1] if root.is_dir() else ()
        pairs = (folder.split("=", 1) for folder in folders)
        texts.append({unquote(name): None if value == NULL else unquote(value) for name, value in pairs})
    names = sorted({name for each in texts for name in each})
    if not names:
        return [{}] * len(files)
    import pyarrow as pa

    columns = {name: pa.array([each.get(name) for each in texts], pa.string()) for name in names}
    for name, values in columns.items():
        if all(WHOLE.fullmatch(value) for value in values.drop_null().to_pylist()):
            columns[name] = values.cast(pa.int64())
    return [{name: values[place] for name, values in columns.items()} for place in range(len(files))]


def schema_of(file: TableFile, config: TableConfig) -> Any:
    """A file's Arrow schema, its folders' columns last; of a text file as its first megabytes show.

    Raises:
        DataError: it is no table, or has two columns of one name.

    """
    import pyarrow as pa

    with _named_by(file, config):
        schema = KINDS[_suffix(file.path)].schema(file, config)
    for name, value in file.folders.items():
        schema = schema.append(pa.field(name, value.type))
    if len(set(schema.names)) < len(schema.names):
        twice = ", ".join(sorted({repr(name) for name in schema.names if schema.names.count(name) > 1})[:5])
        raise DataError(
            file.field,
            str(file.path),
            f"two columns have the same name, {twice}: name them apart, or write data.table.header: none where the "
            "first line has values",
        )
    return schema


def batches_of(file: TableFile, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    """Record batches of at most `ROWS` rows and of these columns, which a text file has as these Arrow types.

    Raises:
        DataError: it cannot be read.

    """
    import pyarrow as pa

    inside = {name: kind for name, kind in columns.items() if name not in file.folders}
    batches = KINDS[_suffix(file.path)].batches(file, config, inside)
    while True:
        with _named_by(file, config):
            batch = next(batches, None)
        if batch is None:
            return
        for start in range(0, len(batch), ROWS):
            part = batch.slice(start, ROWS)
            arrays = [
                pa.repeat(file.folders[name], len(part)) if name in file.folders else part.column(name)
                for name in columns
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))


def is_text_file(file: TableFile) -> bool:
    """Whether it is CSV or TSV, packed or not."""
    return _suffix(file.path) in TEXT


def check_text_settings(file: TableFile, config: TableConfig) -> None:
    """Refuses settings of text files where there is none.

    Raises:
        DataError: names the setting.

    """
    for setting in ("header", "encoding"):
        value = getattr(config, setting)
        has_it = is_text_file(file) or (setting == "encoding" and file.path.is_dir())
        if value != TableConfig.model_fields[setting].default and not has_it:
            raise DataError(f"data.table.{setting}", value, f"{file.path.name} is no CSV or TSV file; leave it out")


def note_of(file: TableFile, config: TableConfig) -> str:
    """What a person should know of how a file was read, or nothing."""
    if file.path.is_dir():
        return text_folder.note_of(file.path)
    return layout_of(file.field, file.path, config).note if is_text_file(file) else ""


class Kind(NamedTuple):
    """How files of one kind are read."""

    schema: Callable[[TableFile, TableConfig], Any]
    batches: Callable[[TableFile, TableConfig, Mapping[str, Any]], Iterator[Any]]


def _parquet_schema(file: TableFile, config: TableConfig) -> Any:  # noqa: ARG001 - the signature of `Kind.schema`
    import pyarrow.parquet as pq

    return pq.read_schema(file.path)


def _parquet(file: TableFile, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG001
    import pyarrow.parquet as pq

    with pq.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20) as opened:
        yield from opened.iter_batches(ROWS, columns=list(columns))


def _orc_schema(file: TableFile, config: TableConfig) -> Any:  # noqa: ARG001
    from pyarrow import orc

    return orc.ORCFile(str(file.path)).schema


def _orc(file: TableFile, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:  # noqa: ARG001
    from pyarrow import orc

    opened = orc.ORCFile(str(file.path))
    for stripe in range(opened.nstripes):
        yield opened.read_stripe(stripe, columns=list(columns))


def _lines_schema(file: TableFile, config: TableConfig) -> Any:  # noqa: ARG001
    import pyarrow as pa
    from pyarrow import json, types

    with json.open_json(str(file.path)) as reader:
        # dates are told from other texts by all of them, and not by the first
        told = (types.is_timestamp, types.is_null)
        kept = [pa.string() if any(is_(each.type) for is_ in told) else each.type for each in reader.schema]
        return pa.schema(list(zip(reader.schema.names, kept, strict=True)))


def _lines(file: TableFile, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import json, types

    schema = _lines_schema(file, config)
    kinds = {name: schema.field(name).type if types.is_string(kind) else kind for name, kind in columns.items()}
    with json.open_json(
        str(file.path),
        parse_options=json.ParseOptions(explicit_schema=pa.schema(kinds), unexpected_field_behavior="ignore"),
    ) as reader:
        yield from reader


def _text_schema(file: TableFile, config: TableConfig) -> Any:
    return csv_file.schema_of(file.field, file.path, config)


def _text(file: TableFile, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    return csv_file.batches_of(file.field, file.path, config, columns)


def _texts_schema(file: TableFile, config: TableConfig) -> Any:  # noqa: ARG001
    return text_folder.schema(file.path)


def _texts(file: TableFile, config: TableConfig, columns: Mapping[str, Any]) -> Iterator[Any]:
    return text_folder.batches(file.field, file.path, config, columns)


KINDS = {
    FOLDER: Kind(_texts_schema, _texts),
    **dict.fromkeys(TEXT, Kind(_text_schema, _text)),
    **dict.fromkeys(LINES, Kind(_lines_schema, _lines)),
    ".parquet": Kind(_parquet_schema, _parquet),
    ".orc": Kind(_orc_schema, _orc),
}


def _suffix(path: Path) -> str:
    if path.is_dir():
        return FOLDER
    return next(suffix for suffix in KINDS if path.name.lower().endswith(suffix))


@contextmanager
def _named_by(file: TableFile, config: TableConfig) -> Iterator[None]:
    """Errors of the libraries that read a file, as ours."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            raise other_encoding(file.field, file.path, config, error) from error
        raise DataError(
            file.field, str(file.path), f"no table that can be read ({error}); correct the line or the column"
        ) from error
