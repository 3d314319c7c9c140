"""Choosing among real files of tiny models, and the rule by which it is done."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from integer_kernels import push_over
from made_evidence import evidence_of, made

from flows.budget import hold
from tasks.contract.budget import Budget
from tasks.contract.errors import BudgetNotKept
from tasks.convert import convert
from tasks.data import DataConfig, Dataset, open_data
from tasks.evidence.evidence import Tried, open_choice, write_choice
from tasks.formats import FORMATS
from tasks.measuring.config import ValidateConfig
from tasks.measuring.intervals import Interval
from tasks.quantization.fake_quantization import fake_quantized
from tasks.select import Candidate, best, choose

QUICK = ValidateConfig(latency_rounds=20, warmup_rounds=2, latency_seconds=2, throughput_batch=32)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return open_data(DataConfig(reader="digits", limit=600, test=0.25))


@pytest.fixture(scope="module")
def models(data):
    import tensorflow as tf

    def learned(width):
        tf.keras.utils.set_random_seed(width)
        layers = tf.keras.layers
        inputs = tf.keras.Input(data.input.shape, name="image")
        x = layers.Conv2D(width, 3, activation="relu", name="conv")(layers.Rescaling(1 / 16, name="scale")(inputs))
        x = layers.Dense(10, activation="softmax", name="out")(layers.Flatten(name="flat")(x))
        model = tf.keras.Model(inputs, x, name=f"width{width}")
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(*data.arrays("train"), epochs=8, batch_size=32, verbose=0)
        return model

    return learned(16), learned(6)


@pytest.fixture(scope="module")
def teacher_answers(models, data):
    """In Keras, to the validation split."""
    return models[0].predict(data.sample("validation")[0], verbose=0)


@pytest.fixture(scope="module")
def files(models, data, tmp_path_factory) -> dict[str, list[Candidate]]:
    teacher, student = models
    quantized = fake_quantized(student, data.sample("train", 64)[0])
    root = tmp_path_factory.mktemp("files")
    made = {}
    for target in ("onnxruntime", "litert"):
        made[target] = []
        for route, model, precision in (
            ("teacher", teacher, "float32"),
            ("student", student, "float32"),
            ("dynamic", student, "dynamic"),
            ("static", quantized, "int8"),
        ):
            folder = root / f"{route}-{target}"
            folder.mkdir()
            convert(model, target, precision, folder, data)
            made[target].append(Candidate(route, precision, folder))
    return made


def limited(**limits: float | bool) -> Budget:
    """A budget of these limits alone."""
    return Budget(**{"max_accuracy_drop": 1, "every_processor": False, **limits})


def test_every_way_is_measured_on_the_validation_split_and_one_is_taken(files, teacher_answers, data, tmp_path):
    rows = choose(files, teacher_answers, data, QUICK, budget=limited(every_processor=True), seed=0)
    assert [(row.target, row.route) for row in rows] == [
        (target, file.route) for target, tried in files.items() for file in tried
    ]
    for target in files:
        (taken,) = [row for row in rows if row.target == target and row.chosen]
        assert taken.route != "teacher", "there is a student"
    x, y = data.arrays("validation")
    for row, file in zip(rows, [file for tried in files.values() for file in tried], strict=True):
        answers = FORMATS[row.target].load(file.folder)(x).argmax(axis=1)
        slack = 0.03 if row.precision == "dynamic" else 1e-5  # a dynamic range is that of the batch, so answers are too
        assert row.accuracy.estimate == pytest.approx(np.mean(answers == y), abs=slack)
        assert row.size_bytes == (file.folder / FORMATS[row.target].FILE).stat().st_size
    shares = {row.route: row.integer_share for row in rows if row.target == "onnxruntime"}
    assert (shares["student"], shares["static"]) == (0, 1)
    write_choice(rows, tmp_path)
    assert open_choice(tmp_path) == rows


def test_float_files_do_not_keep_an_integer_share(files, teacher_answers, data):
    limits = limited(min_integer_share=0.99, every_processor=True)
    rows = choose({"onnxruntime": files["onnxruntime"]}, teacher_answers, data, QUICK, budget=limits, seed=0)
    assert {row.route: row.inside for row in rows} == {
        "teacher": False,
        "student": False,
        "dynamic": True,
        "static": True,
    }
    (taken,) = [row for row in rows if row.chosen]
    assert taken.inside


def test_a_choice_is_inside_the_whole_budget_of_the_first_target_and_what_counts_everywhere_of_the_others(
    files, teacher_answers, data
):
    sizes = {file.route: (file.folder / "model.onnx").stat().st_size for file in files["onnxruntime"]}
    limits = limited(max_size_bytes=sizes["static"], min_integer_share=0.99, max_latency_ms=1000)
    rows = choose(files, teacher_answers, data, QUICK, budget=limits, seed=0)
    inside = {target: {row.route for row in rows if row.target == target and row.inside} for target in files}
    assert inside["onnxruntime"] == {route for route, size in sizes.items() if size <= sizes["static"]} - {"student"}
    assert inside["litert"] == {"teacher", "student", "dynamic", "static"}, "these are the first target's limits"
    (student,) = [row for row in rows if (row.target, row.route) == ("onnxruntime", "student")]
    assert student.misses == {
        "max_size_bytes": pytest.approx(1 - sizes["static"] / sizes["student"]),
        "min_integer_share": 1.0,
    }


def test_where_nothing_is_inside_the_nearest_is_taken_and_its_limits_are_said(files, teacher_answers, data):
    limits = limited(min_size_ratio=1000, min_speedup=1e6)
    rows = choose({"onnxruntime": files["onnxruntime"]}, teacher_answers, data, QUICK, budget=limits, seed=0)
    assert not any(row.inside for row in rows)
    (taken,) = [row for row in rows if row.chosen]
    assert max(taken.misses.values()) == min(max(row.misses.values()) for row in rows if row.route != "teacher")
    assert taken.nearest == f"{taken.route} is the nearest, and misses budget.min_speedup by 100%, " + (
        f"budget.min_size_ratio by {taken.misses['min_size_ratio']:.0%}"
    )
    evidence = evidence_of(made(integer=False), made("compressed")).model_copy(update={"tried": rows})
    with pytest.raises(BudgetNotKept, match=r"none of the ways that were tried for onnxruntime was inside .*nearest"):
        hold(Budget(max_size_bytes=1), -1, evidence, lambda: SimpleNamespace(evidence="there"))


def test_a_file_that_can_saturate_is_outside_where_every_processor_counts(files, teacher_answers, data, tmp_path):
    teacher, *_, static = files["onnxruntime"]
    folder = tmp_path / "over"
    shutil.copytree(static.folder, folder)
    push_over(folder / "model.onnx", "out")
    candidates = {"onnxruntime": [teacher, static, Candidate("over", "int8", folder)]}
    for every, inside in ((True, {"static"}), (False, {"static", "over"})):
        limits = limited(min_integer_share=0.99, every_processor=every)
        rows = choose(candidates, teacher_answers, data, QUICK, budget=limits, seed=0)
        assert {row.route for row in rows if row.inside} == inside
        assert {row.route: row.everywhere for row in rows} == {"teacher": True, "static": True, "over": False}


def row(route: str, seconds: float, size: int, *, drop: float = 0.0, inside: bool = True) -> Tried:
    return Tried(
        route=route,
        target="onnxruntime",
        precision="float32",
        accuracy=Interval(low=0.9, estimate=0.95, high=0.97),
        drop=Interval(low=drop - 0.01, estimate=drop, high=drop + 0.01),
        size_bytes=size,
        latency_p50=seconds,
        speedup=Interval(low=1, estimate=1, high=1),
        integer_share=0,
        inside=inside,
        chosen=False,
    )


def times(*seconds: float, noise: float = 0.01) -> np.ndarray:
    draw = np.random.default_rng(0)
    return {name: second * draw.normal(1, noise, (20, 10)) for name, second in zip("abcdef", seconds, strict=False)}


def test_the_fastest_inside_the_budget_is_taken():
    rows = [row("a", 2e-3, 10), row("b", 1e-3, 30), row("c", 0.5e-3, 5, drop=0.5, inside=False)]
    assert best(rows, times(2e-3, 1e-3, 0.5e-3), 0.95, 0).route == "b"


def test_of_those_as_fast_the_smallest_is_taken():
    rows = [row("a", 1.0e-3, 30), row("b", 1.001e-3, 10), row("c", 2e-3, 5)]
    assert best(rows, times(1.0e-3, 1.001e-3, 2e-3), 0.95, 0).route == "b"


def test_where_none_keeps_the_budget_the_least_drop_is_taken():
    rows = [row("a", 1e-3, 10, drop=0.3, inside=False), row("b", 2e-3, 10, drop=0.1, inside=False)]
    assert best(rows, times(1e-3, 2e-3), 0.95, 0).route == "b"


def test_where_nothing_was_timed_integers_count():
    rows = [row("a", 1e-3, 10), row("b", 2e-3, 20).model_copy(update={"integer_share": 0.99})]
    assert best(rows, {}, 0.95, 0).route == "b"
