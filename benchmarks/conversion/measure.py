"""Files of one subject, measured: what they run, how right they are, and how fast, timed in turn."""

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from benchmarks.conversion.routes import Route, SourceModel, keras_models, output_steps
from benchmarks.conversion.subjects import Subject
from benchmarks.say import say
from tasks.contract.artifact import Target
from tasks.formats import FORMATS
from tasks.formats.audit import Audit
from tasks.measuring import timing
from tasks.measuring.arrays import Floats, Outputs
from tasks.measuring.intervals import Interval
from tasks.measuring.scores import SCORE_NAMES, agreement, example_scores
from tasks.training.loop import FitConfig

if TYPE_CHECKING:
    import tensorflow as tf

Predict = Callable[[Outputs], Outputs]
Open = Callable[[], Predict]
COMPARED = 1000  # test inputs on which a file and its Keras model are compared
BATCH = 100
ORDERS = 20  # of the files in a timing
WARMUP = 10  # calls before an order's timing


class RouteRow(BaseModel, frozen=True):
    """What was measured of one file."""

    route: str
    target: Target
    ours: bool
    failure: str = ""
    seconds: float = 0.0  # to make it
    kilobytes: float = 0.0
    score: float = 0.0
    from_keras: float = 0.0  # its score minus that of the Keras model whose answers it should give
    reference: str = ""  # which one that is
    agreement: float | None = None  # share of inputs with the same first class
    as_float: float | None = None  # share of inputs with the first class of the float Keras model
    off_float: float = 0.0  # mean difference from that model's answers, over their span
    worst_steps: float | None = None  # largest difference, in steps of the output
    macs: int = 0  # multiply-accumulates for one example
    integer_share: float = 0.0
    integer_time: float | None = None  # share of kernels' time in integer ones, where the runtime tells
    conversions: int = 0  # kernels that turn numbers into integers, or back
    kernels: dict[str, int] = {}
    in_float: dict[str, tuple[str, ...]] = {}  # why, and which layers
    p50: float = 0.0  # seconds, as are the quartiles
    p25: float = 0.0
    p75: float = 0.0
    speedup: Interval | None = None  # the runtime's float file's median over this one's


class SubjectResult(BaseModel, frozen=True):
    """All rows of a subject, and the median times of each ONNX peer over those of each of ours."""

    subject: str
    says: str
    score: str
    tests: int
    macs: int
    rows: tuple[RouteRow, ...]
    against: dict[str, dict[str, Interval]]


def measure(
    subject: Subject, routes: Sequence[Route], tuning: FitConfig, *, seed: int, rounds: int, seconds: float
) -> SubjectResult:
    """Make every file of a subject and measure it.

    Args:
        subject: what is converted.
        routes: by which ways; each runtime's float one first.
        tuning: how quantization-aware models are fine-tuned.
        seed: of fine-tuning and bootstrap.
        rounds: how often each file is timed, at most.
        seconds: how long the timing of all takes, at most.

    """
    models, failed = _models(subject, tuning, seed, {route.source for route in routes})
    answers = {source: answers_of(predicting(model), subject.x) for source, model in models.items()}
    steps = output_steps(models["calibrated"]) if "calibrated" in models else np.ones(())
    with tempfile.TemporaryDirectory(prefix="slimline-conversion-") as place:
        rows: dict[str, RouteRow] = {}
        files: dict[str, Open] = {}
        for number, route in enumerate(routes):
            folder = Path(place) / str(number)
            folder.mkdir()
            title = f"{route.target}: {route.title}"
            if route.source in failed:
                rows[title] = _failure(route, failed[route.source])
                continue
            say(f"{subject.name}: {title}")
            try:
                rows[title] = _one(route, models[route.source], subject, folder, answers, steps)
                files[title] = partial(FORMATS[route.target].load, folder, threads=1)
            except Exception as error:  # a route that fails is a row that says why
                rows[title] = _failure(route, error)
                say(f"{subject.name}: {title} failed: {rows[title].failure}")
        say(f"{subject.name}: timing {len(files)} files in turn")
        times = time_in_orders(files, subject.x[:1], rounds, seconds, seed)
    problem = subject.data.config.problem
    return SubjectResult(
        subject=subject.name,
        says=subject.says,
        score=SCORE_NAMES[problem],
        tests=len(subject.x),
        macs=max(row.macs for row in rows.values()),
        rows=tuple(timed(row, times, title, seed) for title, row in rows.items()),
        against=_against(rows, times, seed),
    )


def time_in_orders(files: Mapping[str, Open], x: Outputs, rounds: int, seconds: float, seed: int) -> dict[str, Floats]:
    """Time files in turn, in one order after another, opened anew for each.

    A call is faster behind one that runs the same kernels, and one opening of a file is luckier in the places of its
    memory than another: both made up to a tenth.

    Args:
        files: what is timed, by name: each gives a call.
        x: what each is called with.
        rounds: how often each is timed, at most.
        seconds: how long it takes, at most.
        seed: of the orders.

    Returns:
        Seconds by name, `(orders, rounds in an order)`: what `timing.ratio_interval` draws whole orders from.

    """
    draw = np.random.default_rng(seed)
    in_orders: dict[str, list[Floats]] = {name: [] for name in files}
    for _ in range(ORDERS):
        calls = {name: files[name]() for name in draw.permutation(list(files))}
        for name, times in timing.time_in_turn(calls, x, rounds // ORDERS, WARMUP, seconds / ORDERS).items():
            in_orders[name].append(times.ravel())
    fewest = min(len(times) for orders in in_orders.values() for times in orders)
    return {name: np.stack([times[:fewest] for times in orders]) for name, orders in in_orders.items()}


def _models(
    subject: Subject, tuning: FitConfig, seed: int, needed: Collection[SourceModel]
) -> tuple[dict[SourceModel, "tf.keras.Model"], dict[SourceModel, Exception]]:
    """The Keras models that are needed and can be made, and why the others cannot."""
    models: dict[SourceModel, tf.keras.Model] = {}
    failed: dict[SourceModel, Exception] = {}
    for source, make in keras_models(subject, tuning, seed):
        if source not in needed:
            continue
        try:
            models[source] = make()
        except Exception as error:  # a peer that refuses a model is what the table is about
            failed[source] = error
            say(f"{subject.name}: no {source} model: {error}")
    return models, failed


def _failure(route: Route, error: Exception) -> RouteRow:
    message = " ".join(str(error).split())[:300]
    return RouteRow(
        route=route.title,
        target=route.target,
        ours=route.ours,
        failure=f"{type(error).__name__}: {message}".rstrip(": "),
    )


def predicting(model: "tf.keras.Model") -> Predict:
    """A Keras model as a function from float32 inputs to float32 outputs."""
    return lambda x: np.asarray(model(x, training=False), np.float32)


def answers_of(predict: Predict, x: Outputs) -> Outputs:
    """Answers `(n, ...)` to inputs `(n, ...)`, a batch at a time."""
    return np.concatenate([predict(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])


def _one(
    route: Route,
    model: "tf.keras.Model",
    subject: Subject,
    folder: Path,
    answers: dict[SourceModel, Outputs],
    steps: np.ndarray,
) -> RouteRow:
    """One file's row without its times."""
    form: ModuleType = FORMATS[route.target]
    began = time.perf_counter()
    route.write(model, subject, folder)
    seconds = time.perf_counter() - began
    actual, expected = answers_of(form.load(folder, threads=1), subject.x), answers[route.source]
    audit = form.audit(folder, subject.x[:1])
    problem = subject.data.config.problem
    score, keras_score = (
        float(example_scores(problem, subject.y, outputs, subject.data.head.variance).mean())
        for outputs in (actual, expected)
    )
    row = RouteRow(
        route=route.title,
        target=route.target,
        ours=route.ours,
        seconds=seconds,
        kilobytes=(folder / form.FILE).stat().st_size / 1024,
        score=score,
        from_keras=score - keras_score,
        reference=route.source,
        macs=audit.macs,
        integer_share=audit.integer_share,
        integer_time=audit.integer_time,
        conversions=audit.conversions,
        kernels=audit.kernels,
        in_float=_by_reason(audit),
    )
    actual, expected, told = actual[:COMPARED], expected[:COMPARED], answers["float"][:COMPARED]
    seen: dict[str, float] = {"off_float": float(np.abs(actual - told).mean() / np.ptp(told))}
    if problem == "classification":
        seen |= {"agreement": agreement(expected, actual), "as_float": agreement(told, actual)}
    else:
        seen |= {"worst_steps": float((np.abs(actual - expected) / steps).max())}
    return row.model_copy(update=seen)


def _by_reason(audit: Audit) -> dict[str, tuple[str, ...]]:
    """The layers that run in float, under the reason."""
    reasons: dict[str, tuple[str, ...]] = {}
    for layer in audit.in_float:
        reasons[layer.why] = (*reasons.get(layer.why, ()), layer.name)
    return reasons


def timed(row: RouteRow, times: dict[str, Floats], title: str, seed: int) -> RouteRow:
    """The row with its times; the runtime's float file is the one called `target: float`."""
    if title not in times:
        return row
    p25, p50, p75 = (float(value) for value in np.quantile(times[title], [0.25, 0.5, 0.75]))
    float_times = times.get(f"{row.target}: float")
    speedup = None if float_times is None else timing.ratio_interval(float_times, times[title], seed=seed)
    return row.model_copy(update={"p25": p25, "p50": p50, "p75": p75, "speedup": speedup})


def _against(rows: dict[str, RouteRow], times: dict[str, Floats], seed: int) -> dict[str, dict[str, Interval]]:
    """For each of our ONNX files, each other ONNX file's median time over ours."""
    onnx = [title for title, row in rows.items() if row.target == "onnxruntime" and title in times]
    return {
        rows[ours].route: {
            rows[peer].route: timing.ratio_interval(times[peer], times[ours], seed=seed)
            for peer in onnx
            if not rows[peer].ours
        }
        for ours in onnx
        if rows[ours].ours
    }
