"""Validate: every file against the model that was brought, on the same data, in one process.

What a file answers is compared with the Keras model that it was made from, and its score with the teacher's in Keras:
as it was brought, if it was; never with another file, which the same fault may have spoiled.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.contract.artifact import (
    FORMAT_OF,
    ChoiceArtifact,
    EvidenceArtifact,
    ModelArtifact,
    Precision,
    Role,
    Target,
    default_target,
)
from tasks.contract.errors import AnswersDiffer, SlimlineError
from tasks.contract.named import fields
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.drift.distributions import Distribution
from tasks.drift.of_heads import answers_like
from tasks.drift.profile import Predictions, write_predictions
from tasks.evidence.brought_answers import kept_answers
from tasks.evidence.disclosure import limits, methods
from tasks.evidence.evidence import Evidence, FileEvidence, figures, open_choice
from tasks.evidence.measured_on import Measures, measured_on
from tasks.evidence.page import lay_out
from tasks.evidence.scored import heads_measured, of_first, of_first_head, scored
from tasks.evidence.searched import Searched
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.parity import answers_apart, difference_message, sizes_apart
from tasks.formats.sizes import sizes
from tasks.keras_graph.asked import asked
from tasks.measuring import timing
from tasks.measuring.answers import Outputs, Predict, answers_of, are_answers
from tasks.measuring.config import ValidateConfig
from tasks.measuring.machine import describe_machine, load_average
from tasks.measuring.timing import Throughput, latency_of
from tasks.quantization.parameters import is_fake_quantized
from tasks.quantization.sensitivity import Slack, slack
from tasks.store import tracking
from tasks.store.stage import StageRun, stage

ROLES: tuple[Role, ...] = ("teacher", "student", "compressed")


@dataclass(frozen=True)
class MeasuredFile:
    """A file to measure.

    folder: what the target's format has written. keras: the folder of the Keras model that it was made from.
    sha256, keras_sha256: their digests. shipped: whether it is part of the version.
    """

    role: Role
    target: Target
    precision: Precision
    folder: Path
    keras: Path
    sha256: str
    keras_sha256: str
    shipped: bool

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.role} {self.target} {self.precision}"


@dataclass(frozen=True)
class InKeras:
    """A Keras model's answers on the test split `(n, …)`, what integer files are compared by, and the model's size."""

    outputs: Outputs
    by: Slack | None
    parameters: int
    nonzeros: int


def validate(
    files: Sequence[MeasuredFile],
    data: Dataset,
    config: ValidateConfig,
    *,
    seed: int,
    brought: tuple[Outputs, str] | None = None,
    on_answers: Callable[[MeasuredFile, Outputs, Outputs], None] = lambda *_: None,
) -> Evidence:
    """Measure files on the test split.

    Args:
        files: of one or more targets, each target with the teacher's float file among them.
        data: whose test split is measured on.
        config: how.
        seed: of the bootstrap.
        brought: what the teacher answered to the test split as it was brought, and in which Keras; none if it was
            trained here.
        on_answers: called with each file, the test split's examples, and the file's answers `(n, …)`.

    Raises:
        ConversionError: a file answers with something other than one finite output for each example.
        AnswersDiffer: a file does not answer as its Keras model; says for which target, and from which layer on.
        SlimlineError: a Keras model answers with something other than one finite output for each example.
        ValueError: a target has no file of the teacher.

    """
    load_before = load_average()
    x, y = data.sample("test", config.max_examples)
    models = {file.keras: file for file in files}
    in_keras = {folder: _in_keras(file, x, data, config) for folder, file in models.items()}
    teacher = next((file for file in files if file.role == "teacher"), None)
    if teacher is None:
        raise ValueError("no file of the teacher to compare with")
    answers, library = brought or (in_keras[teacher.keras].outputs, keras.version())
    measures = measured_on(data, "test", y, config, seed)
    measured: list[FileEvidence] = []
    for target in dict.fromkeys(file.target for file in files):
        here = [file for file in files if file.target == target]
        here.sort(key=lambda file: ROLES.index(file.role))
        if here[0].role != "teacher":
            raise ValueError(f"no file of the teacher for {target} to compare with")
        measured += _measure_target(here, data, x, measures, in_keras, answers, config, seed, on_answers)
    machine = describe_machine(load_before)
    return Evidence(
        **of_first_head(heads_measured(data, measures, answers, library, brought is not None)),
        data=data.digest,
        examples=len(x),
        examples_held=data.counts["test"],
        duplicates=data.duplicates,
        confidence=config.confidence,
        seed=seed,
        threads=config.threads,
        machine=machine,
        methods=methods(measures, config.threads, config.throughput_batch, config.warmup_rounds),
        limits=limits(measured, measures, data.counts["test"], machine, config.confidence, config.latency_rounds),
        files=tuple(measured),
    )


def _measure_target(
    files: Sequence[MeasuredFile],
    data: Dataset,
    x: Outputs,
    measures: Measures,
    models: Mapping[Path, InKeras],
    reference: Outputs,
    config: ValidateConfig,
    seed: int,
    on_answers: Callable[[MeasuredFile, Outputs, Outputs], None],
) -> list[FileEvidence]:
    """One target's files, the teacher's first: all opened, all asked for their answers, then timed in turn.

    `reference` are the answers that drops are counted from `(n, …)`.
    """
    form = FORMATS[files[0].target]
    calls = {file.title: form.load(file.folder, threads=config.threads) for file in files}
    answers = {
        file.title: answers_of(calls[file.title], x, data.output_shapes, config.throughput_batch, file.title)
        for file in files
    }
    for file in files:
        _check_answers(file, calls[file.title], answers[file.title], models[file.keras], x, config.throughput_batch)
        on_answers(file, x, answers[file.title])
    listener().note("validate", f"timing the {len(files)} files for {files[0].target} in turn")
    batch = np.resize(x, (config.throughput_batch, *x.shape[1:]))  # repeats the examples when there are too few
    rounds = max(timing.FEWEST_ROUNDS, config.latency_rounds // 10)
    batch_times = timing.time_in_turn(calls, batch, rounds, 3, config.latency_seconds)
    calls.clear()  # they are opened anew below, and large ones would be in memory twice
    opens = {file.title: functools.partial(form.load, file.folder, threads=config.threads) for file in files}
    times = timing.time_anew(opens, x[:1], config.latency_rounds, config.warmup_rounds, config.latency_seconds)
    measured = []
    for file in files:
        audit = form.audit(file.folder, x[:1])
        model = models[file.keras]
        size_bytes, gzip_bytes = sizes(file.folder, file.target)
        evidence = FileEvidence(
            role=file.role,
            target=file.target,
            format=FORMAT_OF[file.target],
            precision=file.precision,
            sha256=file.sha256,
            keras_sha256=file.keras_sha256,
            shipped=file.shipped,
            **of_first(scored(data, measures, answers[file.title], model.outputs, reference)),
            size_bytes=size_bytes,
            gzip_bytes=gzip_bytes,
            parameters=model.parameters,
            nonzeros=model.nonzeros,
            macs=audit.macs,
            ran=form.RUNS_HERE,
            latency=latency_of(times[file.title]),
            speedup=timing.ratio_interval(times[files[0].title], times[file.title], config.confidence, seed),
            throughput=Throughput(
                examples_per_second=len(batch) / float(np.median(batch_times[file.title])),
                batch=len(batch),
                rounds=batch_times[file.title].size,
            ),
            integer_share=audit.integer_share,
            audit=audit,
        )
        measured.append(evidence)
    return measured


def _check_answers(file: MeasuredFile, call: Predict, answers: Outputs, model: InKeras, x: Outputs, batch: int) -> None:
    """Compare a file's answers with its Keras model's, and with its own one and two at a time.

    Raises:
        AnswersDiffer: says which file is wrong, from which layer on, and by how much.

    """
    apart = answers_apart(answers, model.outputs, file.target, file.precision, by=model.by)
    difference = apart or sizes_apart(call, file.target, file.precision, x, batch, answers, by=model.by)
    if difference is not None:
        message = difference_message(keras.load(file.keras), file.target, file.precision, difference, x)
        raise AnswersDiffer(
            f"the {file.role}'s file does not answer as its Keras model: {message}. Leave {file.target} out of "
            "targets, or replace that layer; training longer or pruning less changes nothing of it"
        )


def _in_keras(file: MeasuredFile, x: Outputs, data: Dataset, config: ValidateConfig) -> InKeras:
    """The answers of the Keras model that a file was made from."""
    listener().note("validate", f"asking the Keras model of the {file.role} for {len(x):,} answers")
    model = keras.load(file.keras)
    outputs = asked(model, x, config.throughput_batch)
    if not are_answers(outputs, data.output_shapes):
        told = ", ".join(f"{name} {values.shape[1:]}".strip() for name, values in fields(outputs).items())
        wanted = ", ".join(f"{name} {shape}".strip() for name, shape in data.output_shapes.items())
        raise SlimlineError(
            f"the {file.role}'s Keras model answers the test examples in the shape {told} (expected {wanted}) or with "
            "NaN or infinity: train it with a smaller learning_rate, or look at the data"
        )
    # Ranges and counters of quantization-aware training are bookkeeping, not the model's parameters.
    ranges = {
        id(weight)
        for module in model.submodules
        if type(module).__name__ == "QuantizeLayer"
        for weight in module.weights
    }
    values = [
        weight.numpy() for weight in model.weights if id(weight) not in ranges and "optimizer_step" not in weight.name
    ]
    return InKeras(
        outputs,
        slack(model, x) if is_fake_quantized(model) else None,
        sum(int(value.size) for value in values),
        sum(int(np.count_nonzero(v)) for v in values),
    )


@stage("validate", reuse=lambda arguments: not arguments["config"].called, measures=True)
def validate_files(
    run: StageRun,
    models: dict[str, ModelArtifact],
    files: dict[str, dict[Target, ModelArtifact]],
    shipped: dict[Target, str],
    choice: ChoiceArtifact | None,
    brought: ModelArtifact | None,
    data: DataArtifact,
    config: ValidateConfig,
    seed: int,
    searched: Searched | None = None,
) -> EvidenceArtifact:
    """Measure every file that plays a role, and keep the evidence as JSON, as a page and as plots.

    `files` are what was made of each of the Keras models in `models` for each target, `shipped` names the model whose
    file ships for a target, `choice` says how it was chosen, if it was, and `brought` is the teacher with what it
    answered as it came, if nothing was trained since. `searched` is the search that found the recipe, if one did.
    """
    played = {(role, target): name for target in shipped for role, name in roles(models, shipped, target).items()}
    measured = [
        MeasuredFile(
            role=role,
            target=target,
            precision=files[name][target].precision,
            folder=tracking.fetch(files[name][target]),
            keras=tracking.fetch(models[name]),
            sha256=files[name][target].sha256,
            keras_sha256=models[name].sha256,
            shipped=role == "compressed",
        )
        for (role, target), name in played.items()
    ]
    dataset = open_prepared(data)
    predictions: list[dict[str, Distribution]] = []

    def keep(file: MeasuredFile, x: Outputs, answers: Outputs) -> None:
        if file.shipped and file.target == default_target(shipped):
            predictions.append(answers_like(dataset.heads, x, answers))

    evidence = validate(
        measured,
        dataset,
        config,
        seed=seed,
        brought=kept_answers(tracking.fetch(brought)) if brought else None,
        on_answers=keep,
    )
    if choice is not None:
        evidence = evidence.model_copy(update={"tried": open_choice(tracking.fetch(choice))})
    if searched is not None:
        told = {**evidence.methods, "search": searched.sentence}
        evidence = evidence.model_copy(update={"searched": searched, "methods": told})
    served = evidence.served()
    for file in sorted(evidence.files, key=lambda file: file is served):  # MLflow shows a name's last value
        metrics = figures(evidence, file)
        model = files[played[file.role, file.target]][file.target].uri
        tracking.log_metrics(run.run_id, metrics, model=model, data=dataset.digest)
        tracking.log_metrics(
            run.run_id, {f"{file.role}/{file.target}/{name}": value for name, value in metrics.items()}
        )
    folder = run.work / "evidence"
    folder.mkdir()
    lay_out(evidence, folder)
    write_predictions(Predictions(predictions=predictions[0], scores=evidence.served().scores), folder)
    return run.keep_evidence(folder)


def roles(models: Collection[str], shipped: Mapping[Target, str], target: Target) -> dict[Role, str]:
    """Which model plays which role for a target; the student in float only where it is not what ships everywhere."""
    played: dict[Role, str] = {"teacher": "teacher"}
    if "student" in models and set(shipped.values()) != {"student"}:
        played["student"] = "student"
    return {**played, "compressed": shipped[target]}
