"""What outputs mean where there are several in an example."""

import numpy as np
import pytest

from tasks.keras_graph.output_meaning import as_learned, meaning


def model(*layers):
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    return tf.keras.Sequential([tf.keras.Input((4, 3)), tf.keras.layers.Dense(3), *layers])


def test_a_softmax_over_another_axis_gives_no_classes_probabilities():
    import tensorflow as tf

    layers = tf.keras.layers
    assert meaning(model(layers.Softmax())) == "probabilities"
    assert meaning(model(layers.Softmax(axis=2))) == "probabilities"
    assert meaning(model(layers.Softmax(axis=1))) == "logits"
    assert meaning(model(layers.Softmax(), layers.Reshape((2, 2, 3)))) == "probabilities"
    assert meaning(model(layers.Softmax(), layers.Reshape((3, 4)))) == "logits"
    assert meaning(model(layers.Activation("sigmoid"))) == "shares"


@pytest.mark.parametrize("sigmoid", [True, False])
def test_labels_are_learned_as_shares_and_never_as_a_whole(sigmoid):
    import tensorflow as tf

    brought = model(*([tf.keras.layers.Activation("sigmoid")] if sigmoid else []))
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    answers = brought(x).numpy()
    learned = as_learned(brought, "multilabel")
    np.testing.assert_allclose(learned(x), answers if sigmoid else 1 / (1 + np.exp(-answers)), rtol=1e-5)
    assert (learned is brought) == sigmoid
    assert as_learned(brought, "regression") is brought
