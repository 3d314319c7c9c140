"""What a score may be: metrics by name, each either a mean over examples or a figure of all of them together."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.contract import own_function
from tasks.contract.errors import MetricError
from tasks.contract.problem import Problem
from tasks.measuring import weighted
from tasks.measuring.arrays import Floats, Outputs
from tasks.measuring.scores import SCORE_NAMES, SMALLEST_PROBABILITY, as_probabilities, by_class, example_scores

AUTO = "auto"
CLASSES: tuple[Problem, ...] = ("classification", "multilabel")
NUMBERS: tuple[Problem, ...] = ("regression", "reconstruction")
TOP = re.compile(r"top_([1-9]\d{0,3})")
QUANTILE = re.compile(r"quantile_(0\.\d{1,4})")

Labels = npt.NDArray[Any]
Variance = float | Sequence[float]
# The right answers and a model's, to each example's value `(n,)` or each target's `(n, targets)`.
Means = Callable[[Labels, Outputs], Floats]
# The same, to what gives the figure of each of some resamples, from how often each example stands in it
Together = Callable[[Labels, Outputs], weighted.Figure]


@dataclass(frozen=True)
class Metric:
    """How right answers are.

    lower: whether less is better, as of an error.
    unit: whether it lies between 0 and 1, or is an R², so that a limit of 0.02 means something.
    share: whether an example's value is 1 or 0 where there is one answer in it.
    means, together: the one or the other.
    places: whether there may be several answers in an example.
    text: what a person reads of it.
    """

    name: str
    text: str
    problems: tuple[Problem, ...]
    lower: bool = False
    unit: bool = True
    share: bool = False
    means: Means | None = None
    together: Together | None = None
    places: bool = True

    @property
    def sign(self) -> int:
        """What makes more of it better."""
        return -1 if self.lower else 1


def metric_of(name: str, problem: Problem, variance: Variance = 1.0) -> Metric:
    """A metric by its name.

    Args:
        name: `auto` for the problem's own; one of `NAMED`, `top_K`, `quantile_Q`; or `package.module:function` of the
            user's, for which more is better, with a minus before it if less is.
        problem: what is solved.
        variance: of the train targets, for an R².

    Raises:
        MetricError: there is none of that name for this problem.

    """
    name = SCORE_NAMES[problem] if name == AUTO else name
    if own_function.NAME.fullmatch(name.removeprefix("-")):
        return _of_a_function(name, problem)
    metric = _numbered(name) or {known.name: known for known in (*NAMED, *_of_problem(variance))}.get(name)
    if metric is None:
        raise MetricError("validate.metric", name, f"there is no such metric; {_known(problem)}")
    if problem not in metric.problems:
        raise MetricError("validate.metric", name, f"is not made for {problem}; {_known(problem)}")
    return metric


def has_own_unit(name: str) -> bool:
    """Whether a metric is in a unit of its own, such as the target's, in which 0.02 may be much or nothing."""
    if ":" in name:
        return True
    metric = _numbered(name) or {known.name: known for known in NAMED}.get(name)
    return metric is not None and not metric.unit


def _known(problem: Problem) -> str:
    names = [SCORE_NAMES[problem], *(metric.name for metric in NAMED if problem in metric.problems)]
    names += ["top_5 (or another number)"] if problem == "classification" else []
    names += ["quantile_0.9 (or another share)"] if problem == "regression" else []
    return f"for {problem}: {', '.join(names)}, or package.module:function (-package.module:function if less is better)"


def _of_problem(variance: Variance) -> tuple[Metric, ...]:
    """The scores that are each problem's own."""

    def scores(problem: Problem) -> Means:
        return lambda y, answers: example_scores(problem, y, answers, variance)

    return (
        Metric(
            "accuracy",
            "Share of answers whose most probable class is the label",
            ("classification",),
            share=True,
            means=scores("classification"),
        ),
        Metric(
            "label_accuracy",
            "Share of labels that are rightly said to be there or not",
            ("multilabel",),
            means=scores("multilabel"),
        ),
        Metric(
            "r2",
            "R² with the train targets' variance: 1 - mean squared error / variance",
            NUMBERS,
            means=scores("regression"),
        ),
    )


def _numbered(name: str) -> Metric | None:
    """A metric whose name holds a number."""
    if match := TOP.fullmatch(name):
        first = int(match[1])
        text = f"Share of answers with the label among the {first} most probable classes"
        return Metric(name, text, ("classification",), share=True, means=lambda y, answers: _top(y, answers, first))
    if match := QUANTILE.fullmatch(name):
        level = float(match[1])
        text = f"Quantile loss at {level:g}, in the target's unit (Koenker and Bassett 1978)"
        return Metric(
            name,
            text,
            ("regression",),
            lower=True,
            unit=False,
            means=lambda y, answers: _each(np.maximum(level * (y - answers), (level - 1) * (y - answers))),
        )
    return None


def _each(values: npt.NDArray[Any]) -> Floats:
    """Values `(n, …, targets)` as each target's mean over an example `(n, targets)`, or of one or none `(n,)`."""
    values = values.astype(np.float64)
    if values.ndim == 1:
        return values
    means: Floats = values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)
    return means[:, 0] if means.shape[1] == 1 else means


def _whole(values: npt.NDArray[Any]) -> Floats:
    """Values `(n, …)` as their mean over an example `(n,)`."""
    means: Floats = values.astype(np.float64).reshape(len(values), -1).mean(axis=1)
    return means


def _top(y: Labels, answers: Outputs, first: int) -> Floats:
    shares = by_class(answers)
    if first >= shares.shape[-1]:
        raise MetricError(
            "validate.metric", f"top_{first}", f"there are {shares.shape[-1]} classes: any answer is right; take fewer"
        )
    right = np.take_along_axis(shares, y[..., None].astype(np.int64), axis=-1)
    return _whole((shares > right).sum(axis=-1) < first)


def _log_loss(y: Labels, answers: Outputs) -> Floats:
    shares = np.take_along_axis(as_probabilities(by_class(answers)), y[..., None].astype(np.int64), axis=-1)
    return _whole(-np.log(np.clip(shares, SMALLEST_PROBABILITY, None)))


def _smape(y: Labels, answers: Outputs) -> Floats:
    """Of each place 2·|error| / (|y| + |answer|), and 0 where both are 0."""
    size = np.abs(y.astype(np.float64)) + np.abs(answers)
    return _each(2 * np.abs(y - answers) / np.where(size > 0, size, 1))


NAMED: tuple[Metric, ...] = (
    Metric(
        "balanced_accuracy",
        "Recall, meaned over the classes",
        ("classification",),
        together=weighted.balanced_accuracy,
    ),
    Metric("f1_macro", "F1, meaned over the classes", CLASSES, together=weighted.f1_macro),
    Metric("f1_micro", "F1 of all classes' answers together", CLASSES, together=weighted.f1_micro),
    Metric(
        "mean_iou",
        "Intersection over union, meaned over the classes",
        ("classification",),
        together=weighted.mean_iou,
    ),
    Metric(
        "roc_auc",
        "Area under the ROC curve; of more than two classes meaned over each against the rest",
        CLASSES,
        together=weighted.roc_auc,
        places=False,
    ),
    Metric(
        "average_precision",
        "Average precision, the area under precision and recall; of more than two classes meaned over them",
        CLASSES,
        together=weighted.average_precision,
        places=False,
    ),
    Metric(
        "log_loss",
        "Mean -log of the label's probability, in nats",
        ("classification",),
        lower=True,
        unit=False,
        means=_log_loss,
    ),
    Metric(
        "mae",
        "Mean absolute error, in the target's unit",
        NUMBERS,
        lower=True,
        unit=False,
        means=lambda y, answers: _each(np.abs(y - answers.astype(np.float64))),
    ),
    Metric(
        "rmse",
        "Root of the mean squared error, in the target's unit",
        NUMBERS,
        lower=True,
        unit=False,
        together=weighted.rmse,
    ),
    Metric("smape", "Mean of 2·|error| / (|target| + |answer|), from 0 to 2", NUMBERS, lower=True, means=_smape),
)


def _of_a_function(name: str, problem: Problem) -> Metric:
    """A metric of the user's own: `function(y, answers)` gives one number, or one for each example `(n,)`.

    Raises:
        MetricError: it cannot be imported.

    """
    place, lower = name.removeprefix("-"), name.startswith("-")
    try:
        function = own_function.load(place)
    except Exception as error:  # the module is the user's: it may raise anything
        raise MetricError("validate.metric", name, f"cannot be imported ({type(error).__name__}: {error})") from error
    described = (inspect.getdoc(function) or f"What {place} gives").splitlines()[0].rstrip(".")
    call = _checked(function, name)

    def together(y: Labels, answers: Outputs) -> weighted.Figure:
        values = np.asarray(call(y, answers), np.float64)
        if values.ndim:
            return lambda weights: weights @ values / weights.sum(axis=1)

        def figures(weights: Floats) -> Floats:
            rows = np.arange(len(y))
            repeated = (np.repeat(rows, often.astype(np.int64)) for often in weights)
            return np.array([float(call(y[taken], answers[taken])) for taken in repeated])

        return figures

    return Metric(name, described, (problem,), lower=lower, unit=False, together=together)


def _checked(function: Callable[..., Any], name: str) -> Callable[[Labels, Outputs], Any]:
    def call(y: Labels, answers: Outputs) -> Any:
        try:
            given = function(y, answers)
        except Exception as error:  # the function is the user's: it may raise anything
            raise MetricError("validate.metric", name, f"raised {type(error).__name__}: {error}") from error
        values = np.asarray(given)
        if values.dtype.kind not in "biuf" or values.shape not in ((), (len(y),)) or not np.isfinite(values).all():
            raise MetricError(
                "validate.metric",
                name,
                f"gave {values.dtype} {values.shape} for {len(y)} examples: give one finite number, or one for each",
            )
        return given

    return call
