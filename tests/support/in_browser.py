"""What `make up` shows, and what a person does with it in Chromium."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from command_line import ROOT, of_its_own

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]
# MLflow's assistant covers a third of each page until somebody has closed it: as whoever has.
CLOSED = "for (const [key, value] of Object.entries({'fab.autoOpenedOnFirstLoad': true, panelOpen: false})) "
CLOSED += "localStorage.setItem(`mlflow.assistant.${key}_v1`, value)"


class Up:
    """`make up` in a state folder, at the same two ports each time; its addresses as it prints them."""

    def __init__(self, state: Path, ports: Mapping[str, int]) -> None:
        self.state = state
        self.command = ["make", "up", *(f"{name}={port}" for name, port in ports.items())]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=of_its_own(self.state),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        addresses = dict(line.split() for line in lines if line.startswith(("Prefect", "MLflow")))
        assert set(addresses) == {"Prefect", "MLflow"}, "".join(lines)
        self.prefect, self.mlflow = addresses["Prefect"], addresses["MLflow"]

    def make(self, word: str) -> str:
        """What `make status` or `make down` prints."""
        environment = {**os.environ, "SLIMLINE_HOME": str(self.state)}
        done = subprocess.run(["make", word], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        return done.stdout

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        self.ended()

    def ended(self) -> None:
        self.process.wait(timeout=90)
        self.process.stdout.close()


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


def from_menu(opens, item) -> None:
    """Take what a menu offers; a page that is still being filled closes it again, and a person opens it once more."""
    from playwright.sync_api import TimeoutError as TooLong

    for _ in range(6):
        if not item.is_visible():
            opens.click()
        with contextlib.suppress(TooLong):
            item.click(timeout=15_000)
            return
    item.click()


def choose(page, option: str, name: str) -> None:
    opens = page.get_by_role("button", name=f"Select {name}", exact=True)
    from_menu(opens, page.get_by_role("option", name=option, exact=True))


def deployment(up: Up, page, name: str, flow: str) -> None:
    """Open a deployment, from where a person lands."""
    page.goto(up.prefect)
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.locator(f"xpath=//tr[.//a[normalize-space()='{flow}']]//a[normalize-space()='{name}']").first.click()
    page.get_by_role("button", name="Run", exact=True).wait_for()


def custom_run(up: Up, page, name: str, flow: str) -> None:
    """Open a deployment's form."""
    deployment(up, page, name, flow)
    from_menu(page.get_by_role("button", name="Run", exact=True), page.get_by_role("menuitem", name="Custom run"))
    page.locator("label", has_text="(Optional)").first.wait_for()  # the fields come after their frame


def submit(page) -> None:
    """Submit the form, and open the run; a click that started nothing, which was seen once, is made again."""
    from playwright.sync_api import TimeoutError as TooLong

    toast = page.get_by_role("button", name="View run")  # it slides in, and goes by itself
    for _ in range(3):
        page.get_by_role("button", name="Submit").click()
        try:
            toast.wait_for(state="attached", timeout=40_000)
            break
        except TooLong:
            assert page.url.partition("?")[0].endswith("/run"), "the form is still there"
    toast.dispatch_event("click")


def schedule(page, when: str):
    """The switch of a deployment's schedule, by what the schedule says."""
    return page.locator("[data-slot=card]", has=page.get_by_text(when, exact=True)).get_by_role("switch")


def pause(page, when: str):
    """Switch a schedule off; a page that is still being filled passes over a click."""
    from playwright.sync_api import expect

    switch = schedule(page, when)
    for _ in range(6):
        if switch.is_checked():
            switch.click()
        with contextlib.suppress(AssertionError):
            expect(switch).not_to_be_checked(timeout=15_000)
            return
    expect(switch).not_to_be_checked()


def until_saved(page):
    """The page passes over a click while it checks what was typed: a person clicks again."""
    from playwright.sync_api import TimeoutError as TooLong

    run = page.get_by_role("button", name="Run", exact=True)
    for _ in range(6):
        page.get_by_role("button", name="Save").click()
        with contextlib.suppress(TooLong):
            run.wait_for(timeout=15_000)
            return
    run.wait_for()


def set_lines(page, *lines: str) -> None:
    """Lines of the form's `settings`, its last field."""
    for number, line in enumerate(lines):
        page.get_by_role("button", name="Add item").click()
        page.locator("xpath=//label[starts-with(., 'settings')]/following::textarea").nth(number).fill(line)


def open_artifact(up: Up, page, key: str) -> None:
    """The newest of Prefect's artifacts with this key, by the page that lists all of them."""
    page.goto(f"{up.prefect}/v2/artifacts/key/{key}")
    page.locator("a[href^='/v2/artifacts/artifact/']").first.click()
