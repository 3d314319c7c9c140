"""What targets and answers are like, output by output: figures behind the output's name and a slash if it has one."""

from collections.abc import Iterable, Sequence

from tasks.contract.named import Array
from tasks.data.heads import Head
from tasks.drift.distributions import Distribution
from tasks.drift.features import Features
from tasks.drift.profile import answer_figures, distributions, target_figures


def named_of(head: Head, name: str) -> str:
    """A figure of an output among those of all."""
    return f"{head.name}/{name}" if head.name else name


def figures_of_targets(head: Head, y: Array) -> Features:
    """Of one output's targets, of those of all."""
    return target_figures(head.problem, head.of(y), head.classes or head.target_columns)


def figures_of_answers(head: Head, x: Array, answers: Array) -> Features:
    """Of one output's answers, of those of all."""
    return answer_figures(head.problem, x, head.of(answers), head.classes or head.target_columns)


def targets_like(heads: Sequence[Head], y: Array) -> dict[str, Distribution]:
    """References for targets `(n, …)`, by name."""
    return _like((head, figures_of_targets(head, y)) for head in heads)


def answers_like(heads: Sequence[Head], x: Array, answers: Array) -> dict[str, Distribution]:
    """References for answers `(n, …)` to examples, by name."""
    return _like((head, figures_of_answers(head, x, answers)) for head in heads)


def _like(figures: Iterable[tuple[Head, Features]]) -> dict[str, Distribution]:
    return {
        named_of(head, name): each
        for head, own in figures
        for name, each in distributions(own, len(head.classes)).items()
    }
