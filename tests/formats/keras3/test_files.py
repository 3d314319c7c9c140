"""Files of Keras 3: the ones that are rebuilt, and the ones that are refused before anything in them runs."""

import contextlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_keras3 import CLASSES, SHAPE, X, answers, head, settled, small

from tasks.contract.errors import ModelError
from tasks.contract.named import ONE
from tasks.formats.keras import files as format_keras
from tasks.formats.keras import limits as keras_limits
from tasks.formats.keras.brought_file import look
from tasks.zoo import ModelConfig, check_model


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture(scope="module")
def files(tmp_path_factory, keras):
    folder = tmp_path_factory.mktemp("keras3")
    model = settled(small())
    model.compile(keras.optimizers.Adam(), keras.losses.SparseCategoricalCrossentropy())
    paths = {}
    for kind in (".keras", ".h5"):
        paths[kind] = folder / f"model{kind}"
        model.save(paths[kind])
    return paths


@pytest.mark.parametrize("kind", [".keras", ".h5"])
def test_a_file_is_rebuilt_in_silence(files, kind, caplog, recwarn):
    file = look(files[kind], trust=False)
    assert (file.keras, file.input_shape, file.output_units, file.ends) == (3, SHAPE, 3, (("image",), ("out",)))
    model = format_keras.import_model(files[kind], trust=False)
    model = format_keras.fitted(model, {ONE: SHAPE}, [head()], "model", "model")
    assert not caplog.records
    assert not recwarn.list
    assert [layer.name for layer in model.layers] == ["image", "conv", "norm", "relu", "pool", "out"]
    np.testing.assert_allclose(answers(model, X)[0], answers(settled(small()), X)[0], rtol=1e-5)


@pytest.mark.parametrize("kind", [".keras", ".h5"])
@pytest.mark.parametrize(("shape", "output"), [((9, 9, 3), (3,)), (SHAPE, (4,))])
def test_a_file_that_does_not_fit_is_refused(files, kind, shape, output):
    with pytest.raises(ModelError, match=r"^student\.model: .*(the data's have|needs)"):
        check_model(ModelConfig(model=str(files[kind])), {ONE: shape}, [head(output)], field="student")


def test_a_file_is_looked_at_without_either_keras(files):
    import subprocess
    import sys

    program = (
        "import sys; from tasks.zoo import ModelConfig, check_model; from tasks.data.heads import Head\n"
        f"head = Head(problem='classification', output_shape={CLASSES})\n"
        f"check_model(ModelConfig(model={str(files['.keras'])!r}), {{'': {SHAPE}}}, [head])\n"
        "print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"


def test_a_sequential_is_rebuilt(tmp_path, keras):
    layers = keras.layers
    source = settled(keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3), layers.Softmax()]))
    source.save(tmp_path / "model.keras")
    file = look(tmp_path / "model.keras", trust=False)
    assert (file.input_shape, file.output_units) == (SHAPE, 3)
    model = format_keras.import_model(tmp_path / "model.keras", trust=False)
    np.testing.assert_allclose(answers(model, X)[0], answers(source, X)[0], rtol=1e-5)


def tampered(source: Path, place: Path, change=None, **parts: bytes) -> Path:
    """A `.keras` archive with another config or other parts."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(place, "w") as new:
        for name in old.namelist():
            content = parts.get(name.split(".")[0], old.read(name))
            if name == "config.json" and change:
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content)
    return place


def with_layer(number=1, config=None, **layer):
    def change(whole):
        layers = whole["config"]["layers"]
        layers[number] = {**layers[number], **layer}
        layers[number]["config"] = {**layers[number]["config"], **(config or {})}
        return whole

    return change


ATTACKS = {
    "a module to import": with_layer(module="os", class_name="system"),
    "a function in a module": with_layer(
        config={"activation": {"class_name": "function", "module": "os", "config": "abort"}}
    ),
    "a file from the net": with_layer(module="keras.utils", class_name="get_file"),
    "a layer that unpickles": with_layer(module="keras.layers", class_name="TorchModuleWrapper"),
    "a layer that opens a model": with_layer(module="keras.layers", class_name="TFSMLayer"),
    "hidden in an initializer": with_layer(
        config={
            "kernel_initializer": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/"}}
        }
    ),
    "a lambda": with_layer(class_name="Lambda"),
    "a vocabulary": with_layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_with_code_is_refused_before_it_is_opened(files, tmp_path, attack):
    path = tampered(files[".keras"], tmp_path / "model.keras", ATTACKS[attack])
    with pytest.raises(ModelError, match="trust: true"):
        look(path, trust=False)


def test_a_lambda_runs_only_when_trusted(tmp_path, monkeypatch, keras):
    canary = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    inputs = keras.Input(SHAPE)
    x = keras.layers.Lambda(
        lambda t: (open(__import__("os").environ["CANARY"], "w").close(), t * 2)[1], output_shape=SHAPE, name="code"
    )(inputs)
    source = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    path = tmp_path / "model.keras"
    source.save(path)
    canary.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"Lambda.*trust: true"):
        format_keras.import_model(path, trust=False)
    assert not canary.exists()
    model = format_keras.import_model(path, trust=True)
    assert canary.exists()
    np.testing.assert_allclose(answers(model, X)[0], answers(source, X)[0], rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        with_layer(config={"filters": 1 << 30}),
        with_layer(number=5, config={"units": 100_000_000}),
        with_layer(class_name="Conv2DTranspose", config={"strides": 1 << 15}),
    ],
)
def test_a_config_cannot_ask_for_more_than_the_file_holds(files, tmp_path, change):
    path = tampered(files[".keras"], tmp_path / "model.keras", change)
    with pytest.raises(ModelError, match=r"more weights than|too large for any memory"):
        format_keras.import_model(path, trust=False)


def test_what_a_file_holds_may_be_large(tmp_path, keras):
    layers = keras.layers
    source = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(2000), layers.Dense(3)])
    assert source.count_params() > 5 * keras_limits.SPARE_VALUES
    source.save(tmp_path / "model.keras")
    format_keras.import_model(tmp_path / "model.keras", trust=False)


def test_weights_of_another_model_are_refused(files, tmp_path, keras):
    other = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(7, 2), keras.layers.Dense(3)])
    other.save(tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras") as archive:
        weights = archive.read("model.weights.h5")
    path = tampered(files[".keras"], tmp_path / "model.keras", model=weights)
    with pytest.raises(ModelError, match="cannot open it"):
        format_keras.import_model(path, trust=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([".keras", ".h5"]),
    places=st.lists(st.floats(0, 0.999), min_size=1, max_size=20),
    byte=st.integers(0, 255),
    cut=st.floats(0.2, 1),
)
def test_a_damaged_file_gives_a_model_or_an_error_of_ours(files, tmp_path, kind, places, byte, cut):
    content = bytearray(files[kind].read_bytes())
    for place in places:
        content[int(place * len(content))] = byte
    path = tmp_path / f"damaged{kind}"
    path.write_bytes(content[: int(cut * len(content))])
    with contextlib.suppress(ModelError):
        format_keras.import_model(path, trust=False)
