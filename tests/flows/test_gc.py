"""What nobody needs goes, and with what stays everything works."""

import time
from pathlib import Path

import pytest
from registered import RECIPE, register_file, versions
from servers import Servers
from stage_artifacts import made

from flows import commands, gc
from tasks.contract.artifact import ModelArtifact
from tasks.contract.errors import OptionWrong, VersionError
from tasks.store import needed, tracking


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """Two versions, of which the second reused the first one's data; the first one is deleted."""
    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"seed": 1}, {"seed": 2}):
        tracking.client().delete_model_version("tiny", "1")
        yield home


def names(collected: gc.Collected) -> list[tuple[str, str]]:
    return [(each.kind, each.name) for each in collected.unneeded]


def run_names(runs: list[needed.KeptRun]) -> list[str]:
    return sorted(run.name for run in runs)


def bytes_below(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def test_a_month_old_is_nothing_here_and_looking_changes_nothing(home, capsys):
    before = {file: file.stat().st_mtime for file in (home / "artifacts").rglob("*")}
    assert gc.collect(30, delete=False).unneeded == []
    assert commands.gc(False, 0, False, as_json=True) == 0
    looked = gc.Collected.model_validate_json(capsys.readouterr().out)
    assert not looked.deleted
    assert looked.bytes == sum(each.bytes for each in looked.unneeded) > 10_000
    assert not any(each.removed for each in looked.unneeded)
    assert {file: file.stat().st_mtime for file in (home / "artifacts").rglob("*")} == before
    assert commands.gc(False, 0, False, as_json=False) == 0
    page = capsys.readouterr().out
    assert "compression tiny" in page
    assert "slimline gc --delete" in page


def test_with_what_stays_everything_works(home, tmp_path):
    from flows.compression import compress
    from flows.deploy import deploy
    from flows.monitor import monitor
    from flows.promote import promote
    from flows.recipe_file import check_settings
    from flows.verify import verify
    from flows.versions import list_versions, show_version
    from tasks.bundles.trial import TrialConfig
    from tasks.data.new import NewDataConfig
    from tasks.store.stage_runs import stages_of

    with pytest.raises(VersionError):
        verify("models:/tiny/1")  # a flow run that MLflow knows nothing of
    folder = bytes_below(home / "artifacts")
    all_runs = needed.our_runs()
    gone = gc.collect(0, delete=True)
    stay = needed.our_runs()
    of_runs = sum(each.bytes for each in gone.unneeded if each.kind == "compression")
    assert folder - bytes_below(home / "artifacts") == of_runs > 10_000
    assert all(each.removed for each in gone.unneeded)
    kinds = {each.kind for each in gone.unneeded}
    assert {"compression", "flow run", "result"} <= kinds, kinds
    # of the first compression the second one's data stay, and its own name
    assert run_names(all_runs).count("train-teacher") == 2
    assert run_names(stay).count("train-teacher") == 1
    assert run_names(stay).count("prepare") == 1
    assert [name[:12] for name in run_names(stay) if name.startswith("tiny")] == ["tiny: seed=1", "tiny: seed=2"]

    assert [each.version for each in list_versions("tiny")] == [2]
    assert not show_version("models:/tiny/2").problem
    assert verify("models:/tiny/2").holds
    assert promote("tiny").champion == 2
    deploy("models:/tiny/2", "docker", trial=TrialConfig(requests=20), output=str(tmp_path / "bundle"))
    monitor("tiny", NewDataConfig(reader="digits"))
    again = compress(check_settings({**RECIPE, "seed": 2}))
    assert again.version == 2
    run = max((run for run in needed.our_runs() if run.role == "compression"), key=lambda run: run.last)
    assert all(stage.reused for stage in stages_of(run.run)), "nothing is made a second time"

    trail = {run.run for run in needed.our_runs() if run.role in needed.MOVES}
    gc.collect(0, delete=True)
    assert trail <= {run.run for run in needed.our_runs()}, "who moved the alias is known"
    assert verify("models:/tiny/champion").holds


@pytest.mark.parametrize(("option", "variable", "days"), [(None, "", 30), (None, "7", 7), (0.5, "7", 0.5)])
def test_how_long_all_stays(option, variable, days, monkeypatch):
    monkeypatch.setenv(gc.KEEP_DAYS, variable)
    assert gc.keep_days(option) == days


@pytest.mark.parametrize(("option", "variable"), [(-1, ""), (float("nan"), ""), (None, "a month"), (None, "inf")])
def test_what_is_no_number_of_days_is_refused(option, variable, monkeypatch):
    monkeypatch.setenv(gc.KEEP_DAYS, variable)
    with pytest.raises(OptionWrong, match="has to be a number of days from 0 to 36500"):
        gc.keep_days(option)


def test_a_store_behind_a_server(prefect_server, store, tmp_path, monkeypatch):
    servers = Servers(tmp_path / "servers")
    try:
        servers.start("mlflow")
        from flows.install import await_healthy

        await_healthy(f"{servers.urls['mlflow']}/health")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.urls["mlflow"])
        goes, stays = made(tmp_path, "goes"), made(tmp_path, "stays", "other")
        model = stays.uri.removeprefix("models:/")
        tracking.client().create_registered_model("m")
        tracking.client().create_model_version("m", stays.uri, run_id=stays.run, model_id=model)
        files = [each for each in servers.artifacts.rglob("*") if each.is_file()]
        gone = gc.collect(0, delete=True)
        assert [each.id for each in gone.unneeded if each.kind == "stage"] == [goes.run]
        assert sum(each.bytes for each in gone.unneeded if each.kind == "stage") == len("weights") + len("curve")
        left = [each for each in servers.artifacts.rglob("*") if each.is_file()]
        assert len(files) - len(left) == 2
        assert tracking.find("goes", ModelArtifact) is None
        assert tracking.find("stays", ModelArtifact) == stays
        assert gc.collect(0, delete=False).unneeded == [], "what only the server can take out is not shown again"
    finally:
        servers.stop_all()


def test_strays_go_when_they_are_meant(prefect_server, store, tmp_path):
    _, version = register_file(tmp_path / "made")
    stray = store / "artifacts" / ("1" * 32) / "artifacts" / "x"
    stray.parent.mkdir(parents=True)
    stray.write_text("x" * 1000)
    time.sleep(0.01)
    found = gc.collect(0, delete=True)
    assert stray.exists()
    assert "1 folders among the artifacts (0.0 MB) are of no run" in " ".join(found.notes)
    found = gc.collect(0, delete=True, strays=True)
    assert [each.bytes for each in found.unneeded if each.kind == "stray"] == [1000]
    assert not stray.exists()
    assert (tracking.download(version.uri) / "model.onnx").read_text() == "weights"
