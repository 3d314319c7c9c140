"""Files with lookups: numbers are looked up in files of either Keras, and strings in front of the model."""

import numpy as np
import pytest

from tasks.contract.errors import ModelError
from tasks.formats.keras import files as keras2

X = np.array([[2, 4, 9], [7, 6, 0]])
TEXTS = np.array([["a b"], ["c d"], ["b x"]])


def libraries():
    import keras
    import tensorflow as tf

    return {2: tf.keras, 3: keras}


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("mode", ["int", "multi_hot"])
def test_numbers_are_looked_up_without_trust(version, learned, mode, tmp_path):
    keras = libraries()[version]
    layers = keras.layers
    lookup = layers.IntegerLookup(vocabulary=None if learned else [2, 4, 6], output_mode=mode)
    if learned:
        lookup.adapt(np.array([2, 4, 4, 6]))
    inputs = keras.Input((3,), dtype="int64")
    x = lookup(inputs)
    x = layers.Flatten()(layers.Embedding(9, 4)(x)) if mode == "int" else layers.Dense(3)(x)
    source = keras.Model(inputs, x)
    source.save(tmp_path / "model.keras")
    model = keras2.import_model(tmp_path / "model.keras", trust=False)
    np.testing.assert_allclose(model(X).numpy(), np.asarray(source(X)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("version", [2, 3])
def test_strings_are_refused_with_a_way_out_that_works(version, trust, tmp_path):
    import tensorflow as tf

    keras = libraries()[version]
    layers = keras.layers
    vectors = layers.TextVectorization(output_sequence_length=4, name="vectors")
    vectors.adapt(np.array(["a b", "b c d"]))
    inputs = keras.Input((1,), dtype="string")
    source = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.Embedding(9, 4)(vectors(inputs)))))
    source.save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match=r"'vectors' \(TextVectorization\) takes strings.*bring what stands behind it"):
        keras2.import_model(tmp_path / "model.keras", trust=trust)
    names = {"keras": keras, "model": source}
    behind = eval("keras.Model(model.get_layer('vectors').output, model.output)", names)
    before = eval("keras.Model(model.input, model.get_layer('vectors').output)", names)
    behind.save(tmp_path / "behind.keras")
    model = keras2.import_model(tmp_path / "behind.keras", trust=False)
    texts = tf.constant(TEXTS)
    np.testing.assert_allclose(model(np.asarray(before(texts))).numpy(), np.asarray(source(texts)), rtol=1e-6)
