"""The champion on new data: logged in MLflow, shown on a page, and sent as an event that can start a compression."""

from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.events import emit_event
from prefect.runtime import flow_run
from pydantic import BaseModel, Field

from flows.orphans import say_process
from flows.promote import ModelName
from flows.recipe import Recipe
from flows.recipe_file import registered_recipe
from flows.record import recorded
from flows.turn import machine_alone
from tasks.contract.errors import DataError, VersionError
from tasks.data import DataConfig
from tasks.data.new import NewDataConfig
from tasks.drift.limits import MonitorConfig
from tasks.evidence.monitoring import Monitoring, as_markdown, open_monitoring
from tasks.monitor import monitor_version
from tasks.store import pages, registry, tracking
from tasks.store.registry import CHAMPION

DEGRADED, HEALTHY = "slimline.monitor.degraded", "slimline.monitor.healthy"


class Watch(BaseModel, frozen=True, extra="forbid"):
    """What the command line takes: where the new data are, and how they are measured."""

    data: NewDataConfig
    config: MonitorConfig = MonitorConfig()


class Watched(BaseModel, frozen=True):
    """How the champion is, as `slimline monitor --json` prints it."""

    uri: str
    degraded: bool
    reasons: tuple[str, ...]
    score: float | None = Field(description="Now; none without labels.")
    registered_score: float
    examples: int
    event: str
    flow_run_url: str
    mlflow_url: str


@flow(name="monitor", flow_run_name="{name}", persist_result=True, result_serializer="json", on_running=[say_process])
def monitor(
    name: ModelName,
    data: NewDataConfig,
    config: MonitorConfig = MonitorConfig(),  # noqa: B008  frozen
) -> Watched:
    """Measure a champion on new data: its score where there are labels, drift of inputs and answers, and its latency.

    Args:
        name: The registered model.
        data: Where the new data are. All of them count, the last ones if there are many; nothing is split off.
        config: How it is measured, and what is too far from what was registered.

    """
    version = registry.version_of(name, CHAMPION)
    if version is None:
        raise VersionError(
            "name",
            name,
            f"has no champion to monitor in {registry.place()}; `slimline promote` puts a candidate in its place",
        )
    recipe = registered_recipe(version.uri)
    new = data.beside(recipe.data)
    again = _again(recipe, new, data.labels, config)
    settings = {"name": name, "version": version.version, "data": data.model_dump(mode="json"), **config.model_dump()}
    with recorded("monitoring", f"monitor-{name}", settings) as run:
        with machine_alone("monitor"):
            measured = monitor_version(name, version.version, new, data.labels, config, recipe.seed)
        monitoring = open_monitoring(tracking.fetch(measured))
        create_markdown_artifact(as_markdown(monitoring), key="monitoring", description=monitoring.uri)
        return _tell(name, monitoring, again, pages.ui_url(run))


def _again(recipe: Recipe, new: DataConfig, labels: bool, config: MonitorConfig) -> Recipe:
    """What is to be compressed if the champion turns out to be degraded."""
    if config.again_on == "recipe":
        return recipe
    if not labels and recipe.data.problem != "reconstruction":
        raise DataError("config.again_on", "new", "the new data have no labels to learn from; set it to recipe")
    return recipe.model_copy(update={"data": new})


def _tell(name: str, monitoring: Monitoring, again: Recipe, mlflow_url: str) -> Watched:
    """Emit the event that automations wait for; it carries the recipe that a compression would take."""
    event = DEGRADED if monitoring.reasons else HEALTHY
    payload: dict[str, Any] = {
        "uri": monitoring.uri,
        "reasons": list(monitoring.reasons),
        "recipe": again.model_dump(mode="json"),
        "mlflow_url": mlflow_url,
        "flow_run_url": str(flow_run.ui_url),
    }
    emit_event(event, {"prefect.resource.id": f"slimline.model.{name}", "prefect.resource.name": name}, payload=payload)
    return Watched(
        uri=monitoring.uri,
        degraded=bool(monitoring.reasons),
        reasons=monitoring.reasons,
        score=monitoring.accuracy.estimate if monitoring.accuracy else None,
        registered_score=monitoring.registered.estimate,
        examples=monitoring.examples,
        event=event,
        flow_run_url=str(flow_run.ui_url),
        mlflow_url=mlflow_url,
    )
