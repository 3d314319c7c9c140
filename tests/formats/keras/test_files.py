import contextlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.contract.artifact import digest_folder
from tasks.contract.errors import ModelError
from tasks.contract.named import ONE
from tasks.data.heads import Head
from tasks.formats.keras import files as keras
from tasks.formats.keras import limits as keras_limits
from tasks.formats.keras.brought_file import look
from tasks.keras_graph.folding import fold
from tasks.zoo import ModelConfig, check_model

SHAPE, CLASSES = (6, 6, 1), (3,)
X = np.random.default_rng(0).normal(size=(5, *SHAPE)).astype(np.float32)


def head(shape=CLASSES, problem="classification", name=ONE):
    return Head(name=name, problem=problem, output_shape=shape)


def functional(activation="softmax", prefix="", canary=None):
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(1)
    tf.keras.backend.reset_uids()  # the operations' names are Keras' own
    i = tf.keras.Input(SHAPE, name=f"{prefix}input")
    x = layers.Conv2D(4, 3, name=f"{prefix}conv")(i)
    x = layers.BatchNormalization(name=f"{prefix}norm")(x)
    x = tf.nn.relu(x) + 1.0
    if canary is not None:
        x = layers.Lambda(lambda t, file=str(canary): (open(file, "w").close(), t)[1], name="code")(x)
    x = layers.Flatten(name=f"{prefix}flat")(x)
    return tf.keras.Model(i, layers.Dense(3, activation=activation, name=f"{prefix}out")(x), name="theirs")


def sequential():
    import tensorflow as tf

    dense = tf.keras.layers.Dense(3)
    return tf.keras.Sequential([tf.keras.Input(SHAPE), tf.keras.layers.Flatten(), dense, tf.keras.layers.Softmax()])


def save(model, place: Path) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(place)
    return place


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    model = functional()
    return {kind: save(model, folder / f"model{kind}") for kind in (".h5", ".keras", "")}


KINDS = [".h5", ".keras", ""]


def rebuilt(path: Path, *, trust: bool = False):
    model = keras.import_model(path, trust=trust)
    return keras.fitted(model, {ONE: SHAPE}, [head()], str(path), "model")


def test_the_same_model_gives_the_same_file(tmp_path):
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keras.write(functional(), tmp_path / name)
        digests.add(digest_folder(tmp_path / name))
    assert len(digests) == 1
    loaded = keras.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded(X), functional()(X))
    (tmp_path / "c").mkdir()
    keras.write(loaded, tmp_path / "c")
    assert digest_folder(tmp_path / "c") in digests


def test_a_model_that_was_trained_is_written_without_its_optimizer(tmp_path):
    model = functional()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, np.arange(5) % 3, verbose=0)
    keras.write(model, tmp_path)
    with h5py.File(tmp_path / keras.FILE) as file:
        assert set(file) == {"model_weights"}
        assert "training_config" not in file.attrs


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_file_is_imported_in_silence(files, kind, caplog, recwarn):
    model = rebuilt(files[kind])
    assert not caplog.records
    assert not recwarn.list
    np.testing.assert_allclose(model(X), functional()(X), rtol=1e-5)
    assert type(model).__name__ == "Functional"


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequential_becomes_functional(tmp_path, kind):
    model = sequential()
    path = save(model, tmp_path / f"model{kind}")
    np.testing.assert_allclose(rebuilt(path)(X), model(X), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_stay_what_they_are(tmp_path, kind):
    model = rebuilt(save(functional(activation=None), tmp_path / f"model{kind}"))
    np.testing.assert_allclose(model(X), functional(activation=None)(X), rtol=1e-5)


def test_free_axes_take_the_datas_shape(tmp_path):
    import tensorflow as tf

    i = tf.keras.Input((None, None, 1))
    x = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Conv2D(3, 3)(i))
    model = tf.keras.Model(i, tf.keras.layers.Softmax()(x))
    fixed = rebuilt(save(model, tmp_path / "model.h5"))
    assert fixed.input_shape == (None, *SHAPE)
    np.testing.assert_allclose(fixed(X), model(X), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("shape", "output"), [((8, 8, 1), (3,)), (SHAPE, (4,))])
def test_a_file_that_does_not_fit_is_refused(files, kind, shape, output):
    with pytest.raises(ModelError, match=r"the data's have|needs") as caught:
        check_model(ModelConfig(model=str(files[kind])), {ONE: shape}, [head(output)], field="student")
    assert str(caught.value).startswith("student.model: ")


@pytest.mark.parametrize("kind", [".h5", ".keras"])
def test_looking_at_a_file_needs_no_tensorflow(files, kind):
    import subprocess
    import sys

    program = (
        "import sys; from tasks.zoo import ModelConfig, check_model; from tasks.data.heads import Head\n"
        f"head = Head(problem='classification', output_shape={CLASSES})\n"
        f"check_model(ModelConfig(model={str(files[kind])!r}), {{'': {SHAPE}}}, [head])\n"
        "print('tensorflow' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "False"


def test_the_shapes_are_read_from_the_config(files, tmp_path):
    for kind in (".h5", ".keras"):
        assert look(files[kind], trust=False).input_shape == SHAPE
        assert look(files[kind], trust=False).output_units == 3
        file = look(save(sequential(), tmp_path / f"s{kind}"), trust=False)
        assert (file.input_shape, file.output_units) == (SHAPE, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_code_in_a_file_runs_only_when_trusted(tmp_path, kind):
    canary = tmp_path / "canary"
    path = save(functional(canary=canary), tmp_path / f"model{kind}")
    canary.unlink(missing_ok=True)
    for attempt in (
        lambda: rebuilt(path),
        lambda: check_model(ModelConfig(model=str(path)), {ONE: SHAPE}, [head()]),
    ):
        with pytest.raises(ModelError, match=r"Lambda.*trust: true"):
            attempt()
        assert not canary.exists()
    model = rebuilt(path, trust=True)
    model(X)
    assert canary.exists()


def tampered(source: Path, place: Path, change, extra=()) -> Path:
    """A `.keras` archive with another config."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(place, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content)
        for name, content in extra:
            new.writestr(name, content)
    return place


def with_layer(**layer):
    def change(config):
        config["config"]["layers"][1] = {**config["config"]["layers"][1], **layer}
        return config

    return change


ATTACKS = {
    "a module to import": with_layer(module="os", class_name="system"),
    "a module below keras": with_layer(module="keras.utils", class_name="get_file"),
    "a function": with_layer(class_name="function", module="subprocess", config="run"),
    "a dotted name": with_layer(class_name="lambda_layer.Lambda", module="tf_keras.src.layers.core"),
    "a lambda": with_layer(class_name="Lambda"),
    "a file operation": with_layer(class_name="TFOpLambda", config={"name": "w", "function": "io.write_file"}),
    "a lookup in a file": with_layer(class_name="StringLookup", config={"vocabulary": "/etc/passwd"}),
    "a lambda in a lambda": with_layer(config={"deep": [{"config": {"class_name": "__lambda__"}}]}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_is_not_keras_own_is_refused(files, tmp_path, attack):
    path = tampered(files[".keras"], tmp_path / "model.keras", ATTACKS[attack])
    with pytest.raises(ModelError, match="trust: true"):
        look(path, trust=False)


def test_a_config_without_end_is_refused(files, tmp_path):
    deep: list = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ModelError, match="nested"):
        look(tampered(files[".keras"], tmp_path / "m.keras", with_layer(config=deep)), trust=False)


@pytest.mark.parametrize("name", ["../outside", "/absolute", "assets/../../outside", "C:\\outside"])
def test_an_archive_stays_in_its_folder(files, tmp_path, name):
    path = tampered(files[".keras"], tmp_path / "model.keras", lambda config: config, [(name, b"here")])
    with pytest.raises(ModelError, match="leave the folder"):
        look(path, trust=True)


def test_a_file_that_only_says_that_keras_3_wrote_it_is_refused(files, tmp_path):
    with zipfile.ZipFile(files[".keras"]) as old, zipfile.ZipFile(tmp_path / "three.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, b'{"keras_version": "3.9.0"}' if name == "metadata.json" else old.read(name))
    shutil.copy(files[".h5"], tmp_path / "three.h5")
    with h5py.File(tmp_path / "three.h5", "a") as file:
        file.attrs["keras_version"] = "3.9.0"
    for name in ("three.keras", "three.h5"):
        with pytest.raises(ModelError, match=r"Keras 3|damaged"):
            look(tmp_path / name, trust=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_model_is_imported_without_its_optimizer(tmp_path, kind):
    import tensorflow as tf

    model = sequential()
    model.compile(tf.keras.optimizers.Adam(), tf.keras.losses.SparseCategoricalCrossentropy())
    np.testing.assert_allclose(rebuilt(save(model, tmp_path / f"model{kind}"))(X), model(X), rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_normalization_keeps_what_it_learnt(tmp_path, kind):
    import tensorflow as tf

    norm = tf.keras.layers.Normalization(name="norm")
    norm.adapt(3 * X + 2)
    i = tf.keras.Input((None, None, 1))
    model = tf.keras.Model(i, tf.keras.layers.Dense(3)(tf.keras.layers.GlobalMaxPooling2D()(norm(i))))
    imported = keras.import_model(save(model, tmp_path / f"model{kind}"), trust=False)
    np.testing.assert_allclose(imported(X), model(X), rtol=1e-5)
    fixed = keras.fitted(imported, {ONE: SHAPE}, [head(problem="regression")], "theirs", "model")
    np.testing.assert_allclose(fixed(X), model(X), rtol=1e-5)
    np.testing.assert_allclose(fold(fixed)(X), model(X), rtol=1e-5)


@pytest.mark.parametrize("config", [{"filters": 1 << 30}, {"class_name": "ZeroPadding2D", "padding": 1 << 20}])
def test_a_config_cannot_ask_for_more_than_the_file_holds(files, tmp_path, config):
    name = config.pop("class_name", "Conv2D")

    def change(whole):
        layer = whole["config"]["layers"][1]
        layer["class_name"] = name
        layer["config"] = {**layer["config"], **config} if name == "Conv2D" else {"name": "conv", **config}
        return whole

    path = tampered(files[".keras"], tmp_path / "model.keras", change)
    with pytest.raises(ModelError, match=r"more weights than|too large for any memory"):
        keras.import_model(path, trust=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_holds_may_be_large(tmp_path, kind):
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential([tf.keras.Input(SHAPE), layers.Flatten(), layers.Dense(9000), layers.Dense(3)])
    assert model.count_params() > 5 * keras_limits.SPARE_VALUES
    np.testing.assert_allclose(rebuilt(save(model, tmp_path / f"model{kind}"))(X), model(X), rtol=1e-4, atol=1e-5)


def test_a_small_archive_cannot_hold_gigabytes(files, tmp_path):
    path = tampered(files[".keras"], tmp_path / "model.keras", lambda config: config)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(80 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match=r"announces \d+,.* bytes in a file of"):
        look(path, trust=False)


def test_weights_alone_are_no_model(tmp_path):
    functional().save_weights(tmp_path / "weights.h5")
    with pytest.raises(ModelError, match="save the whole model"):
        look(tmp_path / "weights.h5", trust=False)


@pytest.mark.parametrize("kind", ["soft", "external", "elsewhere", "huge", "loop"])
def test_hdf5_gives_what_is_in_it_and_no_more(files, tmp_path, kind):
    path = tmp_path / "model.h5"
    shutil.copy(files[".h5"], path)
    with h5py.File(path, "a") as file:
        if kind == "soft":
            file["model_weights/more"] = h5py.SoftLink("/model_weights")
        elif kind == "external":
            file["model_weights/more"] = h5py.ExternalLink(str(files[".h5"]), "/model_weights")
        elif kind == "elsewhere":
            file.create_dataset("model_weights/more", (4,), "u1", external=[("/etc/hostname", 0, 4)])
        elif kind == "huge":
            file.create_dataset("model_weights/more", (1 << 40,), "f4", chunks=(1024,))
        else:
            file["model_weights/more"] = file["model_weights"]  # a hard link: a group inside itself
    if kind == "loop":
        assert look(path, trust=False).output_units == 3
    else:
        with pytest.raises(ModelError, match=r"points elsewhere|in another file|announces"):
            look(path, trust=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from([".h5", ".keras"]), share=st.floats(0, 0.999))
def test_a_file_that_was_cut_off_is_damaged(files, tmp_path, kind, share):
    content = files[kind].read_bytes()
    path = tmp_path / f"cut{kind}"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError):
        keras.import_model(path, trust=False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([".h5", ".keras"]),
    places=st.lists(st.floats(0, 0.999), min_size=1, max_size=20),
    byte=st.integers(0, 255),
)
def test_a_file_with_flipped_bytes_is_a_model_or_an_error_of_ours(files, tmp_path, kind, places, byte):
    content = bytearray(files[kind].read_bytes())
    for place in places:
        content[int(place * len(content))] = byte
    path = tmp_path / f"flipped{kind}"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        keras.import_model(path, trust=False)


def test_a_savedmodel_without_layers_says_how_to_save_it(tmp_path):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), tmp_path / "module")
    with pytest.raises(ModelError, match=r"model\.save\(\)"):
        look(tmp_path / "module", trust=False)
    (tmp_path / "module" / "saved_model.pb").write_bytes(os.urandom(200))
    with pytest.raises(ModelError, match=r"damaged|no graph|no Keras"):
        look(tmp_path / "module", trust=False)
    with pytest.raises(ModelError, match="no SavedModel"):
        look(tmp_path, trust=False)


def test_text_is_no_model(tmp_path):
    (tmp_path / "model.h5").write_text("weights")
    with pytest.raises(ModelError, match="no Keras model file"):
        look(tmp_path / "model.h5", trust=False)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "model.keras").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match=r"no \.keras archive"):
        look(tmp_path / "model.keras", trust=False)
