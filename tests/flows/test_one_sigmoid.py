"""Two classes told apart by one sigmoid: trained, quantized, measured, shipped and served as it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stores import forget

from tasks.contract.errors import DataError, ModelError
from tasks.data import DataConfig, open_data
from tasks.measuring.scores import agreement, by_class, confusion_matrix, example_scores
from tasks.zoo import ModelConfig, bring_model

CLASSES = ("stays", "leaves")


def customers(place: Path, count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    x = random.normal(size=(count, 6)).astype(np.float32)
    y = (x[:, 0] - x[:, 1] * x[:, 2] > 0).astype(np.int64)
    np.savez(place, x=x, y=y)
    return x, y


def network(act: str | None = "sigmoid", units: int = 1):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    inputs = tf.keras.Input((6,))
    hidden = tf.keras.layers.Dense(24, activation="relu")(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(units, activation=act, name="last")(hidden))


def trained(x: np.ndarray, y: np.ndarray):
    model = network()
    model.compile("adam", "binary_crossentropy")
    model.optimizer.learning_rate = 0.01
    model.fit(x, y, epochs=40, verbose=0)
    return model


def config(folder: Path) -> DataConfig:
    return DataConfig(reader="npz", source=str(folder / "customers.npz"), test=0.3, classes=CLASSES)


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """A version of a sigmoid of one's own: taught on by another, cut, quantized, with a file for every bundle."""
    import shutil

    from flows.compression import compress
    from flows.recipe_file import check_settings

    folder = tmp_path_factory.mktemp("state")
    model = trained(*customers(folder / "customers.npz"))
    model.save(folder / "sigmoid.keras")
    shutil.copy(empty_store, folder / "mlflow.db")
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(folder)
    forget()
    fit = {"epochs": 2, "learning_rate": 0.003}
    compress(
        check_settings(
            {
                "name": "churn",
                "data": config(folder).model_dump(exclude_unset=True),
                "teacher": {"model": str(folder / "sigmoid.keras"), "fit": {"epochs": 0}},
                "student": {"model": str(folder / "sigmoid.keras")},
                "distill": {"method": "soft_targets", "fit": fit},
                "prune": {"method": "channels", "channels": {"remove": 0.3, "criterion": "taylor"}, "fit": fit},
                "quantize": {"method": "training", "fit": fit},
                "targets": ["onnxruntime", "litert", "tensorrt"],
                "validate": {"latency_rounds": 20, "latency_seconds": 1},
                "budget": {"max_accuracy_drop": 0.1},
            }
        )
    )
    yield folder
    os.environ["SLIMLINE_HOME"] = before
    forget()


def opened():
    from tasks.store import tracking
    from tasks.versions.version import open_version

    return open_version("models:/churn/1", tracking.download("models:/churn/1"))


def test_its_figures_are_those_of_keras_itself(home):
    """The teacher's accuracy and log loss are what Keras says of the model that was brought."""
    import tensorflow as tf

    model = tf.keras.models.load_model(home / "sigmoid.keras")
    model.compile(loss="binary_crossentropy", metrics=["accuracy"])
    x, y = open_data(config(home)).arrays("test")
    log_loss, accuracy = model.evaluate(x, y, verbose=0)
    evidence = opened().evidence
    teacher = next(file for file in evidence.files if file.role == "teacher" and file.target == "onnxruntime")
    assert accuracy > 0.9
    assert evidence.reference.accuracy.estimate == pytest.approx(accuracy, abs=1e-6)
    assert teacher.accuracy.estimate == pytest.approx(accuracy, abs=1e-6)
    assert teacher.further["log_loss"] == pytest.approx(log_loss, rel=1e-3)
    guess = max(np.bincount(y)) / len(y)
    assert guess < 0.7
    for file in evidence.files:
        assert file.accuracy.estimate > 0.85, file.title


def test_it_ships_one_value_the_share_of_the_second_class(home):
    import mlflow

    from tasks.store import tracking

    tracking.client()
    x, y = open_data(config(home)).arrays("test")
    (answers,) = mlflow.pyfunc.load_model("models:/churn/1").predict(x).values()
    assert answers.shape == (len(x), 1)
    assert answers[y == 1].mean() > 0.8
    assert answers[y == 0].mean() < 0.2


def test_monitoring_counts_both_classes(home):
    from tasks.drift.profile import open_profile

    _, y = open_data(config(home)).arrays("test")
    answer = open_profile(opened().folder).predictions["answer"]
    assert sum(answer.counts) == len(y)
    np.testing.assert_allclose(answer.counts, np.bincount(y), atol=0.1 * len(y))


def test_bundles_name_the_class_that_it_says(home, tmp_path):
    """Two labels of one value would have a server name the first class, always."""
    from tasks.bundle import bundle
    from tasks.bundles.contents import BundleConfig, Contents

    contents = Contents("churn", 1, opened(), BundleConfig())
    for server in ("edge", "triton"):
        (tmp_path / server).mkdir()
        bundle(tmp_path / server, server, contents)
    x, y = open_data(config(home)).sample("test", 40)
    np.save(tmp_path / "edge" / "new.npy", x)
    done = subprocess.run(
        [sys.executable, "predict.py", "new.npy"], cwd=tmp_path / "edge", capture_output=True, text=True, check=True
    )
    labels = [json.loads(line)["label"] for line in done.stdout.splitlines()]
    assert np.mean([label == CLASSES[number] for label, number in zip(labels, y, strict=True)]) > 0.8
    assert set(labels) == set(CLASSES)
    assert "label_filename" not in (tmp_path / "triton/cpu/churn/config.pbtxt").read_text()
    assert "the share of 'leaves'; the rest is 'stays''s" in (tmp_path / "triton/README.md").read_text()


def test_what_is_trained_is_keras_binary_crossentropy():
    """Its slope too, where a share is so near 0 or 1 that float32 has no digits left for the rest."""
    import tensorflow as tf

    from tasks.keras_graph.output_meaning import as_learned
    from tasks.training.losses import cross_entropy

    model = network()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32) * 3
    y = (x[:, 0] > 0).astype(np.int64)
    model.get_layer("last").bias.assign([1.0])
    probable = as_learned(model, "classification")

    @tf.function
    def ours(x, y):
        return cross_entropy(y, probable(x, training=True))

    theirs = tf.keras.losses.BinaryCrossentropy()(y[:, None], model(x))
    assert float(ours(x, y)) == pytest.approx(float(theirs), rel=1e-4)
    sure = tf.Variable([[-40.0]])
    head = tf.keras.Sequential([tf.keras.Input((1,)), tf.keras.layers.Activation("sigmoid")])
    probable = as_learned(head, "classification")

    @tf.function
    def slope():
        with tf.GradientTape() as tape:
            value = cross_entropy(np.array([1]), probable(sure, training=True))
        return value, tape.gradient(value, sure)

    value, gradient = slope()
    assert float(value) == pytest.approx(40, rel=1e-5)
    assert float(gradient[0, 0]) == pytest.approx(-1, rel=1e-5)


def test_one_value_that_is_no_share_is_refused(tmp_path):
    customers(tmp_path / "customers.npz")
    network(None).save(tmp_path / "logit.h5")
    with pytest.raises(ModelError, match=r"one value for two classes.*Dense\(1, activation='sigmoid'\)"):
        bring_model(ModelConfig(model=str(tmp_path / "logit.h5")), open_data(config(tmp_path)), "teacher")


def test_one_sigmoid_for_three_classes_is_refused(tmp_path):
    x, _ = customers(tmp_path / "customers.npz")
    np.savez(tmp_path / "customers.npz", x=x, y=np.digitize(x[:, 0], [-0.5, 0.5]))
    network().save(tmp_path / "sigmoid.h5")
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "customers.npz")))
    with pytest.raises(ModelError, match=r"shape \(1,\); a classification of these data needs \(3,\)"):
        bring_model(ModelConfig(model=str(tmp_path / "sigmoid.h5")), data, "teacher")


def test_its_answers_by_class():
    shares = np.array([[0.2], [0.5], [0.9]], np.float32)
    np.testing.assert_allclose(by_class(shares), [[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]], rtol=1e-6)
    np.testing.assert_array_equal(example_scores("classification", np.array([0, 1, 1]), shares), [1, 0, 1])
    np.testing.assert_array_equal(confusion_matrix(np.array([0, 1, 1]), shares, 2), [[1, 0], [1, 1]])
    assert agreement(shares, by_class(shares)) == 1


@pytest.mark.parametrize("kind", ["a column", "one-hot", "one-hot floats", "booleans", "floats"])
def test_labels_of_these_forms_are_the_same(tmp_path, kind):
    x, y = customers(tmp_path / "plain.npz")
    forms = {
        "a column": y[:, None],
        "one-hot": np.eye(2, dtype=np.int64)[y],
        "one-hot floats": np.eye(2, dtype=np.float32)[y],
        "booleans": y.astype(bool),
        "floats": y.astype(np.float64),
    }
    np.savez(tmp_path / "other.npz", x=x, y=forms[kind])
    plain, other = (
        open_data(DataConfig(reader="npz", source=str(tmp_path / f"{name}.npz"))) for name in ("plain", "other")
    )
    assert other.classes == plain.classes == ("0", "1")
    assert other.digest == plain.digest


@pytest.mark.parametrize("row", [[1, 1], [0, 0], [0.5, 0.5], [2, -1]])
def test_rows_that_are_not_one_hot_are_refused_with_the_way_out(tmp_path, row):
    x, y = customers(tmp_path / "rows.npz")
    rows = np.eye(2)[y]
    rows[7] = row
    np.savez(tmp_path / "rows.npz", x=x, y=rows)
    with pytest.raises(DataError, match=r"one 1 among zeros. Several labels at once .*data.problem: multilabel"):
        open_data(DataConfig(reader="npz", source=str(tmp_path / "rows.npz")))
