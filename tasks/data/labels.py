"""Labels, as numbers or as names, to the numbers 0 … classes - 1."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.splits import SPLITS, Split

Labels = npt.NDArray[np.int64]
WHOLE = re.compile(r"0|-?[1-9]\d*")  # as `str` writes whole numbers
FEW = 32  # labels that are written out in a message
FEW_NOTED = 3  # and in a note
EACH = 3  # examples that a class needs at least: one in each split


def numbered(
    labels: Mapping[str, np.ndarray], config: DataConfig, names: tuple[str, ...]
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Numbers the labels of each part.

    Args:
        labels: `(rows,)` or `(rows, 1)` for each part: whole numbers, or names, also as bytes; or `(rows, classes)`:
            one-hot.
        config: its `classes` win over the source's.
        names: the source's class names, or none.

    Returns:
        The numbers of each part, and the class names in their order.

    Raises:
        DataError: labels that are neither, or do not fit the class names.

    """
    labels = {part: _one_each(_texts(values)) for part, values in labels.items()}
    for part, values in labels.items():
        if values.ndim != 1:
            raise DataError(
                "data.target",
                f"{part}: shape {values.shape}",
                "a class label is one number or name for each example, or a one-hot row: one 1 among zeros. Several "
                "labels at once are values from 0 to 1 each: data.problem: regression",
            )
    if config.classes and names and len(config.classes) != len(names):
        raise DataError("data.classes", config.classes, f"the source has {len(names)} classes: {', '.join(names)}")
    known = config.classes or names
    if len(set(known)) < len(known):
        raise DataError("data.classes", known, "names a class twice")
    if all(values.dtype.kind in "OU" for values in labels.values()):
        return by_name(labels, known)
    return by_number(labels, known)


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


def _texts(values: np.ndarray) -> np.ndarray:
    """Names that come as bytes, as TensorFlow has them, as texts."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype == object and all(isinstance(value, bytes) for value in values.flat):
        return np.array([value.decode() for value in values.flat], object).reshape(values.shape)
    return values


def _one_each(values: np.ndarray) -> np.ndarray:
    """Labels `(rows,)` of a column `(rows, 1)`, or of one-hot rows `(rows, classes)`; others as they are."""
    if values.ndim != 2 or not len(values):
        return values
    if values.shape[1] == 1:
        return values[:, 0]
    if values.dtype.kind not in "biuf" or not (
        ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()
    ):
        return values
    return np.asarray(values.argmax(axis=1))


def by_name(labels: Mapping[str, np.ndarray], known: tuple[str, ...]) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Names become their place among the known names, else among the sorted ones."""
    for part, values in labels.items():
        if other := next((value for value in values if not isinstance(value, str)), None):
            raise DataError("data.target", f"{part}: {other!r}", "labels are all names, or all whole numbers")
    names = sorted({str(value) for values in labels.values() for value in np.unique(values)})
    if unknown := sorted(set(names) - set(known)) if known else []:
        raise DataError("data.classes", known, f"the labels also hold {listed(unknown)}; name every class")
    classes = known or tuple(names)
    place = {name: number for number, name in enumerate(classes)}
    return {
        part: np.array([place[str(value)] for value in values], np.int64) for part, values in labels.items()
    }, classes


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
    if known and all(WHOLE.fullmatch(name) for name in known) and known != _counted(len(known)):
        return by_name({part: values.astype(str) for part, values in numbers.items()}, known)
    distinct = np.unique(np.concatenate(list(numbers.values())))
    if not len(distinct):
        return numbers, known
    lowest, highest = int(distinct[0]), int(distinct[-1])
    # Every class needs examples, so a label beyond their number is an identifier or a measurement and no class.
    examples = sum(map(len, numbers.values()))
    if not known and lowest != 0 and EACH * len(distinct) <= examples:
        return by_name({part: values.astype(str) for part, values in numbers.items()}, tuple(map(str, distinct)))
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

    Raises:
        DataError: names the split and the classes.

    """
    if len(classes) < 2:
        raise DataError("data.target", f"classes {', '.join(classes)}", "a classification needs at least two classes")
    for split in SPLITS:
        present = np.bincount(targets[split], minlength=len(classes))
        if missing := [name for name, count in zip(classes, present, strict=True) if not count]:
            remedy = "every class needs distinct examples in every split: add some, raise data.limit, or drop the class"
            raise DataError("data.target", f"{split} has no {listed(missing)}", remedy)


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
