"""Ids that a file has no row for: named by the file, and refused by the server."""

import json

import httpx
import numpy as np
import pytest
import tritonclient.grpc
from serving_process import question, serving
from tritonclient.utils import InferenceServerException

from tasks.formats.onnx import files as onnx
from tasks.formats.onnx.lookups import unknown_ids
from tasks.versions.manifest import write_manifest


def places():
    """Three values: a city of 5, a street of 7, and a number of any size."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    i = tf.keras.Input((3,), name="input")
    city = layers.Embedding(5, 4, name="city")(i[:, 0])
    street = layers.Embedding(7, 2, name="street")(i[:, 1])
    x = layers.Dense(8, activation="relu", name="hidden")(layers.Concatenate(name="all")([city, street, i[:, 2:]]))
    x = layers.Dense(3, name="logits")(x)
    return tf.keras.Model(i, layers.Softmax(name="probabilities")(x), name="places")


def sentence():
    """Six words of nine, beside where they stand."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    layers = tf.keras.layers
    i = tf.keras.Input((6,), name="input")
    x = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(9, 4, name="words")(i))
    return tf.keras.Model(i, layers.Dense(3, activation="softmax", name="answer")(x), name="sentence")


GOOD = np.array([[4, 6, -99.5], [0, 0, 1e6]], np.float32)


@pytest.fixture(scope="module")
def models() -> dict:
    return {"places": places(), "sentence": sentence()}


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic"])
def test_each_table_s_own_rows_are_the_ids_that_it_knows(models, precision, tmp_path):
    onnx.write(models["places"], tmp_path, precision, classes=())
    first_unknown = unknown_ids(tmp_path / onnx.FILE)
    assert first_unknown(GOOD) == ""
    for place, value, message in (
        ((1, 0), 5, "example 1 has the id 5, and 'city' knows the ids 0 to 4"),
        ((0, 0), -1, "example 0 has the id -1, and 'city' knows the ids 0 to 4"),
        ((1, 1), 7, "example 1 has the id 7, and 'street' knows the ids 0 to 6"),
        ((1, 1), 1e30, "example 1 has the id "),
    ):
        bad = GOOD.copy()
        bad[place] = value
        assert first_unknown(bad).startswith(message)
    whole = GOOD.copy()
    whole[0, :2] = 4.9, 6.2  # Keras cuts off what is behind the point
    assert first_unknown(whole) == ""


def test_of_many_words_one_is_enough_and_the_first_is_named(models, tmp_path):
    onnx.write(models["sentence"], tmp_path, "float32", classes=())
    first_unknown = unknown_ids(tmp_path / onnx.FILE)
    x = np.full((4, 6), 8, np.float32)
    assert first_unknown(x) == ""
    x[2, 5], x[3, 0] = 9, -4
    assert first_unknown(x) == "example 2 has the id 9, and 'words' knows the ids 0 to 8"


def test_a_file_that_looks_nothing_up_has_no_check(tmp_path):
    import tensorflow as tf

    i = tf.keras.Input((3,), name="input")
    picked = tf.gather(i, [2, 0], axis=1)  # columns of the input, and no row of a table
    onnx.write(tf.keras.Model(i, tf.keras.layers.Dense(2, name="d")(picked)), tmp_path, "float32", classes=())
    assert unknown_ids(tmp_path / onnx.FILE) is None


def test_what_a_model_finds_itself_is_no_id_of_the_input(tmp_path):
    import tensorflow as tf

    i = tf.keras.Input((3,), name="input")
    chosen = tf.argmax(tf.keras.layers.Dense(4, name="choose")(i), axis=-1)
    x = tf.keras.layers.Embedding(4, 2, name="kinds")(chosen)
    onnx.write(tf.keras.Model(i, tf.keras.layers.Dense(2, name="d")(x)), tmp_path, "float32", classes=())
    assert unknown_ids(tmp_path / onnx.FILE) is None


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    onnx.write(models["places"], folder, "float32", classes=())
    np.savez(folder / "sample.npz", examples=GOOD, onnxruntime=onnx.load(folder)(GOOD))
    (folder / "labels.json").write_text(json.dumps(["a", "b", "c"]))
    write_manifest(folder, name="tiny", version=1)
    with serving(tmp_path_factory.mktemp("log"), ["tasks.serving", str(folder)]) as running:
        yield running


def test_the_server_answers_as_keras_does(server, models):
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", json=question(GOOD, "input"))
    assert answer.status_code == 200
    (output,) = answer.json()["outputs"]
    np.testing.assert_allclose(
        np.reshape(output["data"], output["shape"]), models["places"].predict(GOOD, verbose=0), atol=1e-5
    )


@pytest.mark.parametrize(("place", "value"), [((0, 0), -1), ((0, 0), 5), ((1, 1), 7), ((1, 1), -7)])
def test_the_server_refuses_an_id_that_the_model_does_not_know(server, place, value):
    bad = GOOD.copy()
    bad[place] = value
    answer = httpx.post(f"{server.url}/v2/models/tiny/infer", json=question(bad, "input"))
    assert answer.status_code == 400
    assert f"input: example {place[0]} has the id {value}, and '" in answer.json()["error"]
    client = tritonclient.grpc.InferenceServerClient(server.grpc)
    tensor = tritonclient.grpc.InferInput("input", [2, 3], "FP32")
    tensor.set_data_from_numpy(bad)
    with pytest.raises(InferenceServerException, match=f"INVALID_ARGUMENT.*has the id {value}"):
        client.infer("tiny", [tensor])
    client.close()
