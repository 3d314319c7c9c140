"""Smoke: a version answers as it did when it was registered, asked through the path that MLflow serves it by."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.artifact import EvidenceArtifact
from tasks.contract.errors import SmokeTestFailed
from tasks.contract.named import ONE, Array, fields, packed
from tasks.measuring.arrays import Figure
from tasks.store import tracking
from tasks.store.stage import StageRun, stage
from tasks.versions.recorded_answers import compare_answers, largest
from tasks.versions.registered import open_registered
from tasks.versions.version import SAMPLE, OpenVersion

FILE = "smoke.json"
PATIENCE = 300  # seconds until a server that does not answer has failed


class Smoke(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How a version answered."""

    uri: str = Field(description="What was asked.")
    examples: int = Field(ge=1)
    largest_difference: Figure = Field(ge=0, description="From the answers that were recorded when it was registered.")
    largest_answer: Figure = Field(ge=0)


def smoke(uri: str, version: OpenVersion, work: Path) -> Smoke:
    """Ask `mlflow models predict`, in a process of its own, for the answers to the version's examples.

    Args:
        uri: what is asked for, such as `models:/digits@champion`.
        version: the one that should answer.
        work: a folder for question and answer.

    Raises:
        SmokeTestFailed: nothing answers, or something else does.

    """
    with np.load(version.folder / SAMPLE) as sample:
        examples, recorded = sample["examples"], sample[version.default().target]
    question, answer = work / "question.json", work / "answer.json"
    asked = {name: each.tolist() for name, each in fields(examples).items()}
    question.write_text(json.dumps({"inputs": asked.get(ONE, asked)}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "--model-uri", uri, "--env-manager", "local"]
    command += ["--content-type", "json", "--input-path", str(question), "--output-path", str(answer)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking.tracking_uri()}
    try:
        done = subprocess.run(  # noqa: S603  our own interpreter
            command, env=environment, cwd=work, capture_output=True, text=True, errors="replace", timeout=PATIENCE
        )
    except subprocess.TimeoutExpired as error:
        raise SmokeTestFailed(f"{uri} did not answer {len(examples)} examples within {PATIENCE} s") from error
    if done.returncode or not answer.exists():
        lines = done.stderr.strip().splitlines() or ["nothing was said"]
        raise SmokeTestFailed(f"{uri} cannot be served by MLflow: {lines[-1]}")
    return Smoke(
        uri=uri,
        examples=len(examples),
        largest_difference=compare_answers(recorded, _answers(answer, recorded), uri),
        largest_answer=largest(recorded),
    )


def _answers(file: Path, recorded: Array) -> Array:
    """The one output `(n, …)` in what MLflow's scoring protocol answers, or records of those by name."""
    predictions = json.loads(file.read_text())["predictions"]
    if not recorded.dtype.names:
        predictions = {ONE: next(iter(predictions.values())) if isinstance(predictions, dict) else predictions}
    return packed({name: np.asarray(each, np.float32) for name, each in predictions.items()})


@stage("smoke", reuse=False)
def smoke_test(run: StageRun, name: str, alias: str, version: int) -> EvidenceArtifact:
    """Compare the answers that an alias leads to with those recorded of the version that it should lead to."""
    result = smoke(f"models:/{name}@{alias}", open_registered(f"models:/{name}/{version}"), run.work)
    tracking.log_metrics(run.run_id, {"largest_difference": result.largest_difference})
    folder = run.work / "smoke"
    folder.mkdir()
    (folder / FILE).write_text(result.model_dump_json(indent=1) + "\n")
    return run.keep_evidence(folder)
