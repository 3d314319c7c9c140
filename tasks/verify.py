"""Verify: a registered version compared with its own evidence, by its registered files and the recorded data alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from tasks.contract.artifact import EvidenceArtifact, Target, digest_file, digest_folder
from tasks.contract.errors import StoreError, VersionDamaged
from tasks.contract.named import Array, field
from tasks.contract.progress import listener
from tasks.data import DataConfig, Dataset, open_data
from tasks.evidence.evidence import Evidence, FileEvidence
from tasks.evidence.measured_on import Measures, measured_on
from tasks.formats import FORMATS
from tasks.formats.audit import Audit
from tasks.formats.onnx.saturation import note_here
from tasks.formats.sizes import sizes
from tasks.measuring import intervals, timing
from tasks.measuring.answers import answers_of
from tasks.measuring.arrays import Figure
from tasks.measuring.config import ValidateConfig
from tasks.measuring.machine import Machine, comparable, describe_machine, load_average
from tasks.measuring.timing import latency_of
from tasks.processors.versions import Everywhere, as_lines, everywhere
from tasks.store.stage import StageRun, stage
from tasks.versions.registered import MANIFEST_TAG, open_registered
from tasks.versions.version import OpenVersion

DIFFERS = "**differs**"
ELSEWHERE = "another processor, or other instruction sets"
FILE, TABLE = "verification.json", "verification.md"


class Check(BaseModel, frozen=True, extra="forbid"):
    """One thing that was recorded, and what it is now."""

    what: str
    recorded: str
    found: str
    holds: bool


class Timing(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A file's median latency, then and now: no check, as it is the machine's and the hour's too."""

    target: Target
    recorded_ms: Figure
    found_ms: Figure
    comparable: bool = Field(
        description="Whether the processor and its instruction sets are those that it was recorded with."
    )


class Verification(BaseModel, frozen=True, extra="forbid"):
    """A version, re-checked."""

    schema_version: Literal[1] = 1
    uri: str
    checks: tuple[Check, ...]
    timings: tuple[Timing, ...]
    unsealed: str = Field("", description="What of it nothing could be compared with, in a sentence.")
    signature: str = Field("", description="Whose it is, or why that is not known, in a sentence; empty if none.")
    not_run: tuple[Target, ...] = Field(description="Targets whose runtime is not here: of them the digest alone.")
    saturating: tuple[str, ...] = Field((), description="What is to be known of files that can saturate, in sentences.")
    elsewhere: Everywhere | None = Field(None, description="What its files answer on other processors, if asked for.")
    recorded_on: Machine
    machine: Machine

    @property
    def holds(self) -> bool:
        """Whether everything that was recorded is so."""
        return all(check.holds for check in self.checks) and (self.elsewhere is None or self.elsewhere.holds)


def verify(
    version: OpenVersion,
    tags: Mapping[str, str],
    data: Dataset,
    config: ValidateConfig,
    *,
    seed: int,
    processors: bool = False,
) -> Verification:
    """Hash every file and ask every file that runs here again.

    Accuracy, its interval, the size and the kernels' integer share have to come out exactly as recorded: the same file
    on the same examples. If the data are others now, that is the difference, and no file is asked. What is relative to
    the teacher is not measured again, as the teacher is not part of a version.

    Args:
        version: the registered files; each was compared with the manifest when it was opened.
        tags: the version's, in the registry.
        data: what its recipe reads now.
        config: how it was validated.
        seed: of the bootstrap.
        processors: whether its recorded examples are asked on other processors too.

    """
    load_before = load_average()
    evidence = version.evidence
    checks = [
        _equal(f"{file.target} file, sha256", file.sha256, version.digest_of(file.target)) for file in version.shipped()
    ]
    if version.manifest:
        checks.append(_equal("manifest of every file, sha256", tags.get(MANIFEST_TAG, ""), version.manifest))
    checks += [
        _equal("recipe, sha256", tags.get("slimline.recipe", ""), digest_file(version.folder / "recipe.yaml")),
        _equal("evidence, sha256", tags.get("slimline.evidence", ""), digest_folder(version.folder / "evidence")),
        _equal("data, digest", evidence.data, data.digest),
    ]
    timings, machine, saturating = [], None, []
    for file in version.shipped():
        layers = FORMATS[file.target].saturating(version.files_of(file.target))
        if sentence := note_here(f"The {file.target} file of {version.uri}", layers):
            listener().note("verify", sentence)
            saturating.append(f"{sentence}.")
    runs = [file for file in version.shipped() if FORMATS[file.target].RUNS_HERE]
    if evidence.data == data.digest:
        x, y = data.sample("test", config.max_examples)
        metrics = {name: head.score for name, head in evidence.by_head.items()}
        asked = config.model_copy(update={"confidence": evidence.confidence})
        measures = measured_on(data, "test", y, asked, seed, metrics=metrics)
        for file in runs:
            listener().note("verify", f"asking {version.uri} on {file.target} for {len(x):,} answers")
            form, folder = FORMATS[file.target], version.files_of(file.target)
            call = form.load(folder, threads=config.threads)
            answers = answers_of(call, x, data.output_shapes, config.throughput_batch, file.target)
            times = timing.time_in_turn(
                {"now": call}, x[:1], config.latency_rounds, config.warmup_rounds, config.latency_seconds
            )
            machine = machine or describe_machine(load_before)
            audit = form.audit(folder, x[:1])
            checks += _metrics(file, evidence, measures, answers)
            checks += [
                _equal(f"{file.target} bytes", str(file.size_bytes), str(sizes(folder, file.target)[0])),
                _equal(
                    f"{file.target} share in integers",
                    f"{file.integer_share:.6f}",
                    f"{audit.integer_share:.6f}",
                ),
                _everywhere(file, audit),
            ]
            timings.append(
                Timing(
                    target=file.target,
                    recorded_ms=file.latency.p50 * 1000,
                    found_ms=latency_of(times["now"]).p50 * 1000,
                    comparable=comparable(machine, evidence.machine),
                )
            )
    return Verification(
        uri=version.uri,
        checks=tuple(checks),
        timings=tuple(timings),
        unsealed=version.unsealed(),
        signature=version.signature(),
        not_run=tuple(file.target for file in version.shipped() if file not in runs),
        saturating=tuple(saturating),
        elsewhere=everywhere(version) if processors else None,
        recorded_on=evidence.machine,
        machine=machine or describe_machine(load_before),
    )


def _metrics(file: FileEvidence, evidence: Evidence, measures: Measures, answers: Array) -> list[Check]:
    """Each output's metric with its interval."""
    return [
        _equal(
            f"{file.target} {head.title} and interval",
            _span(file.heads.get(name, file).accuracy),
            _span(measures[name].interval(field(answers, name))),
        )
        for name, head in evidence.by_head.items()
    ]


def _equal(what: str, recorded: str, actual: str) -> Check:
    return Check(what=what, recorded=recorded, found=actual, holds=recorded == actual)


def _everywhere(file: FileEvidence, audit: Audit) -> Check:
    """What older evidence does not say is no difference."""
    recorded = file.audit.everywhere_in_words
    return Check(
        what=f"{file.target} same integers on every processor",
        recorded=recorded,
        found=audit.everywhere_in_words,
        holds=file.audit.everywhere is None or recorded == audit.everywhere_in_words,
    )


def _span(interval: intervals.Interval) -> str:
    return f"{interval.estimate:.6g} ({interval.low:.6g} to {interval.high:.6g})"


@stage("verify", reuse=False)
def verify_version(
    run: StageRun,
    name: str,
    version: int,
    tags: dict[str, str],
    data: DataConfig,
    config: ValidateConfig,
    seed: int,
    processors: bool = False,
) -> EvidenceArtifact:
    """Re-check a registered version, and keep what was recorded and what it is now side by side."""
    uri = f"models:/{name}/{version}"
    opened = open_registered(uri)
    verification = verify(opened, tags, open_data(data), config, seed=seed, processors=processors)
    folder = run.work / "verification"
    folder.mkdir()
    (folder / FILE).write_text(verification.model_dump_json(indent=1) + "\n")
    (folder / TABLE).write_text(as_markdown(verification))
    return run.keep_evidence(folder)


def open_verification(folder: Path) -> Verification:
    """Read `verification.json` from a folder.

    Raises:
        StoreError: it is no verification.

    """
    try:
        return Verification.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(f"{folder / FILE} is no verification: {error}") from error


def as_markdown(verification: Verification) -> str:
    """Both sides as a page."""
    verdict = (
        "everything that was recorded is so" if verification.holds else "**not everything that was recorded is so**"
    )
    lines = [
        f"# {verification.uri}: {verdict}",
        "",
        "| what | recorded | found | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {check.what} | {_short(check.recorded)} | {_short(check.found)} | {DIFFERS * (not check.holds)} |"
            for check in verification.checks
        ),
        "",
        "| median latency | recorded | found | |",
        "| --- | ---: | ---: | --- |",
        *(
            f"| {timing.target} | {timing.recorded_ms:.4f} ms | {timing.found_ms:.4f} ms | "
            f"{f'{timing.found_ms / timing.recorded_ms:.2f} times' if timing.comparable else ELSEWHERE} |"
            for timing in verification.timings
        ),
        "",
        f"Recorded on {verification.recorded_on.name}, verified on {verification.machine.name}. Drops and speed-ups "
        "against the teacher were not measured again: it is not part of a version.",
        *(f"{target} does not run here: its digest alone was checked." for target in verification.not_run),
        *verification.saturating,
        *(f"{sentence}." for sentence in (verification.unsealed, verification.signature) if sentence),
        *(as_lines(verification.elsewhere, DIFFERS) if verification.elsewhere else []),
    ]
    return "\n".join(lines) + "\n"


def damage_as_markdown(damage: VersionDamaged) -> str:
    """Every file that is not what was registered, as a page; nothing that is damaged is asked for answers."""
    lines = [
        f"# {damage.whose}: **not everything that was recorded is so**",
        "",
        "| file | recorded | found | |",
        "| --- | --- | --- | --- |",
        *(
            f"| {each.file} | {_short(each.recorded)} | {_short(each.actual)} | **{each.kind}** |"
            for each in damage.differences
        ),
        "",
        f"{damage.way_out}. No file was asked for answers.",
    ]
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    """Digests by their first digits."""
    return f"`{text[:16]}…`" if len(text) == 64 else text or "nothing"
