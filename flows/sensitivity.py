"""The story of a sensitivity analysis: the float student of a recipe, and what each of its layers costs."""

from prefect import flow
from prefect.artifacts import create_link_artifact, create_table_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows import run_name
from flows.check import check
from flows.making import train
from flows.orphans import say_process
from flows.recipe import Recipe
from flows.record import compressing, made_by
from flows.turn import machine_alone
from tasks.evidence import plots
from tasks.evidence.page import as_table
from tasks.evidence.sensitivities import FILE, PLOT, Row, Sensitivity, as_rows, notes, open_sensitivity, said
from tasks.measuring.config import ValidateConfig
from tasks.sensitivity import measure_sensitivity
from tasks.store import pages, tracking

SHOWN = 20  # rows at a terminal: pages and the JSON have all


class Sensitive(BaseModel, frozen=True):
    """The result, as `slimline sensitivity --json` prints it."""

    name: str
    sensitivity: Sensitivity
    rows: list[Row]
    notes: list[str]
    flow_run_url: str
    mlflow_run: str
    mlflow_url: str


@flow(
    name="sensitivity",
    flow_run_name=run_name.recipe,
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def sensitivity(recipe: Recipe) -> Sensitive:
    """Make the float student of a recipe, or reuse it, and measure what each layer costs, one change at a time.

    Args:
        recipe: Whose student it is, before pruning and quantization; `sensitivity` says what is changed.

    """
    check(recipe)
    with compressing(recipe, "sensitivity") as run, machine_alone("sensitivity"):
        trained, asked = train(recipe), recipe.validation
        # what timing takes is no part of what this hangs on
        validation = ValidateConfig(confidence=asked.confidence, metric=asked.metric, metrics=asked.metrics)
        kept = measure_sensitivity(trained.student, trained.data, recipe.sensitivity, validation, recipe.seed)
        measured = open_sensitivity(tracking.fetch(kept))
        rows = as_rows(measured)
        tracking.log_text(run, measured.model_dump_json(indent=1) + "\n", FILE)
        tracking.log_figure(run, plots.costs_by_layer(measured), PLOT)
        plot, lines = pages.ui_url(run, PLOT), notes(measured)
        page = [made_by(), f"[The plot]({plot})", headline(measured), as_table(rows), *lines]
        tracking.set_tags(run, {tracking.NOTE: "\n\n".join(page)})
        create_table_artifact(rows, key="sensitivity", description=headline(measured))
        create_link_artifact(plot, "The plot", key="sensitivity-plot", description="What each layer costs.")
        return Sensitive(
            name=recipe.name,
            sensitivity=measured,
            rows=rows,
            notes=lines,
            flow_run_url=str(flow_run.ui_url),
            mlflow_run=run,
            mlflow_url=pages.ui_url(run),
        )


def headline(measured: Sensitivity) -> str:
    """What the table is of."""
    scores = ", ".join(
        f"{said(head, metric)} {measured.scores[head].estimate:.4f}" for head, metric in measured.metrics.items()
    )
    return f"One layer changed at a time, the most costly first: {measured.examples:,} validation examples, {scores}"
