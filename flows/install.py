"""What a Prefect server is set up with: the work pool, deployments/prefect.yaml, deployments/automations.yaml.

`python -P -m flows.install` may be run again at any time. It changes what has changed in these files since it last ran,
and nothing that a person set in the UI: schedules, parameters, pauses, automations, and what they deleted.
"""

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import yaml

from flows.servers import POOL
from flows.shipped import DEPLOYMENTS, ROOT
from tasks.contract.errors import SlimlineError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.events.schemas.automations import AutomationCore

INSTALLED = "slimline_installed"  # Prefect variable: the digest of each setting of the files, as it was installed last
# Of deployments that were installed before there was that variable, these are left as they are.
A_PERSONS = ("parameters", "schedule", "automation")
TIMEOUT = 180  # seconds that a server may take to come up


class NotReachable(SlimlineError):
    """A server does not answer."""


def install() -> None:
    """Wait for the server that `PREFECT_API_URL` names, and tell it.

    Raises:
        NotReachable: it did not answer within three minutes.

    """
    await_healthy(os.environ["PREFECT_API_URL"] + "/health")
    from prefect.client.orchestration import get_client
    from prefect.events.schemas.automations import AutomationCore

    from flows import deployed

    file = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
    automations = yaml.safe_load((DEPLOYMENTS / "automations.yaml").read_text())["automations"]
    pull = json.loads(json.dumps(file["pull"]).replace("{{ $PWD }}", str(ROOT)))
    with get_client(sync_client=True) as client:
        before = _installed(client)
        now: dict[str, str] = {}
        _ensure_pool(client)
        for deployment in file["deployments"]:
            flow = getattr(deployed, deployment["entrypoint"].rpartition(".")[2])
            now |= _deploy(client, flow, {**deployment, "pull_steps": pull}, before)
        for settings in automations:
            now |= _automate(client, AutomationCore.model_validate(settings), settings, before)
        _remember(client, now)


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


def _ensure_pool(client: "SyncPrefectClient") -> None:
    """The work pool, if it is not there: one that is may be paused or changed."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.client.schemas.filters import WorkPoolFilter
    from prefect.workers.process import ProcessWorker

    if not client.read_work_pools(work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})):
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def _deploy(
    client: "SyncPrefectClient", flow: "Flow[..., Any]", deployment: dict[str, Any], before: dict[str, str]
) -> dict[str, str]:
    """Create a deployment, or change in it what its file changed; gives the digests of its settings."""
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.callables import parameter_schema

    name = f"{flow.name}/{deployment['name']}"
    schedules = {schedule["slug"]: schedule for schedule in deployment.pop("schedules", [])}
    triggers = deployment.pop("triggers", [])
    code = {
        "entrypoint": deployment.pop("entrypoint"),
        "pull_steps": deployment.pop("pull_steps"),
        "parameter_openapi_schema": parameter_schema(flow).model_dump_for_openapi(),
    }
    settings = {"concurrency_limit": None, **{key: value for key, value in deployment.items() if key != "name"}}
    now = _digests(name, settings) | _digests(f"{name} schedule", schedules)
    known = any(key.startswith(f"{name} ") for key in before)
    try:
        existing = client.read_deployment_by_name(name)
    except ObjectNotFound:
        if known:
            return now | _digests("automation", {trigger["name"]: trigger for trigger in triggers})
        made = [_schedule(schedule) for schedule in schedules.values()]
        flow_id = client.create_flow_from_name(flow.name)
        client.create_deployment(flow_id, deployment["name"], schedules=made, **code, **_fields(settings))
        existing = client.read_deployment_by_name(name)
    else:
        changed = {key for key in settings if _is_new(before, now, f"{name} {key}", key, known)}
        _update(client, existing, code, _fields({key: settings[key] for key in sorted(changed)}), deployment)
        _reschedule(client, existing, name, schedules, (before, now) if known else ({}, {}))
    for trigger in triggers:
        now |= _automate(client, _trigger(trigger, existing), trigger, before)
    return now


def _is_new(before: dict[str, str], now: dict[str, str], key: str, kind: str, known: bool) -> bool:
    """Whether the file says something else of a setting than when it was installed last."""
    return before.get(key) != now[key] if known else kind not in A_PERSONS


def _fields(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of prefect.yaml by the names that Prefect's API has for them."""
    fields = {key: value for key, value in settings.items() if key not in ("work_pool", "concurrency_limit")}
    if pool := settings.get("work_pool"):
        fields |= {"work_pool_name": pool["name"], "work_queue_name": pool.get("work_queue_name", "default")}
    if "concurrency_limit" in settings:  # none takes away the one that there was
        limit = settings["concurrency_limit"]
        strategy = {"collision_strategy": limit["collision_strategy"]} if limit else None
        fields |= {"concurrency_limit": limit and limit["limit"], "concurrency_options": strategy}
    return fields


def _update(
    client: "SyncPrefectClient",
    existing: "DeploymentResponse",
    code: dict[str, Any],
    changed: dict[str, Any],
    deployment: dict[str, Any],
) -> None:
    """Change a deployment where its file or its flow did."""
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        client.update_deployment(existing.id, DeploymentUpdate(**code, **changed))
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in (409, 422):
            raise
        print(  # noqa: T201  goes to the log of whoever installs
            f"{existing.name}: the flow does not take the parameters that were set in the UI any more; "
            f"they were {json.dumps(existing.parameters)}, and are now those of the file: {error.response.text}"
        )
        changed["parameters"] = deployment["parameters"]
        client.update_deployment(existing.id, DeploymentUpdate(**code, **changed))


def _reschedule(
    client: "SyncPrefectClient",
    existing: "DeploymentResponse",
    name: str,
    schedules: dict[str, Any],
    digests: tuple[dict[str, str], dict[str, str]],
) -> None:
    """Create, change or delete the schedules that the file changed, by their slugs; no others."""
    prefix = f"{name} schedule "
    before, now = (
        {key.removeprefix(prefix): value for key, value in each.items() if key.startswith(prefix)} for each in digests
    )
    there = {schedule.slug: schedule for schedule in existing.schedules if schedule.slug}
    for slug in sorted(slug for slug in {*before, *now} if before.get(slug) != now.get(slug)):
        if slug in there and slug not in now:
            client.delete_deployment_schedule(existing.id, there[slug].id)
        elif slug in there:
            made = _schedule(schedules[slug])
            client.update_deployment_schedule(existing.id, there[slug].id, active=made.active, schedule=made.schedule)
        elif slug not in before:
            client.create_deployment_schedules(existing.id, [_schedule(schedules[slug])])


def _schedule(settings: dict[str, Any]) -> Any:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    cron = CronSchedule(cron=settings["cron"], timezone=settings["timezone"])
    return DeploymentScheduleCreate(schedule=cron, active=settings.get("active", True), slug=settings["slug"])


def _trigger(settings: dict[str, Any], deployment: "DeploymentResponse") -> "AutomationCore":
    from prefect.events import DeploymentEventTrigger

    trigger = DeploymentEventTrigger.model_validate({key: settings[key] for key in settings if key != "type"})
    trigger.set_deployment_id(deployment.id)
    return trigger.as_automation()


def _automate(
    client: "SyncPrefectClient", automation: "AutomationCore", settings: dict[str, Any], before: dict[str, str]
) -> dict[str, str]:
    """Create an automation, or bring the one of this name up to date if its file has changed; gives its digest.

    An update makes Prefect forget which events it is waiting for, and with them the runs whose worker is gone.
    """
    now = _digests("automation", {automation.name: settings})
    (key,) = now
    existing = client.read_automations_by_name(automation.name)
    if not existing and key not in before:
        client.create_automation(automation)
    elif existing and before.get(key, now[key]) != now[key]:
        client.update_automation(existing[0].id, automation)
    return now


def _digests(prefix: str, settings: dict[str, Any]) -> dict[str, str]:
    return {
        f"{prefix} {key}": hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
        for key, value in settings.items()
    }


def _installed(client: "SyncPrefectClient") -> dict[str, str]:
    variable = client.read_variable_by_name(INSTALLED)
    return dict(variable.value) if variable and isinstance(variable.value, dict) else {}


def _remember(client: "SyncPrefectClient", now: dict[str, str]) -> None:
    from prefect.client.schemas.actions import VariableCreate, VariableUpdate

    if client.read_variable_by_name(INSTALLED):
        client.update_variable(VariableUpdate(name=INSTALLED, value=now))
    else:
        client.create_variable(VariableCreate(name=INSTALLED, value=now))


if __name__ == "__main__":
    try:
        install()
    except SlimlineError as error:
        sys.exit(f"slimline: {error}")
