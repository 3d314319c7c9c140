"""Labels, as numbers or as names, to the numbers 0 … classes - 1."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.contract import own_function
from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.splits import SPLITS, Split

Labels = npt.NDArray[np.int64]
WHOLE = re.compile(r"0|-?[1-9]\d*")  # as `str` writes whole numbers
FEW = 32  # labels that are written out in a message
FEW_NOTED = 3  # and in a note
MOSTLY = 0.5  # of rows that are one-hot, from which others among them are mistakes
EACH = 3  # examples that a class needs at least: one in each split


def numbered(
    labels: Mapping[str, np.ndarray], config: DataConfig, names: tuple[str, ...]
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Numbers the labels of each part.

    Args:
        labels: `(rows,)` or `(rows, 1)` for each part: whole numbers, or names, also as bytes; or one-hot `(rows,
            classes)`. Where there are several in an example, such as pixels or steps, `(rows, …)`, `(rows, …, 1)`, or
            one-hot `(rows, …, classes)`.
        config: its `classes` win over the source's.
        names: the source's class names, or none.

    Returns:
        The numbers of each part, and the class names in their order.

    Raises:
        DataError: labels that are neither, or do not fit the class names.

    """
    labels = {part: _texts(values) for part, values in labels.items()}
    one_hot = all(map(_is_one_hot, labels.values()))
    for part, values in labels.items():
        if values.ndim == 2 and values.shape[1] > 1 and not one_hot:
            _check_rows(part, values)
    labels = {part: _one_each(values, one_hot=one_hot) for part, values in labels.items()}
    if config.classes and names and len(config.classes) != len(names):
        raise DataError("data.classes", config.classes, f"the source has {len(names)} classes: {', '.join(names)}")
    known = config.classes or names
    if len(set(known)) < len(known):
        raise DataError("data.classes", known, "names a class twice")
    if all(values.dtype.kind in "OU" for values in labels.values()):
        return by_name(labels, known)
    return by_number(labels, known)


def several(labels: Mapping[str, np.ndarray], config: DataConfig, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of labels that may stand together, of zeros and ones `(rows, labels)`, once they are such.

    Raises:
        DataError: they are something else, or as many names as labels there are not.

    """
    for part, values in labels.items():
        if values.ndim != 2 or values.shape[1] < 2 or not _is_binary(values):
            raise DataError(
                "data.target",
                f"{part}: {values.dtype} {values.shape}",
                "several labels at once are zeros and ones (examples, labels), two labels at least; one class an "
                "example is data.problem: classification",
            )
    count = next(iter(labels.values())).shape[1]
    classes = config.classes or names or _counted(count)
    if len(classes) != count:
        raise DataError("data.classes", classes, f"there are {count} labels; name each")
    if len(set(classes)) < count:
        raise DataError("data.classes", classes, "names a label twice")
    return classes


def check_labels(targets: Mapping[Split, np.ndarray], classes: Sequence[str]) -> None:
    """Refuses labels of which nothing can be learned: that are there always or never.

    Raises:
        DataError: names the split and the labels.

    """
    for split in SPLITS:
        shares = targets[split].mean(axis=0)
        constant = [name for name, share in zip(classes, shares, strict=True) if share in (0, 1)]
        if constant:
            remedy = "each label needs examples with it and without it in every split: add some, or drop the label"
            raise DataError("data.target", f"{split}: {listed(constant)} always or never", remedy)


def check_mistakes(config: DataConfig, classes: int) -> None:
    """Refuses costs of classes where there are none, or of others than there are.

    Raises:
        DataError: names the setting.

    """
    if not config.mistakes.any:
        return
    if not classes:
        raise DataError("data.mistakes", config.mistakes, f"a {config.problem} has no classes; leave it out")
    weights = config.mistakes.weights
    if weights and (len(weights) != classes or not all(weight > 0 for weight in weights)):
        raise DataError("data.mistakes.weights", weights, f"give each of the {classes} classes a number above 0")


def own_function_of(field: str, name: str) -> Callable[..., Any]:
    """A function of the user's own that a setting names.

    Raises:
        DataError: there is none, or its module cannot be imported.

    """
    try:
        return own_function.load(name)
    except Exception as error:  # the module is the user's: it may raise anything
        raise DataError(field, name, f"cannot be imported ({type(error).__name__}: {error})") from error


def note_of(classes: Sequence[str]) -> tuple[str, ...]:
    """What a person should know of whole numbers that were read as the names of classes, or nothing."""
    if classes == _counted(len(classes)) or not all(WHOLE.fullmatch(name) for name in classes):
        return ()
    last = len(classes) - 1
    written = (
        f"{', '.join(classes[:-1])} and {classes[-1]}"
        if len(classes) <= FEW_NOTED
        else f"{classes[0]} to {classes[-1]}"
    )
    return (f"Labels {written} are classes 0 to {last}.",)


def note_of_places(labels: Labels) -> tuple[str, ...]:
    """What a person should know of labels `(rows, …)` where there are several in an example."""
    shape = " x ".join(map(str, labels.shape[1:]))
    return (f"There are {shape} labels in an example: the model answers with a class for each.",) if shape else ()


def _texts(values: np.ndarray) -> np.ndarray:
    """Names that come as bytes, as TensorFlow has them, as texts."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype == object and all(isinstance(value, bytes) for value in values.flat):
        return np.array([value.decode() for value in values.flat], object).reshape(values.shape)
    return values


def _is_binary(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf" and bool(((values == 0) | (values == 1)).all())


def _check_rows(part: str, values: np.ndarray) -> None:
    """Refuses rows of which most, but not all, are one-hot, and zeros and ones side by side that may be two things."""
    ones = (values == 1).sum(axis=1) == 1 if values.dtype.kind in "biuf" else np.zeros(len(values), bool)
    hot = ones & ((values == 0).sum(axis=1) == values.shape[1] - 1) if ones.any() else ones
    if not _is_binary(values) and hot.mean() < MOSTLY:
        return
    shown = f"{part}: {values[(~hot).argmax()].tolist()}"
    raise DataError(
        "data.target",
        shown,
        "a one-hot row is one 1 among zeros. Several labels at once are data.problem: multilabel; a class for each "
        f"step or place is (examples, {values.shape[1]}, 1)",
    )


def _is_one_hot(values: np.ndarray) -> bool:
    """Whether labels `(rows, …, classes)` are one 1 among zeros each."""
    return values.ndim > 1 and values.shape[-1] > 1 and _is_binary(values) and bool((values.sum(axis=-1) == 1).all())


def _one_each(values: np.ndarray, *, one_hot: bool) -> np.ndarray:
    """Labels `(rows, …)` of `(rows, …, 1)`, or of one-hot `(rows, …, classes)`; others as they are."""
    if one_hot:
        return np.asarray(values.argmax(axis=-1))
    return values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values


def by_name(labels: Mapping[str, np.ndarray], known: tuple[str, ...]) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Names become their place among the known names, else among the sorted ones."""
    for part, values in labels.items():
        if other := next((value for value in values.flat if not isinstance(value, str)), None):
            raise DataError("data.target", f"{part}: {other!r}", "labels are all names, or all whole numbers")
    names = sorted({str(value) for values in labels.values() for value in np.unique(values)})
    if unknown := sorted(set(names) - set(known)) if known else []:
        raise DataError("data.classes", known, f"the labels also hold {listed(unknown)}; name every class")
    classes = known or tuple(names)
    place = {name: number for number, name in enumerate(classes)}
    return {
        part: np.array([place[str(value)] for value in values.flat], np.int64).reshape(values.shape)
        for part, values in labels.items()
    }, classes


def by_value(labels: Mapping[str, Labels], values: Sequence[int]) -> dict[str, Labels]:
    """Whole numbers become their place among these, which hold all of them."""
    order = np.argsort(values)
    return {part: order[np.searchsorted(values, each, sorter=order)] for part, each in labels.items()}


def by_number(labels: Mapping[str, np.ndarray], known: tuple[str, ...]) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Whole numbers from 0 stay what they are; others are names, in their order: 1 and 2, -1 and 1, 3 to 8.

    They are so too where `data.classes` names whole numbers other than those from 0.
    """
    numbers: dict[str, Labels] = {}
    for part, values in labels.items():
        if values.dtype.kind not in "biuf" or not (np.isfinite(values).all() and (values == np.floor(values)).all()):
            raise DataError(
                "data.target", f"{part}: {values.dtype} labels", "labels are whole numbers from 0, or all of them names"
            )
        with np.errstate(invalid="ignore"):  # what no integer holds becomes negative, and is refused below
            numbers[part] = values.astype(np.int64)
    distinct = np.unique(np.concatenate([np.unique(values) for values in numbers.values()]))
    if known and all(WHOLE.fullmatch(name) for name in known) and known != _counted(len(known)):
        if unknown := sorted(set(map(str, distinct)) - set(known)):
            raise DataError("data.classes", known, f"the labels also hold {listed(unknown)}; name every class")
        return by_value(numbers, list(map(int, known))), known
    if not len(distinct):
        return numbers, known
    lowest, highest = int(distinct[0]), int(distinct[-1])
    # Every class needs examples, so a label beyond their number is an identifier or a measurement and no class.
    examples = sum(values.size for values in numbers.values())
    if not known and lowest != 0 and EACH * len(distinct) <= examples:
        return by_value(numbers, distinct.tolist()), tuple(map(str, distinct))
    bound = len(known) or examples
    if lowest < 0 or highest >= bound:
        right = (
            f"0 to {bound - 1}, as there are {bound} class names"
            if known
            else f"0 to the number of classes less one{_as_they_stand(distinct)}"
        )
        raise DataError("data.target", f"labels {lowest} to {highest}", f"number the labels {right}")
    return numbers, known or _counted(highest + 1)


def _counted(classes: int) -> tuple[str, ...]:
    """The names of classes that have none."""
    return tuple(str(number) for number in range(classes))


def _as_they_stand(labels: Labels) -> str:
    """The way out for distinct labels that leave numbers out, if they can be classes: to say that they are names."""
    return f", or name them as they stand, data.classes: {list(map(str, labels))}" if len(labels) <= FEW else ""


def check_classes(targets: Mapping[Split, Labels], classes: Sequence[str]) -> None:
    """Refuses splits in which a class is missing, and problems with a single class.

    Where there are several labels in an example, only the train split needs all classes.

    Raises:
        DataError: names the split and the classes.

    """
    if len(classes) < 2:
        raise DataError("data.target", f"classes {', '.join(classes)}", "a classification needs at least two classes")
    for split in SPLITS:
        if targets[split].ndim > 1 and split != "train":
            continue
        present = np.bincount(targets[split].reshape(-1), minlength=len(classes))
        if missing := [name for name, count in zip(classes, present, strict=True) if not count]:
            remedy = "every class needs distinct examples in every split: add some, raise data.limit, or drop the class"
            if tuple(classes) == _counted(len(classes)):  # such as masks of 0 and 255
                remedy += _as_they_stand(np.flatnonzero(present))
            raise DataError("data.target", f"{split} has no {listed(missing)}", remedy)


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
