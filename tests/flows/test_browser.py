"""What a person does in a browser, from `make up` on: the form, the run, the evidence, the registry, a second week.

The screenshots that are taken on the way are the README's pictures:
`make test-browser SCREENSHOTS=deployments/pictures`.
"""

import os
import re
import subprocess
from collections.abc import Iterator

import psutil
import pytest
from command_line import ROOT
from in_browser import (
    CLOSED,
    IN_CHROMIUM,
    Up,
    choose,
    custom_run,
    deployment,
    field,
    from_menu,
    open_artifact,
    pause,
    picture,
    schedule,
    set_lines,
    submit,
    until_saved,
)
from mlflow import MlflowClient
from mlflow.entities import Run
from postgres import free_port
from servers import until

from tasks.evidence.evidence import open_evidence

pytestmark = IN_CHROMIUM


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Iterator[Up]:
    """`make up` in a state folder of its own."""
    ports = {"PREFECT_SERVER_API_PORT": free_port(), "MLFLOW_PORT": free_port()}
    running = Up(tmp_path_factory.mktemp("up"), ports)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def store(up) -> MlflowClient:
    """What is up serves the store of the state folder: this is that file, and no server's answer."""
    return MlflowClient(f"sqlite:///{up.state}/mlflow.db")


@pytest.fixture(scope="module")
def page(browser):
    opened = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    opened.set_default_timeout(180_000)  # a busy machine is slow, not wrong
    opened.add_init_script(CLOSED)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def finished(up, page) -> str:
    """The address of a flow run that was started by the form and has completed."""
    custom_run(up, page, "recipe", "compress-recipe")
    picture(page, "form")
    field(page, "teacher", "Epochs").fill("8")
    choose(page, "post_training", "Quantize")
    set_lines(page, "seed=5")
    submit(page)
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=1_800_000)
    return page.url


def test_the_form_has_what_decides(up, page):
    """Few enough fields to be looked through, and groups that are called as what they are."""
    custom_run(up, page, "recipe", "compress-recipe")
    labels = [label.removesuffix(" (Optional)") for label in page.locator("label").all_inner_texts()]
    assert {"recipe", "data", "teacher", "student", "method", "targets", "budget", "settings"} < set(labels)
    assert len(labels) < 40
    custom_run(up, page, "every-setting", "compress")
    labels = [label.removesuffix(" (Optional)") for label in page.locator("label").all_inner_texts()]
    assert not [label for label in labels if label.endswith("Config")]
    assert {"Data", "Fit the teacher", "Fit the student", "Fit what was pruned", "Fit to integers"} < set(labels)
    assert field(page, "Quantize", "Calibration Examples").input_value() == "512"
    assert field(page, "Teacher", "Width").input_value() == "3"  # filled in as the recipe digits


def test_the_run_is_called_by_what_was_set(finished, page):
    name = "digits: teacher.fit.epochs=8, quantize.method=post_training, seed=5"
    page.goto(finished)
    page.get_by_text(name).first.wait_for()


def test_what_is_up_serves_the_store_of_the_state_folder(store, finished):
    assert [model.name for model in store.search_registered_models()] == ["digits"]


def test_the_run_shows_its_stages_and_its_artifacts(finished, page):
    page.goto(finished)
    page.get_by_role("tab", name="Task Runs").click()
    for stage in ("train-teacher", "quantize-static", "validate", "register"):
        page.get_by_text(stage, exact=True).first.wait_for()
    page.get_by_role("tab", name="Logs").click()
    picture(page, "run")
    page.get_by_role("tab", name="Artifacts").click()
    for artifact in ("evidence", "version", "mlflow-run"):
        page.get_by_text(artifact, exact=True).first.wait_for()


def test_the_evidence_is_a_table_in_prefect(up, finished, page):
    open_artifact(up, page, "evidence")
    page.get_by_text("compressed *").first.wait_for()
    assert "100.0%" in page.inner_text("body")
    picture(page, "evidence")


def test_each_page_leads_to_the_next_in_one_click(up, finished, page):
    """From Prefect to the run, the version and the evidence in MLflow, and from the run to the other two."""

    def follow(link: str) -> None:
        """Where it leads, in this tab."""
        page.goto(page.get_by_role("link", name=link, exact=True).first.get_attribute("href"))

    open_artifact(up, page, "mlflow-run")
    page.goto(page.locator(f"a[href^='{up.mlflow}']").first.get_attribute("href"))
    page.get_by_text("teacher.fit.epochs").first.wait_for()
    assert page.get_by_text("FINISHED").or_(page.get_by_text("Finished")).count() > 0
    run = page.url
    follow("models:/digits/1")
    page.get_by_text("What was measured").first.wait_for()
    assert not page.get_by_role("link", name="Prompts").count(), "the menu is the one of models, not of prompts"
    page.goto(run)
    follow("The evidence")
    page.frame_locator("iframe").get_by_text("Evidence of models:/digits/1").wait_for()
    open_artifact(up, page, "version")
    follow("models:/digits/1 in MLflow")
    page.get_by_text("What was measured").first.wait_for()


def test_the_registry_shows_the_version_with_alias_card_and_tags(up, finished, page):
    page.goto(f"{up.mlflow}/#/models/digits")
    page.get_by_text("candidate").first.wait_for()
    picture(page, "registry")
    page.goto(f"{up.mlflow}/#/models/digits/versions/1")
    page.get_by_text("What was measured").first.wait_for()
    text = page.inner_text("body")
    for words in ("candidate", "integer_share", "latency_p50_ms", "size_bytes", "What the evidence does not say"):
        assert words in text
    picture(page, "version")


@pytest.fixture(scope="module")
def waiting(up, finished, page) -> str:
    """The address of a promotion that has compared, and waits for a person."""
    custom_run(up, page, "registered", "promote")
    field(page, "approval_seconds").fill("600")
    submit(page)
    page.get_by_text(re.compile("^(Paused|Suspended)$")).first.wait_for(timeout=900_000)
    page.wait_for_timeout(3000)  # Prefect says that a run waits, and then keeps what is on the form
    return page.url


@pytest.fixture(scope="module")
def smaller(up, waiting, store, page) -> str:
    """The address of a second compression, half as wide, which has its student, its files and their times before it."""
    custom_run(up, page, "recipe", "compress-recipe")
    field(page, "teacher", "Epochs").fill("8")
    field(page, "student", "Width").fill("0.75")
    choose(page, "none", "Prune")
    choose(page, "post_training", "Quantize")
    set_lines(page, "seed=5", "distill.fit.epochs=40")
    submit(page)
    page.get_by_text("Running", exact=True).first.wait_for(timeout=900_000)
    until(lambda: stage(store, "distill").info.status == "RUNNING", within=900)
    return page.url


def stage(store: MlflowClient, name: str) -> Run:
    """The newest run of a stage."""
    return store.search_runs(["1"], f"attributes.run_name = '{name}'", order_by=["attributes.start_time DESC"])[0]


def test_a_person_approves_a_promotion_while_a_compression_runs(up, waiting, smaller, store, page):
    page.goto(waiting)
    page.get_by_text(re.compile("^(Paused|Suspended)$")).first.wait_for()
    from_menu(page.get_by_role("button", name="Open menu").first, page.get_by_role("menuitem", name="Resume"))
    form = page.get_by_role("dialog")
    form.get_by_text("There is no champion: the candidate has only its budget to keep.").wait_for()
    form.get_by_role("switch").click()
    form.locator("textarea").first.fill("Ada Lovelace")
    form.locator("textarea").last.fill("as accurate, and far smaller")
    picture(page, "approval")
    form.get_by_role("button", name="Resume").click()
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=900_000)
    page.goto(smaller)
    page.get_by_text("Running", exact=True).first.wait_for()
    aliases = store.get_registered_model("digits").aliases
    assert {alias: int(version) for alias, version in aliases.items()} == {"candidate": 1, "champion": 1}
    assert store.get_model_version("digits", "1").tags["approved_by"] == "Ada Lovelace"
    page.goto(f"{up.mlflow}/#/models/digits")
    page.get_by_text("champion").first.wait_for()
    page.goto(f"{up.mlflow}/#/models/digits/versions/1")
    page.get_by_text("as accurate, and far smaller").first.wait_for()


FIGURES = ("accuracy", "latency_p50_ms", "size_bytes")


@pytest.fixture(scope="module")
def both(up, smaller, store, page) -> dict[str, dict[str, float]]:
    """What ships of both versions, by number, as each one's evidence has it."""
    page.goto(smaller)
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=1_800_000)
    measured = {}
    for version in ("1", "2"):
        model = store.get_model_version("digits", version).source.removeprefix("models:/")
        (folder,) = up.state.rglob(f"{model}/artifacts/evidence")
        file = open_evidence(folder).served()
        figures = (file.accuracy.estimate, file.latency.p50 * 1000, file.size_bytes)
        measured[version] = dict(zip(FIGURES, figures, strict=True))
    assert measured["2"]["size_bytes"] < measured["1"]["size_bytes"] / 2
    return measured


def as_shown(figures: list[str]) -> list:
    """Figures on a page of MLflow, which has three places."""
    return [pytest.approx(float(figure), abs=6e-4) for figure in figures]


def test_two_compressions_are_compared_in_mlflow(up, both, store, page):
    """From where a person lands, as docs/index.md says; the newer one is left."""
    page.goto(up.mlflow)
    page.get_by_text("Model training", exact=True).first.click()
    page.get_by_role("link", name="Experiments").first.click()
    page.get_by_role("link", name="slimline", exact=True).first.click()
    runs = store.search_runs(["1"], "tags.`slimline.role` = 'compression'", order_by=["attributes.start_time DESC"])
    names = [run.info.run_name for run in runs]
    assert names[1] == "digits: teacher.fit.epochs=8, quantize.method=post_training, seed=5"
    assert names[0].startswith("digits: teacher.fit.epochs=8, student.width=0.75, prune.method=none, quantize.method=")
    for name in names:
        row = page.locator(".ag-row", has=page.get_by_role("link", name=name, exact=True))
        row.locator(".ag-selection-checkbox input").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    called = page.locator("tr", has_text="Run Name:").locator("td")
    called.first.wait_for()
    assert called.all_inner_texts() == names
    for name in FIGURES:
        assert [both[version][name] for version in ("2", "1")] == as_shown(metric(page, name)), name
    page.get_by_role("button", name="Clear All").click()
    for kind, name in (("Parameters", "student.width"), *(("Metrics", name) for name in FIGURES)):
        box = page.locator(f"xpath=//*[normalize-space()='{kind}:']/following::input[@role='combobox'][1]")
        box.click()
        box.fill(name)
        page.locator(f"[title='{name}']:visible").last.click()
        box.press("Escape")
    picture(page, "compare")


def metric(page, name: str) -> list[str]:
    """A row of MLflow's metrics side by side, of which only those are on the page that are in view."""
    names, values = page.get_by_role("grid").all()
    label = names.get_by_text(name, exact=True)
    values.locator("div", has_text=".").first.wait_for()
    for down in range(0, 4000, 200):
        if label.count():
            break
        values.evaluate("(grid, down) => grid.scrollTop = down", down)
        page.wait_for_timeout(200)
    top = label.evaluate("link => link.parentElement.style.top")
    return values.locator(f"[style*='top: {top}']").all_inner_texts()


def test_two_versions_are_compared_in_the_registry(up, both, page):
    """Their figures, and the settings that they differ in."""
    page.goto(f"{up.mlflow}/#/models/digits")
    for version in both:
        row = page.get_by_role("row").filter(has=page.locator(f"a[href*='/versions/{version}']"))
        row.hover()
        row.locator("input").check(force=True)
    page.get_by_test_id("compareButton").click()

    def row(name: str) -> list[str]:
        return page.locator("tr").filter(has=page.get_by_text(name, exact=True)).locator("td").all_inner_texts()

    page.get_by_text("size_bytes", exact=True).first.wait_for()
    assert row("Model Version:") == list(both)
    assert [float(width.strip('"')) for width in row("recipe.student.width")] == [1.5, 0.75]
    assert not page.get_by_text("recipe.seed", exact=True).is_visible(), "what is the same is left out"
    for name in FIGURES:
        assert [both[version][name] for version in both] == as_shown(row(name)), name


def test_the_form_refuses_what_is_out_of_bounds(up, page):
    custom_run(up, page, "recipe", "compress-recipe")
    before = page.url
    epochs = field(page, "teacher", "Epochs")
    epochs.fill("-1")
    page.get_by_role("button", name="Submit").click()
    assert "0" in epochs.evaluate("input => input.validationMessage")  # what Chromium shows beside it
    epochs.fill("")
    field(page, "name").fill("No Name")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("does not match").first.wait_for()
    assert page.url == before


def family(up: Up) -> list[psutil.Process]:
    """Everything that `make up` began."""
    return psutil.Process(up.process.pid).children(recursive=True)


def test_nothing_listens_beyond_loopback(up, finished):
    ours = {process.pid for process in family(up)}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in ours
    }
    assert listening == {"127.0.0.1"}


def test_a_taken_port_is_named(up, tmp_path):
    taken = up.mlflow.rpartition(":")[2]
    environment = {**os.environ, "SLIMLINE_HOME": str(tmp_path)}
    command = ["make", "up", f"PREFECT_SERVER_API_PORT={free_port()}", f"MLFLOW_PORT={taken}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert f"MLFLOW_PORT: {taken}: cannot be had" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_person_set_in_the_ui_outlives_down_and_up(up, finished, page):
    """A schedule of their own, one that they paused, and a parameter."""
    deployment(up, page, "recipe", "compress-recipe")
    pause(page, "At 02:00 AM")
    page.get_by_role("button", name="Schedule", exact=True).click()
    form = page.get_by_role("dialog")
    form.get_by_role("tab", name="Cron").click()
    form.get_by_label("Value").fill("0 4 * * 0")
    form.get_by_role("button", name="Save").click()
    schedule(page, "At 04:00 AM, only on Sunday").wait_for()
    deployment(up, page, "champion", "monitor")
    from_menu(page.get_by_role("button", name="Open menu").first, page.get_by_role("menuitem", name="Edit"))
    field(page, "config", "Max Decay").fill("0.07")
    until_saved(page)
    assert "all is down" in up.make("down")
    up.ended()
    up.start()
    deployment(up, page, "recipe", "compress-recipe")
    schedule(page, "At 04:00 AM, only on Sunday").wait_for()
    assert page.locator("[data-slot=card]").get_by_role("switch").count() == 2
    assert schedule(page, "At 04:00 AM, only on Sunday").is_checked()
    assert not schedule(page, "At 02:00 AM").is_checked()
    picture(page, "schedules")
    deployment(up, page, "champion", "monitor")
    page.get_by_role("tab", name="Parameters").click()
    page.get_by_text('"max_decay":0.07').wait_for()
    assert not schedule(page, "At 7 minutes past the hour").is_checked(), "the file has it paused"


def test_status_and_down(up, finished):
    """The last one: what was up is down after it, and no process is left."""
    begun = family(up)
    assert len(begun) >= 4
    status = up.make("status")
    assert status.count("RUNNING") == 4, "both servers and both workers"
    assert up.prefect in status
    assert "all is down" in up.make("down")
    _, left = psutil.wait_procs(begun, timeout=60)  # `slimline up` itself ends when it sees that all is down
    assert not [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert "nothing is up" in up.make("status")
