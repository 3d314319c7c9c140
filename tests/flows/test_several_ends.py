"""Two inputs and three outputs, from data to a version: a model brought from Keras 3, and one that is trained here."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.http
from serving_process import laid_out, serving
from sklearn import metrics as sk
from stores import forget
from tritonclient.utils import np_to_triton_dtype

KINDS = ("circle", "cross", "dot")
SHAPES = {"scene": (8, 8, 1), "facts": (3,)}
HEADS = [
    {"name": "kind", "problem": "classification", "classes": list(KINDS)},
    {"name": "box", "problem": "regression", "target": "corner", "weight": 0.5},
    {"name": "tags", "problem": "multilabel"},
]
METRICS = {"kind": "f1_macro", "box": "mae"}  # and tags by its usual one


def arrays(count=700, seed=3):
    """A kind that takes both inputs to tell, a corner in tens that is mostly the picture's, tags of the facts alone."""
    draw = np.random.default_rng(seed)
    scene = draw.uniform(0, 255, (count, *SHAPES["scene"])).astype(np.uint8)
    facts = draw.normal(size=(count, *SHAPES["facts"])).astype(np.float32)
    light = (scene.reshape(count, -1).mean(axis=1) - 127.5) / 9
    kind = np.digitize(light + facts[:, 0], [-0.8, 0.8])
    halves = scene.astype(np.float32).reshape(count, 2, -1).mean(axis=2)
    return {
        "scene": scene,
        "facts": facts,
        "kind": kind,
        "corner": (halves + 5 * facts[:, :2]).astype(np.float32),
        "tags": (facts @ draw.normal(size=(3, 4)) > 0).astype(np.float32),
    }


def layered(keras, *, small=False):
    """A model of Keras 3 that names its outputs by a dict, in another order than the recipe."""
    layers = keras.layers
    facts = layers.Input(SHAPES["facts"], name="facts")
    scene = layers.Input(SHAPES["scene"], dtype="uint8", name="scene")  # whatever is brought: files take it so too
    x = layers.Rescaling(1 / 127.5, -1)(scene)
    x = layers.Conv2D(8, 3, activation="relu", padding="same")(x)
    x = layers.Concatenate()([layers.Flatten()(layers.AveragePooling2D(4)(x)), layers.Flatten()(x), facts])
    x = layers.Dense(48, activation="relu")(x)
    outputs = {
        "tags": layers.Dense(4, activation="sigmoid", name="which_tags")(layers.Dense(16, activation="relu")(facts)),
        "kind": layers.Dense(3, activation="softmax", name="which_kind")(x),
        "box": layers.Rescaling(20.0, 127.5)(layers.Dense(2)(x)),
    }
    return keras.Model({"facts": facts, "scene": scene}, outputs)


PROGRAM = """
import sys, numpy as np, keras
sys.path[:0] = {path!r}
from test_several_ends import layered
keras.utils.set_random_seed(0)
data = np.load("data.npz")
model = layered(keras)
losses = {{"kind": "sparse_categorical_crossentropy", "box": "mae", "tags": "binary_crossentropy"}}
model.compile(keras.optimizers.Adam(0.003), loss=losses)
x = {{"scene": data["scene"], "facts": data["facts"]}}
y = {{"kind": data["kind"], "box": data["corner"], "tags": data["tags"]}}
model.fit(x, y, epochs=25, verbose=0)
model.save("model.keras")
np.savez("answers.npz", **model.predict(x, verbose=0))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """Data, and a model that was trained in Keras 3, in a state folder of their own."""
    import shutil

    folder = tmp_path_factory.mktemp("several")
    np.savez(folder / "data.npz", **arrays())
    path = [str(folder), os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "..", "support")]
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(path=path)],
        cwd=folder,
        env={**environment, "KERAS_BACKEND": "tensorflow"},
        check=True,
    )
    shutil.copy(empty_store, folder / "mlflow.db")
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(folder)
    forget()
    yield folder
    os.environ["SLIMLINE_HOME"] = before
    forget()


def settings(folder, name, **more):
    return {
        "name": name,
        "data": {
            "reader": "npz",
            "source": str(folder / "data.npz"),
            "input": "scene, facts",
            "heads": HEADS,
            "test": 0.3,
        },
        "targets": ["onnxruntime", "litert", "savedmodel"],
        "validate": {"latency_rounds": 20, "latency_seconds": 1, "metrics": METRICS},
        "budget": {"max_accuracy_drop": 0.1, "max_drops": {"box": 1.5}},
        **more,
    }


def version_of(name):
    from tasks.store import tracking
    from tasks.versions.version import open_version

    tracking.client()
    return open_version(f"models:/{name}/1", tracking.download(f"models:/{name}/1"))


def expected(y, answers):
    """Each output's metric as scikit-learn has it."""
    return {
        "kind": sk.f1_score(y["kind"], answers["kind"].argmax(axis=1), average="macro"),
        "box": np.abs(y["box"] - answers["box"]).mean(),
        "tags": np.mean((answers["tags"] >= 0.5) == (y["tags"] >= 0.5)),
    }


@pytest.mark.slow  # two minutes; the next one goes most of the way with a model of the zoo
def test_a_model_of_keras_3_is_measured_served_and_monitored_output_by_output(home, tmp_path):
    import mlflow

    from flows.compression import compress
    from flows.recipe_file import check_settings
    from flows.verify import verify
    from tasks.compare import CANDIDATE, CHAMPION, compare
    from tasks.contract.named import fields
    from tasks.data import open_data
    from tasks.data.new import NewData
    from tasks.drift.limits import MonitorConfig
    from tasks.evidence.comparison import PromoteConfig, worse
    from tasks.measuring.intervals import Interval
    from tasks.monitor import monitor

    teacher = {"model": str(home / "model.keras"), "fit": {"epochs": 0}}
    recipe = check_settings(settings(home, "brought", teacher=teacher, quantize={"method": "post_training"}))
    compress(recipe)
    version = version_of("brought")
    data = open_data(recipe.data)
    x, y = data.arrays("test")
    raw, said = np.load(home / "data.npz")["facts"], np.load(home / "answers.npz")
    rows = [int(np.flatnonzero((raw == each).all(axis=1))[0]) for each in x["facts"]]
    own = {name: said[name][rows] for name in ("kind", "box", "tags")}

    figures, evidence = expected(y, own), version.evidence
    assert [head.name for head in evidence.heads] == ["kind", "box", "tags"]
    assert [head.score for head in evidence.heads] == ["f1_macro", "mae", "label_accuracy"]
    floats = next(file for file in evidence.files if file.role == "teacher")
    for head in evidence.heads:
        assert head.reference.accuracy.estimate == pytest.approx(figures[head.name], rel=1e-4)
        assert floats.heads[head.name].accuracy.estimate == pytest.approx(figures[head.name], rel=1e-3)
        assert floats.heads[head.name].parity.max_relative < 1e-4
    assert figures["kind"] > 0.7
    assert figures["tags"] > 0.9

    given = {"scene": fields(x)["scene"].astype(np.uint8), "facts": fields(x)["facts"]}
    loaded = mlflow.pyfunc.load_model("models:/brought/1")
    assert {end.name: end.type.name for end in loaded.metadata.signature.inputs} == {
        "scene": "uint8",
        "facts": "float32",
    }
    answers = loaded.predict(given)
    assert list(answers) == ["kind", "box", "tags"]
    for name, values in answers.items():
        assert np.abs(values - own[name]).mean() < 0.03 * np.ptp(own[name]), name
    for name, values in served(version.folder, {k: v[:20] for k, v in given.items()}, tmp_path / "served").items():
        np.testing.assert_array_equal(values, answers[name][:20])

    checked = verify("models:/brought/1")
    assert checked.holds, checked.page
    for metric in ("kind's f1_macro", "box's mae", "tags's label_accuracy"):
        assert all(f"{target} {metric} and interval" in checked.page for target in recipe.targets), metric

    new, limits = NewData(x, y, len(x)), MonitorConfig(min_examples=20, latency_rounds=20, max_slowdown=100)
    monitored = monitor(version, new, limits, seed=0)
    assert {name: head.accuracy.estimate for name, head in monitored.heads.items()} == pytest.approx(
        {name: head.accuracy.estimate for name, head in version.default().heads.items()}, rel=1e-4
    )
    assert not monitored.reasons

    compared = compare("brought", dict.fromkeys((CANDIDATE, CHAMPION), (1, version)), data, recipe.validation, seed=0)
    for pair in compared.pairs:
        shipped = next(file for file in version.shipped() if file.target == pair.target)
        assert pair.candidate.scores == {name: head.accuracy for name, head in shipped.heads.items()}
        assert {name: drop.estimate for name, drop in pair.drops.items()} == dict.fromkeys(METRICS | {"tags": ""}, 0)
    assert not worse(compared, PromoteConfig())
    pair = compared.pairs[0]
    worsened = {**pair.drops, "box": Interval(low=0.5, estimate=1, high=1.5)}
    other = compared.model_copy(update={"pairs": (pair.model_copy(update={"drops": worsened}),)})
    assert not worse(other, PromoteConfig(tolerances={"box": 1.6}))
    (reason,) = worse(other, PromoteConfig(tolerances={"box": 1.4}))
    assert reason.startswith("promote.tolerances.box = 1.4: the onnxruntime file's box's mae may be 1.5000 above")
    (reason,) = worse(other, PromoteConfig(tolerance=1.4))
    assert reason.startswith("promote.tolerance = 1.4: ")
    assert reason.endswith("; promote.tolerances.box is for it alone")


def served(version, given, folder):
    """What the server answers to examples, asked by somebody else's client."""
    folder.mkdir()
    with serving(folder, ["tasks.serving", str(laid_out(version, folder / "one", 1))]) as running:
        client = tritonclient.http.InferenceServerClient(running.http)
        tensors = []
        for name, values in given.items():
            tensors.append(tritonclient.http.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype)))
            tensors[-1].set_data_from_numpy(values)
        answered = client.infer("tiny", tensors)
        return {each["name"]: answered.as_numpy(each["name"]) for each in answered.get_response()["outputs"]}


def test_a_model_is_trained_distilled_cut_and_quantized_for_all_its_outputs(home):
    from flows.compression import compress
    from flows.recipe_file import check_settings

    fit = {"epochs": 6, "learning_rate": 0.003}
    recipe = check_settings(
        settings(
            home,
            "trained",
            teacher={"model": "mlp", "fit": {"epochs": 25, "learning_rate": 0.003}},
            student={"model": "mlp", "width": 0.5},
            distill={"method": "soft_targets", "fit": {"epochs": 20, "learning_rate": 0.003}},
            prune={"method": "channels", "channels": {"remove": 0.2, "of": "channels"}, "fit": fit},
            quantize={"method": "training", "fit": fit},
            budget={"max_accuracy_drop": 0.25, "max_drops": {"box": 4.0}, "min_integer_share": 0.9},
        )
    )
    compress(recipe)
    evidence = version_of("trained").evidence
    for head in evidence.heads:
        reference = head.reference
        sign = -1 if head.lower_is_better else 1
        assert sign * reference.accuracy.estimate > sign * reference.guessing, head.name
    shipped = next(file for file in evidence.files if file.shipped)
    assert (shipped.target, shipped.precision) == ("onnxruntime", "int8")
    assert shipped.integer_share > 0.9
    assert set(shipped.heads) == {"kind", "box", "tags"}
