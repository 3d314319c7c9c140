"""What a flow run leaves in MLflow besides its stages: the parent run, what was left out, and whether the budget was kept."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.artifacts import create_link_artifact
from prefect.runtime import flow_run
from tasks.evidence import open_evidence

from flows.recipe import Budget, Recipe, breaches
from tasks import tracking
from tasks.artifact import EvidenceArtifact
from tasks.errors import BudgetNotKept
from tasks.progress import listener
from tasks.register import digest_text


@contextmanager
def recorded(recipe: Recipe) -> Iterator[str]:
    """The MLflow run of this flow run, which its stages' runs are children of; gives its id.

    It ends as the block does: finished, or failed with the reason in the tag `slimline.error`. MLflow's run names the
    Prefect flow run and links to it, and the other way round.
    """
    text = recipe.as_yaml()
    tags = {
        tracking.ROLE: "compression",
        tracking.FLOW_RUN: str(flow_run.id),
        "prefect.flow_run_name": str(flow_run.name),
        "prefect.url": str(flow_run.ui_url),
        "slimline.recipe": digest_text(text),
        "slimline.git": tracking.git_commit(),
        "mlflow.note.content": f"Made by the Prefect flow run [{flow_run.name}]({flow_run.ui_url}).",
    }
    run = tracking.start_run(recipe.name, tags, tracking.flatten(recipe.model_dump(mode="json")))
    tracking.log_text(run, text, "recipe.yaml")
    create_link_artifact(
        tracking.ui_url(run), "MLflow run", key="mlflow-run", description="Every stage, metric and plot."
    )
    try:
        with tracking.system_metrics(run):
            yield run
    except BaseException:
        tracking.set_tags(run, {"slimline.error": str(sys.exception())[:5000]})
        tracking.end_run(run, failed=True)
        raise
    tracking.end_run(run, failed=False)


def wanted(stage: str, method: str) -> bool:
    """Whether the recipe asks for a stage; says so when it does not."""
    if method == "none":
        listener().note(stage, "left out (method: none)")
    return method != "none"


def hold(budget: Budget, evidence: EvidenceArtifact) -> None:
    """Stop here unless the budget is kept.

    Raises:
        BudgetNotKept: with a line for each limit: by how much, and which knob to turn.

    """
    broken = breaches(budget, open_evidence(tracking.fetch(evidence)))
    if broken:
        raise BudgetNotKept(
            "not registered, the budget is not kept:\n"
            + "\n".join(f"- {line}" for line in broken)
            + f"\nThe evidence: {tracking.ui_url(evidence.run)}"
        )
