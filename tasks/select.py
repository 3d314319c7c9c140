"""Choose: for each target, of several ways to quantize the one that this machine runs best inside the budget."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.contract.artifact import ChoiceArtifact, ModelArtifact, Precision, Target, digest_folder
from tasks.contract.budget import Budget
from tasks.contract.named import ONE
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.evidence.evidence import Tried, write_choice
from tasks.evidence.measured_on import measured_on
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.sizes import sizes
from tasks.keras_graph.asked import asked
from tasks.measuring import timing
from tasks.measuring.answers import Outputs, answers_of
from tasks.measuring.arrays import Floats
from tasks.measuring.config import ValidateConfig
from tasks.quantization.conversion import Conversion
from tasks.store import tracking
from tasks.store.stage import StageRun, stage

TEACHER, STUDENT = "teacher", "student"  # names of the float models; without a student of its own, the teacher may ship


@dataclass(frozen=True)
class Candidate:
    """A file to try. route: the way that it was made; folder: what the target's format has written."""

    route: str
    precision: Precision
    folder: Path


def choose(
    candidates: Mapping[Target, Sequence[Candidate]],
    teacher_answers: Outputs,
    data: Dataset,
    config: ValidateConfig,
    *,
    budget: Budget,
    seed: int,
) -> tuple[Tried, ...]:
    """Measure every candidate on the validation split, and mark one for each target.

    The test split stays out of it: evidence that also chose would flatter what it chose. Inside the budget is who keeps
    every limit, those of the drop and the speed-up by the bad end of the interval; size, latency and integer share are
    limits of the first target's file alone. Of those the fastest at batch 1 is taken, and of those that cannot be told
    from it the smallest; for a target whose runtime is not here, the one with the largest integer share. If none is
    inside, it is the nearest, for the budget to refuse.

    Args:
        candidates: by target; the teacher's float file among them, which is the measure of their times.
        teacher_answers: to the validation split, in Keras `(n, …)`: the measure of their scores.
        data: whose validation split is measured on.
        config: how.
        budget: that a version must keep.
        seed: of the bootstrap.

    Raises:
        ConversionError: a file answers with something other than one finite output for each example.

    """
    return tuple(
        tried
        for target, files in candidates.items()
        for tried in _try(target, files, teacher_answers, data, config, budget_of(budget, target, candidates), seed)
    )


def _try(
    target: Target,
    files: Sequence[Candidate],
    teacher_answers: Outputs,
    data: Dataset,
    config: ValidateConfig,
    budget: Budget,
    seed: int,
) -> list[Tried]:
    """One target's candidates, timed in turn."""
    form = FORMATS[target]
    x, y = data.sample("validation", config.max_examples)
    measures = measured_on(data, "validation", y, config, seed)
    opens = {file.route: functools.partial(form.load, file.folder, threads=config.threads) for file in files}
    listener().note("choose", f"measuring {len(files)} ways for {target}: {', '.join(opens)}")
    answers = {
        file.route: answers_of(
            opens[file.route](), x, data.output_shapes, config.throughput_batch, f"{file.route} {target}"
        )
        for file in files
    }
    times = timing.time_anew(opens, x[:1], config.latency_rounds, config.warmup_rounds, config.latency_seconds)
    rows = []
    for file in files:
        own = answers[file.route]
        drops = {head.name: measures[head.name].drop(head.of(teacher_answers), head.of(own)) for head in data.heads}
        first = data.heads[0]
        audit = form.audit(file.folder, x[:1])
        rows.append(
            Tried(
                route=file.route,
                target=target,
                precision=file.precision,
                accuracy=measures[first.name].interval(first.of(own)),
                drop=drops[first.name],
                drops=drops if len(drops) > 1 else {},
                size_bytes=sizes(file.folder, target)[0],
                latency_p50=float(np.median(times[file.route])),
                speedup=timing.ratio_interval(times[TEACHER], times[file.route], config.confidence, seed),
                integer_share=audit.integer_share,
                everywhere=audit.everywhere,
                ran=form.RUNS_HERE,
                inside=False,
                chosen=False,
            )
        )
    rows = [_judged(row, budget, teacher=rows[0]) for row in rows]
    may_ship = [row for row in rows if row.route != TEACHER or STUDENT not in opens]
    taken = best(may_ship, times if form.RUNS_HERE else {}, config.confidence, seed)
    if not taken.inside:
        listener().note("choose", f"no way is inside the budget for {target}; {taken.nearest}")
    return [row.model_copy(update={"chosen": row is taken}) for row in rows]


def budget_of(budget: Budget, target: Target, targets: Iterable[Target]) -> Budget:
    """That of one target's file: all of it for the first one's, accuracy and the same integers for the others'."""
    if target == next(iter(targets)):
        return budget
    return Budget(
        max_accuracy_drop=budget.max_accuracy_drop,
        max_drop=budget.max_drop,
        max_drops=budget.max_drops,
        every_processor=budget.every_processor,
    )


def _judged(row: Tried, budget: Budget, *, teacher: Tried) -> Tried:
    """With the limits that it does not keep, and by which share each is missed: from 0 to 1, whatever its unit."""
    drops = [(*budget.accuracy_of(head), drop.high) for head, drop in (row.drops or {ONE: row.drop}).items()]
    at_most = {
        **{name: (drop, limit) for name, limit, drop in drops},
        "max_size_bytes": (row.size_bytes, budget.max_size_bytes or math.inf),
        "max_latency_ms": (1000 * row.latency_p50, budget.max_latency_ms or math.inf),
    }
    at_least = {
        "min_size_ratio": (teacher.size_bytes / row.size_bytes, budget.min_size_ratio),
        "min_speedup": (row.speedup.low, budget.min_speedup),
        "min_integer_share": (row.integer_share, budget.min_integer_share),
    }
    misses = {name: 1 - limit / value for name, (value, limit) in at_most.items() if value > limit}
    misses |= {name: 1 - value / limit for name, (value, limit) in at_least.items() if value < limit}
    if budget.every_processor and row.everywhere is False:
        misses["every_processor"] = 1.0
    return row.model_copy(update={"inside": not misses, "misses": misses})


def best(rows: Sequence[Tried], times: Mapping[str, Floats], confidence: float, seed: int) -> Tried:
    """The one to take; see `choose`. Without times, the one with the largest integer share, then the smallest."""
    inside = [row for row in rows if row.inside]
    if not inside:
        return min(rows, key=lambda row: (max(row.misses.values(), default=0), row.drop.high, row.size_bytes))
    if not times:
        return min(inside, key=lambda row: (-row.integer_share, row.size_bytes))
    fastest = min(inside, key=lambda row: row.latency_p50)
    alike = [
        row
        for row in inside
        if row is fastest or timing.ratio_interval(times[row.route], times[fastest.route], confidence, seed).low <= 1
    ]
    return min(alike, key=lambda row: (row.size_bytes, row.latency_p50))


@stage("choose", reuse=lambda arguments: not arguments["config"].called, measures=True)
def choose_files(
    run: StageRun,
    conversions: dict[str, Conversion],
    files: dict[str, dict[Target, ModelArtifact]],
    data: DataArtifact,
    config: ValidateConfig,
    budget: Budget,
    seed: int,
) -> ChoiceArtifact:
    """Measure what was made of each Keras model for every target, both by name, and keep the table of them.

    A file that its target's writer could only make in float32, for want of the asked precision, is no way of its own.
    """
    candidates = {
        target: [
            Candidate(name, targets[target].precision, tracking.fetch(targets[target]))
            for name, targets in files.items()
            if name == TEACHER or targets[target].precision == conversions[name].precision
        ]
        for target in files[TEACHER]
    }
    dataset, teacher = open_prepared(data), keras.load(tracking.fetch(conversions[TEACHER].model))
    x, _ = dataset.sample("validation", config.max_examples)
    rows = choose(
        candidates,
        asked(teacher, x, config.throughput_batch),
        dataset,
        config,
        budget=budget,
        seed=seed,
    )
    for row in rows:
        figures = {"drop": row.drop.estimate, "latency_p50_ms": row.latency_p50 * 1000, "size_bytes": row.size_bytes}
        tracking.log_metrics(run.run_id, {f"{row.route}/{row.target}/{name}": v for name, v in figures.items()})
    folder = run.work / "choice"
    folder.mkdir()
    write_choice(rows, folder)
    return ChoiceArtifact(
        stage=run.stage,
        sha256=digest_folder(folder),
        uri=tracking.keep_folder(run.run_id, folder, "choice"),
        run=run.run_id,
        chosen={row.target: row.route for row in rows if row.chosen},
    )
