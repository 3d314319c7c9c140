"""What Python code has in hand, as parts of a source: arrays, pandas, datasets of TensorFlow and Keras, chunks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import fields, packed, records
from tasks.data.source import Chunk, array_part, rows_per_chunk

TAKEN = (
    "give (x, y) or (x, y, sample weights), or a tuple of two or three of these: (train, test) or (train, validation, "
    "test). x and y are arrays, lists or pandas, or several in a dict by the names of a model's inputs and outputs; "
    "instead of such a pair also a tf.data.Dataset, a keras.utils.PyDataset, or an iterable of (x, y) chunks"
)
NAMES = {2: ("train", "test"), 3: ("train", "validation", "test")}
AGAIN = (
    "comes in another order, or with other values, each time it is read: leave shuffling and augmentation out of it, "
    "as each training does these itself"
)

Elements = Callable[[], Iterator[Any]]  # what is there for some examples: `(x, y)`, `(x, y, weights)`, or chunks of it


class Streamed:
    """One split as a stream of chunks, which keeps the weights that it meets beside them: 8 bytes an example."""

    def __init__(self, elements: Elements, name: str) -> None:
        """Of elements `(x, y)` or `(x, y, weights)`; `name` is what an error says that was wrong."""
        self._elements, self._name = elements, name
        self._weights: list[np.ndarray | None] | None = None

    def __call__(self) -> Iterator[Chunk]:
        """A pass over all chunks."""
        met: list[np.ndarray | None] = []
        for element in self._elements():
            x, y, weights = _triple(element, self._name)
            met.append(weights)
            if self._weights is None or len(met) > len(self._weights):  # another pass may have ended early
                self._weights = met
            yield from array_part(x, y)()

    def weights(self) -> np.ndarray | None:
        """What each example counts, `(rows,)` float64, as far as a pass has come; none where there are none.

        Raises:
            DataError: only some chunks have weights.

        """
        if self._weights is None:
            for _ in self():
                pass
        there = [each for each in self._weights or () if each is not None]
        if not there:
            return None
        if len(there) < len(self._weights or ()):
            raise DataError("data.source", self._name, "gives sample weights with some chunks only; give all, or none")
        return np.concatenate(there)


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


def part_of(value: Any, name: str, again: Callable[[], Any] | None = None) -> Streamed:
    """One split as a stream of chunks.

    Args:
        value: one of what `TAKEN` says.
        name: what an error says that was wrong.
        again: gives the value anew for each further pass, where it is a generator that ends.

    Raises:
        DataError: it is something else; also while it is read.

    """
    if isinstance(value, tuple):
        whole = _triple(value, name)
        array_part(*whole[:2])
        return Streamed(lambda: iter([whole]), name)
    if _of(value, "tensorflow", "DatasetV2"):
        return _same_again(Streamed(_of_dataset(value, name), name), name)
    if _is_indexed(value):
        return _same_again(Streamed(_of_indexed(value, name), name), name)
    if isinstance(value, str | bytes | Mapping | np.ndarray) or not isinstance(value, Iterable):
        raise DataError("data.source", name, f"{type(value).__name__} is no data set; {TAKEN}")
    return Streamed(_of_chunks(value, name, again), name)


def columns_of(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the inputs and targets of a pair, where it is of pandas."""
    if not (_is_example(value) and _is_frame(value[0])):
        return (), ()
    x, y = value[:2]
    inputs = tuple(map(str, x.columns))
    if isinstance(y, Mapping):  # which names outputs, and not the numbers that one of them has
        return inputs, ()
    return inputs, tuple(map(str, y.columns)) if _is_frame(y) else (str(getattr(y, "name", None) or "target"),)


def without_columns(value: Any, names: Sequence[str]) -> Any:
    """A pair whose inputs are a DataFrame, or a dict, without these columns, as far as it has them; else as it is."""
    if not (_is_example(value) and _has_columns(value[0])):
        return value
    x = value[0]
    if isinstance(x, Mapping):
        return {name: each for name, each in x.items() if str(name) not in names}, *value[1:]
    return x[[column for column in x.columns if str(column) not in names]], *value[1:]


def column_beside(value: Any, field: str, name: str) -> np.ndarray:
    """A column of that name, `(rows,)`, of a pair whose inputs are a DataFrame or a dict.

    Raises:
        DataError: there is none.

    """
    if not (_is_example(value) and _has_columns(value[0])):
        raise DataError(
            field,
            name,
            "is read where a function returns (x, y) with a pandas DataFrame or a dict x that has this column; other "
            "data a function splits itself: return (train, validation, test)",
        )
    columns = {str(column): column for column in value[0]}
    if name not in columns:
        kind = "dict" if isinstance(value[0], Mapping) else "DataFrame"
        raise DataError(field, name, f"the {kind} has no such column; it has {', '.join(columns)}")
    return _array(value[0][columns[name]], f"{field}: {name}")


def _is_example(value: Any) -> bool:
    """Whether it is `(x, y)` or `(x, y, weights)`."""
    return isinstance(value, tuple) and len(value) in (2, 3)


def _is_split(value: Any) -> bool:
    return _is_example(value) or _of(value, "tensorflow", "DatasetV2") or _is_indexed(value)


def _of(value: Any, package: str, name: str) -> bool:
    """Whether a class of that name, of a package that need not be there, is among those of a value."""
    return any(each.__name__ == name and each.__module__.split(".")[0] == package for each in type(value).__mro__)


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def _has_columns(value: Any) -> bool:
    return _is_frame(value) or isinstance(value, Mapping)


def _is_indexed(value: Any) -> bool:
    """Whether it is a Keras `PyDataset` or `Sequence`, of whichever Keras: batches by their number."""
    return any(_of(value, package, name) for package in ("keras", "tf_keras") for name in ("PyDataset", "Sequence"))


def _triple(value: Any, name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Inputs, targets and weights as arrays or records, of `(x, y)` or `(x, y, weights)`."""
    if not _is_example(value):
        raise DataError("data.source", name, f"gave {type(value).__name__}; {TAKEN}")
    x, y, weights = (*value, None)[:3]
    inputs = _inputs(x, f"{name}: inputs")
    targets = None if y is None else _targets(y, f"{name}: targets")
    if weights is None:
        return inputs, targets, None
    return inputs, targets, _weights(weights, len(inputs), f"{name}: sample weights")


def _inputs(x: Any, name: str) -> np.ndarray:
    """Inputs `(n, …)`; several, by their names in a dict, as records, where one number is a vector of one."""
    if not isinstance(x, Mapping):
        return _array(x, name)
    arrays = _by_name(x, name)
    with_axis = {each: array[:, None] if array.ndim == 1 else array for each, array in arrays.items()}
    try:
        return packed(with_axis)
    except ValueError as error:
        raise DataError("data.source", name, str(error)) from error


def _targets(y: Any, name: str) -> np.ndarray:
    """Targets `(n, …)`; several, by their names in a dict, as records."""
    if not isinstance(y, Mapping):
        return _array(y, name)
    arrays = _by_name(y, name)
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"{each} {len(array)}" for each, array in arrays.items())
        raise DataError("data.source", f"{name}: {counts}", "give one target of each output for each input")
    return records(arrays) if len(arrays) > 1 else next(iter(arrays.values()))


def _by_name(values: Mapping[Any, Any], name: str) -> dict[str, np.ndarray]:
    """The arrays of a dict."""
    if not values:
        raise DataError("data.source", name, f"an empty dict; {TAKEN}")
    return {str(each): _array(value, f"{name}: {each}") for each, value in values.items()}


def _weights(value: Any, rows: int, name: str) -> np.ndarray:
    weights = np.array(()) if isinstance(value, Mapping) else _array(value, name)  # one of each output is none
    if weights.shape != (rows,) or weights.dtype.kind not in "biuf":
        raise DataError(
            "data.source",
            f"{name}: {weights.dtype} {weights.shape} for {rows} inputs",
            "a sample weight is one number for each input, which counts for all outputs",
        )
    return weights.astype(np.float64)


def _array(value: Any, name: str) -> np.ndarray:
    """An array of what stands for one, whose first axis counts examples."""
    array = value if isinstance(value, np.ndarray) else _made(value, name)
    if not array.ndim:
        raise DataError("data.source", name, f"one {type(value).__name__} is no array of examples; {TAKEN}")
    return array


def _made(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Mapping) or _are_several(value):
        kind = type(value).__name__
        raise DataError(
            "data.source",
            name,
            f"{len(value)} arrays in a {kind}: several inputs or outputs are a dict of arrays, by the model's names of "
            "them: {'name': array, …}",
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


def _are_several(value: Any) -> bool:
    """Whether it is a tuple of arrays, or a list of some that are as long and differ: several inputs, no examples."""
    if not isinstance(value, tuple | list):
        return False
    shapes = {tuple(getattr(each, "shape", ())) for each in value}
    alike = len({shape[:1] for shape in shapes}) == 1
    return any(shapes) and (isinstance(value, tuple) or (alike and len(shapes) > 1))


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


def _of_chunks(first: Iterable[Any], name: str, again: Callable[[], Any] | None) -> Elements:
    """Streams what is there first, and in each further pass what it is by then."""
    waiting = [first]

    def elements() -> Iterator[Any]:
        value = waiting.pop() if waiting else again() if again else first
        chunks = iter(value)
        while True:
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            except Exception as error:  # the generator is the user's: it may raise anything
                raise DataError("data.source", name, f"raised {type(error).__name__}: {error}") from error
            yield chunk

    return elements


def _of_indexed(batches: Any, name: str) -> Elements:
    """Streams a Keras data set by the numbers of its batches; it is never told of an epoch's end."""

    def elements() -> Iterator[Any]:
        for number in range(len(batches)):
            try:
                batch = batches[number]
            except Exception as error:  # the class is the user's: it may raise anything
                raise DataError("data.source", name, f"raised {type(error).__name__}: {error}") from error
            yield batch

    return elements


def _of_dataset(dataset: Any, name: str) -> Elements:
    """Streams a `tf.data.Dataset` of `(x, y)` or `(x, y, weights)`, or of x alone for a reconstruction; batched or not.

    Raises:
        DataError: it has no end, or gives something else; or nothing tells whether it is batched.

    """
    import tensorflow as tf

    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError("data.source", name, "the tf.data.Dataset has no end: leave out repeat()")
    spec = dataset.element_spec
    members = spec if _is_example(spec) else (spec,)
    specs = [each for of in members for each in (of.values() if isinstance(of, Mapping) else [of])]
    if not all(isinstance(each, tf.TensorSpec) for each in specs):
        raise DataError(
            "data.source",
            name,
            f"the tf.data.Dataset gives {spec}; make it give (x, y), a tensor each, or dicts of tensors by the names "
            "of inputs and outputs",
        )
    if not _is_batched([each.shape for each in specs], name):
        example = sum(each.dtype.size * (each.shape.num_elements() or 1) for each in specs if each.dtype != tf.string)
        dataset = dataset.batch(rows_per_chunk(example))

    def elements() -> Iterator[Any]:
        try:
            for each in dataset.as_numpy_iterator():
                yield each if len(members) > 1 else (each, None)
        except tf.errors.OpError as error:  # what its functions do is the user's
            raise DataError("data.source", name, f"raised {type(error).__name__}: {error.message}") from error

    return elements


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


def _same_again(part: Streamed, name: str) -> Streamed:
    """The part, once its first chunk was the same in two passes.

    Raises:
        DataError: it was not.

    """
    one, two = (next(part(), None) for _ in range(2))
    if one is not None and two is not None and not all(map(_same, one, two)):
        raise DataError("data.source", name, AGAIN)
    return part


def _same(here: np.ndarray | None, there: np.ndarray | None) -> bool:
    if here is None or there is None:
        return here is there
    return here.dtype == there.dtype and all(
        np.array_equal(one, two, equal_nan=one.dtype.kind == "f")
        for one, two in zip(fields(here).values(), fields(there).values(), strict=True)
    )
