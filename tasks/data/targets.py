"""What is right for each output: labels numbered, classes named, numbers with their variance."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import ONE
from tasks.data.config import DataConfig
from tasks.data.heads import Head, Input
from tasks.data.labels import (
    check_classes,
    check_labels,
    check_mistakes,
    note_of,
    note_of_places,
    numbered,
    own_function_of,
    several,
)
from tasks.data.scan import Scan
from tasks.data.source import Source, separated
from tasks.data.splits import Split
from tasks.data.statistics import Variance, statistics_of

NOTHING = "there is nothing to learn; the train split's must vary"
BEHIND = {"classification": 0, "multilabel": 1, "regression": 1}  # axes of a problem's targets that are no places


@dataclass(frozen=True)
class Targets:
    """What is right for one output, as a source has it.

    name: the output's. config: what is read for it. parts: `(rows, …)` for each part of the source.
    classes, notes: as the data set has them. columns: the names of its columns in a table.
    """

    name: str
    config: DataConfig
    parts: dict[str, np.ndarray]
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def places(self) -> int:
        """How many axes of an example's targets are places of it, such as pixels."""
        if self.config.problem == "reconstruction":
            return 0
        return next(iter(self.parts.values())).ndim - 1 - BEHIND[self.config.problem]


def targets_of(source: Source, config: DataConfig, scanned: Scan) -> list[Targets]:
    """What is right for each output, in their order.

    Raises:
        DataError: labels, numbers or class names that do not fit; of several outputs it names the one.

    """
    each = []
    for name, of_head in config.of_heads.items():
        with output_named(name):
            each.append(_targets(name, source, of_head, scanned.targets[name]))
    return each


def _targets(name: str, source: Source, config: DataConfig, scanned: Mapping[str, np.ndarray]) -> Targets:
    parts = dict(scanned)
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    theirs, columns = source.classes, source.targets
    if name != ONE:  # the source's own are those of all outputs
        theirs = source.classes_of.get(config.target, ())
        columns = tuple(separated(config.target, columns)) if columns else ()
    if config.problem == "classification":
        with column_named(columns):
            parts, classes = numbered(scanned, config, theirs)
        if not (config.classes or theirs):
            notes += note_of(classes)
        notes += note_of_places(next(iter(parts.values())))
    elif config.problem == "multilabel":
        classes = several(scanned, config, theirs or columns)
    elif config.classes:
        raise DataError("data.classes", config.classes, f"a {config.problem} has no classes; leave this empty")
    shapes = {part: values.shape[1:] for part, values in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError("data.target", shapes, "every part needs targets of the same shape")
    check_mistakes(config, len(classes))
    if config.loss:
        own_function_of("data.loss", config.loss)
    return Targets(name, config, parts, classes, columns, tuple(f"{name}: {note}" if name else note for note in notes))


def heads_of(
    config: DataConfig,
    each: Sequence[Targets],
    targets: Mapping[str, Mapping[Split, np.ndarray]],
    inputs: Sequence[Input],
) -> tuple[Head, ...]:
    """Every output, once its targets `(rows, …)` are in splits.

    Raises:
        DataError: there is nothing to learn.

    """
    heads = []
    for one in each:
        variance: Variance = 1.0
        shape = targets[one.name]["train"].shape[1:]
        if one.config.problem == "classification":
            shape = (*shape, len(one.classes))
        elif one.config.problem == "regression":
            with output_named(one.name):
                variance = variance_of(targets[one.name]["train"], one.columns)
        elif one.config.problem == "reconstruction":
            shape, variance = _reconstructed(inputs)
        heads.append(
            Head(
                name=one.name,
                problem=one.config.problem,
                output_shape=shape,
                classes=one.classes,
                variance=variance,
                target_columns=one.columns,
                weight=config.loss_weights[one.name],
            )
        )
    return tuple(heads)


def _reconstructed(inputs: Sequence[Input]) -> tuple[tuple[int, ...], float]:
    """Shape and variance of what is to be answered with its input."""
    if len(inputs) > 1:
        names = ", ".join(each.name for each in inputs)
        raise DataError("data.problem", "reconstruction", f"is of one input, and there are {names}: give a target")
    if not inputs[0].variance > 0:
        raise DataError("data.input", "the same everywhere", NOTHING)
    return inputs[0].shape, inputs[0].variance


def check_splits(each: Sequence[Targets], targets: Mapping[str, Mapping[Split, np.ndarray]]) -> None:
    """Refuses splits that lack a class or label.

    Raises:
        DataError: names the split and the classes, and the output where there are several.

    """
    for one in each:
        if one.classes:
            with output_named(one.name), column_named(one.columns):
                (check_labels if one.config.problem == "multilabel" else check_classes)(targets[one.name], one.classes)


def variance_of(targets: np.ndarray, names: Sequence[str]) -> Variance:
    """Of targets `(n, …, targets)` over the examples: of each, so that none hides behind the scale of another.

    Raises:
        DataError: one is the same everywhere.

    """
    variances = tuple(float(value) for value in statistics_of([targets]).variances)
    if constant := [number for number, value in enumerate(variances) if not value > 0]:
        called = names or [f"target {number}" for number in range(len(variances))]
        constants = ", ".join(called[number] for number in constant)
        raise DataError("data.target", f"{constants}: the same everywhere", NOTHING)
    return variances if len(variances) > 1 else variances[0]


@contextmanager
def output_named(name: str) -> Iterator[None]:
    """Errors about targets bear the name of the output that they are of, where there are several."""
    try:
        yield
    except DataError as error:
        if name == ONE:
            raise
        raise DataError(error.field, f"output {name}: {error.value}", error.remedy) from error


@contextmanager
def column_named(columns: Sequence[str]) -> Iterator[None]:
    """Errors about labels bear the name of their column, where it has one."""
    try:
        yield
    except DataError as error:
        if not columns:
            raise
        raise DataError(error.field, f"{', '.join(columns)}: {error.value}", error.remedy) from error
