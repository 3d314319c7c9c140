"""A Python function of the user's own, named `package.module:function`: for all that no other reader reads."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tasks.contract import own_function
from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.objects import by_part, column_beside, columns_of, part_of, without_columns
from tasks.data.source import BESIDE, Reader, Source, column_missing, digest_of
from tasks.data.tables.slimline_columns import Column


def read(config: DataConfig) -> Source:
    """Calls the function without arguments; see `TAKEN` for what it may return.

    An iterable is asked for anew by calling the function again, so that a generator can stream: not for the first pass,
    but for each further one.

    Raises:
        DataError: no such function, it raised, or it returned something else.

    """
    function = function_named(config.source)
    whole = by_part(call(function, config.source))
    returned = {part: without_columns(value, config.beside) for part, value in whole.items()}
    parts = {
        part: part_of(value, _where(config.source, part), partial(_again, function, config.source, part))
        for part, value in returned.items()
    }
    columns, targets = columns_of(next(iter(returned.values())))
    return Source(
        parts,
        columns=columns,
        targets=targets,
        beside=partial(_beside, whole),
        weights=lambda part: parts[part].weights(),
    )


def _beside(returned: dict[str, Any], part: str, field: str, column: str) -> np.ndarray:
    """A column of a DataFrame that is no input, `(rows,)`."""
    return column_beside(returned[part], field, column)


def read_named(
    config: DataConfig,
    columns: Sequence[str],
    targets: Sequence[str],  # noqa: ARG001 - labels are apart
    encoding: Sequence[Column],  # noqa: ARG001 - what it returns is numbers
) -> Source:
    """New examples, their columns in the order that a model knows; as they stand where they have no names.

    Raises:
        DataError: a column that is missing.

    """
    source = read(config)
    if not source.columns:
        return source
    if missing := [name for name in columns if name not in source.columns]:
        raise column_missing("data.source", f"{config.source}: {', '.join(missing)}", source.columns)
    places = [source.columns.index(name) for name in columns]
    return replace(source, columns=tuple(columns), decode=lambda x: x[:, places])


def _again(function: Callable[[], Any], name: str, part: str) -> Any:
    """One part of what the function returns now."""
    return by_part(call(function, name))[part]


def _where(name: str, part: str) -> str:
    return name if part == "all" else f"{name}: {part}"


def function_named(name: str) -> Callable[[], Any]:
    """The function of that name; a file in the working folder comes first."""
    if not own_function.NAME.fullmatch(name):
        raise DataError("data.source", name, "write it as package.module:function")
    try:
        return own_function.load(name)
    except AttributeError as error:
        raise DataError("data.source", name, str(error)) from error
    except Exception as error:  # the module is the user's: it may raise anything
        module = name.split(":")[0]
        raise DataError(
            "data.source", name, f"{module} cannot be imported ({type(error).__name__}: {error})"
        ) from error


def call(function: Callable[[], Any], name: str) -> Any:
    """What the function returns."""
    try:
        return function()
    except DataError:
        raise
    except Exception as error:  # the function is the user's: it may raise anything
        raise DataError("data.source", name, f"the function raised {type(error).__name__}: {error}") from error


def identity(config: DataConfig) -> str:
    """The digest of everything that the function returns: only calling it tells."""
    return digest_of(read(config))


READER = Reader(read, identity, fields=("source", *BESIDE), read_named=read_named, called=True)
