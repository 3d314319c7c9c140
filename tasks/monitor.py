"""Monitor: a registered version on new data: its score, what moved in the data and in its answers, and its latency."""

from collections.abc import Iterator

from tasks.contract.artifact import EvidenceArtifact
from tasks.contract.errors import DataError, SlimlineError
from tasks.contract.progress import listener
from tasks.data import DataConfig, fingerprint
from tasks.data.new import NewData, open_new
from tasks.data.tables.slimline_columns import from_json
from tasks.drift.distributions import Distribution, Drift, drifts
from tasks.drift.features import Features, features_of
from tasks.drift.limits import MonitorConfig
from tasks.drift.profile import answer_figures, joined, open_profile, target_figures
from tasks.evidence.monitoring import Monitoring, reasons, write_monitoring
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
    try:
        answers = answers_of(call, new.x, {h.name: h.output_shape for h in profile.each_head}, BATCH, version.uri)
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
    accuracy, decay, decays = None, None, {}
    if y is not None:
        measure = measure_of(
            evidence.score,
            profile.problem,
            y,
            profile.variance,
            names=profile.target_columns,
            confidence=evidence.confidence,
            seed=seed,
        )
        accuracy, lower = measure.interval(answers), evidence.lower_is_better
        now = measure.by_target(answers, answers)
        decay = _decay(file.accuracy, accuracy, lower=lower)
        decays = {  # a version of before these were kept has none
            name: _decay(profile.scores[name], each.score, lower=lower)
            for name, each in now.items()
            if name in profile.scores
        }
    times = timing.time_in_turn({"now": call}, new.x[:1], config.latency_rounds, WARM, SECONDS)
    columns, targets = profile.columns, profile.classes or profile.target_columns
    moved: dict[str, list[Drift]] = {
        "inputs": _drifts(profile.inputs, joined(features_of(x, columns) for x in _chunks(new.x)), config),
        "targets": [],
        "predictions": _drifts(profile.predictions, answer_figures(profile.problem, new.x, answers, targets), config),
    }
    if new.y is not None:
        moved["targets"] = _drifts(profile.targets, target_figures(profile.problem, new.y, targets), config)
    machine = describe_machine(load_before)
    latency = latency_of(times["now"])
    return _judged(
        Monitoring(
            uri=version.uri,
            problem=profile.problem,
            score=evidence.score,
            lower_is_better=evidence.lower_is_better,
            examples=len(new.x),
            examples_held=new.available,
            confidence=evidence.confidence,
            registered=file.accuracy,
            accuracy=accuracy,
            decay=decay,
            decays=decays,
            columns=columns,
            **{kind: tuple(each) for kind, each in moved.items()},
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


def _decay(registered: Interval, now: Interval, *, lower: bool) -> Interval:
    """By how much the metric is worse now; `lower` says that less of it is better."""
    return independent_difference(now, registered) if lower else independent_difference(registered, now)


def _drifts(references: dict[str, Distribution], figures: Features, config: MonitorConfig) -> list[Drift]:
    return drifts(references, figures, limit=config.max_drift, significance=config.significance)


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
    scored: dict[str, Interval | None] = {measured.score: measured.accuracy, "decay": measured.decay}
    return {
        "degraded": float(bool(measured.reasons)),
        "examples": float(measured.examples),
        "latency_p50_ms": measured.latency.p50 * 1000,
        **{name: each.estimate for name, each in scored.items() if each},
        **{f"decay/{name}": each.estimate for name, each in measured.decays.items()},
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
        classes=profile.classes,
        input_shape=profile.input_shape,
        output_shape=profile.output_shape,
        limit=config.max_examples,
        last=config.which == "newest",
        columns=profile.columns,
        target_columns=profile.target_columns,
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
