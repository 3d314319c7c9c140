import numpy as np
import pytest
from small_models import settle_norms
from zoo_ends import ends_for

from tasks.contract.errors import ModelError
from tasks.data import DataConfig, open_data
from tasks.data.heads import Head
from tasks.formats import FORMATS
from tasks.zoo import ARCHITECTURES, ModelConfig, ModelEnds, build_model, check_model, ends_of
from tasks.zoo.ends import InputEnd, OutputEnd

IMAGE = ModelEnds.one((8, 8, 1), (3,), "classification")


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(reader="digits", limit=120))


@pytest.fixture
def table(tmp_path):
    draws = np.random.default_rng(0)
    x = draws.normal((100, -3), (20, 0.1), (200, 2)).astype(np.float32)
    y = np.stack([1000 + x[:, 0], 5 * x[:, 1]], axis=1).astype(np.float32)
    np.savez(tmp_path / "table.npz", x=x, y=y)
    return open_data(DataConfig(reader="npz", source=str(tmp_path / "table.npz"), problem="regression", target="y"))


@pytest.mark.parametrize(
    ("name", "ends", "parameters"),
    [
        ("resnet8", ModelEnds.one((32, 32, 3), (10,), "classification"), 78_666),
        ("resnet6", ModelEnds.one((32, 32, 3), (10,), "classification"), 98_394),
        ("ds_cnn", ModelEnds.one((49, 10, 1), (12,), "classification"), 24_908),
        ("mobilenet", ModelEnds.one((96, 96, 3), (2,), "classification"), 221_794),
        ("autoencoder", ModelEnds.one((640,), (640,), "reconstruction"), 269_992),
    ],
)
def test_the_references_are_rebuilt_to_the_parameter(name, ends, parameters):
    assert ARCHITECTURES[name].build(ends, 1.0).count_params() == parameters


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_half_the_width_is_less_than_half_the_weights(name):
    whole, half = (ARCHITECTURES[name].build(ends_for(name), width).count_params() for width in (1.0, 0.5))
    assert 0.2 < half / whole < 0.75


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_names_do_not_depend_on_what_was_built_before(name):
    first, second = (ARCHITECTURES[name].build(ends_for(name), 0.25) for _ in range(2))
    assert first.get_config() == second.get_config()
    assert first.layers[0].name == "input"


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet8", "resnet6", "ds_cnn", "mobilenet", "mobilenet_v2"])
def test_a_classification_ends_in_probabilities(name):
    ends = ends_for(name)
    model = ARCHITECTURES[name].build(ends, 0.25)
    out = model(np.random.default_rng(1).normal(size=(4, *ends.inputs[0].shape)).astype(np.float32)).numpy()
    assert out.shape == (4, 3)
    np.testing.assert_allclose(out.sum(axis=1), 1, rtol=1e-5)
    assert model.layers[-1].name == "probabilities"


def test_mobilenet_v2_is_that_of_keras():
    """All of its weights in ours, whose convolutions have biases beside their norms, give its answers."""
    import tensorflow as tf

    shape = (64, 64, 3)
    theirs = settle_norms(tf.keras.applications.MobileNetV2(shape, weights=None, classes=5))
    ours = ARCHITECTURES["mobilenet_v2"].build(ModelEnds.one(shape, (5,), "classification"), 1.0)

    def layered(model):
        return [layer for layer in model.layers if layer.weights]

    assert len(layered(ours)) == len(layered(theirs))
    for one, other in zip(layered(ours), layered(theirs), strict=True):
        biases = [np.zeros(each.shape) for each in one.weights[len(other.weights) :]]
        if "BatchNorm" in type(one).__name__:
            one.epsilon = other.epsilon
        one.set_weights([*other.get_weights(), *biases])
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    expected = theirs(x).numpy()
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(ours(x).numpy(), expected, atol=1e-5)


def test_efficientnet_lite_has_the_weights_of_lite0():
    """4,652,008 that are trained; ours has biases beside its norms too."""
    model = ARCHITECTURES["efficientnet_lite"].build(ModelEnds.one((224, 224, 3), (1000,), "classification"), 1.0)
    biases = sum(layer.bias.shape[0] for layer in model.layers if layer.name.endswith("_conv"))
    assert sum(np.prod(each.shape) for each in model.trainable_weights) - biases == 4_652_008


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite", "tcn", "lstm", "transformer"])
def test_depth_multiplies_blocks(name):
    build, ends = ARCHITECTURES[name].build, ends_for(name)
    once, twice = (build(ends, 0.25, depth) for depth in (1.0, 2.0))

    def blocks(model):
        return {layer.name.partition("_")[0] for layer in model.layers if layer.name.startswith(("block", "lstm"))}

    stay = 2 if name == "efficientnet_lite" else 0  # its first and its last stage stand as they are
    assert len(blocks(twice)) == 2 * len(blocks(once)) - stay
    assert ModelConfig(model=name, depth=2).fingerprint() != ModelConfig(model=name).fingerprint()


def test_what_has_no_blocks_that_repeat_is_always_as_deep():
    head = Head(problem="classification", output_shape=(3,))
    with pytest.raises(ModelError, match=r"student.depth: 2.*`cnn` is always as deep; of others: mobilenet_v2, "):
        check_model(ModelConfig(model="cnn", depth=2), {"": (8, 8, 1)}, [head], "student")


@pytest.mark.parametrize("name", ["tcn", "lstm", "transformer"])
@pytest.mark.parametrize("kind", ["sequence", "words"])
def test_sequences_and_words_are_taken_and_their_files_answer_as_they_do(name, kind, tmp_path):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)  # what is drawn decides how far apart the answers are
    draw = np.random.default_rng(0)
    ends = ends_for(name)
    if kind == "words":
        ends = ModelEnds((InputEnd((12,), ids=30),), ends.outputs)
        x = (draw.integers(1, 30, (8, 12)) * (np.arange(12) < np.arange(5, 13)[:, None])).astype(np.float32)
    else:
        x = draw.normal(size=(8, 12, 4)).astype(np.float32)
    model = ARCHITECTURES[name].build(ends, 0.5)
    expected = model(x).numpy()
    assert np.ptp(expected, axis=0).max() > 1e-3
    for target in ("onnxruntime", "litert"):
        (tmp_path / target).mkdir()
        FORMATS[target].write(model, tmp_path / target, "float32", classes=())
        np.testing.assert_allclose(FORMATS[target].load(tmp_path / target)(x), expected, atol=1e-5)


def test_what_a_tcn_answers_comes_from_its_last_step_and_from_all_before_it():
    model = ARCHITECTURES["tcn"].build(ModelEnds.one((31, 1), (2,), "regression"), 1.0)
    x = np.random.default_rng(0).normal(size=(1, 31, 1)).astype(np.float32)
    before = model(x).numpy()
    for step in (0, 15, 30):
        changed = x.copy()
        changed[0, step] += 1
        assert np.abs(model(changed).numpy() - before).max() > 0, step
    early = ARCHITECTURES["tcn"].build(ModelEnds.one((80, 1), (2,), "regression"), 1.0)
    x = np.random.default_rng(0).normal(size=(1, 80, 1)).astype(np.float32)
    before = early(x).numpy()
    x[0, :10] += 1  # two convolutions of three in each of four blocks see 1 + 2 * 2 * (1 + 2 + 4 + 8) steps
    assert np.array_equal(early(x).numpy(), before)


def test_an_lstm_does_not_count_steps_behind_a_text_s_end():
    ends = ModelEnds((InputEnd((6,), ids=30),), (OutputEnd((3,), "classification"),))
    model = ARCHITECTURES["lstm"].build(ends, 0.5)
    ids = np.array([[4, 9, 0, 0, 0, 0]])
    state = model.get_layer("lstm1")(model.get_layer("embedding")(ids[:, :2]))
    expected = model.get_layer("probabilities")(model.get_layer("logits")(state))
    np.testing.assert_allclose(model(ids).numpy(), expected.numpy(), atol=1e-6)


def test_words_are_of_a_text_s_column_alone(table):
    with pytest.raises(ModelError, match=r"teacher.model.*data.table.texts names.*bring a model with an Embedding"):
        build_model(ModelConfig(model="words"), table, seed=0, field="teacher")
    images = {"": (8, 8, 1)}
    head = Head(problem="classification", output_shape=(3,))
    with pytest.raises(ModelError, match=r"takes the words of a table's column of texts.*\(8, 8, 1\); `mlp` takes any"):
        check_model(ModelConfig(model="words"), images, [head], "student")
    with pytest.raises(
        ModelError, match=r"takes sequences of shape \(steps, values\), or the words.*\(8, 8, 1\); `mlp`"
    ):
        check_model(ModelConfig(model="tcn"), images, [head], "student")


def test_raw_values_are_scaled_inside_the_model(digits):
    ends = ends_of(digits)
    model = ARCHITECTURES["cnn"].build(ends, 0.25)
    x, _ = digits.arrays("train")
    scaled = x * ends.inputs[0].scale[0] + ends.inputs[0].offset[0]
    assert scaled.min() == 0
    assert scaled.max() == 1
    np.testing.assert_allclose(model.get_layer("preprocessing")(x), scaled, atol=1e-6)


def test_each_value_of_a_table_is_standardized_by_itself(table):
    model = build_model(ModelConfig(model="mlp"), table, seed=0)
    x, _ = table.arrays("train")
    scaled = model.get_layer("preprocessing")(x).numpy()
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-3)


def test_values_far_from_0_are_centred_before_they_are_scaled():
    """Of a year times a scale float32 has no fourth digit, and each runtime rounds it in its own way."""
    import tensorflow as tf

    scale, offset = (1 / 0.3, 1.0), (-2024 / 0.3, 0.0)
    ends = ModelEnds((InputEnd((2,), scale, offset),), (OutputEnd((3,), "classification"),))
    model = ARCHITECTURES["mlp"].build(ends, 0.25)
    x = np.random.default_rng(0).uniform((2023.5, -1), (2024.5, 1), (200, 2)).astype(np.float32)
    scaled = tf.keras.Model(model.input, model.get_layer("preprocessing").output)(x).numpy()
    apart = scaled - (x.astype(np.float64) * scale + offset)
    assert np.ptp(apart, axis=0).max() < 2e-6


def test_a_regression_gives_raw_units_from_the_start(table):
    model = build_model(ModelConfig(model="mlp"), table, seed=0)
    x, y = table.arrays("train")
    before = model(x).numpy()
    np.testing.assert_allclose(before.mean(axis=0), y.mean(axis=0), atol=2 * y.std(axis=0).max())


def test_a_reconstruction_gives_the_inputs_shape(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (60, 4, 4, 1)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x=x)
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "images.npz"), problem="reconstruction"))
    model = build_model(ModelConfig(model="autoencoder", width=0.1), data, seed=0)
    assert model.output_shape == (None, 4, 4, 1)
    assert abs(float(np.mean(model(x.astype(np.float32)))) - x.mean()) < 10


def test_the_same_seed_gives_the_same_weights(digits):
    config = ModelConfig(model="cnn", width=0.25)
    one, same, other = (build_model(config, digits, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("model", "shape", "output", "problem", "says"),
    [
        (
            "resnet9",
            (8, 8, 1),
            (10,),
            "classification",
            "mobilenet, mobilenet_v2, efficientnet_lite, unet, autoencoder",
        ),
        ("cnn", (8,), (10,), "classification", "`mlp` takes any"),
        ("cnn", (2, 8, 1), (10,), "classification", "at least 4x4"),
        ("cnn", (8, 8, 1), (8, 8, 1), "reconstruction", "these are: unet, autoencoder"),
        ("autoencoder", (8, 8, 1), (10,), "classification", "these are: cnn, mlp"),
        ("nowhere.h5", (8, 8, 1), (10,), "classification", "nor a file that is there"),
        ("no.such.module:build", (8, 8, 1), (10,), "classification", "no module no.such.module"),
    ],
)
def test_a_model_that_cannot_be_is_refused_by_name(model, shape, output, problem, says):
    with pytest.raises(ModelError, match=r"teacher\.model") as caught:
        check_model(
            ModelConfig(model=model), {"": shape}, [Head(problem=problem, output_shape=output)], field="teacher"
        )
    assert says in str(caught.value)
    assert model in str(caught.value)


MODULE = """
import tensorflow as tf

def build(input_shape, output_shape):
    i = tf.keras.Input(input_shape)
    return tf.keras.Model(i, tf.keras.layers.Dense(output_shape[0])(tf.keras.layers.Flatten()(i)))

def fixed():
    return tf.keras.Sequential([tf.keras.Input((5,)), tf.keras.layers.Dense(10)])

def wrong():
    return "a model"

def broken():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    (tmp_path / "theirs_zoo.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "theirs_zoo.py"


def test_a_function_builds_the_model(functions, digits):
    config = ModelConfig(model="theirs_zoo:build")
    check_model(config, digits.input_shapes, digits.heads)
    first, second = (build_model(config, digits, seed=3) for _ in range(2))
    assert first.output_shape == (None, 10)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("fixed", "takes examples of shape (5,); the data's have (8, 8, 1)"),
        ("wrong", "not a Keras 2 model"),
        ("broken", "no weights here"),
        ("absent", "AttributeError"),
    ],
)
def test_a_function_that_builds_no_fitting_model_is_refused(functions, digits, name, says):
    with pytest.raises(ModelError) as caught:
        check_model(ModelConfig(model=f"theirs_zoo:{name}"), digits.input_shapes, digits.heads)
    assert says in str(caught.value)


def test_a_fingerprint_is_of_content_not_of_place(functions, tmp_path):
    zoo = {ModelConfig(model="cnn", width=width, trust=trust).fingerprint() for width in (1, 2) for trust in (0, 1)}
    assert len(zoo) == 2
    before = ModelConfig(model="theirs_zoo:build").fingerprint()
    functions.write_text(MODULE + "\n# changed\n")
    assert ModelConfig(model="theirs_zoo:build").fingerprint() != before
    for place in ("a.h5", "b.h5"):
        (tmp_path / place).write_bytes(b"the same")
    assert len({ModelConfig(model=str(tmp_path / place)).fingerprint() for place in ("a.h5", "b.h5")}) == 1
    (tmp_path / "b.h5").write_bytes(b"not the same")
    assert len({ModelConfig(model=str(tmp_path / place)).fingerprint() for place in ("a.h5", "b.h5")}) == 2


def test_knowing_the_zoo_needs_no_tensorflow():
    import subprocess
    import sys

    program = (
        "import sys, tasks.zoo, tasks.training.loop, tasks.training.losses; "
        "print('tensorflow' in sys.modules, 'h5py' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.split() == ["False", "False"]
