"""What a person does in a browser, from `make up` on: the form, the run, the evidence, the registry.

The screenshots that are taken on the way are the README's pictures:
`make test-browser SCREENSHOTS=deployments/pictures`.
"""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from command_line import of_its_own
from mlflow import MlflowClient
from postgres import free_port

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    (program for name in ("chromium", "chromium-browser", "google-chrome") if (program := shutil.which(name))), ""
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Iterator[dict[str, str]]:
    """`make up` in a state folder of its own, and its two addresses as it prints them."""
    state = tmp_path_factory.mktemp("up")
    ports = {"PREFECT_SERVER_API_PORT": free_port(), "MLFLOW_PORT": free_port()}
    process = subprocess.Popen(
        ["make", "up", *(f"{name}={port}" for name, port in ports.items())],
        cwd=ROOT,
        env=of_its_own(state),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    addresses = dict(line.split() for line in lines if line.startswith(("Prefect", "MLflow")))
    assert set(addresses) == {"Prefect", "MLflow"}, "".join(lines)
    yield {**addresses, "state": str(state), "pid": str(process.pid)}
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    process.wait(timeout=90)
    process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that root in a container has not
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield running
        running.close()


@pytest.fixture(scope="module")
def page(browser):
    opened = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light")
    opened.set_default_timeout(180_000)  # a busy machine is slow, not wrong
    yield opened
    opened.close()


def picture(page, name: str) -> None:
    """Keep a screenshot, where `SCREENSHOTS` names a folder for them."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.wait_for_timeout(1000)  # animations end
        page.screenshot(path=ROOT / folder / f"{name}.png")


def field(page, *path: str):
    """What stands behind a label of the form: the first of this name behind the group of that name."""
    steps = ("descendant", *["following"] * (len(path) - 1))
    pairs = zip(steps, path, strict=True)
    label = "//body" + "".join(f"/{step}::label[starts-with(normalize-space(.), '{name}')][1]" for step, name in pairs)
    return page.locator(f"xpath={label}/following::*[self::input or self::textarea][1]")


def choose(page, option: str, name: str) -> None:
    page.get_by_role("button", name=f"Select {name}", exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def custom_run(up: dict[str, str], page, deployment: str, flow: str) -> None:
    """Open a deployment's form, from where a person lands."""
    page.goto(up["Prefect"])
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.locator(f"xpath=//tr[.//a[normalize-space()='{flow}']]//a[normalize-space()='{deployment}']").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.locator("label", has_text="(Optional)").first.wait_for()  # the fields come after their frame


def submit(page) -> None:
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("button", name="View run").dispatch_event("click")  # the toast slides in, and goes by itself


@pytest.fixture(scope="module")
def finished(up, page) -> str:
    """The address of a flow run that was started by the form and has completed."""
    custom_run(up, page, "recipe", "compress-recipe")
    picture(page, "form")
    field(page, "teacher", "Epochs").fill("8")
    choose(page, "post_training", "Quantize")
    page.get_by_role("button", name="Add item").click()
    field(page, "settings").fill("seed=5")
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


def test_what_is_up_serves_the_store_of_the_state_folder(up, finished):
    store = MlflowClient(f"sqlite:///{up['state']}/mlflow.db")
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


def open_artifact(up: dict[str, str], page, key: str) -> None:
    """The newest artifact of this key, by the page that lists all of them."""
    page.goto(f"{up['Prefect']}/v2/artifacts/key/{key}")
    page.locator("a[href^='/v2/artifacts/artifact/']").first.click()


def test_the_evidence_is_a_table_in_prefect(up, finished, page):
    open_artifact(up, page, "evidence")
    page.get_by_text("compressed *").first.wait_for()
    assert "100.0%" in page.inner_text("body")
    picture(page, "evidence")


def test_the_link_leads_to_mlflow(up, finished, page):
    open_artifact(up, page, "mlflow-run")
    link = page.locator(f"a[href^='{up['MLflow']}']").first
    link.wait_for()
    page.goto(link.get_attribute("href"))
    page.get_by_text("teacher.fit.epochs").first.wait_for()
    assert page.get_by_text("FINISHED").or_(page.get_by_text("Finished")).count() > 0


def test_the_registry_shows_the_version_with_alias_card_and_tags(up, finished, page):
    page.goto(f"{up['MLflow']}/#/models/digits")
    page.get_by_text("candidate").first.wait_for()
    picture(page, "registry")
    page.goto(f"{up['MLflow']}/#/models/digits/versions/1")
    page.get_by_text("What was measured").first.wait_for()
    assistant = page.locator(
        "xpath=//*[text()='MLflow Assistant']/following::button[3]"
    )  # it covers a third of the page
    if assistant.count():
        assistant.click()
    text = page.inner_text("body")
    for words in ("candidate", "integer_share", "latency_p50_ms", "size_bytes", "What the evidence does not say"):
        assert words in text
    picture(page, "version")


def test_a_person_approves_a_promotion_with_the_comparison_on_the_form(up, finished, page):
    custom_run(up, page, "registered", "promote")
    field(page, "approval_seconds").fill("300")
    submit(page)
    page.get_by_text(re.compile("^(Paused|Suspended)$")).first.wait_for(timeout=900_000)
    page.wait_for_timeout(3000)  # Prefect says that a run waits, and then keeps what is on the form
    page.reload()
    page.get_by_role("button", name="Open menu").first.click()
    page.get_by_role("menuitem", name="Resume").click()
    form = page.get_by_role("dialog")
    form.get_by_text("There is no champion: the candidate has only its budget to keep.").wait_for()
    form.get_by_role("switch").click()
    form.locator("textarea").first.fill("as accurate, and far smaller")
    picture(page, "approval")
    form.get_by_role("button", name="Resume").click()
    page.get_by_text("Completed", exact=True).first.wait_for(timeout=900_000)
    page.goto(f"{up['MLflow']}/#/models/digits")
    page.get_by_text("champion").first.wait_for()
    page.goto(f"{up['MLflow']}/#/models/digits/versions/1")
    page.get_by_text("as accurate, and far smaller").first.wait_for()


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


def family(up: dict[str, str]) -> list[psutil.Process]:
    """Everything that `make up` began."""
    return psutil.Process(int(up["pid"])).children(recursive=True)


def test_nothing_listens_beyond_loopback(up, finished):
    ours = {process.pid for process in family(up)}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in ours
    }
    assert listening == {"127.0.0.1"}


def test_a_taken_port_is_named(up, tmp_path):
    taken = up["MLflow"].rpartition(":")[2]
    environment = {**os.environ, "SLIMLINE_HOME": str(tmp_path)}
    command = ["make", "up", f"PREFECT_SERVER_API_PORT={free_port()}", f"MLFLOW_PORT={taken}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert f"MLFLOW_PORT: {taken}: cannot be had" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_and_down(up, finished):
    """The last one: what was up is down after it, and no process is left."""
    environment = {**os.environ, "SLIMLINE_HOME": up["state"]}
    begun = family(up)
    assert len(begun) >= 4
    status = subprocess.run(["make", "status"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert status.stdout.count("RUNNING") == 4, "both servers and both workers"
    assert up["Prefect"] in status.stdout
    done = subprocess.run(["make", "down"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert "all is down" in done.stdout
    _, left = psutil.wait_procs(begun, timeout=60)  # `slimline up` itself ends when it sees that all is down
    assert not [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    status = subprocess.run(["make", "status"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert "nothing is up" in status.stdout
