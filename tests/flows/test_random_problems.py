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

SOME = settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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


@st.composite
def several_ends(draw: Any) -> dict[str, Any]:
    """Two or three inputs of any shape and type, and two or three outputs, named in any order, some of them wrongly."""
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    inputs, heads = {}, {}
    for name in draw(st.permutations(["scene", "facts", "size"]))[: draw(st.integers(1, 3))]:
        shape = draw(st.sampled_from([(5,), (6, 3), (8, 8, 1), (1,), ()]))
        dtype = draw(st.sampled_from(["float32", "uint8", "int64", "bool"]))
        values = random.normal(100, 40, (ROWS, *shape)).clip(0, 255)
        inputs[name] = (values > 100) if dtype == "bool" else values.astype(dtype)
    for name in draw(st.permutations(["kind", "box", "tags"]))[: draw(st.integers(2, 3))]:
        count = draw(st.integers(2, 4))
        problem = {"kind": "classification", "box": "regression", "tags": "multilabel"}[name]
        y, end, units = {
            "kind": (random.permutation(np.arange(ROWS) % count), "softmax", count),
            "box": (random.normal(300, 90, (ROWS, count)), None, count),
            "tags": (random.integers(0, 2, (ROWS, count)), "sigmoid", count),
        }[name]
        called = draw(st.sampled_from([name] * 12 + ["what"]))  # as the model calls it, mostly
        heads[name] = {"problem": problem, "y": y, "end": end, "units": units, "called": called}
    return {"inputs": inputs, "heads": heads, "reader": draw(st.sampled_from(["npz", "function"]))}


def model_of_several(made: dict[str, Any]) -> Any:
    """Every input flat and side by side, and each output of all of it."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.utils.set_random_seed(0)
    shapes = {name: values.shape[1:] or (1,) for name, values in made["inputs"].items()}
    inputs = {name: tf.keras.Input(shape, name=name) for name, shape in shapes.items()}
    flat = [layers.Flatten()(layers.Rescaling(1 / 128, -1)(each)) for each in inputs.values()]
    h = layers.Dense(8, activation="relu")(layers.Concatenate()(flat) if len(flat) > 1 else flat[0])
    outputs = [
        layers.Dense(head["units"], activation=head["end"], name=head["called"] if head["called"] == name else "what")(
            h
        )
        for name, head in made["heads"].items()
    ]
    return tf.keras.Model(inputs, outputs)


def check_several(made: dict[str, Any], folder: Path) -> str:
    """What came of it: `right`, or the refusal."""
    from flows.check import check, try_models
    from flows.recipe_file import check_settings
    from tasks.contract.named import fields
    from tasks.data import open_data
    from tasks.formats import FORMATS
    from tasks.zoo import bring_model

    if len({head["called"] for head in made["heads"].values()}) < len(made["heads"]):
        return "two are called alike"
    model = model_of_several(made)
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", **made["inputs"], **{name: head["y"] for name, head in made["heads"].items()})
    (folder / f"give_{folder.name}.py").write_text(
        "import numpy as np\ndef data():\n"
        f"    kept = np.load({str(folder / 'data.npz')!r})\n"
        f"    return {{name: kept[name] for name in {list(made['inputs'])!r}}}, "
        f"{{name: kept[name] for name in {list(made['heads'])!r}}}\n"
    )
    where = {"source": str(folder / "data.npz"), "input": ", ".join(made["inputs"])}
    source = where if made["reader"] == "npz" else {"source": f"give_{folder.name}:data"}
    heads = [{"name": name, "problem": head["problem"]} for name, head in made["heads"].items()]
    try:
        recipe = check_settings(
            {
                "name": "random",
                "data": {"reader": made["reader"], **source, "heads": heads, "test": 0.3},
                "teacher": {"model": str(folder / "model.keras"), "fit": {"epochs": 0}, "floor": -1},
                "quantize": {"method": "post_training"},
                "targets": ["onnxruntime", "litert"],
            }
        )
        data = check(recipe)
        try_models(recipe, data)
    except SlimlineError as refusal:
        return str(refusal)
    x, _ = open_data(recipe.data).sample("test", 20)
    taken = {name or next(iter(made["inputs"])): values for name, values in fields(x).items()}
    expected = dict(zip(made["heads"], model.predict(taken, verbose=0), strict=True))
    brought = bring_model(recipe.teacher, data, "teacher").model
    for target in ("onnxruntime", "litert"):
        place = folder / target
        place.mkdir()
        FORMATS[target].write(brought, place, "float32", classes=())
        answers = fields(FORMATS[target].load(place)(x))
        assert answers.keys() == expected.keys()
        for name, right in expected.items():
            most = 2e-4 * max(np.abs(right).max(), 1e-3)
            np.testing.assert_allclose(answers[name], right, atol=most, err_msg=f"{target} {name}")
    return "right"


def run(check: Any, made: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    folder = Path(tempfile.mkdtemp(prefix="drawn_"))
    try:
        monkeypatch.chdir(folder)
        return check(made, folder)
    finally:
        monkeypatch.undo()
        shutil.rmtree(folder, ignore_errors=True)


KINDS = {"one of each": (data_sets, check_one), "several ends": (several_ends, check_several)}


@pytest.mark.parametrize("kind", KINDS)
def test_some_are_right_or_refused(kind, monkeypatch):
    assert "right" in ended(kind, SOME, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_are_right_or_refused(kind, monkeypatch):
    ends = ended(kind, MANY, monkeypatch)
    right = sum(end == "right" for end in ends)
    assert right > len(ends) / 3, "\n".join(sorted(set(ends) - {"right"}))


def ended(kind: str, how_many: settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What came of each of so many."""
    ends: list[str] = []
    drawn, check = KINDS[kind]

    @how_many
    @given(made=drawn())
    def each(made: dict[str, Any]) -> None:
        ends.append(run(check, made, monkeypatch))

    each()
    return ends
