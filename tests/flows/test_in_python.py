"""`from flows import Recipe, compress`: in a program with a Keras and arrays of its own."""

import contextlib
import inspect
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows import Recipe, compress
from tasks.contract.errors import DataError, ModelError, RecipeError
from tasks.data.in_memory import keep_arrays
from tasks.formats.keras.in_memory import keep_model

ROOT = Path(__file__).parents[2]
METHOD = 'quantize={"method": "post_training"}'
SAID = """
import json, os
import tensorflow as tf
assert "flows.compression" not in __import__("sys").modules
again = compress(recipe, model=model, data=(x, y))
kept = {name: os.environ.get(name) for name in ("TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES", "PREFECT_HOME")}
print(json.dumps([result.model_dump(), again.model_dump(), model.predict(x[:40], verbose=0).tolist(), kept]))
"""


def example() -> str:
    """The program in the docstring."""
    text = inspect.getdoc(compress).split("::\n\n", 1)[1].split("\nArgs:")[0]
    return textwrap.dedent(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("program")
    quick = f'{METHOD},\n    validate={{"latency_rounds": 20, "latency_seconds": 1}}'
    assert METHOD in example()
    (folder / "flows_of_water.py").write_text(example().replace(METHOD, quick) + SAID)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SLIMLINE_HOME": str(folder / "state")}
    for name in ("TF_USE_LEGACY_KERAS", "CUDA_VISIBLE_DEVICES", "PREFECT_HOME", "PREFECT_API_URL"):
        environment.pop(name, None)
    command = [sys.executable, "flows_of_water.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert "✓ register" in done.stderr, "it shows what goes on"
    return folder, *json.loads(done.stdout.splitlines()[-1])


def test_the_example_of_the_docstring_ends_with_a_version(made):
    _, result, *_ = made
    assert result["uri"] == "models:/digits-mlp/1"
    assert Path(result["evidence"]).is_file()
    assert {figures["precision"] for figures in result["figures"] if figures["shipped"]} == {"int8"}


def test_its_flow_runs_are_in_prefects_database_of_the_state_folder(made):
    """Prefect reads its settings once: imported too early, it starts a server of its own, elsewhere."""
    folder, *_ = made
    with contextlib.closing(sqlite3.connect(folder / "state" / "prefect" / "prefect.db")) as database:
        (names,) = zip(*database.execute("SELECT name FROM flow_run WHERE parent_task_run_id IS NULL"), strict=True)
    assert len(names) == 2
    assert all(name.startswith("digits-mlp") for name in names)


def test_the_same_model_and_arrays_are_made_once(made):
    folder, result, again, *_ = made
    expected = [name for name in result["runs"] if name not in ("bring-teacher", "validate", "register")]
    assert set(again["reused"]) >= set(expected), again["reused"]
    assert len(list((folder / "state" / "brought").glob("*.npz"))) == 1
    assert len(list((folder / "state" / "brought").rglob("model.keras"))) == 1


def test_the_model_is_taken_as_it_is(made):
    folder, _, _, predictions, _ = made
    from tasks.formats.keras.files import opened

    (file,) = (folder / "state" / "brought").rglob("model.keras")
    model, source = opened(file, trust=False)
    with np.load(next((folder / "state" / "brought").glob("*.npz"))) as arrays:
        x = arrays["x"][:40]
    assert type(source).__module__.startswith("keras.")
    np.testing.assert_allclose(model.predict(x, verbose=0), np.array(predictions), atol=1e-5)
    (recipe,) = (folder / "state" / "brought").glob("*.yaml")
    assert yaml.safe_load(recipe.read_text())["teacher"]["fit"]["epochs"] == 0


def test_the_programs_own_settings_stay(made):
    *_, kept = made
    assert kept == {"TF_USE_LEGACY_KERAS": None, "CUDA_VISIBLE_DEVICES": None, "PREFECT_HOME": None}


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def arrays() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(80, dtype=np.float32).reshape(20, 4), np.arange(20) % 2


def test_what_is_wrong_is_the_class_that_it_is(state):
    x, y = arrays()
    x[3, 2] = np.nan
    with pytest.raises(DataError) as refused:
        compress(Recipe(name="a", teacher={"model": "mlp"}), data=(x, y))
    assert refused.value.exit_code == 2
    assert "NaN" in str(refused.value)


def test_what_is_named_twice_is_refused(state):
    with pytest.raises(RecipeError, match=r"data\.reader: 'digits': leave it out"):
        compress(Recipe(name="a", data={"reader": "digits"}), data=arrays())
    with pytest.raises(RecipeError, match=r"teacher\.model: 'mlp': leave it out"):
        compress(Recipe(name="a", teacher={"model": "mlp"}), model=object())


def test_several_targets_need_heads_and_several_inputs_are_named(state):
    x, y = arrays()
    with pytest.raises(RecipeError, match=r"data\.heads: 'none'.*\{name: kind, problem: …\}, \{name: box"):
        compress(Recipe(name="a"), data=({"image": x, "table": x}, {"kind": y, "box": x}))
    kept = keep_arrays(({"image": x, "table": x}, {"kind": y, "box": x}), state)
    assert (kept.settings["input"], kept.targets) == ("image, table", ("kind", "box"))


@pytest.mark.parametrize("data", [np.zeros(3), [1, 2, 3], (1, 2, 3), (np.array([{}, {}]), np.zeros(2))])
def test_what_are_no_arrays_is_refused(state, data):
    with pytest.raises(DataError, match=r"give \(x, y\)"):
        keep_arrays(data, state)


def test_arrays_are_kept_by_their_content(state):
    x, y = arrays()
    same = {keep_arrays(each, state).file for each in ((x, y), (x.copy(), y.copy()), (x[:, ::-1][:, ::-1], [*y]))}
    assert len(same) == 1
    same_bytes = ((x.reshape(20, 2, 2), y), (x.view("i4"), y))
    others = ((x, 1 - y), (x, None), ((x, y), (x, y)), (x.astype("f8"), y), *same_bytes)
    files = {keep_arrays(each, state).file for each in others}
    assert len(files | same) == 7
    with np.load(keep_arrays((x, y), state).file) as kept:
        assert (kept["x"] == x).all()
        assert (kept["y"] == y).all()


def test_a_model_is_kept_by_its_weights(state):
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2, name="out")], name="kept")
    first = keep_model(model, state)
    assert keep_model(model, state) == first
    model.set_weights([weight + 1 for weight in model.get_weights()])
    second = keep_model(model, state)
    assert second != first
    loaded = tf.keras.models.load_model(second, compile=False)
    x = arrays()[0]
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_model_that_only_its_program_knows_is_refused(state):
    import tensorflow as tf

    class Own(tf.keras.Model):
        def call(self, x):
            return x

    for model in (object(), Own()):
        with pytest.raises(ModelError, match="model: "):
            keep_model(model, state)
