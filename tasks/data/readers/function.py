"""A Python function of the user's own, named `package.module:function`: for all that no other reader reads."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tasks.contract import own_function
from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import Chunk, Part, Reader, Source, array_part

RETURNS = (
    "return ((x_train, y_train), (x_test, y_test)) or (x, y) as NumPy arrays, or an iterable of such (x, y) chunks"
)


def read(config: DataConfig) -> Source:
    """Calls the function without arguments; see `RETURNS` for what it may return.

    An iterable is asked for anew by calling the function again, so that a generator can stream: not for the first pass,
    but for each further one.

    Raises:
        DataError: no such function, it raised, or it returned something else.

    """
    function = function_named(config.source)
    returned = call(function, config.source)
    match returned:
        case ((_, _), (_, _)) if isinstance(returned, tuple):
            parts = zip(("train", "test"), returned, strict=True)
            return Source({part: arrays(pair, config.source) for part, pair in parts})
        case (np.ndarray(), np.ndarray() | None):
            return Source({"all": arrays(returned, config.source)})
        case _ if hasattr(returned, "__iter__") and not isinstance(returned, (str, bytes, dict)):
            return Source({"all": chunk_part(function, config.source, returned)})
    raise DataError("data.source", config.source, f"the function returned {type(returned).__name__}; {RETURNS}")


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


def arrays(pair: tuple[Any, Any], name: str) -> Part:
    """One `(x, y)` as a part."""
    x, y = pair
    if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray | None):
        types = f"{type(x).__name__} and {type(y).__name__}"
        raise DataError("data.source", name, f"the function gave {types}; {RETURNS}")
    return array_part(x, y)


def chunk_part(function: Callable[[], Any], name: str, first: Iterable[Any]) -> Part:
    """Streams what the function returned first, and in each further pass what a new call of it yields."""
    waiting = [first]

    def stream() -> Iterator[Chunk]:
        chunks = iter(waiting.pop() if waiting else call(function, name))
        while True:
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            except Exception as error:  # the generator is the user's: it may raise anything
                raise DataError("data.source", name, f"the function raised {type(error).__name__}: {error}") from error
            if not isinstance(chunk, tuple) or len(chunk) != 2:
                raise DataError("data.source", name, f"the function gave {type(chunk).__name__}; {RETURNS}")
            yield from arrays(chunk, name)()

    return stream


def identity(config: DataConfig) -> str:
    """The digest of everything that the function returns: only calling it tells."""
    digest = hashlib.sha256()
    for name, part in read(config).parts.items():
        for chunk in part():
            for array in chunk:
                if array is None:
                    continue
                digest.update(f"{name} {array.dtype} {array.shape[1:]} ".encode())
                digest.update(
                    repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).data
                )
    return digest.hexdigest()


READER = Reader(read, identity, fields=("source",), called=True)
