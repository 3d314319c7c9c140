"""Names that are made never meet those that a user gave, and layers are still known by the names that they had."""

import numpy as np
import pytest
from small_models import settle_norms

from tasks.data import DataConfig, open_data
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.keras_graph.folding import fold, split
from tasks.keras_graph.names import signature_names
from tasks.keras_graph.rebuild import flat, free_names, kind
from tasks.prune import PruneConfig, prune
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import in_integers
from tasks.training.hints import _layer
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching
from tasks.training.weight_sparsity import sparsity_by_layer

X = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
STEPS = np.random.default_rng(1).normal(size=(48, 8, 3)).astype(np.float32)


def dense(*names):
    """Dense layers of these names in a row, each with a Relu."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    x = inputs = tf.keras.Input((6,), name="input")
    for name in names:
        x = tf.keras.layers.Dense(6, activation="relu", name=name)(x)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(3, name="out")(x))


def nested():
    """Two blocks whose layers have the same name once they are named by both."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    layers = tf.keras.layers

    def block(name, inner):
        start = tf.keras.Input((6,))
        return tf.keras.Model(start, layers.Dense(6, activation="relu", name=inner)(start), name=name)

    inputs = tf.keras.Input((6,), name="input")
    x = block("enc_block", "fc")(block("enc", "block_fc")(inputs))
    x = layers.Dense(6, activation="relu", name="enc_block_fc_2")(x)
    return tf.keras.Model(inputs, layers.Dense(3, name="out")(x))


def sequence():
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 3), name="input")
    x = layers.SeparableConv1D(4, 3, padding="causal", activation="relu", name="c")(inputs)
    for name in ("c_depthwise", "c_column", "c_before", "c_row", "c_activation"):
        x = layers.Dense(4, activation="relu", name=name)(x)
    return tf.keras.Model(inputs, layers.Dense(3, name="out")(layers.GlobalAveragePooling1D(name="mean")(x)))


MODELS = {
    "activations": (lambda: dense("hidden", "hidden_activation", "hidden_activation_2"), X),
    "ranges": (lambda: dense("a", "a_range", "a_activation_range", "input_range"), X),
    "wrappers": (lambda: dense("a", "quant_a", "prune_low_magnitude_a", "quant_a_range"), X),
    "nested": (nested, X),
    "convolutions": (sequence, STEPS),
}


def names(model):
    return [layer.name for layer in model.layers]


def test_the_wanted_name_is_kept_where_it_is_free():
    free = free_names(["a", "b_2"])
    assert [free(name) for name in ("b", "b", "b", "a", "a_2")] == ["b", "b_3", "b_4", "a_2", "a_2_2"]


@pytest.mark.parametrize("case", MODELS)
def test_models_whose_names_would_meet_are_taken_apart(case):
    build, x = MODELS[case]
    model = build()
    for again in (flat(model), fold(model), split(fold(model)), fake_quantized(model, x)):
        assert len(set(names(again))) == len(again.layers)
        near = 1e-5 if not any(kind(layer) == "QuantizeLayer" for layer in again.layers) else 0.08
        assert np.abs(again(x) - model(x)).max() < near * np.ptp(model(x))
    assert names(fake_quantized(model, x)) == names(fake_quantized(build(), x))


@pytest.mark.parametrize(
    ("target", "case"), [("onnxruntime", "wrappers"), ("onnxruntime", "nested"), ("litert", "convolutions")]
)
def test_and_become_files(case, target, tmp_path):
    build, x = MODELS[case]
    model = build()
    quantized = fake_quantized(model, x)
    keras.write(quantized, tmp_path)
    quantized = keras.load(tmp_path)
    FORMATS[target].write(quantized, tmp_path, "int8", classes=())
    assert np.abs(FORMATS[target].load(tmp_path, 1)(x) - model(x)).max() < 0.08 * np.ptp(model(x))
    assert FORMATS[target].audit(tmp_path, x[:1]).integer_share == 1


def test_layers_in_integers_and_in_float_go_by_the_names_that_they_had():
    quantized = fake_quantized(dense("a", "quant_a", "quant_quant_a"), X, float_layers=("quant_a",))
    assert in_integers(quantized) == ["a", "quant_quant_a", "out"]
    assert kind(quantized.get_layer("quant_a")) == "Dense"  # its own
    assert fake_quantized(dense("a", "quant_a"), X, bias_correction=True).get_layer("out_range") is not None


def test_layers_of_nested_models_keep_the_plain_name_where_it_is_free():
    assert names(flat(nested())) == ["input", "enc_block_fc", "enc_block_fc_3", "enc_block_fc_2", "out"]
    assert names(split(fold(dense("a", "a_activation"))))[:5] == [
        "input",
        "a",
        "a_activation_2",
        "a_activation",
        "a_activation_activation",
    ]


def test_hints_find_the_layer_that_is_meant_under_any_wrapper():
    model = dense("a", "quant_a")
    quantized = fake_quantized(model, X)
    assert _layer(quantized, "a", "field").layer.name == "a"
    assert _layer(quantized, "quant_a", "field").layer.name == "quant_a"
    assert _layer(model, "quant_a", "field") is model.get_layer("quant_a")


def test_pruning_and_what_is_said_of_it_go_by_the_names_that_layers_had(tmp_path):
    np.savez(tmp_path / "data.npz", x=X, y=np.arange(48) % 3)
    data = open_data(DataConfig(reader="npz", source=str(tmp_path / "data.npz")))
    model = dense("a", "prune_low_magnitude_a", "quant_a", "kernels")
    config = PruneConfig(method="magnitude", sparsity=0.5, fit=FitConfig(epochs=0))
    pruned = prune(model, data, config, teacher=None, teaching=Teaching(), seed=0, report=lambda *_: None)
    assert names(pruned) == names(model)
    shares = sparsity_by_layer(pruned)
    assert list(shares) == ["a", "prune_low_magnitude_a", "quant_a", "kernels", "out"]
    assert all(share == pytest.approx(0.5, abs=0.03) for share in shares.values())
    assert list(sparsity_by_layer(fake_quantized(pruned, X))) == list(shares)


def test_outputs_are_called_as_the_layers_that_they_come_from():
    import tensorflow as tf

    layers = tf.keras.layers
    inputs = tf.keras.Input((6,), name="input")
    x = layers.Dense(6, activation="relu", name="body")(inputs)
    model = settle_norms(
        tf.keras.Model(inputs, [layers.Dense(2, name="left")(x), layers.Dense(2, name="left_range")(x)])
    )
    expected = ["left", "left_range"]
    assert signature_names(model)[1] == signature_names(fake_quantized(model, X))[1] == expected
