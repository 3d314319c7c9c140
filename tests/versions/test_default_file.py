"""Versions without an ONNX file: MLflow asks the first target's, in its own runtime, by the same names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from registered import versions

from tasks.contract.errors import DataError, SmokeTestFailed, TargetMissing, VersionError

COLUMNS = ["width", "height", "age", "weight"]
INT8 = {"method": "post_training"}
LITERT = "formats/litert/model.tflite"
DEFAULTS = {1: LITERT, 2: "formats/savedmodel", 3: LITERT, 4: LITERT}


def items(count: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    label = random.integers(0, 3, count)
    x = random.normal(size=(count, 4)) + label[:, None] * [2, 0.5, -1, 2]
    return pd.DataFrame(x, columns=COLUMNS).assign(label=label)


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store) -> Path:
    """Version 1 has LiteRT's integers at its ends too, 2 a SavedModel before LiteRT, 3 a table in LiteRT.

    Version 4 is 2 with LiteRT first.
    """
    folder = tmp_path_factory.mktemp("state")
    items(600, 0).to_csv(folder / "items.csv", index=False)
    table = {
        "data": {"reader": "table", "source": str(folder / "items.csv"), "test": 0.3},
        "teacher": {"model": "mlp", "fit": {"epochs": 8, "learning_rate": 0.01}},
        "targets": ["litert"],
    }
    integers = {"targets": ["litert"], "quantize": INT8, "convert": {"litert_io": "int8"}}
    orders = [{"targets": ["savedmodel", "litert"]}, {"targets": ["litert", "savedmodel"]}]
    with versions(folder, empty_store, integers, orders[0], table, orders[1]):
        yield folder


def opened(version: int) -> Path:
    from tasks.store import tracking

    return tracking.download(f"models:/tiny/{version}")


def loaded(version: int):
    import mlflow

    from tasks.store import tracking

    tracking.client()
    return mlflow.pyfunc.load_model(f"models:/tiny/{version}")


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """What the recipe's reader gives, as scikit-learn has it."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images[..., None].astype(np.float32), data.target


@pytest.mark.parametrize("version", DEFAULTS)
def test_the_first_target_s_file_is_the_default_and_its_library_is_required(home, version):
    import yaml

    from tasks.versions.version import open_version

    flavors = yaml.safe_load((opened(version) / "MLmodel").read_text())["flavors"]
    assert flavors["python_function"]["data"] == DEFAULTS[version]
    default = open_version(f"models:/tiny/{version}", opened(version)).default()
    assert default.target == DEFAULTS[version].split("/")[1], "what is monitored and smoke-tested"
    assert ("tensorflow" in flavors) == (version == 2)
    needed = (opened(version) / "requirements.txt").read_text()
    assert ("tensorflow==" in needed) == (version == 2)
    assert ("ai-edge-litert==" in needed) == (version != 2)
    assert "onnx" not in needed


@pytest.mark.parametrize("version", [1, 2])
def test_tensors_are_answered_as_classes_by_name(home, digits, version):
    x, y = digits
    model = loaded(version)
    assert model.metadata.signature.inputs.input_names() == ["input"]
    (answers,) = model.predict(x).values()
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=0.03 if version == 1 else 1e-5)
    assert (answers.argmax(axis=1) == y).mean() > 0.85
    for inputs in ({"input": x[:3]}, x[:3]):
        (few,) = model.predict(inputs).values()
        np.testing.assert_allclose(few, answers[:3], atol=1e-6)
    (one,) = model.predict(x[:1]).values()
    np.testing.assert_allclose(one, answers[:1], atol=1e-6)


def test_a_tensor_of_another_shape_or_name_is_refused(home, digits):
    """Of what MLflow lets through to us."""
    model = loaded(1)._model_impl
    with pytest.raises(ValueError, match=r"input: float32 with the shape \(3, 8, 8\): the model takes numbers \(n, 8,"):
        model.predict(digits[0][:3, ..., 0])
    with pytest.raises(ValueError, match="inputs 'image': the model takes one, 'input'"):
        model.predict({"image": digits[0][:3]})


def test_mlflow_leaves_nothing_in_a_version_that_it_loads(home):
    """Python writes bytecode beside what it imports, and a version's own loader lies in the version."""
    import os
    import subprocess
    import sys

    from tasks.versions.registered import open_registered

    program = "import mlflow\nfor version in (1, 2, 3): mlflow.pyfunc.load_model(f'models:/tiny/{version}')"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=300)
    for version in (1, 2, 3):
        assert open_registered(f"models:/tiny/{version}").manifest


def test_mlflow_s_own_flavour_for_tensorflow_opens_the_same_file(home, digits):
    import mlflow

    signature = mlflow.tensorflow.load_model("models:/tiny/2").signatures["serving_default"]
    x = digits[0][:20]
    (by_tensorflow,) = (values.numpy() for values in signature(input=x).values())
    np.testing.assert_array_equal(by_tensorflow, next(iter(loaded(2).predict(x).values())))


def test_a_table_is_taken_by_the_names_of_its_columns(home):
    new = items(300, 1)
    answers = loaded(3).predict(new[["label", *COLUMNS[::-1]]])
    assert list(answers.columns) == ["0", "1", "2"]
    assert (answers.to_numpy().argmax(axis=1) == new["label"]).mean() > 0.7


@pytest.mark.parametrize("version", DEFAULTS)
def test_the_smoke_test_asks_it_and_notices_other_answers(home, tmp_path, version):
    from tasks.smoke_test import smoke
    from tasks.versions.registered import open_registered

    whole = open_registered(f"models:/tiny/{version}")
    assert smoke(whole.uri, whole, tmp_path).largest_difference < 1e-5
    if version == 3:
        with pytest.raises(SmokeTestFailed, match="otherwise than when the version was registered"):
            smoke(whole.uri, replace(whole, folder=_with_other_answers(whole.folder, tmp_path)), tmp_path)


def _with_other_answers(folder: Path, place: Path) -> Path:
    """A copy of a version's folder that recorded its examples' answers in another order."""
    import shutil

    copy = place / "copy"
    shutil.copytree(folder, copy)
    with np.load(copy / "sample.npz") as sample:
        kept = dict(sample)
    np.savez(copy / "sample.npz", **{**kept, "litert": kept["litert"][::-1]})
    return copy


def test_it_is_promoted_verified_and_monitored_like_any_other(home, tmp_path):
    from flows.monitor import monitor
    from flows.promote import promote
    from tasks.data.new import NewDataConfig
    from tasks.drift.limits import MonitorConfig
    from tasks.store import registry

    registry.set_alias("tiny", registry.CANDIDATE, 3)
    assert promote("tiny").champion == 3
    items(300, 2).to_csv(tmp_path / "new.csv", index=False)
    config = MonitorConfig(latency_rounds=20, max_slowdown=100)
    result = monitor("tiny", NewDataConfig(reader="table", source=str(tmp_path / "new.csv")), config=config)
    assert not result.degraded, result.reasons


def test_what_its_runtime_does_not_take_is_refused_as_data(home):
    from tasks.data.new import NewData
    from tasks.drift.limits import MonitorConfig
    from tasks.monitor import monitor
    from tasks.versions.version import open_version

    uri = "models:/tiny/1"
    new = NewData(x=np.zeros((400, 7, 8, 1), np.float32), y=None, available=0, notes=())
    with pytest.raises(DataError, match="the litert file does not take these examples"):
        monitor(open_version(uri, opened(1)), new, MonitorConfig(), seed=0)


def test_our_server_and_its_bundles_say_what_they_need(home):
    from tasks.bundle import bundle
    from tasks.bundles.contents import BundleConfig, Contents
    from tasks.serving.served import open_version_of
    from tasks.versions.version import open_version

    with pytest.raises(
        VersionError,
        match=r"no file for onnxruntime.*targets: \[savedm.*or serve it with `mlflow models serve -m models:/ti",
    ):
        open_version_of(open_version("models:/tiny/2", opened(2)), "tiny", 2, 1)
    contents = Contents("tiny", 2, open_version("models:/tiny/2", opened(2)), BundleConfig())
    with pytest.raises(TargetMissing, match=r"targets: \[savedmodel, litert, onnxruntime\]"):
        bundle(home / "bundle", "kserve", contents)
