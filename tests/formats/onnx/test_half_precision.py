"""Half precision and whole numbers: float16 counts by twos from 2,048 on, and an id must not become another."""

import numpy as np
import pytest

from tasks.formats import FORMATS

ROWS = 6000


def embedded(layers, ids):
    return layers.Flatten()(layers.Embedding(ROWS, 4)(ids))


def clipped(layers, ids):
    import tensorflow as tf

    return embedded(layers, tf.clip_by_value(ids, 0.0, ROWS - 1.0))


def one_hot(layers, ids):
    import tensorflow as tf

    return layers.Flatten()(tf.one_hot(tf.cast(ids, tf.int32), ROWS))


def masked(layers, ids):
    return layers.LSTM(3)(layers.Embedding(ROWS, 4, mask_zero=True)(ids))


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
@pytest.mark.parametrize("build", [embedded, clipped, one_hot, masked])
def test_ids_stay_whole_in_half_precision(build, target, tmp_path):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input((5,))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(build(tf.keras.layers, inputs)))
    x = np.random.default_rng(0).integers(1, ROWS, (64, 5)).astype(np.float32)
    x[:, 0] = np.arange(2049, 2049 + 2 * 64, 2)  # those that float16 does not have
    FORMATS[target].write(model, tmp_path, "float16", classes=())
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(FORMATS[target].load(tmp_path)(x), expected, rtol=0, atol=2e-3 * np.ptp(expected))


def test_kernels_are_halved(tmp_path):
    """What computes with ids does not keep the rest from it."""
    import onnx
    import tensorflow as tf

    inputs = tf.keras.Input((5,))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(embedded(tf.keras.layers, inputs)))
    FORMATS["onnxruntime"].write(model, tmp_path, "float16", classes=())
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 2 and tensor.dims[0] > 4} == {
        onnx.TensorProto.FLOAT16
    }
