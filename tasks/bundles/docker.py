"""Docker: a small image with ONNX Runtime, Slimline's server and the model; no TensorFlow, no MLflow, no Prefect."""

from pathlib import Path
from typing import Any

from tasks.bundles.client import ask
from tasks.bundles.contents import Contents, read_sample, render
from tasks.bundles.server import lay_out_model, lay_out_server
from tasks.bundles.trial import TrialConfig, TrialResult
from tasks.contract.artifact import Target

TARGET: Target = "onnxruntime"  # whose answers and times it is compared with
START = "docker compose up --build --wait"


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: the image's `Dockerfile`, `tasks/` and `requirements.txt`, `model/`, and `compose.yaml`."""
    lay_out_model(folder / "model", contents)
    image = f"slimline-{contents.name}:{contents.number}"
    lay_out_server(folder, image, "/model")
    render(
        "docker/compose.yaml",
        folder / "compose.yaml",
        image=image,
        config=contents.config,
    )


def trial(folder: Path, about: dict[str, Any], *, config: TrialConfig, **_: Any) -> TrialResult:
    """Run the server from the bundle; raises as `ask`."""
    return ask(folder, folder / "model", about["name"], read_sample(folder / "model"), config, about["measured_p50_ms"])
