"""What a compression ends with: figures for people, for Prefect's pages, and for programs."""

import math
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows.budget import LimitLine, limits
from flows.recipe import Recipe
from flows.record import made_by
from tasks.contract.artifact import EvidenceArtifact, VersionArtifact
from tasks.evidence.evidence import Evidence, FileEvidence, headline, open_evidence
from tasks.evidence.page import PAGE, About, lay_out_report, times_smaller
from tasks.store import pages, registry, tracking
from tasks.store.stage_runs import epochs_of, stages_of

REPORT = "report"  # the folder among the run's artifacts


class Answered(BaseModel, frozen=True):
    """How right one of several outputs answers."""

    metric: str
    score: float
    drop: float
    drop_low: float
    drop_high: float


class Figures(BaseModel, frozen=True):
    """The headline figures of one file."""

    role: str
    target: str
    precision: str
    shipped: bool
    score: float
    drop: float
    drop_low: float
    drop_high: float
    size_bytes: int
    latency_p50_ms: float | None  # none where the target's runtime is not here
    speedup: float | None
    integer_share: float
    heads: dict[str, Answered] = {}  # of several outputs each one; what is said of one is said of the first


class Measured(BaseModel, frozen=True):
    """What a compression came to, whether or not the budget is kept."""

    name: str
    score: str
    flow_run: str
    flow_run_url: str
    mlflow_run: str
    mlflow_url: str
    evidence: str  # the page: its path where the store is on this disk, else its address in MLflow
    figures: list[Figures]
    limits: list[LimitLine]


class Compression(Measured, frozen=True):
    """The result of a flow run, as `slimline run --json` prints it."""

    version: int
    uri: str
    version_url: str  # its page in MLflow
    runs: dict[str, str]
    seconds: dict[str, float]
    reused: list[str]


def figures_of(evidence: Evidence, file: FileEvidence) -> Figures:
    """A file's headline."""
    heads = {
        head.name: Answered(
            metric=head.score,
            score=file.heads[head.name].accuracy.estimate,
            drop=file.heads[head.name].drop.estimate,
            drop_low=file.heads[head.name].drop.low,
            drop_high=file.heads[head.name].drop.high,
        )
        for head in evidence.heads
    }
    return Figures(
        role=file.role,
        target=file.target,
        precision=file.precision,
        shipped=file.shipped,
        score=file.accuracy.estimate,
        drop=file.drop.estimate,
        drop_low=file.drop.low,
        drop_high=file.drop.high,
        size_bytes=file.size_bytes,
        latency_p50_ms=file.latency.p50 * 1000 if file.ran else None,
        speedup=file.speedup.estimate if file.ran else None,
        integer_share=file.integer_share,
        heads=heads,
    )


def as_rows(score: str, figures: list[Figures]) -> list[dict[str, str]]:
    """The table that people see: teacher, student and every format side by side.

    A file that is larger than a float one of the same runtime, which it could be instead, says so.
    """
    largest_first = sorted(figures, key=lambda line: -line.size_bytes)
    floats = {line.target: line.size_bytes for line in largest_first if line.precision == "float32"}
    return [
        {
            "model": f"{line.role} *" if line.shipped else line.role,
            "target": line.target,
            "numbers": line.precision,
            **_scored(score, line),
            "size": in_kib(line.size_bytes)
            + (" (larger)" if line.role != "teacher" and line.size_bytes > floats.get(line.target, math.inf) else ""),
            "p50": "not run" if line.latency_p50_ms is None else f"{line.latency_p50_ms:.3f} ms",
            "speed-up": "" if line.speedup is None else f"{line.speedup:.2f}x",
            "integers": f"{line.integer_share:.1%}",
        }
        for line in figures
    ]


def in_kib(size_bytes: int) -> str:
    """A file's size as tables have it."""
    return f"{size_bytes / 1024:,.1f} KiB"


def with_ends(drop: float, low: float, high: float) -> str:
    """A drop and its interval as tables have them."""
    return f"{drop:+.3f} ({low:+.3f} to {high:+.3f})"


def _scored(score: str, line: Figures) -> dict[str, str]:
    """The score and its drop; of several outputs each one's in a column."""
    teacher = line.role == "teacher"
    if line.heads:
        return {
            f"{name} {each.metric}": f"{each.score:.4f}" + ("" if teacher else f" ({each.drop:+.3f})")
            for name, each in line.heads.items()
        }
    drop = with_ends(line.drop, line.drop_low, line.drop_high)
    return {score: f"{line.score:.4f}", "drop (interval)": "" if teacher else drop}


def present(recipe: Recipe, run: str, evidence: EvidenceArtifact, version: VersionArtifact | None = None) -> Measured:
    """Put what was measured on MLflow's page of the compression and on Prefect's, whether or not the budget is kept.

    Args:
        recipe: what was asked for.
        run: the compression's run in MLflow.
        evidence: what was measured.
        version: what was registered; none as long as there is nothing.

    """
    folder = tracking.fetch(evidence)
    measured = open_evidence(folder)
    figures = [figures_of(measured, file) for file in measured.files]
    kept = limits(recipe.budget, recipe.teacher.floor, measured)
    page = _page(run)
    registered = {version.uri: pages.version_url(version.name, version.version)} if version else {}
    about = About(
        name=recipe.registered_name,
        version=version.uri if version else "",
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        recipe=recipe.as_yaml(),
        limits=[(line.field, line.limit, line.measured, line.kept) for line in kept],
        curves={stage.stage: epochs for stage in stages_of(run) if (epochs := epochs_of(stage.run))},
        links={"Prefect": str(flow_run.ui_url), "MLflow": pages.ui_url(run), **registered},
    )
    with tempfile.TemporaryDirectory(prefix="slimline-report-") as work:
        lay_out_report(measured, about, Path(work, REPORT), folder)
        where = tracking.keep_folder(run, Path(work, REPORT), REPORT)
    tracking.log_metrics(run, headline(measured))
    links = " · ".join(f"[{name}]({address})" for name, address in {"The evidence": page, **registered}.items())
    tracking.set_tags(run, {tracking.NOTE: f"{made_by()}\n\n{links}"})
    create_link_artifact(page, "The evidence", key="evidence-page", description="As one page, with its plots.")
    create_table_artifact(as_rows(measured.score, figures), key="evidence", description="A star marks what ships.")
    return Measured(
        name=recipe.registered_name,
        score=measured.score,
        flow_run=str(flow_run.id),
        flow_run_url=str(flow_run.ui_url),
        mlflow_run=run,
        mlflow_url=pages.ui_url(run),
        evidence=str(tracking.download(where) / PAGE) if tracking.is_local() else page,
        figures=figures,
        limits=kept,
    )


def publish(recipe: Recipe, run: str, evidence: EvidenceArtifact, version: VersionArtifact) -> Compression:
    """Name the version on the pages that tell of it, put the summary on Prefect's, and hand back the result."""
    stages = stages_of(run)
    result = Compression(
        **dict(present(recipe, run, evidence, version)),
        version=version.version,
        uri=version.uri,
        version_url=pages.version_url(version.name, version.version),
        runs={stage.stage: stage.run for stage in stages},
        seconds={stage.stage: round(stage.seconds, 2) for stage in stages},
        reused=[stage.stage for stage in stages if stage.reused],
    )
    tracking.set_tags(run, {"slimline.version": version.uri})
    registry.name_on(run, version.name, version.version)
    create_markdown_artifact(
        _summary(recipe, result), key="version", description=f"{version.name} version {version.version}"
    )
    return result


def _page(run: str) -> str:
    """Where a browser finds the evidence of a compression."""
    return pages.ui_url(run, f"{REPORT}/{PAGE}")


def _kept(metric: str, answered: "Answered | Figures", limit: tuple[str, float]) -> str:
    return (
        f"{metric} {answered.score:.4f}, at worst {answered.drop_high:.4f} worse than the teacher's "
        f"(budget {limit[1]:g})"
    )


def _summary(recipe: Recipe, result: Compression) -> str:
    served = next(line for line in result.figures if line.shipped)
    teacher = next(line for line in result.figures if line.role == "teacher" and line.target == served.target)
    kept = [
        _kept(f"{name}'s {each.metric}", each, recipe.budget.accuracy_of(name)) for name, each in served.heads.items()
    ]
    kept = kept or [_kept(result.score, served, recipe.budget.accuracy_of())]
    lines = [
        f"# {result.name} version {result.version}",
        f"`{result.uri}` keeps the budget: {'; '.join(kept)}.",
        f"{times_smaller(teacher.size_bytes, served.size_bytes)} and {served.speedup:.2f} times as fast as the "
        f"teacher on {served.target}; {served.integer_share:.1%} of its multiply-accumulates run in integer kernels.",
        f"[{result.uri} in MLflow]({result.version_url}) · [the evidence]({_page(result.mlflow_run)}) · "
        f"[MLflow run]({result.mlflow_url})",
        f"Reused: {', '.join(result.reused) or 'nothing'}",
    ]
    return "\n\n".join(lines)
