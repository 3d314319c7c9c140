"""Several named arrays of the same examples as one, which is sliced, drawn and joined like any other: NumPy's records.

What a model with one input takes is an array `(n, …)`. What one with several takes are records `(n,)`, with a field for
each input by its name. Answers and targets are alike, by the names of outputs. So code that moves examples about need
not know how many inputs there are, and code that looks at values takes them apart by `fields`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

ONE = ""  # the name of what needs none, as there is but one


def identifier(name: str) -> str:
    """A name that every runtime takes for a tensor's."""
    return re.sub(r"\W", "_", name)


def packed(arrays: Mapping[str, Array]) -> Array:
    """Arrays `(n, …)` by name as records `(n,)` in their order; one alone stays the array that it is.

    Raises:
        ValueError: they are not as long, or two are called alike.

    """
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    names = list(map(identifier, arrays))
    if len(set(names)) < len(names) or len({len(each) for each in arrays.values()}) > 1:
        told = ", ".join(f"{name} {each.shape}" for name, each in arrays.items())
        raise ValueError(f"{told}: need a name of their own each, and as many examples")
    return records(dict(zip(names, arrays.values(), strict=True)))


def records(arrays: Mapping[str, Array]) -> Array:
    """Arrays `(n, …)` of as many examples as records `(n,)`, by their names as they stand; also of one alone."""
    made = np.empty(
        len(next(iter(arrays.values()))),
        np.dtype([(name, each.dtype, each.shape[1:]) for name, each in arrays.items()]),
    )
    for name, each in arrays.items():
        made[name] = each
    return made


def names_of(values: Array) -> tuple[str, ...]:
    """The names of what records hold; `ONE` of a plain array."""
    return values.dtype.names or (ONE,)


def fields(values: Array) -> dict[str, Array]:
    """What records hold, each `(n, …)` by its name; a plain array is `ONE`."""
    return {name: field(values, name) for name in names_of(values)}


def field(values: Array, name: str) -> Array:
    """One of what records hold `(n, …)`, in memory of its own as runtimes take it; `ONE` is a plain array itself."""
    return values if name == ONE and not values.dtype.names else np.ascontiguousarray(values[name])


def each(values: Array, change: Callable[[Array], Array]) -> Array:
    """The same records, each field changed."""
    if not values.dtype.names:
        return change(values)
    return packed({name: change(part) for name, part in fields(values).items()})


def kind_of(ends: Sequence[tuple[str, npt.DTypeLike, tuple[int, ...]]]) -> np.dtype[Any]:
    """The type of one example, of each input's or output's name, type and shape: `np.empty(n, …)` makes n of it."""
    return np.dtype(list(ends)) if len(ends) > 1 else np.dtype((ends[0][1], ends[0][2]))


def ordered(values: Array, names: Sequence[str]) -> list[Array]:
    """What records hold in the order of these names; a plain array is the one."""
    if not values.dtype.names:
        return [values]
    return [field(values, name) for name in names]


def by_name(values: Array, names: Sequence[str], types: Sequence[npt.DTypeLike] = ()) -> dict[str, Array]:
    """What a file is fed, by the names of its inputs: a plain array is for its one, whatever that is called.

    Args:
        values: `(n, …)`, or records `(n,)`.
        names: of its inputs.
        types: that they take, where the values may have others.

    Raises:
        ValueError: the records have no such field.

    """
    given = ordered(values, names)
    if types:
        given = [each.astype(dtype, copy=False) for each, dtype in zip(given, types, strict=True)]
    return dict(zip(names, given, strict=True))


def feeding(names: Sequence[str], types: Sequence[npt.DTypeLike]) -> Callable[[Array], dict[str, Array]]:
    """`by_name` for these inputs, settled once: some calls take so few microseconds that its own would be seen."""
    if len(names) == 1:
        one, dtype = names[0], np.dtype(types[0])
        return lambda values: {one: values if values.dtype == dtype else values.astype(dtype)}
    return lambda values: by_name(values, names, types)


def packing(names: Sequence[str]) -> Callable[[Sequence[Array]], Array]:
    """`packed` for what these outputs give, in their order; settled once, as `feeding`."""
    if len(names) == 1:
        return lambda values: values[0]
    return lambda values: packed(dict(zip(names, values, strict=True)))
