"""From data as they lie to a version: masks beside images, and TFRecords of the web by group; as Keras answers."""

import functools
import http.server
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stores import forget

RANDOM = np.random.default_rng(5)
SHAPE = (8, 8, 3)
IMAGES = RANDOM.integers(0, 256, (60, *SHAPE), np.uint8)
MASKS = (IMAGES[..., 0] > 127).astype(np.uint8)
SERIES = RANDOM.normal(size=(240, 6, 2)).astype(np.float32)
KINDS = (SERIES.sum(axis=(1, 2)) > 0).astype(np.int64)


def masks(folder: Path) -> dict[str, Any]:
    for name, pixels in (("images", IMAGES), ("masks", MASKS)):
        (folder / name).mkdir(parents=True)
        for number, each in enumerate(pixels):
            Image.fromarray(each).save(folder / name / f"{number}.png")
    return {"reader": "folder", "source": str(folder), "test": 0.4}


def records(folder: Path) -> dict[str, Any]:
    import tensorflow as tf

    folder.mkdir()

    def feature(kind: str, value: Any) -> Any:
        lists = {"bytes_list": tf.train.BytesList, "int64_list": tf.train.Int64List}
        return tf.train.Feature(**{kind: lists[kind](value=[value])})

    for shard in range(3):
        with tf.io.TFRecordWriter(str(folder / f"part-{shard}.tfrecord"), "GZIP") as writer:
            for row in range(shard, len(SERIES), 3):
                features = {
                    "series": feature("bytes_list", SERIES[row].tobytes()),
                    "label": feature("int64_list", int(KINDS[row])),
                    "machine": feature("int64_list", row // 4),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    return {
        "reader": "tfrecord",
        "input": "series",
        "features": [{"name": "series", "type": "float32", "shape": [6, 2]}],
        "group": "machine",
        "test": 0.4,
    }


def network(kind: str) -> Any:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(2)
    layers, x = tf.keras.layers, tf.keras.Input(SHAPE if kind == "masks" else (6, 2))
    if kind == "masks":
        scaled = layers.Rescaling(1 / 255)(x)
        outputs = layers.Conv2D(2, 1, activation="softmax")(layers.Conv2D(8, 1, activation="relu")(scaled))
    else:
        outputs = layers.Dense(2, activation="softmax")(layers.Dense(16, activation="relu")(layers.Flatten()(x)))
    model = tf.keras.Model(x, outputs)
    model.compile(tf.keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = (IMAGES.astype(np.float32), MASKS) if kind == "masks" else (SERIES, KINDS)
    model.fit(*data, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """A state folder, and a server of it on the web."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copy(empty_store, folder / "mlflow.db")
    before = os.environ["SLIMLINE_HOME"]
    os.environ["SLIMLINE_HOME"] = str(folder)
    forget()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    os.environ["SLIMLINE_HOME"] = before
    forget()


@pytest.mark.parametrize("kind", ["masks", "records"])
def test_a_version_of_data_as_they_lie_answers_as_keras_does(home, kind):
    import mlflow

    from flows.compression import compress
    from flows.recipe_file import check_settings
    from tasks.data import open_data
    from tasks.store import tracking
    from tasks.versions.version import open_version

    folder, web = home
    data = {"masks": masks, "records": records}[kind](folder / kind)
    address = data.setdefault("source", f"{web}/{kind}/")
    model = network(kind)
    model.save(folder / f"{kind}.keras")
    made = check_settings(
        {
            "name": kind,
            "data": data,
            "teacher": {"model": str(folder / f"{kind}.keras"), "fit": {"epochs": 0}},
            "quantize": {"method": "none"},
            "targets": ["onnxruntime"],
            "validate": {"latency_rounds": 20, "latency_seconds": 1},
            "budget": {"max_accuracy_drop": 0.2},
        }
    )
    compress(made)
    tracking.client()
    version = open_version(f"models:/{kind}/1", tracking.download(f"models:/{kind}/1"))
    opened = open_data(made.data)
    x, y = opened.arrays("test")
    own = model.predict(x, verbose=0)
    (answers,) = mlflow.pyfunc.load_model(f"models:/{kind}/1").predict(x).values()
    np.testing.assert_allclose(answers, own, atol=1e-5)
    assert version.evidence.reference.accuracy.estimate == pytest.approx((own.argmax(axis=-1) == y).mean(), abs=1e-6)
    assert (own.argmax(axis=-1) == y).mean() > 0.9
    known = {image.tobytes(): mask for image, mask in zip(IMAGES.astype(np.float32), MASKS, strict=True)}
    known |= {series.tobytes(): kind for series, kind in zip(SERIES, KINDS, strict=True)}
    for example, target in zip(x, y, strict=True):
        np.testing.assert_array_equal(target, known[example.tobytes()])
    if kind == "records":
        machines = {series.tobytes(): row // 4 for row, series in enumerate(SERIES)}
        seen = [{machines[each.tobytes()] for each in opened.arrays(split)[0]} for split in opened.counts]
        assert sum(map(len, seen)) == len(set.union(*seen)) == 60
    runs = tracking.client().search_runs([each.experiment_id for each in tracking.client().search_experiments()])
    sources = {json.loads(used.dataset.source)["uri"] for run in runs for used in run.inputs.dataset_inputs}
    assert address in sources
    assert not [source for source in sources if "remote" in source], "nothing of the cache is kept"
    assert str(folder / "remote") not in (version.folder / "recipe.yaml").read_text()
