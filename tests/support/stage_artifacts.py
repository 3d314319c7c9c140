"""What stages leave in the store, without a stage."""

from pathlib import Path

from tasks.contract.artifact import ModelArtifact, digest_folder
from tasks.store import tracking


def made(tmp_path: Path, key: str = "key", text: str = "weights", parent: str = "") -> ModelArtifact:
    """A stage's run that has ended well, with a model and a plot."""
    folder = tmp_path / f"{key} {text}"
    folder.mkdir()
    (folder / "model.txt").write_text(text)
    run = tracking.start_run("train", {tracking.ROLE: "stage"}, {}, parent)
    tracking.log_text(run, "curve", "curve.svg")
    uri = tracking.keep_model(run, "train", folder, {})
    artifact = ModelArtifact(stage="train", sha256=digest_folder(folder), uri=uri, run=run, format="keras", key=key)
    tracking.set_tags(run, {tracking.RESULT: artifact.model_dump_json(), tracking.KEY: key})
    tracking.end_run(run, failed=False)
    tracking._fetched.clear()
    return artifact
