"""Installing again: what the files changed, and nothing that a person set in the UI."""

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolUpdate
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from flows import install

MONITOR, NIGHTLY = "monitor/champion", "compress-recipe/recipe"


@pytest.fixture
def files(tmp_path, monkeypatch, prefect_server):
    """Copies of the files that are installed, to change; installed on a server that had none of it."""
    for name in ("prefect.yaml", "automations.yaml"):
        (tmp_path / name).write_text((install.DEPLOYMENTS / name).read_text())
    monkeypatch.setattr(install, "DEPLOYMENTS", tmp_path)
    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            client.delete_deployment(deployment.id)
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        if client.read_variable_by_name(install.INSTALLED):
            client.delete_variable_by_name(install.INSTALLED)
    install.install()
    return tmp_path


def deployment(name: str):
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(name)


def schedules(name: str) -> list[tuple[str | None, str, bool]]:
    """By slug; when; and whether it is on."""
    return sorted(
        (each.slug or "", getattr(each.schedule, "cron", "interval"), each.active)
        for each in deployment(name).schedules
    )


def test_it_installs_all_of_it(files):
    assert schedules(NIGHTLY) == [("nightly", "0 2 * * *", True)]
    assert schedules(MONITOR) == [("hourly", "7 * * * *", False)]
    rollback, form = deployment("rollback/registered"), deployment("compress/every-setting")
    assert (rollback.work_queue_name, form.work_queue_name) == ("operations", "default")
    assert form.global_concurrency_limit is None, "it would count for all machines together"
    assert rollback.global_concurrency_limit.limit == 1
    assert rollback.concurrency_options.collision_strategy == "CANCEL_NEW"
    assert form.pull_steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(install.ROOT)}}]
    assert "recipe" in form.parameter_openapi_schema["properties"]
    with get_client(sync_client=True) as client:
        names = {each.name for each in client.read_automations()}
    assert names == {"Crash flow runs whose worker is gone", "Compress what is degraded"}


def test_what_a_person_set_stays(files):
    mine = {"name": "mine", "data": {"reader": "npz", "source": "new.npz"}}
    every_hour, five_minutes = IntervalSchedule(interval=3600), CronSchedule(cron="*/5 * * * *")
    with get_client(sync_client=True) as client:
        monitor = deployment(MONITOR)
        client.update_deployment_schedule(monitor.id, monitor.schedules[0].id, active=True, schedule=five_minutes)
        client.update_deployment(monitor.id, DeploymentUpdate(parameters=mine, tags=["mine"]))
        client.create_deployment_schedules(deployment(NIGHTLY).id, [(every_hour, True)])
        client.pause_deployment(deployment("promote/registered").id)
        client.delete_deployment(deployment("deploy/bundle").id)
        client.pause_automation(client.read_automations_by_name("Compress what is degraded")[0].id)
        client.update_work_pool(install.POOL, WorkPoolUpdate(is_paused=True))
        before = {each.id for each in client.read_deployments()}
    install.install()
    assert schedules(MONITOR) == [("hourly", "*/5 * * * *", True)]
    assert (deployment(MONITOR).parameters, deployment(MONITOR).tags) == (mine, ["mine"])
    assert schedules(NIGHTLY) == [("", "interval", True), ("nightly", "0 2 * * *", True)]
    assert deployment("promote/registered").paused
    with get_client(sync_client=True) as client:
        assert {each.id for each in client.read_deployments()} == before
        assert not client.read_automations_by_name("Compress what is degraded")[0].enabled
        assert client.read_work_pool(install.POOL).is_paused


def test_what_a_file_changed_is_changed(files):
    with get_client(sync_client=True) as client:
        client.create_deployment_schedules(deployment(NIGHTLY).id, [(IntervalSchedule(interval=3600), True)])
    settings = yaml.safe_load((files / "prefect.yaml").read_text())
    by_flow = {each["entrypoint"].rpartition(".")[2]: each for each in settings["deployments"]}
    by_flow["compress_recipe"]["schedules"] = [
        {"cron": cron, "timezone": "Europe/Berlin", "slug": slug}
        for slug, cron in {"nightly": "0 3 * * *", "weekly": "0 4 * * 0"}.items()
    ]
    by_flow["monitor"].pop("schedules")
    by_flow["rollback"] |= {"parameters": {"name": "cifar10"}, "description": "Another one."}
    by_flow["rollback"].pop("concurrency_limit")
    (files / "prefect.yaml").write_text(yaml.safe_dump(settings))
    install.install()
    assert schedules(NIGHTLY) == [("", "interval", True), ("nightly", "0 3 * * *", True), ("weekly", "0 4 * * 0", True)]
    assert schedules(MONITOR) == []
    rollback = deployment("rollback/registered")
    assert (rollback.parameters, rollback.description) == ({"name": "cifar10"}, "Another one.")
    assert (rollback.global_concurrency_limit, rollback.concurrency_options) == (None, None)


def test_what_was_installed_before_this_was_remembered_keeps_what_a_person_set(files):
    with get_client(sync_client=True) as client:
        client.delete_variable_by_name(install.INSTALLED)
        monitor = deployment(MONITOR)
        client.update_deployment(monitor.id, DeploymentUpdate(parameters={"name": "mine"}, description="old"))
        client.create_deployment_schedules(monitor.id, [(IntervalSchedule(interval=3600), True)])
    install.install()
    assert deployment(MONITOR).parameters == {"name": "mine"}
    assert deployment(MONITOR).description.startswith("Measure a champion")
    assert len(schedules(MONITOR)) == 2
