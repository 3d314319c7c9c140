"""How right a file's answers are, output by output."""

from collections.abc import Mapping
from typing import Any

from tasks.contract.named import Array
from tasks.data import Dataset
from tasks.data.heads import Head
from tasks.evidence.evidence import Evidence, HeadEvidence, Reference, Scored
from tasks.evidence.measured_on import Measures
from tasks.measuring.measure import Measure
from tasks.measuring.parts import classes_of, slices_of
from tasks.measuring.scores import confusion_matrix, example_scores, further_figures, parity

MOST_CLASSES = 64  # of a confusion matrix that is kept: beyond it the page cannot show it and the JSON grows


def scored(data: Dataset, measures: Measures, answers: Array, in_keras: Array, reference: Array) -> dict[str, Scored]:
    """What is said of each output's answers, by its name.

    Args:
        data: whose test split was asked.
        measures: of each output.
        answers: the file's `(n, …)`.
        in_keras: those of the Keras model that it was made from.
        reference: those that drops are counted from.

    """
    each = {}
    for head in data.heads:
        own, keras, before = (head.of(values) for values in (answers, in_keras, reference))
        measure = measures[head.name]
        each[head.name] = Scored(
            accuracy=measure.interval(own),
            keras_accuracy=measure.interval(keras),
            drop=measure.drop(before, own),
            further=further_figures(head.problem, measure.y, own, head.target_columns, head.variance),
            targets=measure.by_target(before, own),
            classes=classes_of(head.problem, measure.y, own, head.classes),
            slices=_slices(data, measure, before, own),
            parity=parity(head.problem, keras, own),
            **_of_classes(head, measure, before, own),
        )
    return each


def _slices(data: Dataset, measure: Measure, before: Array, own: Array) -> dict[str, Any]:
    slices = data.slices_of("test", len(measure.y))
    return {} if slices is None else slices_of(measure, slices, before, own)


def _of_classes(head: Head, measure: Measure, before: Array, own: Array) -> dict[str, Any]:
    """What there is of classes and labels alone: examples lost and gained, and which class is taken for which."""
    if not head.classes:
        return {}
    worse, better = (example_scores(head.problem, measure.y, each) for each in (own, before))
    figures: dict[str, Any] = {"lost": int((better > worse).sum()), "gained": int((better < worse).sum())}
    if head.problem == "classification" and len(head.classes) <= MOST_CLASSES:
        matrix = confusion_matrix(measure.y, own, len(head.classes))
        figures["confusion"] = tuple(tuple(int(count) for count in row) for row in matrix)
    return figures


def heads_measured(
    data: Dataset, measures: Measures, reference: Array, keras: str, brought: bool
) -> list[HeadEvidence]:
    """What each output is measured by, and from what its drops are counted; the only one has no name.

    Args:
        data: whose test split was asked.
        measures: of each output.
        reference: the teacher's answers `(n, …)`.
        keras: which Keras gave them.
        brought: whether it answered as it was brought.

    """
    heads = []
    for head in data.heads:
        measure, answers = measures[head.name], head.of(reference)
        heads.append(
            HeadEvidence(
                name=head.name,
                problem=head.problem,
                score=measure.metric.name,
                lower_is_better=measure.metric.lower,
                classes=head.classes,
                reference=Reference(
                    keras=keras,
                    brought=brought,
                    accuracy=measure.interval(answers),
                    guessing=measure.guessing(len(head.classes)),
                    targets={name: each.score for name, each in measure.by_target(answers, answers).items()},
                ),
            )
        )
    return heads


def of_first(each: Mapping[str, Scored]) -> dict[str, Any]:
    """The fields of a file that tell of its answers: the first output's, and of several each one's."""
    return {**dict(next(iter(each.values()))), "heads": dict(each) if len(each) > 1 else {}}


def of_first_head(heads: list[HeadEvidence]) -> dict[str, Any]:
    """The fields of evidence that tell of outputs: the first one's, and of several each one."""
    first = {name: value for name, value in dict(heads[0]).items() if name in Evidence.model_fields and name != "name"}
    return {**first, "heads": tuple(heads) if len(heads) > 1 else ()}
