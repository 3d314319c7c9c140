"""What a Prefect server is set up with: the work pool, deployments/prefect.yaml, deployments/automations.yaml.

`python -P -m flows.install` may be run again at any time: what is there is brought up to date, never doubled.
"""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import yaml

from flows import programs
from flows.shipped import DEPLOYMENTS, ROOT
from tasks.contract.errors import SlimlineError

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

POOL = "slimline"
TIMEOUT = 180  # seconds that a server may take to come up


class NotReachable(SlimlineError):
    """A server does not answer."""


def install() -> None:
    """Wait for the server that `PREFECT_API_URL` names, and tell it.

    Raises:
        NotReachable: it did not answer within three minutes.
        SlimlineError: it refused a deployment.

    """
    await_healthy(os.environ["PREFECT_API_URL"] + "/health")
    command = programs.python("-m", "prefect", "--no-prompt")
    _run([*command, "work-pool", "create", POOL, "--type", "process", "--overwrite"])
    _run([*command, "deploy", "--all", "--prefect-file", str(DEPLOYMENTS / "prefect.yaml")])
    for automation in yaml.safe_load((DEPLOYMENTS / "automations.yaml").read_text())["automations"]:
        _automate(automation)


def await_healthy(url: str, timeout: float = TIMEOUT) -> None:
    """Wait until a server answers.

    Raises:
        NotReachable: it did not within `timeout` seconds.

    """
    deadline = time.monotonic() + timeout
    failure: object = None
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  an http address of the person's own
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError) as error:
            failure = error
        time.sleep(0.2)
    raise NotReachable(f"{url} does not answer ({failure}): see whether the server runs, and what its log says")


def _run(command: list[str]) -> None:
    environment = {**programs.environment(), "PWD": str(ROOT)}  # the folder that prefect.yaml names as the code's
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603  Prefect's own commands
    if done.returncode != 0:
        raise SlimlineError(f"{' '.join(command[1:])} failed:\n{done.stdout}{done.stderr}")


def _automate(settings: dict[str, Any]) -> None:
    """Create an automation, or bring the one of this name up to date; one that is so is left alone.

    An update makes Prefect forget which events it is waiting for, and with them the runs whose worker is gone.
    """
    from prefect.automations import Automation
    from prefect.client.orchestration import get_client

    automation = Automation.model_validate(settings)
    with get_client(sync_client=True) as client:
        existing = client.read_automations_by_name(automation.name)
    if not existing:
        automation.create()
    elif _settings_of(existing[0]) != _settings_of(automation):
        automation.id = existing[0].id
        automation.update()


def _settings_of(automation: "AutomationCore") -> dict[str, Any]:
    """All but the ids that the server gives."""
    settings = automation.model_dump(mode="json", exclude={"id", "owner_resource"})
    settings["trigger"].pop("id", None)
    return settings


if __name__ == "__main__":
    try:
        install()
    except SlimlineError as error:
        sys.exit(f"slimline: {error}")
