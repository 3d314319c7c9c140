"""`slimline deploy`: a registered version through the real flow, into the registry, Prefect and a folder."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from command_line import ROOT
from registered import versions
from standing_docker import DIGEST, stand_in

from tasks.contract.errors import OptionWrong, OutputTaken, TargetMissing, TooSlow, VersionDamaged, VersionError


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """A champion for ONNX Runtime and LiteRT, in float."""
    from tasks.store import registry

    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"targets": ["onnxruntime", "litert"]}):
        registry.set_alias("tiny", registry.CHAMPION, 1)
        yield home


@pytest.fixture
def quick():
    from tasks.bundles.trial import TrialConfig

    return TrialConfig(requests=20)


def tags() -> dict[str, str]:
    from tasks.store import registry

    return registry.version_of("tiny", 1).tags


def page(key: str) -> str:
    """The newest of Prefect's artifacts with a key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    of_key = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        pages = client.read_artifacts(artifact_filter=of_key, sort=ArtifactSort.CREATED_DESC, limit=1)
    return str(pages[0].data)


@pytest.mark.parametrize("server", ["edge", "docker"])
def test_a_champion_is_deployed_marked_and_written(server, home, quick, tmp_path):
    from flows.deploy import deploy
    from tasks.contract.artifact import digest_folder
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of

    result = deploy("models:/tiny@champion", server, trial=quick, output=str(tmp_path / "bundle"))
    assert (result.uri, result.server) == ("models:/tiny/1", server)
    assert digest_folder(tmp_path / "bundle") == result.sha256 == digest_folder(tracking.download(result.bundle))
    tag = tags()[f"deployed.{server}"]
    assert result.sha256[:12] in tag
    assert "server run: true" in tag
    assert result.flow_run_url in tag
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["evidence_sha256"] == tags()["slimline.evidence"]
    shown = page(f"deployed-{server}")
    assert result.start in shown
    assert str(tmp_path / "bundle") in shown
    run = tracking.client().search_runs(
        [tracking.experiment()], f"tags.`{tracking.ROLE}` = 'deployment'", max_results=1, order_by=["start_time DESC"]
    )[0]
    assert run.info.status == "FINISHED"
    assert {stage.stage for stage in stages_of(run.info.run_id)} == {f"bundle-{server}", "trial"}


def test_its_image_is_pushed_and_the_version_says_where(home, quick, tmp_path, monkeypatch):
    from flows.deploy import deploy

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    told = stand_in(tmp_path, "docker")
    result = deploy("models:/tiny@champion", "docker", trial=quick, push="registry.example.org/tiny")
    assert result.image == f"registry.example.org/tiny@{DIGEST}"
    assert "push registry.example.org/tiny:1" in told.read_text().splitlines(), "the tag is the version's number"
    assert tags()["deployed.docker"].endswith(f", image {result.image}")
    assert f"Its image is `{result.image}`." in page("deployed-docker")


def test_an_archive_holds_the_same_files(home, quick, tmp_path):
    from flows.deploy import deploy

    result = deploy("models:/tiny/1", "edge", trial=quick, output=str(tmp_path / "tiny.tar.gz"))
    with tarfile.open(tmp_path / "tiny.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    from tasks.contract.artifact import digest_folder

    assert digest_folder(tmp_path / "tiny") == result.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "tiny.tar.gz"], "nothing is left beside it"


def test_what_a_killed_deployment_left_beside_a_place_does_not_stand_in_the_way(tmp_path):
    """It was at copying: what it had of the bundle is there under another name."""
    from tasks.bundle import hand_out
    from tasks.contract.artifact import BundleArtifact, digest_folder
    from tasks.store import tracking

    made, left = tmp_path / "made", tmp_path / ".bundle.partial"
    for folder in (made, left):
        folder.mkdir()
    (made / "model.onnx").write_text("weights")
    (left / "half").write_text("wei")
    digest = digest_folder(made)
    tracking._fetched[digest] = made
    hand_out(BundleArtifact(stage="bundle", sha256=digest, uri="", run="", server="edge"), tmp_path / "bundle")
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["model.onnx"]
    assert not left.exists()


def test_a_bundle_that_fails_is_not_marked_and_not_written(home, quick, tmp_path):
    from flows.deploy import deploy
    from tasks.store import registry, tracking

    tracking.client().delete_model_version_tag("tiny", "1", "deployed.edge")
    assert "deployed.edge" not in registry.version_of("tiny", 1).tags
    strict = quick.model_copy(update={"max_latency_ms": 1e-6})
    with pytest.raises(TooSlow, match="were promised"):
        deploy("models:/tiny@champion", "edge", trial=strict, output=str(tmp_path / "bundle"))
    assert "deployed.edge" not in registry.version_of("tiny", 1).tags
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_is_named_before_anything_is_done(home, quick, tmp_path):
    from flows.deploy import deploy

    with pytest.raises(VersionError, match=r"models:/tiny@nobody.*no such version"):
        deploy("models:/tiny@nobody", "edge", trial=quick)
    with pytest.raises(TargetMissing, match=r"no file for savedmodel, only for onnxruntime, litert: put `targets: "):
        deploy("models:/tiny/1", "tfserving", trial=quick)
    with pytest.raises(OutputTaken, match="is there already"):
        deploy("models:/tiny/1", "edge", trial=quick, output=str(tmp_path))
    with pytest.raises(OptionWrong, match="a bundle for edge is no image"):
        deploy("models:/tiny@nobody", "edge", trial=quick, push="registry.example.org/tiny")
    with pytest.raises(OutputTaken, match="make it first"):
        deploy("models:/tiny/1", "edge", trial=quick, output=str(tmp_path / "not" / "there"))


def test_a_damaged_version_is_not_laid_out(home, quick, tmp_path):
    from flows.deploy import deploy
    from tasks.store import tracking

    file = tracking.download("models:/tiny/1") / "formats" / "litert" / "model.tflite"
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    try:
        with pytest.raises(VersionDamaged, match=r"damaged formats/litert/model\.tflite"):
            deploy("models:/tiny/1", "edge", trial=quick, output=str(tmp_path / "bundle"))
    finally:
        file.write_bytes(content)
    assert not list(tmp_path.iterdir())


def slimline(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLIMLINE_HOME": str(home)}
    for name in ("MLFLOW_TRACKING_URI", "PYTHONWARNINGS"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "flows.cli", "deploy", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_the_command_line(home, tmp_path):
    done = slimline(
        home, "models:/tiny@champion", "--to", "edge", "--output", str(tmp_path / "e"), "--json", "trial.requests=20"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["uri"] == "models:/tiny/1"
    assert result["trial"]["server_run"] is True
    assert (tmp_path / "e" / "predict.py").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("models:/tiny@champion", "--to", "toaster"), "to: 'toaster': .*'tfserving'"),
        (("tiny", "--to", "edge"), "version: 'tiny'"),
        (("models:/tiny@champion", "--to", "edge", "trial.requests=1"), r"trial\.requests: 1"),
        (("models:/tiny@champion", "--to", "docker", "--push", "me/tiny"), "push: 'me/tiny'"),
    ],
)
def test_wrong_words_end_with_2_and_a_line(words, says, home):
    import re

    done = slimline(home, *words)
    assert done.returncode == 2, done.stderr
    assert re.search(says, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_prefect_s_form_has_bounds_and_descriptions():
    from prefect.utilities.callables import parameter_schema

    from flows.deploy import deploy

    schema = parameter_schema(deploy).model_dump()
    trial = schema["definitions"]["TrialConfig"]["properties"]
    assert all(field["description"] for field in trial.values())
    assert schema["properties"]["to"]["enum"] == ["tfserving", "triton", "kserve", "docker", "edge"]
    assert yaml.safe_load(json.dumps(schema["properties"]["version"]["default"])) == "models:/digits@champion"
