"""Random data, problems and models: answers as Keras gives them in every float and int8 file, or a clear refusal."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.contract.errors import SlimlineError

SOME = settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(SOME, max_examples=100)
ROWS = 90
METRICS = {
    "classification": (
        "balanced_accuracy",
        "f1_macro",
        "roc_auc",
        "average_precision",
        "mean_iou",
        "log_loss",
        "top_2",
    ),
    "multilabel": ("f1_micro", "roc_auc", "average_precision"),
    "regression": ("mae", "rmse", "smape", "quantile_0.9"),
    "reconstruction": ("mae", "rmse"),
}


@st.composite
def data_sets(draw: Any) -> dict[str, Any]:
    """Inputs of some shape and type, targets of some problem, and what a model of them ends in."""
    seed = draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    shape = draw(st.sampled_from([(5,), (6, 3), (8, 8, 1), (8, 8, 3), (1,)]))
    dtype = draw(st.sampled_from(["float32", "float64", "uint8", "int16", "int64", "bool", "float16"]))
    x = random.normal(100, 40, (ROWS, *shape)).clip(0, 255)
    x = (x > 100) if dtype == "bool" else x.astype(dtype)
    problem = draw(st.sampled_from(["classification", "multilabel", "regression", "reconstruction"]))
    places = draw(st.sampled_from([(), shape[:-1]])) if problem in ("classification", "regression") else ()
    count = draw(st.integers(1, 4))
    form = draw(st.sampled_from(["numbers", "one-hot", "names", "from 3", "an axis", "floats"]))
    end = draw(st.sampled_from(["softmax", "sigmoid", None]))
    if problem == "classification":
        y = np.stack([random.permutation(np.arange(ROWS) % max(count, 2)) for _ in range(int(np.prod(places)) or 1)], 1)
        y = y.reshape(ROWS, *places)
        y = {
            "numbers": y,
            "one-hot": np.eye(max(count, 2))[y],
            "names": np.array([f"c{n}" for n in range(5)])[y],
            "from 3": y + 3,
            "an axis": y[..., None],
            "floats": y.astype(np.float32),
        }[form]
    elif problem == "multilabel":
        y = random.integers(0, 2, (ROWS, count))
    else:
        y = random.normal(3, 2, (ROWS, *places, count))
    units = {"classification": 1 if end == "sigmoid" and count <= 2 else max(count, 2), "reconstruction": shape[-1]}
    metric = draw(st.sampled_from(["auto", *METRICS[problem], "mae", "f1_macro"]))  # and some of other problems
    reader = draw(st.sampled_from(["npz", "function"]))
    return {
        "x": x,
        "y": None if problem == "reconstruction" else y,
        "problem": problem,
        "places": shape[:-1] if problem == "reconstruction" else places,
        "units": units.get(problem, count),
        "end": end if problem in ("classification", "multilabel") else None,
        "metric": metric,
        "reader": reader,
    }


def model_of(made: dict[str, Any]) -> Any:
    """A small model with an answer at each place, or one for all; its input is scaled as people do."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(0)
    shape = made["x"].shape[1:]
    inputs = tf.keras.Input(shape)
    h = layers.Rescaling(1 / 128, -1)(inputs)
    rank = len(shape)
    if rank == 3:
        h = layers.Conv2D(6, 3, padding="same", activation="relu")(h)
    elif rank == 2:
        h = layers.Conv1D(6, 3, padding="same", activation="relu")(h)
    if not made["places"] and rank > 1:
        h = layers.Flatten()(h)
    h = layers.Dense(8, activation="relu")(h)
    return tf.keras.Model(inputs, layers.Dense(made["units"], activation=made["end"])(h))


def check_one(made: dict[str, Any], folder: Path) -> str:
    """What came of it: `right`, or the refusal."""
    import tensorflow as tf

    from flows.check import check, try_models
    from flows.recipe_file import check_settings
    from tasks.data import open_data
    from tasks.formats import FORMATS
    from tasks.zoo import bring_model

    model = model_of(made)
    model.save(folder / "model.keras")
    arrays = {"x": made["x"]} | ({} if made["y"] is None else {"y": made["y"]})
    np.savez(folder / "data.npz", **arrays)
    (folder / f"give_{folder.name}.py").write_text(
        "import numpy as np\ndef data():\n"
        f"    kept = np.load({str(folder / 'data.npz')!r})\n    return kept['x'], kept.get('y')\n"
    )
    source = str(folder / "data.npz") if made["reader"] == "npz" else f"give_{folder.name}:data"
    try:
        recipe = check_settings(
            {
                "name": "random",
                "data": {"reader": made["reader"], "source": source, "problem": made["problem"], "test": 0.3},
                "teacher": {"model": str(folder / "model.keras"), "fit": {"epochs": 0}, "floor": -1},
                "quantize": {"method": "post_training"},
                "targets": ["onnxruntime", "litert"],
                "validate": {"metric": made["metric"]},
                "budget": {"max_drop": 1.0},
            }
        )
        data = check(recipe)
        try_models(recipe, data)
    except SlimlineError as refusal:
        return str(refusal)
    x, _ = open_data(recipe.data).sample("test", 20)
    expected = model.predict(x, verbose=0)
    brought = bring_model(recipe.teacher, data, "teacher").model
    for target in ("onnxruntime", "litert"):
        place = folder / target
        place.mkdir()
        FORMATS[target].write(brought, place, "float32", classes=data.classes)
        np.testing.assert_allclose(
            FORMATS[target].load(place)(x), expected, atol=2e-4 * max(np.abs(expected).max(), 1e-3), err_msg=target
        )
    tf.keras.backend.clear_session()
    return "right"


def run(made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    folder = Path(tempfile.mkdtemp(prefix="drawn_"))
    try:
        monkeypatch.chdir(folder)
        return check_one(made, folder)
    finally:
        monkeypatch.undo()
        shutil.rmtree(folder, ignore_errors=True)


def test_some_are_right_or_refused(monkeypatch):
    assert "right" in ended(SOME, monkeypatch)


@pytest.mark.slow
def test_a_hundred_are_right_or_refused(monkeypatch):
    ends = ended(MANY, monkeypatch)
    right = sum(end == "right" for end in ends)
    assert right > len(ends) / 3, "\n".join(sorted(set(ends) - {"right"}))


def ended(how_many: settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What came of each of so many."""
    ends: list[str] = []

    @how_many
    @given(made=data_sets())
    def each(made: dict[str, Any]) -> None:
        ends.append(run(made, monkeypatch))

    each()
    return ends
