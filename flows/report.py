"""What a compression ends with: figures for people, for Prefect's pages, and for programs."""

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows.recipe import Recipe
from tasks.contract.artifact import EvidenceArtifact, VersionArtifact
from tasks.evidence.evidence import Evidence, FileEvidence, open_evidence
from tasks.evidence.page import PAGE
from tasks.store import tracking


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


class Compression(BaseModel, frozen=True):
    """The result of a flow run, as `slimline run --json` prints it."""

    name: str
    version: int
    uri: str
    score: str
    flow_run: str
    flow_run_url: str
    mlflow_run: str
    mlflow_url: str
    evidence: str
    runs: dict[str, str]
    figures: list[Figures]
    seconds: dict[str, float]
    reused: list[str]


def figures_of(file: FileEvidence) -> Figures:
    """A file's headline."""
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
    )


def as_rows(score: str, figures: list[Figures]) -> list[dict[str, str]]:
    """The table that people see: teacher, student and every format side by side."""
    return [
        {
            "model": f"{line.role} *" if line.shipped else line.role,
            "target": line.target,
            "numbers": line.precision,
            score: f"{line.score:.4f}",
            "drop (interval)": ""
            if line.role == "teacher"
            else f"{line.drop:+.3f} ({line.drop_low:+.3f} to {line.drop_high:+.3f})",
            "size": f"{line.size_bytes / 1024:,.1f} KiB",
            "p50": "not run" if line.latency_p50_ms is None else f"{line.latency_p50_ms:.3f} ms",
            "speed-up": "" if line.speedup is None else f"{line.speedup:.2f}x",
            "integers": f"{line.integer_share:.1%}",
        }
        for line in figures
    ]


def publish(recipe: Recipe, run: str, evidence: EvidenceArtifact, version: VersionArtifact) -> Compression:
    """Put the table and the summary on Prefect's pages, and hand back the result."""
    measured: Evidence = open_evidence(tracking.fetch(evidence))
    figures = [figures_of(file) for file in measured.files]
    stages = tracking.stages_of(run)
    result = Compression(
        name=version.name,
        version=version.version,
        uri=version.uri,
        score=measured.score,
        flow_run=str(flow_run.id),
        flow_run_url=str(flow_run.ui_url),
        mlflow_run=run,
        mlflow_url=tracking.ui_url(run),
        evidence=str(tracking.fetch(evidence) / PAGE) if tracking.is_local() else f"{evidence.uri}/{PAGE}",
        runs={stage.stage: stage.run for stage in stages},
        figures=figures,
        seconds={stage.stage: round(stage.seconds, 2) for stage in stages},
        reused=[stage.stage for stage in stages if stage.reused],
    )
    tracking.set_tags(run, {"slimline.version": version.uri})
    create_table_artifact(as_rows(measured.score, figures), key="evidence", description="A star marks what ships.")
    create_markdown_artifact(
        _summary(recipe, result), key="version", description=f"{version.name} version {version.version}"
    )
    return result


def _summary(recipe: Recipe, result: Compression) -> str:
    served = next(line for line in result.figures if line.shipped)
    teacher = next(line for line in result.figures if line.role == "teacher" and line.target == served.target)
    lines = [
        f"# {result.name} version {result.version}",
        f"`{result.uri}` keeps the budget: {result.score} {served.score:.4f}, at worst {served.drop_high:.4f} below "
        f"the teacher's (budget {recipe.budget.max_accuracy_drop:g}).",
        f"{teacher.size_bytes / served.size_bytes:.1f} times smaller and {served.speedup:.2f} times as fast as the "
        f"teacher on {served.target}; {served.integer_share:.1%} of its multiply-accumulates run in integer kernels.",
        f"[MLflow run]({result.mlflow_url}) · reused: {', '.join(result.reused) or 'nothing'}",
    ]
    return "\n\n".join(lines)
