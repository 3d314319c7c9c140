"""Compare: a candidate's files against the champion's, on the same data, on this machine, in one process."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contract.artifact import EvidenceArtifact, Target
from tasks.contract.errors import VersionError
from tasks.contract.progress import listener
from tasks.data import DataConfig, Dataset, open_data
from tasks.drift.profile import Profile, open_profile
from tasks.evidence.comparison import ComparedHead, Comparison, Pair, Side, write_comparison
from tasks.evidence.measured_on import Measures, measured_on
from tasks.formats import FORMATS
from tasks.formats.onnx.saturation import note_here
from tasks.formats.sizes import sizes
from tasks.measuring import arrays, timing
from tasks.measuring.answers import Predict, answers_of
from tasks.measuring.config import ValidateConfig
from tasks.measuring.machine import comparable, describe_machine, load_average
from tasks.measuring.timing import latency_of
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.versions.registered import open_registered
from tasks.versions.version import OpenVersion

CANDIDATE, CHAMPION = "candidate", "champion"


def compare(
    name: str,
    versions: Mapping[str, tuple[int, OpenVersion]],
    data: Dataset,
    config: ValidateConfig,
    *,
    seed: int,
) -> Comparison:
    """Measure both versions' files for every target that both have and that runs here.

    Args:
        name: the registered model's.
        versions: number and files of the `candidate`, and of the `champion` if there is one.
        data: whose test split is measured on: the one that the candidate was validated on.
        config: how.
        seed: of the bootstrap.

    Raises:
        VersionError: the data are not those that the candidate was validated on, or the two versions answer different
            questions.
        ConversionError: a file answers with something other than one finite output for each example.

    """
    load_before = load_average()
    candidate = versions[CANDIDATE][1]
    opened = {side: version for side, (_, version) in versions.items()}
    profiles = {side: open_profile(version.folder) for side, version in opened.items()}
    notes = _check_comparable(opened, profiles, data)
    shared = [file.target for file in candidate.shipped() if FORMATS[file.target].RUNS_HERE]
    for version in opened.values():
        targets = {file.target for file in version.shipped()}
        notes += [
            f"The champion has no {target} file: what it does there was not compared."
            for target in shared
            if target not in targets
        ]
        shared = [target for target in shared if target in targets]
    for side, version in opened.items():
        for target in shared:
            layers = FORMATS[target].saturating(version.files_of(target))
            if sentence := note_here(f"The {side}'s {target} file", layers):
                notes.append(f"{sentence}.")
    x, y = data.sample("test", config.max_examples)
    metrics = {head: evidence.score for head, evidence in candidate.evidence.by_head.items()}
    measures = measured_on(data, "test", y, config, seed, metrics=metrics)
    pairs = [_pair(target, opened, profiles, data, x, measures, config, seed) for target in shared]
    machine = describe_machine(load_before)
    if not comparable(machine, candidate.evidence.machine):
        notes.append(
            f"The candidate was registered on {candidate.evidence.machine.name}, and this is {machine.name}: its "
            "speed-up against the teacher is the one that was recorded there."
        )
    return Comparison(
        name=name,
        candidate=versions[CANDIDATE][0],
        champion=versions[CHAMPION][0] if CHAMPION in versions else None,
        problem=data.heads[0].problem,
        **_metrics(measures),
        data=data.digest,
        examples=len(x),
        confidence=config.confidence,
        machine=machine,
        notes=tuple(notes),
        pairs=tuple(pairs),
    )


def _metrics(measures: Measures) -> dict[str, Any]:
    """What the first output is compared by, and of several each one."""
    heads = [
        ComparedHead(name=name, score=each.metric.name, lower_is_better=each.metric.lower)
        for name, each in measures.items()
    ]
    first = {"score": heads[0].score, "lower_is_better": heads[0].lower_is_better}
    return {**first, "heads": tuple(heads) if len(heads) > 1 else ()}


def _check_comparable(versions: Mapping[str, OpenVersion], profiles: Mapping[str, Profile], data: Dataset) -> list[str]:
    """Notes for the reader of a comparison of these versions.

    Raises:
        VersionError: they cannot be compared, or not on these data.

    """
    candidate = versions[CANDIDATE]
    if candidate.evidence.data != data.digest:
        raise VersionError(
            "data",
            data.digest[:12],
            f"{candidate.uri} was validated on data with the digest {candidate.evidence.data[:12]}, and its recipe "
            "reads others now: compress again on the data as they are",
        )
    if CHAMPION not in versions:
        return ["There is no champion: the candidate has only its budget to keep."]
    champion = versions[CHAMPION]
    ours, theirs = profiles[CANDIDATE], profiles[CHAMPION]
    shapes = [profile.each_input for profile in profiles.values()]
    questions = [
        {name: (of_head.problem, of_head.classes) for name, of_head in version.evidence.by_head.items()}
        for version in versions.values()
    ]
    if shapes[0] != shapes[1] or questions[0] != questions[1]:
        raise VersionError(
            "champion",
            champion.uri,
            f"answers another question than {candidate.uri}: inputs {shapes}, problem and classes {questions}. "
            "Register the candidate under a name of its own (register.name)",
        )
    for what, one, other in (
        ("columns", ours.columns, theirs.columns),
        ("targets", ours.target_columns, theirs.target_columns),
        ("category numbers", _ids(ours), _ids(theirs)),
    ):
        if one and other and set(one) != set(other):  # versions of before names were kept have none
            raise VersionError(
                "champion",
                champion.uri,
                f"knows other {what} than {candidate.uri}: {', '.join(other)}, not {', '.join(one)}. "
                "Register the candidate under a name of its own (register.name)",
            )
    notes = []
    if others := [one["name"] for one in ours.encoding if one.get("fill") and one not in theirs.encoding]:
        notes.append(
            f"Missing values of {', '.join(others)} are filled for both as for the candidate; the champion has other "
            "figures for them in service."
        )
    if champion.evidence.data != candidate.evidence.data:
        return [
            *notes,
            "The champion was made from other data: some of these test examples may have been among those that it was "
            "trained on, which flatters it.",
        ]
    return notes


def _ids(profile: Profile) -> list[str]:
    """The categories that an input numbers, with their numbers."""
    return [
        f"{column['name']} {number}: {category}"
        for column in profile.encoding
        if column.get("kind") == "ids"
        for number, category in enumerate(column["categories"], start=1)
    ]


def _by_name(call: Predict, profile: Profile, data: Dataset) -> Predict:
    """A version's file, asked with these data's columns in its own order, and with its targets in theirs."""
    if len(data.inputs) > 1 or len(data.heads) > 1:
        return call
    order = _places(profile.columns, data.columns)
    values = data.head.problem in ("regression", "multilabel")  # of a classification the one target names no answer
    back = _places(data.head.target_columns, profile.target_columns) if values else []
    return lambda x: call(x[:, order] if order else x)[:, back or slice(None)]


def _places(names: Sequence[str], order: Sequence[str]) -> list[int]:
    """Where each name stands in an order of them; nothing if either has none."""
    return [order.index(name) for name in names] if order else []


def _pair(
    target: Target,
    versions: Mapping[str, OpenVersion],
    profiles: Mapping[str, Profile],
    data: Dataset,
    x: arrays.Outputs,
    measures: Measures,
    config: ValidateConfig,
    seed: int,
) -> Pair:
    """One target's files: both asked for their answers, then timed in turn."""
    form = FORMATS[target]
    folders = {side: version.files_of(target) for side, version in versions.items()}
    opens = {side: functools.partial(form.load, folder, threads=config.threads) for side, folder in folders.items()}
    listener().note("compare", f"asking {' and '.join(opens)} on {target} for {len(x):,} answers, and timing them")
    answers = {
        side: answers_of(
            _by_name(opened(), profiles[side], data), x, data.output_shapes, config.throughput_batch, f"{side} {target}"
        )
        for side, opened in opens.items()
    }
    times = timing.time_anew(opens, x[:1], config.latency_rounds, config.warmup_rounds, config.latency_seconds)
    first = data.heads[0]
    scores = {
        side: {head.name: measures[head.name].interval(head.of(own)) for head in data.heads}
        for side, own in answers.items()
    }
    sides = {
        side: Side(
            precision=next(file.precision for file in version.shipped() if file.target == target),
            sha256=version.digest_of(target),
            accuracy=scores[side][first.name],
            scores=scores[side] if len(data.heads) > 1 else {},
            latency=latency_of(times[side]),
            size_bytes=sizes(folders[side], target)[0],
            integer_share=form.audit(folders[side], x[:1]).integer_share,
        )
        for side, version in versions.items()
    }
    if CHAMPION not in sides:
        return Pair(target=target, candidate=sides[CANDIDATE])
    both = [answers[side] for side in (CHAMPION, CANDIDATE)]
    drops = {head.name: measures[head.name].drop(*map(head.of, both)) for head in data.heads}
    return Pair(
        target=target,
        candidate=sides[CANDIDATE],
        champion=sides[CHAMPION],
        drop=drops[first.name],
        drops=drops if len(drops) > 1 else {},
        speedup=timing.ratio_interval(times[CHAMPION], times[CANDIDATE], config.confidence, seed),
    )


@stage("compare", reuse=False)
def compare_versions(
    run: StageRun,
    name: str,
    candidate: int,
    champion: int | None,
    data: DataConfig,
    config: ValidateConfig,
    seed: int,
) -> EvidenceArtifact:
    """Measure two versions of a registered model side by side, and keep the comparison as JSON and as a table."""
    versions = {}
    for side, number in ((CANDIDATE, candidate), (CHAMPION, champion)):
        if number is not None:
            versions[side] = (number, open_registered(f"models:/{name}/{number}"))
    comparison = compare(name, versions, open_data(data), config, seed=seed)
    for pair in comparison.pairs:
        figures = {
            "drop": pair.drop,
            "speedup": pair.speedup,
            **{f"{name}/drop": each for name, each in pair.drops.items()},
        }
        tracking.log_metrics(
            run.run_id, {f"{pair.target}/{figure}": value.estimate for figure, value in figures.items() if value}
        )
    folder = run.work / "comparison"
    folder.mkdir()
    write_comparison(comparison, folder)
    return run.keep_evidence(folder)
