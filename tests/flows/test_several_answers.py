"""Several answers an example, from data to a version: pixels, steps, labels, numbers; as Keras gives them."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.http
from serving_process import laid_out, serving
from sklearn import metrics as sk
from stores import forget

RANDOM = np.random.default_rng(3)


def pixels():
    """Float masks with an axis of one, and one sigmoid a pixel, as most who segment two classes have it."""
    x = RANDOM.normal(size=(300, 8, 8, 1)).astype(np.float32)
    blurred = sum(np.roll(x, (a, b), (1, 2)) for a in (-1, 0, 1) for b in (-1, 0, 1))
    return x, (blurred > 0).astype(np.float32)


def steps():
    x = RANDOM.normal(size=(400, 6, 2)).astype(np.float32)
    return x, np.digitize(x.sum(axis=2) + np.roll(x, 1, 1)[..., 0], [-1, 1])


def labels():
    x = RANDOM.normal(size=(500, 6)).astype(np.float32)
    return x, (x @ RANDOM.normal(size=(6, 4)) > 0.5).astype(np.int64)


def numbers():
    x = RANDOM.normal(size=(400, 6, 2)).astype(np.float32)
    total = np.cumsum(x, axis=1)[:, 3:]
    return x, (total * [40, 0.01]).astype(np.float32)


def layers_of(kind, layers):
    """Of either Keras."""
    dense, input_ = layers.Dense, layers.Input
    return {
        "pixels": [
            input_((8, 8, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.Conv2D(1, 1, activation="sigmoid"),
        ],
        "steps": [input_((6, 2)), layers.Conv1D(16, 3, padding="same", activation="relu"), dense(3)],
        "labels": [input_((6,)), dense(24, activation="relu"), dense(4)],
        "numbers": [input_((6, 2)), layers.Flatten(), dense(24, activation="relu"), dense(6), layers.Reshape((3, 2))],
    }[kind]


CASES = {
    # data, the problem, a loss of Keras', the metric, the budget
    "pixels": (pixels, "classification", "binary_crossentropy", "mean_iou", {"max_accuracy_drop": 0.1}),
    "steps": (steps, "classification", "sparse", "f1_macro", {"max_accuracy_drop": 0.1}),
    "labels": (labels, "multilabel", "logits", "average_precision", {"max_accuracy_drop": 0.1}),
    "numbers": (numbers, "regression", "mse", "mae", {"max_drop": 2.0}),
}
PROGRAM = """
import sys, numpy as np, keras
sys.path[:0] = {path!r}
from test_several_answers import CASES, layers_of
for kind, (_, _, loss, *_) in CASES.items():
    keras.utils.set_random_seed(0)
    data = np.load(f"{{kind}}.npz")
    x, y = data["x"], data["y"]
    model = keras.Sequential(layers_of(kind, keras.layers))
    scale = y.std(axis=(0, 1)) if loss == "mse" else 1
    kinds = {{
        "sparse": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "logits": keras.losses.BinaryCrossentropy(from_logits=True),
    }}
    model.compile(keras.optimizers.Adam(0.01), kinds.get(loss, loss))
    model.fit(x, y / scale, epochs=12, verbose=0)
    if loss == "mse":
        model = keras.Sequential([model, keras.layers.Rescaling(list(map(float, scale)))])
        model.build((None, 6, 2))
    model.save(f"{{kind}}.keras")
    np.save(f"{{kind}}-answers.npy", model.predict(x, verbose=0))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """A version of each, of models that were trained in Keras 3, in a state folder of their own."""
    folder = tmp_path_factory.mktemp("several")
    for kind, (make, *_) in CASES.items():
        x, y = make()
        np.savez(folder / f"{kind}.npz", x=x, y=y, site=np.array(["east", "west"])[np.arange(len(x)) % 2])
    path = [str(folder), os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..", "support")]
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=path)],
        cwd=folder,
        env={**environment, "KERAS_BACKEND": "tensorflow"},
        check=True,
        capture_output=True,
    )
    shutil.copy(empty_store, folder / "mlflow.db")
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(folder)
    forget()
    yield folder
    os.environ["SLIMLINE_HOME"] = before
    forget()


def recipe(folder, kind):
    from flows.recipe_file import check_settings

    _, problem, _, metric, budget = CASES[kind]
    return check_settings(
        {
            "name": kind,
            "data": {
                "reader": "npz",
                "source": str(folder / f"{kind}.npz"),
                "problem": problem,
                "test": 0.3,
                "slice": "site",
            },
            "teacher": {"model": str(folder / f"{kind}.keras"), "fit": {"epochs": 0}},
            "quantize": {"method": "post_training"},
            "targets": ["onnxruntime", "litert"],
            "validate": {"latency_rounds": 20, "latency_seconds": 1, "metric": metric},
            "budget": budget,
        }
    )


def expected(kind, y, answers):
    """The metric as scikit-learn has it, of Keras' answers."""
    if kind == "pixels":
        return sk.jaccard_score(y.reshape(-1), answers.reshape(-1) > 0.5, average="macro")
    if kind == "steps":
        return sk.f1_score(y.reshape(-1), answers.argmax(axis=-1).reshape(-1), average="macro")
    return (sk.average_precision_score if kind == "labels" else lambda a, b: np.abs(a - b).mean())(y, answers)


@pytest.mark.parametrize("kind", CASES)
def test_the_version_answers_and_is_measured_as_keras_does(home, kind, tmp_path):
    import mlflow

    from flows.compression import compress
    from tasks.bundle import bundle
    from tasks.bundles.contents import BundleConfig, Contents
    from tasks.data import open_data
    from tasks.drift.limits import MonitorConfig
    from tasks.drift.profile import open_profile
    from tasks.monitor import monitor
    from tasks.store import tracking
    from tasks.versions.version import open_version

    made = recipe(home, kind)
    compress(made)
    tracking.client()
    version = open_version(f"models:/{kind}/1", tracking.download(f"models:/{kind}/1"))
    x, y = open_data(made.data).arrays("test")
    own = as_keras_did(home, kind, x)

    figure = expected(kind, y, own)
    reference = version.evidence.reference
    assert reference.accuracy.estimate == pytest.approx(figure, rel=1e-4)
    assert reference.accuracy.low < figure < reference.accuracy.high
    assert version.evidence.score == made.validation.metric
    floats = next(file for file in version.evidence.files if file.role == "teacher")
    assert floats.accuracy.estimate == pytest.approx(figure, rel=1e-3)

    data = open_data(made.data)
    sites = data.slices_of("test", len(x))
    where = {name: sites == name for name in ("east", "west")}
    assert {name: each.examples for name, each in floats.slices.items()} == {k: v.sum() for k, v in where.items()}
    rows = data.drawn("test")
    for name, each in floats.slices.items():
        some = rows[sites == name]
        assert each.score.estimate == pytest.approx(expected(kind, y[some], own[some]), rel=1e-3), name

    span = np.ptp(own, axis=tuple(range(own.ndim - 1)))
    (answers,) = mlflow.pyfunc.load_model(f"models:/{kind}/1").predict(x).values()
    assert answers.shape == own.shape
    assert (np.abs(answers - own).mean(axis=tuple(range(own.ndim - 1))) < 0.02 * span).all()
    np.testing.assert_array_equal(served(version.folder, x[:20], tmp_path / "served"), answers[:20])
    contents = Contents(kind, 1, version, BundleConfig())
    (tmp_path / "edge").mkdir()
    bundle(tmp_path / "edge", "edge", contents)
    np.save(tmp_path / "edge" / "new.npy", x[:20])
    done = subprocess.run(
        [sys.executable, "predict.py", "new.npy"], cwd=tmp_path / "edge", capture_output=True, text=True, check=True
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    scores = np.array([each["scores"] for each in said])
    assert (np.abs(scores - own[:20]).mean(axis=tuple(range(own.ndim - 1))) < 0.03 * span).all()
    if kind == "pixels":
        assert np.mean(np.array([each["classes"] for each in said]) == y[:20]) > 0.9
    elif kind == "labels":
        there = np.array([[str(n) in each["labels"] for n in range(4)] for each in said])
        assert np.mean(there == y[:20]) > 0.9

    config = MonitorConfig(min_examples=20, latency_rounds=20, max_slowdown=100)  # other tests are at work
    monitored = monitor(version, _as_new(x, y), config, seed=0)
    assert monitored.accuracy.estimate == pytest.approx(version.default().accuracy.estimate, rel=1e-4)
    assert monitored.decay.estimate == pytest.approx(0, abs=1e-6)
    assert set(open_profile(version.folder).predictions) == {drift.name for drift in monitored.predictions}
    assert not monitored.reasons


def served(version, x, folder):
    """What the server answers to examples, asked by somebody else's client."""
    folder.mkdir()
    with serving(folder, ["tasks.serving", str(laid_out(version, folder / "one", 1))]) as running:
        client = tritonclient.http.InferenceServerClient(running.http)
        (given,) = client.get_model_metadata("tiny")["inputs"]
        tensor = tritonclient.http.InferInput(given["name"], list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        answered = client.infer("tiny", [tensor])
        (output,) = answered.get_response()["outputs"]
        return answered.as_numpy(output["name"])


def as_keras_did(home, kind, x):
    """What the model that was brought answered to these examples, in Keras 3."""
    raw = np.load(home / f"{kind}.npz")["x"]
    rows = [int(np.flatnonzero((raw == each).reshape(len(raw), -1).all(axis=1))[0]) for each in x]
    return np.load(home / f"{kind}-answers.npy")[rows]


def _as_new(x, y):
    from tasks.data.new import NewData

    return NewData(x, y, len(x))
