"""What a flow run made before it was suspended, for the process that goes on with it, on whatever machine that is."""

from typing import TypeVar

from tasks.contract.artifact import Artifact
from tasks.store import stage_runs, tracking

A = TypeVar("A", bound=Artifact)
SUSPENDED = "SCHEDULED"  # MLflow's word for a run that waits for its time


def suspend_run(run_id: str) -> None:
    """Say that a run waits, and that no process has it meanwhile."""
    tracking.client().update_run(run_id, status=SUSPENDED)


def made_before(flow_run: str, stage: str, kind: type[A]) -> A | None:
    """The artifact of a stage of this flow run, if it was suspended after that; nothing if it was not suspended."""
    run = tracking.run_of_flow(flow_run)
    if not run or tracking.client().get_run(run).info.status != SUSPENDED:
        return None
    made = [child for child in stage_runs.children(run) if child.info.run_name == stage]
    results = [child.data.tags[tracking.RESULT] for child in made if tracking.RESULT in child.data.tags]
    return kind.model_validate_json(results[-1]) if results else None


def suspended_runs() -> dict[str, str]:
    """Every run that waits, with the Prefect flow run that it is of."""
    runs = tracking.client().search_runs(
        [tracking.experiment()], f"attributes.status = '{SUSPENDED}'", max_results=1000
    )
    return {run.info.run_id: run.data.tags.get(tracking.FLOW_RUN, "") for run in runs}
