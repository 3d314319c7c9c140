"""Multiply-accumulates are those of the model, whatever a file folds into its batch, in each runtime's audit."""

import numpy as np
import pytest
from small_models import settle_norms

from tasks.formats import FORMATS


def dilated(la, x):
    for rate in (1, 2, 4):
        x = la.Conv1D(6, 3, dilation_rate=rate, padding="causal", name=f"rate_{rate}")(x)
    return x


# an example's shape, its layers, and multiply-accumulates
MODELS = {
    "dense on steps": ((8, 4), lambda la, x: la.Dense(5)(x), 8 * 4 * 5),
    "dilated": ((16, 4), dilated, 16 * (3 * 4 * 6 + 3 * 6 * 6 + 3 * 6 * 6)),
    "a step at a time": ((3, 6, 6, 2), lambda la, x: la.TimeDistributed(la.Conv2D(4, 3))(x), 3 * 16 * 9 * 2 * 4),
    "attention": (
        (8, 4),
        lambda la, x: la.MultiHeadAttention(2, 3)(x, x),
        3 * 8 * 4 * 6 + 2 * 2 * 8 * 8 * 3 + 8 * 6 * 4,
    ),
}


@pytest.mark.parametrize("target", ["onnxruntime", "litert"])
@pytest.mark.parametrize("name", MODELS)
def test_work_is_counted_for_all_that_is_folded_into_a_batch(name, target, tmp_path):
    import tensorflow as tf

    shape, layers, macs = MODELS[name]
    tf.keras.utils.set_random_seed(0)
    inputs = tf.keras.Input(shape, name="input")
    model = settle_norms(tf.keras.Model(inputs, layers(tf.keras.layers, inputs), name="work"))
    FORMATS[target].write(model, tmp_path, "float32", classes=())
    audit = FORMATS[target].audit(tmp_path, np.ones((1, *shape), np.float32))
    assert audit.macs == macs
    assert "not found" not in {layer.kernel for layer in audit.layers}
