"""What Python code has in hand, as parts of a source: arrays, pandas, datasets of TensorFlow and Keras, chunks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.source import Chunk, Part, array_part, rows_per_chunk

TAKEN = (
    "give (x, y), or a tuple of two or three of these: (train, test) or (train, validation, test). x and y are arrays, "
    "lists or pandas; instead of such a pair also a tf.data.Dataset, a keras.utils.PyDataset, or an iterable of (x, y) "
    "chunks"
)
NAMES = {2: ("train", "test"), 3: ("train", "validation", "test")}
WEIGHTS = "gave three, (x, y, sample weights): weights are not used, give (x, y)"
AGAIN = (
    "comes in another order, or with other values, each time it is read: leave shuffling and augmentation out of it, "
    "as each training does these itself"
)


def by_part(value: Any) -> dict[str, Any]:
    """What stands for each part of a source: `all`, or the splits that are there.

    A tuple of two is train and test, of three train, validation and test, if each of its members is a pair or a
    dataset; a dict names them itself.
    """
    if isinstance(value, Mapping) and "train" in value and set(value) <= {*NAMES[3]}:
        return dict(value)
    if isinstance(value, tuple) and len(value) in NAMES and all(map(_is_split, value)):
        return dict(zip(NAMES[len(value)], value, strict=True))
    return {"all": value}


def part_of(value: Any, name: str, again: Callable[[], Any] | None = None) -> Part:
    """One split as a stream of chunks.

    Args:
        value: one of what `TAKEN` says.
        name: what an error says that was wrong.
        again: gives the value anew for each further pass, where it is a generator that ends.

    Raises:
        DataError: it is something else; also while it is read.

    """
    if isinstance(value, tuple):
        return array_part(*_pair(value, name))
    if _of(value, "tensorflow", "DatasetV2"):
        return _same_again(_of_dataset(value, name), name)
    if _is_indexed(value):
        return _same_again(_of_indexed(value, name), name)
    if isinstance(value, str | bytes | Mapping | np.ndarray) or not isinstance(value, Iterable):
        raise DataError("data.source", name, f"{type(value).__name__} is no data set; {TAKEN}")
    return _of_chunks(value, name, again)


def columns_of(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the inputs and targets of a pair, where it is of pandas."""
    if not (isinstance(value, tuple) and len(value) == 2):
        return (), ()
    x, y = value
    inputs = tuple(map(str, x.columns)) if _is_frame(x) else ()
    if not inputs:
        return (), ()
    return inputs, tuple(map(str, y.columns)) if _is_frame(y) else (str(getattr(y, "name", None) or "target"),)


def without_columns(value: Any, names: Sequence[str]) -> Any:
    """A pair whose inputs are a DataFrame without these columns, as far as it has them; all else as it is."""
    if not (isinstance(value, tuple) and len(value) == 2 and _is_frame(value[0])):
        return value
    x, y = value
    return x[[column for column in x.columns if str(column) not in names]], y


def column_beside(value: Any, field: str, name: str) -> np.ndarray:
    """A column of that name, `(rows,)`, of a pair whose inputs are a DataFrame.

    Raises:
        DataError: there is none.

    """
    if not (isinstance(value, tuple) and len(value) == 2 and _is_frame(value[0])):
        raise DataError(
            field,
            name,
            "is read where a function returns (x, y) with a pandas DataFrame x that has this column; other data a "
            "function splits itself: return (train, validation, test)",
        )
    columns = {str(column): column for column in value[0].columns}
    if name not in columns:
        raise DataError(field, name, f"the DataFrame has no such column; it has {', '.join(columns)}")
    return np.asarray(value[0][columns[name]].to_numpy())


def _is_split(value: Any) -> bool:
    return (
        (isinstance(value, tuple) and len(value) in (2, 3))
        or _of(value, "tensorflow", "DatasetV2")
        or _is_indexed(value)
    )


def _of(value: Any, package: str, name: str) -> bool:
    """Whether a class of that name, of a package that need not be there, is among those of a value."""
    return any(each.__name__ == name and each.__module__.split(".")[0] == package for each in type(value).__mro__)


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def _is_indexed(value: Any) -> bool:
    """Whether it is a Keras `PyDataset` or `Sequence`, of whichever Keras: batches by their number."""
    return any(_of(value, package, name) for package in ("keras", "tf_keras") for name in ("PyDataset", "Sequence"))


def _pair(value: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs and targets as arrays, of `(x, y)`."""
    if not isinstance(value, tuple) or len(value) not in (2, 3):
        raise DataError("data.source", name, f"gave {type(value).__name__}; {TAKEN}")
    if len(value) == 3:
        raise DataError("data.source", name, WEIGHTS)
    x, y = value
    return _array(x, f"{name}: inputs"), None if y is None else _array(y, f"{name}: targets")


def _array(value: Any, name: str) -> np.ndarray:
    """An array of what stands for one."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Mapping) or (isinstance(value, tuple) and any(getattr(each, "shape", ()) for each in value)):
        raise DataError(
            "data.source", name, f"{len(value)} arrays in a {type(value).__name__}: give one, as a model takes one"
        )
    if _is_frame(value):
        return _of_frame(value, name)
    for convert in ("to_numpy", "numpy"):  # pandas; a tensor
        if callable(getattr(value, convert, None)):
            return np.asarray(getattr(value, convert)())
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError("data.source", name, f"no array of it ({error}): every example needs the same shape") from error


def _of_frame(frame: Any, name: str) -> np.ndarray:
    """A frame's columns beside one another: of several, numbers alone become one array."""
    columns = {str(column): frame[column].to_numpy() for column in frame.columns}
    for column, values in columns.items():
        if len(columns) > 1 and values.dtype.kind not in "biuf":
            raise DataError(
                "data.source",
                f"{name}: column {column!r}",
                f"holds {values.dtype}: no numbers, or gaps; encode, fill or drop it",
            )
    return np.stack([*columns.values()], axis=1)


def _of_chunks(first: Iterable[Any], name: str, again: Callable[[], Any] | None) -> Part:
    """Streams what is there first, and in each further pass what it is by then."""
    waiting = [first]

    def stream() -> Iterator[Chunk]:
        value = waiting.pop() if waiting else again() if again else first
        chunks = iter(value)
        while True:
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            except Exception as error:  # the generator is the user's: it may raise anything
                raise DataError("data.source", name, f"raised {type(error).__name__}: {error}") from error
            yield from array_part(*_pair(chunk, name))()

    return stream


def _of_indexed(batches: Any, name: str) -> Part:
    """Streams a Keras data set by the numbers of its batches; it is never told of an epoch's end."""

    def stream() -> Iterator[Chunk]:
        for number in range(len(batches)):
            try:
                batch = batches[number]
            except Exception as error:  # the class is the user's: it may raise anything
                raise DataError("data.source", name, f"raised {type(error).__name__}: {error}") from error
            yield from array_part(*_pair(batch, name))()

    return stream


def _of_dataset(dataset: Any, name: str) -> Part:
    """Streams a `tf.data.Dataset` of `(x, y)`, or of x alone for a reconstruction; batched or not.

    Raises:
        DataError: it has no end, or gives something else; or nothing tells whether it is batched.

    """
    import tensorflow as tf

    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError("data.source", name, "the tf.data.Dataset has no end: leave out repeat()")
    spec = dataset.element_spec
    if isinstance(spec, tuple) and len(spec) == 3:
        raise DataError("data.source", name, WEIGHTS)
    specs = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec,)
    if not all(isinstance(each, tf.TensorSpec) for each in specs):
        raise DataError("data.source", name, f"the tf.data.Dataset gives {spec}; make it give (x, y), a tensor each")
    if not _is_batched([each.shape for each in specs], name):
        example = sum(each.dtype.size * (each.shape.num_elements() or 1) for each in specs if each.dtype != tf.string)
        dataset = dataset.batch(rows_per_chunk(example))

    def stream() -> Iterator[Chunk]:
        try:
            for each in dataset.as_numpy_iterator():
                yield from array_part(*(each if len(specs) == 2 else (each, None)))()
        except tf.errors.OpError as error:  # what its functions do is the user's
            raise DataError("data.source", name, f"raised {type(error).__name__}: {error.message}") from error

    return stream


def _is_batched(shapes: list[Any], name: str) -> bool:
    """Whether the first axis of a `tf.data.Dataset`'s elements counts examples."""
    if any(shape.rank is None for shape in shapes):
        raise DataError("data.source", name, "the tf.data.Dataset does not say what shape it gives: set_shape says it")
    if any(shape.rank == 0 for shape in shapes):  # a label of one example
        return False
    first = {shape[0] for shape in shapes}
    if first == {None}:
        return True
    if len(first) > 1:
        return False
    raise DataError(
        "data.source",
        name,
        f"the tf.data.Dataset gives {' and '.join(str(tuple(shape)) for shape in shapes)}, and nothing tells a batch "
        "from an example: batch it, without drop_remainder",
    )


def _same_again(part: Part, name: str) -> Part:
    """The part, once its first chunk was the same in two passes.

    Raises:
        DataError: it was not.

    """
    one, two = (next(part(), None) for _ in range(2))
    if one is not None and two is not None:
        for here, there in zip(one, two, strict=True):
            same = (
                here is there
                if here is None or there is None
                else here.dtype == there.dtype and np.array_equal(here, there, equal_nan=here.dtype.kind == "f")
            )
            if not same:
                raise DataError("data.source", name, AGAIN)
    return part
