"""What a flow run leaves in MLflow besides its stages: the run that they are children of."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import create_link_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.runtime import flow_run
from prefect.states import Crashed

from flows.orphans import close_dead
from flows.recipe import Recipe
from tasks.contract.errors import SlimlineError
from tasks.contract.progress import listener
from tasks.register import digest_text
from tasks.store import pages, tracking
from tasks.store.commit import git_commit
from tasks.store.killed_runs import kill_runs, reopen_run
from tasks.store.resumed import suspend_run


class _Refusals(logging.Filter):
    """A refusal that a person can mend is told in its own words: Prefect would log it with a traceback, as a crash."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, those of refusals without their traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SlimlineError):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


for _logger in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_logger).addFilter(_Refusals())


def made_by() -> str:
    """The sentence that MLflow's page of this flow run begins with."""
    return f"Made by the Prefect flow run [{flow_run.name}]({flow_run.ui_url})."


@contextmanager
def recorded(
    role: str,
    name: str,
    settings: Mapping[str, Any],
    tags: Mapping[str, str] = {},
    *,
    parent: str = "",
    begun: str = "",
) -> Iterator[str]:
    """The MLflow run of this flow run, which its stages' runs are children of; gives its id.

    It ends as the block does: finished, or failed or killed with the reason in the tag `slimline.error`. MLflow's run
    names the Prefect flow run and links to it, and the other way round. A flow run that is retried goes on in the same
    one.

    Args:
        role: what kind of run it is.
        name: what MLflow calls it.
        settings: its parameters.
        tags: beside those that all have.
        parent: the run that it is a child of, if it is of one.
        begun: the run that another flow run began of the same, and did not end; this one goes on with it.

    """
    close_dead()
    ours = {
        tracking.FLOW_RUN: str(flow_run.id),
        "prefect.flow_run_name": str(flow_run.name),
        "prefect.url": str(flow_run.ui_url),
        tracking.NOTE: made_by(),
    }
    run = begun or tracking.run_of_flow(str(flow_run.id))
    if begun:
        tracking.set_tags(begun, ours)
    if run:
        reopen_run(run)
    else:
        about = {tracking.ROLE: role, "slimline.git": git_commit(), **ours, **tags}
        run = tracking.start_run(name, about, tracking.flatten(settings), parent)
    try:
        create_link_artifact(
            pages.ui_url(run), "MLflow run", key="mlflow-run", description="Every stage, metric and plot."
        )
        yield run
    except Pause:  # a person is asked, and the flow run goes on in another process when they have answered
        suspend_run(run)
        raise
    except BaseException as error:
        tracking.set_tags(run, {"slimline.error": (str(error) or type(error).__name__)[:5000]})
        tracking.end_run(run, failed=True)
        raise
    tracking.end_run(run, failed=False)


@contextmanager
def compressing(
    recipe: Recipe, role: str = "compression", *, tags: Mapping[str, str] = {}, parent: str = "", begun: str = ""
) -> Iterator[str]:
    """The MLflow run of a compression, or of a trial, with its recipe and what it takes of the machine; gives its id.

    The rest is as in `recorded`.
    """
    text = recipe.as_yaml()
    settings = recipe.model_dump(mode="json")
    # The flow run alone: Prefect asks its server for a concurrency slot before each task that bears tags.
    get_client(sync_client=True).update_flow_run(
        flow_run.id, tags={*flow_run.tags, recipe.name, recipe.data.problem, *recipe.targets}
    )
    # called as in Prefect, by what was set: two compressions that are compared are told apart
    of_recipe = {"slimline.recipe": digest_text(text), **tags}
    with recorded(role, str(flow_run.name), settings, of_recipe, parent=parent, begun=begun) as run:
        tracking.log_text(run, text, "recipe.yaml")
        with tracking.system_metrics(run):
            yield run


def asked_for(stage: str, method: str) -> bool:
    """Whether the recipe asks for a stage; says so when it does not."""
    if method == "none":
        listener().note(stage, "left out (method: none)")
    return method != "none"


def give_up(since: float) -> None:
    """Write down that what this process runs was stopped at a time, where the flow does not come to it."""
    stopped = kill_runs(since)
    if stopped:
        with get_client(sync_client=True) as client:
            for run in stopped:
                message = "Stopped with Ctrl-C. The same command goes on from the finished stages."
                client.set_flow_run_state(UUID(run), Crashed(message=message), force=True)
