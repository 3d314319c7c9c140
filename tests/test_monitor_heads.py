"""A version with two inputs and two outputs on new data: each output decays by itself, each input drifts by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measured_files import QUICK, file
from named_ends import SHAPES, examples

from tasks.contract.errors import ConversionError, DataError
from tasks.contract.named import field, packed
from tasks.data import DataConfig, describe, open_data
from tasks.data.new import NewData, NewDataConfig, open_new
from tasks.drift.limits import MonitorConfig
from tasks.drift.of_heads import answers_like, targets_like
from tasks.drift.profile import input_distributions, open_profile, write_profile
from tasks.evidence.monitoring import Monitoring, as_markdown
from tasks.keras_graph.asked import asked
from tasks.monitor import figures, monitor
from tasks.validate import validate
from tasks.versions.version import OpenVersion

LIMITS = MonitorConfig(latency_rounds=20, max_slowdown=100, max_decay=0.05)
HEADS = ({"name": "kind"}, {"name": "price", "problem": "regression"})


def arrays(model: Any, count: int, seed: int) -> dict[str, np.ndarray]:
    """Examples, and what the model says to them with a price that is a little off."""
    x = examples("photo table", count, seed)
    answers = asked(model, x, 64)
    off = np.random.default_rng(seed).normal(0, 0.05 * field(answers, "price").std(axis=0), (count, 2))
    kind, price = field(answers, "kind").argmax(axis=1), field(answers, "price") + off
    return {"photo": field(x, "photo"), "table": field(x, "table"), "kind": kind, "price": price.astype(np.float32)}


@pytest.fixture(scope="module")
def model() -> Any:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    photo, table = (layers.Input(SHAPES[name], name=name) for name in ("photo", "table"))
    light = layers.GlobalAveragePooling2D(name="light")(layers.Rescaling(1 / 255, name="scale")(photo))
    kind = layers.Dense(3, "softmax", name="kind")(table)
    price = layers.Dense(2, name="price")(layers.Concatenate(name="both")([light, table]))
    return tf.keras.Model([photo, table], [kind, price], name="several")


@pytest.fixture(scope="module")
def version(model: Any, tmp_path_factory: pytest.TempPathFactory) -> OpenVersion:
    """What register lays out, as far as monitoring reads it."""
    root = tmp_path_factory.mktemp("several")
    np.savez(root / "d.npz", **arrays(model, 900, 1))
    data = open_data(DataConfig(reader="npz", source=str(root / "d.npz"), input="photo, table", heads=HEADS, test=0.4))
    answered = {}
    files = [file(role, "onnxruntime", "float32", model, data, root) for role in ("teacher", "compressed")]
    evidence = validate(files, data, QUICK, seed=0, on_answers=lambda of, x, own: answered.update({of.role: (x, own)}))
    kept = {
        "inputs": input_distributions(data),
        "targets": targets_like(data.heads, data.targets["train"]),
        "predictions": answers_like(data.heads, *answered["compressed"]),
        "scores": evidence.served().scores,
    }
    shown = {kind: {name: each.model_dump() for name, each in of.items()} for kind, of in kept.items()}
    write_profile({**describe(data), **shown}, files[1].folder)
    return OpenVersion("models:/several/1", files[1].folder, evidence)


def measured(version: OpenVersion, folder: Path, values: dict[str, np.ndarray], *, labels: bool = True) -> Monitoring:
    np.savez(folder / "new.npz", **values)
    profile = open_profile(version.folder)
    recipe = DataConfig(reader="npz", input="photo, table", heads=HEADS)
    config = NewDataConfig(source=str(folder / "new.npz")).beside(recipe)
    new = open_new(config, labels=labels, inputs=profile.each_input, heads=profile.each_head, limit=5000)
    return monitor(version, new, LIMITS, seed=0)


def test_the_like_of_training_is_healthy_and_every_output_has_its_figures(version, model, tmp_path: Path) -> None:
    report = measured(version, tmp_path, arrays(model, 400, 2))
    assert report.reasons == ()
    assert list(report.heads) == ["kind", "price"]
    kind, price = report.heads.values()
    assert (kind.problem, kind.score, price.problem, price.score) == ("classification", "accuracy", "regression", "r2")
    assert (report.score, report.accuracy, report.decay) == ("accuracy", kind.accuracy, kind.decay)
    assert kind.accuracy.estimate == 1
    assert price.accuracy.estimate == pytest.approx(1 - 0.05**2, abs=1e-3)
    assert set(price.decays) == {"target_0", "target_1"}
    assert {drift.name.split("/")[0] for drift in report.inputs} == {"photo", "table"}
    assert {drift.name for drift in report.targets} == {"kind/label", "price/target_0", "price/target_1"}
    assert {drift.name for drift in report.predictions} == {
        *("kind/answer", "kind/sureness", "price/answer_0", "price/answer_1"),
    }
    kept = figures(report)
    assert kept["decay/price"] == price.decay.estimate
    assert kept["decay/price/target_1"] == price.decays["target_1"].estimate
    assert (kept["decay"], kept["accuracy"]) == (kept["decay/kind"], kept["kind/accuracy"])
    assert kept["price/r2"] == price.accuracy.estimate
    assert Monitoring.model_validate_json(report.model_dump_json()) == report
    page = as_markdown(report)
    assert "kind: accuracy 1.0000, +0.0000 worse" in page
    assert "price: r2 0.99" in page


def test_one_output_s_decay_is_its_own(version, model, tmp_path: Path) -> None:
    values = arrays(model, 400, 2)
    swapped = values["price"].copy()
    swapped[::2, 1] = values["price"][::2, 1][::-1]  # as they were distributed, beside wrong examples
    report = measured(version, tmp_path, values | {"price": swapped})
    assert report.decay.estimate == 0
    assert [reason.split(": ")[1].split(" lies")[0] for reason in report.reasons] == [
        "the score of price",
        "the score of price/target_1",
    ]


def test_one_input_s_drift_is_its_own(version, model, tmp_path: Path) -> None:
    values = arrays(model, 400, 2)
    report = measured(version, tmp_path, values | {"photo": values["photo"] * 0.4})
    drifted = {drift.name for drift in report.inputs if drift.drifted}
    assert "photo/mean" in drifted
    assert not any(name.startswith("table/") for name in drifted)
    assert any("input/photo/mean has moved by" in reason for reason in report.reasons)


def test_without_labels_no_output_has_a_score(version, model, tmp_path: Path) -> None:
    values = {name: each for name, each in arrays(model, 400, 2).items() if name in ("photo", "table")}
    report = measured(version, tmp_path, values, labels=False)
    assert [(head.accuracy, head.decay, head.decays) for head in report.heads.values()] == [(None, None, {})] * 2
    assert report.targets == ()
    assert as_markdown(report).count("not measured: the new data have no labels") == 2


def test_an_input_that_is_missing_is_named(version, model, tmp_path: Path) -> None:
    values = arrays(model, 400, 2)
    with pytest.raises(DataError, match=r"data.input: 'table'.*it has kind, photo, price"):
        measured(version, tmp_path, {name: each for name, each in values.items() if name != "table"})


def test_answers_of_other_outputs_are_refused(version, model, tmp_path: Path) -> None:
    x = packed({name: each for name, each in arrays(model, 200, 2).items() if name in ("photo", "table")})
    profile = open_profile(version.folder)
    renamed = profile.model_dump(mode="json")
    renamed["heads"][1]["name"] = "cost"
    folder = tmp_path / "renamed"
    folder.mkdir()
    (folder / "model.onnx").write_bytes((version.folder / "model.onnx").read_bytes())
    write_profile(renamed, folder)
    with pytest.raises(ConversionError, match="gives kind, price, not kind, cost"):
        monitor(OpenVersion(version.uri, folder, version.evidence), NewData(x, None, len(x)), LIMITS, seed=0)
