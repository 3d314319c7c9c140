"""Each kind of layer that people bring, from Keras 3 to a version, its server and a bundle: it answers as in Keras."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
from brought_rows import ROWS
from serving_process import laid_out, serving
from stores import forget
from tritonclient.utils import np_to_triton_dtype

SUPPORT = Path(__file__).parents[1] / "support"
TARGETS = ("onnxruntime", "litert")
QUICK = ("five-sigmoids",)  # the others take a quarter of an hour
EACH = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ROWS]


@pytest.fixture(scope="module")
def home(request, tmp_path_factory, prefect_server, empty_store):
    """The models that are asked for and their data, in a state folder of their own."""
    wanted = [item.callspec.params["name"] for item in request.session.items if item.path == request.path]
    folder = tmp_path_factory.mktemp("rows")
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    subprocess.run(
        [sys.executable, SUPPORT / "brought_rows.py", folder, *wanted],
        env={**environment, "KERAS_BACKEND": "tensorflow"},
        check=True,
    )
    shutil.copy(empty_store, folder / "mlflow.db")
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(folder)
    sys.path.insert(0, str(folder))
    forget()
    yield folder
    sys.path.remove(str(folder))
    os.environ["SLIMLINE_HOME"] = before
    forget()


def settings(folder: Path, name: str) -> dict:
    problem = "multilabel" if ROWS[name][2] == "sigmoids" else "classification"
    own = {"trust": True} if name == "own-layer" else {}
    return {
        "name": name,
        "data": {"reader": "npz", "source": str(folder / f"{name}.npz"), "input": "x", "problem": problem, "test": 0.4},
        "teacher": {"model": str(folder / f"{name}.keras"), "fit": {"epochs": 0}, **own},
        "quantize": {"method": "post_training"},
        "targets": list(TARGETS),
        "validate": {"latency_rounds": 20, "latency_seconds": 1},
        "budget": {"max_accuracy_drop": 1.0, "min_integer_share": 0, "min_size_ratio": 0},
    }


@pytest.mark.parametrize("name", EACH)
def test_it_is_registered_served_and_bundled_and_answers_as_in_keras(home, name, tmp_path):
    import mlflow

    from flows.compression import compress
    from flows.deploy import deploy
    from flows.recipe_file import check_settings
    from tasks.bundles.trial import TrialConfig
    from tasks.store import tracking
    from tasks.versions.version import open_version

    compress(check_settings(settings(home, name)))
    version = open_version(f"models:/{name}/1", tracking.download(f"models:/{name}/1"))
    for file in version.evidence.files:
        if file.role == "teacher":
            assert file.parity.max_relative < 1e-3, file.target
            assert file.accuracy.estimate == 1, file.target
        elif file.shipped:
            assert file.accuracy.estimate > 0.9, (file.target, file.precision)

    kept = np.load(home / f"{name}.npz")
    loaded = mlflow.pyfunc.load_model(f"models:/{name}/1")
    (answers,) = loaded.predict(kept["x"]).values()  # one output: by its name
    assert answers.shape == kept["answers"].shape
    assert np.abs(answers - kept["answers"]).mean() < 0.03 * np.ptp(kept["answers"])
    np.testing.assert_array_equal(served(version.folder, kept["x"][:20], tmp_path / "served"), answers[:20])
    bundled = deploy(f"models:/{name}/1", "edge", trial=TrialConfig(requests=10))
    assert bundled.server == "edge"


def served(version: Path, x: np.ndarray, folder: Path) -> np.ndarray:
    """What the server answers to examples, asked by somebody else's client."""
    folder.mkdir()
    with serving(folder, ["tasks.serving", str(laid_out(version, folder / "one", 1))]) as running:
        client = tritonclient.http.InferenceServerClient(running.http)
        (end,) = client.get_model_metadata("tiny")["inputs"]
        tensor = tritonclient.http.InferInput(end["name"], list(x.shape), np_to_triton_dtype(x.dtype))
        tensor.set_data_from_numpy(x)
        (output,) = client.get_model_metadata("tiny")["outputs"]
        return client.infer("tiny", [tensor]).as_numpy(output["name"])
