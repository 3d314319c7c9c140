"""Monitor: a registered version on new data: its score, what moved in the data and in its answers, and its latency."""

from collections.abc import Iterator, Sequence

from tasks.contract.artifact import EvidenceArtifact
from tasks.contract.errors import DataError, SlimlineError
from tasks.contract.progress import listener
from tasks.data import DataConfig, fingerprint
from tasks.data.heads import Head
from tasks.data.new import NewData, open_new
from tasks.data.tables.slimline_columns import from_json
from tasks.drift.distributions import Distribution, Drift, drifts
from tasks.drift.features import Features, features_of
from tasks.drift.limits import MonitorConfig
from tasks.drift.of_heads import figures_of_answers, figures_of_targets, named_of
from tasks.drift.profile import Profile, joined, open_profile
from tasks.evidence.monitoring import HeadMonitoring, Monitoring, reasons, write_monitoring
from tasks.evidence.plots import drifts_by_figure
from tasks.formats import FORMATS
from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.lookups import unknown_ids
from tasks.measuring import timing
from tasks.measuring.answers import Outputs, answers_of
from tasks.measuring.intervals import Interval, independent_difference
from tasks.measuring.machine import Machine, comparable, describe_machine, load_average
from tasks.measuring.measure import measure_of
from tasks.measuring.timing import latency_of
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.versions.registered import open_registered
from tasks.versions.version import OpenVersion

BATCH = 64  # examples in a call when answers are asked for
WARM, SECONDS = 20, 20.0  # calls before timing begins; seconds that timing takes at most


def monitor(version: OpenVersion, new: NewData, config: MonitorConfig, *, seed: int) -> Monitoring:
    """Ask the file that MLflow asks by default for its answers to new data, and compare all with the version's profile.

    Args:
        version: what was registered.
        new: examples, with their targets if there are any.
        config: how, and the limits.
        seed: of the bootstrap.

    Raises:
        DataError: too few new examples, or some that the file does not take.
        ConversionError: the file answers with something other than one finite output for each example.
        StoreError: the version was registered without distributions.

    """
    if len(new.x) < config.min_examples:
        raise DataError(
            "data.source", f"{len(new.x)} examples", f"too few to judge by; min_examples is {config.min_examples}"
        )
    load_before = load_average()
    profile, evidence = open_profile(version.folder), version.evidence
    file = version.default()
    call = FORMATS[file.target].load(version.files_of(file.target), threads=evidence.threads)
    listener().note("monitor", f"asking {version.uri} for {len(new.x):,} answers")
    unknown = unknown_ids(version.files_of(file.target) / onnx.FILE) if file.target == "onnxruntime" else None
    if unknown and (sentence := unknown(new.x)):
        raise DataError("data.source", sentence, "the model has never seen it: drop such examples, or compress again")
    shapes = {head.name: head.output_shape for head in profile.each_head}
    try:
        answers = answers_of(call, new.x, shapes, BATCH, version.uri)
    except SlimlineError:
        raise
    except Exception as error:  # the runtime's own, which share no class: an id that a table has no row for
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            "data.source",
            lines[-1],
            f"the {file.target} file does not take these examples: drop those unlike all that it learned from, such as "
            "new ids, or compress again",
        ) from error
    y = new.x if profile.problem == "reconstruction" else new.y
    heads = {head.name: _scored(version, profile, head, y, answers, seed) for head in profile.each_head}
    times = timing.time_in_turn({"now": call}, new.x[:1], config.latency_rounds, WARM, SECONDS)
    machine = describe_machine(load_before)
    latency = latency_of(times["now"])
    return _judged(
        Monitoring(
            **dict(next(iter(heads.values()))),
            uri=version.uri,
            heads=heads if len(heads) > 1 else {},
            examples=len(new.x),
            examples_held=new.available,
            confidence=evidence.confidence,
            columns=profile.columns,
            **_moved(profile, new, answers, config),
            latency=latency,
            registered_latency_p50=file.latency.p50,
            slowdown=latency.p50 / file.latency.p50 if _alike(machine, evidence.machine) else None,
            machine=machine,
            reasons=(),
            notes=new.notes,
        ),
        evidence.machine,
        config,
    )


def _scored(
    version: OpenVersion, profile: Profile, head: Head, y: Outputs | None, answers: Outputs, seed: int
) -> HeadMonitoring:
    """How right one output's answers are, of those of all, and how much worse than registered."""
    evidence = version.evidence.by_head[head.name]
    registered, lower = evidence.served().accuracy, evidence.lower_is_better
    scored = HeadMonitoring(problem=head.problem, score=evidence.score, lower_is_better=lower, registered=registered)
    if y is None:
        return scored
    own, confidence = head.of(answers), evidence.confidence
    measure = measure_of(
        scored.score,
        head.problem,
        head.of(y),
        head.variance,
        names=head.target_columns,
        confidence=confidence,
        seed=seed,
    )
    now = measure.interval(own)
    decays = {  # a version of before these were kept has none
        name: _decay(before, each.score, lower=lower)
        for name, each in measure.by_target(own, own).items()
        if (before := profile.scores.get(named_of(head, name)))
    }
    return scored.model_copy(update={"accuracy": now, "decay": _decay(registered, now, lower=lower), "decays": decays})


def _decay(registered: Interval, now: Interval, *, lower: bool) -> Interval:
    """By how much the metric is worse now; `lower` says that less of it is better."""
    return independent_difference(now, registered) if lower else independent_difference(registered, now)


def _moved(profile: Profile, new: NewData, answers: Outputs, config: MonitorConfig) -> dict[str, tuple[Drift, ...]]:
    """How far inputs, targets and answers have moved, of several each."""
    heads = profile.each_head
    of_targets = {} if new.y is None else _named([(head, figures_of_targets(head, new.y)) for head in heads])
    of_answers = _named([(head, figures_of_answers(head, new.x, answers)) for head in heads])
    return {
        "inputs": _drifts(profile.inputs, joined(features_of(x, profile.columns) for x in _chunks(new.x)), config),
        "targets": _drifts(profile.targets, of_targets, config) if of_targets else (),
        "predictions": _drifts(profile.predictions, of_answers, config),
    }


def _named(figures: Sequence[tuple[Head, Features]]) -> Features:
    """The figures of all outputs."""
    return {named_of(head, name): values for head, own in figures for name, values in own.items()}


def _drifts(references: dict[str, Distribution], figures: Features, config: MonitorConfig) -> tuple[Drift, ...]:
    return tuple(drifts(references, figures, limit=config.max_drift, significance=config.significance))


def _chunks(x: Outputs) -> Iterator[Outputs]:
    """So that double precision takes little memory."""
    for start in range(0, len(x), BATCH):
        yield x[start : start + BATCH]


def _alike(one: Machine, other: Machine) -> bool:
    """Whether latencies of two machines can be compared."""
    return comparable(one, other) and one.usable_cores == other.usable_cores


def _judged(measured: Monitoring, before: Machine, config: MonitorConfig) -> Monitoring:
    """With its reasons, and with what could not be measured."""
    notes = list(measured.notes)
    if measured.accuracy is None:
        notes.append("Without labels decay cannot be seen: drift says that data moved, not that answers are wrong.")
    if measured.slowdown is None:
        notes.append(
            f"Registered on {before.name} with {before.usable_cores} cores, measured on {measured.machine.name} with "
            f"{measured.machine.usable_cores}: latencies are not compared."
        )
    return measured.model_copy(update={"reasons": tuple(reasons(measured, config)), "notes": tuple(notes)})


def figures(measured: Monitoring) -> dict[str, float]:
    """The run's metrics by name: their course over many runs tells more than one run does."""
    scored = {measured.score: measured.accuracy, "decay": measured.decay}
    for name, head in measured.each_head.items():
        behind = f"{name}/" if name else ""
        scored |= {f"decay/{behind}{target}": each for target, each in head.decays.items()}
        if name:
            scored |= {f"{name}/{head.score}": head.accuracy, f"decay/{name}": head.decay}
    return {
        "degraded": float(bool(measured.reasons)),
        "examples": float(measured.examples),
        "latency_p50_ms": measured.latency.p50 * 1000,
        **{name: each.estimate for name, each in scored.items() if each},
        **{f"drift/{name}": drift.stability_index for name, drift in measured.drifts().items()},
    }


@stage("monitor", reuse=False)
def monitor_version(
    run: StageRun, name: str, version: int, data: DataConfig, labels: bool, config: MonitorConfig, seed: int
) -> EvidenceArtifact:
    """Measure a version on new data, and keep the figures as JSON, as metrics and as a plot.

    `labels` says whether the new data have them.
    """
    uri = f"models:/{name}/{version}"
    opened = open_registered(uri)
    profile = open_profile(opened.folder)
    new = open_new(
        data,
        labels=labels,
        inputs=profile.each_input,
        heads=profile.each_head,
        limit=config.max_examples,
        last=config.which == "newest",
        columns=profile.columns,
        encoding=tuple(map(from_json, profile.encoding)),
    )
    for note in new.notes:
        listener().note("monitor", note)
    measured = monitor(opened, new, config, seed=seed)
    tracking.log_dataset(run.run_id, data.reader, fingerprint(data), data.source or data.reader, {}, "monitor")
    tracking.log_metrics(run.run_id, figures(measured))
    tracking.set_tags(run.run_id, {"slimline.version": uri, "degraded": str(bool(measured.reasons)).lower()})
    folder = run.work / "monitoring"
    folder.mkdir()
    write_monitoring(measured, folder)
    shown = {name.replace("$", r"\$"): drift for name, drift in measured.drifts().items()}  # else plots read formulas
    run.figure(drifts_by_figure(shown, config.max_drift), "drift.png")
    return run.keep_evidence(folder)
