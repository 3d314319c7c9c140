"""Evidence of real, tiny models: trained in a second, written by the real formats, run by the real runtimes."""

import numpy as np
import pytest
from measured_files import QUICK, file, learned

from tasks.contract.errors import ConversionError, SlimlineError
from tasks.data import DataConfig, Dataset, open_data
from tasks.formats import FORMATS
from tasks.quantization.fake_quantization import fake_quantized
from tasks.validate import MeasuredFile, validate

TARGETS = ("onnxruntime", "litert", "savedmodel")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return open_data(DataConfig(reader="digits", limit=600, test=0.25))


@pytest.fixture(scope="module")
def models(data):
    teacher = learned(data, 16, 12, "teacher")
    student = learned(data, 6, 12, "student")
    kernel, bias = student.get_layer("logits").get_weights()
    kernel[np.abs(kernel) < np.median(np.abs(kernel))] = 0
    student.get_layer("logits").set_weights([kernel, bias])
    compressed = fake_quantized(student, data.sample("train", 64)[0])
    return {"teacher": teacher, "student": student, "compressed": compressed}


@pytest.fixture(scope="module")
def files(models, data, tmp_path_factory):
    root = tmp_path_factory.mktemp("files")
    return [
        file(role, target, "int8" if role == "compressed" else "float32", models[role], data, root)
        for role in ("compressed", "student", "teacher")
        for target in TARGETS
    ]


@pytest.fixture(scope="module")
def evidence(files, data):
    return validate(files, data, QUICK, seed=0)


def test_files_stand_by_target_and_role(evidence, data):
    assert [(one.target, one.role) for one in evidence.files] == [
        (target, role) for target in TARGETS for role in ("teacher", "student", "compressed")
    ]
    assert evidence.score == "accuracy"
    assert evidence.examples == evidence.examples_held == data.counts["test"]
    assert evidence.data == data.digest
    assert [one.shipped for one in evidence.files] == [False, False, True] * 3
    assert evidence.teacher("litert") is evidence.files[3]


def test_accuracy_is_that_of_the_model(evidence, models, data):
    x, y = data.arrays("test")
    for one in evidence.files:
        if one.role != "compressed":
            right = models[one.role].predict(x, verbose=0).argmax(axis=1) == y
            assert one.accuracy.estimate == pytest.approx(right.mean(), abs=1e-5)
            assert one.parity.agreement == 1
        assert one.accuracy.low < one.accuracy.estimate < one.accuracy.high or one.accuracy.high == 1
        assert one.parity.max_absolute < (1e-4 if one.precision == "float32" else 0.5)
        assert sum(map(sum, one.confusion)) == len(y)
        assert sum(one.confusion[label][label] for label in range(10)) == round(one.accuracy.estimate * len(y))


def test_drops_are_against_the_teacher_in_pairs(evidence):
    for one in evidence.files:
        gap = evidence.reference.accuracy.estimate - one.accuracy.estimate
        assert one.drop.estimate == pytest.approx(gap, abs=1e-5)
        assert (one.lost - one.gained) / evidence.examples == pytest.approx(gap, abs=1e-5)
        if one.role == "teacher":
            assert one.drop.estimate == 0, "it answers as its Keras model"
            assert (one.speedup.low, one.speedup.high) == (1, 1)
        assert one.drop.low < one.drop.estimate < one.drop.high


def test_integers_really_run(evidence):
    share = {(one.target, one.role): one.integer_share for one in evidence.files}
    assert share["onnxruntime", "compressed"] > 0.99
    assert share["litert", "compressed"] > 0.99
    assert share["savedmodel", "compressed"] == 0
    assert all(value == 0 for (_, role), value in share.items() if role != "compressed")


def test_sizes_and_parameters(evidence, files, models):
    by_name = {(one.target, one.role): one for one in evidence.files}
    for one in files:
        measured = by_name[one.target, one.role]
        single = FORMATS[one.target].FILE
        on_disk = [one.folder / single] if single else [part for part in one.folder.rglob("*") if part.is_file()]
        assert measured.size_bytes == sum(part.stat().st_size for part in on_disk)
        assert 0 < measured.gzip_bytes < measured.size_bytes * 1.1
    teacher, student, compressed = (by_name["onnxruntime", role] for role in ("teacher", "student", "compressed"))
    assert teacher.parameters == models["teacher"].count_params()
    assert student.parameters == models["student"].count_params()
    zeros = sum(int((weight == 0).sum()) for weight in models["student"].get_weights())
    assert student.nonzeros == student.parameters - zeros
    assert zeros > 500
    assert compressed.parameters == student.parameters, "ranges are no parameters"
    assert compressed.nonzeros == student.nonzeros
    assert teacher.macs == 6 * 6 * 9 * 16 + 6 * 6 * 16 * 10


def test_times_are_plausible(evidence):
    for one in evidence.files:
        assert 0 < one.latency.p50 <= one.latency.p95 <= one.latency.p99 < 1
        assert one.latency.rounds <= QUICK.latency_rounds
        assert one.speedup.low <= one.speedup.estimate <= one.speedup.high
        assert one.throughput.batch == 32
        assert one.throughput.examples_per_second > 0
    teacher, compressed = (
        next(one for one in evidence.files if (one.target, one.role) == ("onnxruntime", role))
        for role in ("teacher", "compressed")
    )
    assert compressed.speedup.estimate == pytest.approx(teacher.latency.p50 / compressed.latency.p50, rel=1e-4)


def test_it_says_what_it_does_not_know(evidence):
    limits = " ".join(evidence.limits)
    for words in ("test examples are few", "processor", "were not measured", "savedmodel", "another training seed"):
        assert words in limits
    assert "Tango" in evidence.methods["drop interval"]
    assert "Wilson" in evidence.methods["score interval"]
    assert evidence.machine.processor
    assert evidence.machine.libraries["onnxruntime"]
    assert 1 <= evidence.machine.usable_cores <= evidence.machine.cores


def test_the_same_files_give_the_same_figures_but_for_times(files, data, evidence):
    here = [one for one in files if one.target == "onnxruntime"]
    again = validate(here, data, QUICK, seed=0)
    timed = {"latency": True, "speedup": True, "throughput": True, "audit": {"integer_time"}}
    for one, before in zip(again.files, evidence.files[:3], strict=True):
        assert one.model_dump(exclude=timed) == before.model_dump(exclude=timed)


def test_fewer_examples_are_said(files, data):
    few = QUICK.model_copy(update={"max_examples": 40})
    evidence = validate([one for one in files if one.target == "onnxruntime"], data, few, seed=0)
    assert evidence.examples == 40
    assert evidence.examples_held == data.counts["test"]
    assert any("40 of" in sentence for sentence in evidence.limits)


def test_a_target_needs_its_teacher(files, data):
    students = [one for one in files if one.role == "student"]
    with pytest.raises(ValueError, match="no file of the teacher to compare with"):
        validate(students, data, QUICK, seed=0)
    teacher = next(one for one in files if (one.role, one.target) == ("teacher", "onnxruntime"))
    with pytest.raises(ValueError, match="no file of the teacher for litert"):
        validate([one for one in students if one.target == "litert"] + [teacher], data, QUICK, seed=0)


def test_a_file_that_answers_nan_is_no_evidence(models, data, tmp_path):
    import tensorflow as tf

    good = file("teacher", "onnxruntime", "float32", models["teacher"], data, tmp_path)
    broken = tf.keras.models.clone_model(models["student"])
    broken.set_weights([np.full_like(weight, np.nan) for weight in models["student"].get_weights()])
    bad = file("student", "onnxruntime", "float32", broken, data, tmp_path)
    with pytest.raises(SlimlineError, match="student's Keras model"):
        validate([good, bad], data, QUICK, seed=0)
    with pytest.raises(ConversionError, match=r"student onnxruntime float32: .* NaN"):
        validate([good, MeasuredFile(**{**vars(bad), "keras": good.keras})], data, QUICK, seed=0)


@pytest.mark.parametrize("problem", ["regression", "reconstruction"])
def test_problems_that_score_by_r2(problem, tmp_path):
    import tensorflow as tf

    random = np.random.default_rng(0)
    x = random.normal(size=(600, 5)).astype(np.float32)
    y = (x @ np.arange(1, 6)[:, None] + random.normal(scale=0.3, size=(600, 1))).astype(np.float32)
    np.savez(tmp_path / "table.npz", x=x, y=y)
    source = DataConfig(reader="npz", source=str(tmp_path / "table.npz"), problem=problem, input="x", target="y")
    data = open_data(source)
    tf.keras.utils.set_random_seed(0)
    outputs = data.head.output_shape[0]
    kernel = np.eye(5) if problem == "reconstruction" else np.arange(1, 6)[:, None]
    files = []
    for role, noise in (("teacher", 0.0), ("compressed", 0.2)):
        model = tf.keras.Sequential(
            [tf.keras.layers.InputLayer((5,), name="row"), tf.keras.layers.Dense(outputs, name="out")], name=role
        )
        off = kernel + noise * random.normal(size=kernel.shape)
        model.set_weights([off.astype(np.float32), np.zeros(outputs, np.float32)])
        files.append(file(role, "onnxruntime", "float32", model, data, tmp_path))
    evidence = validate(files, data, QUICK, seed=0)
    teacher, compressed = evidence.files
    assert evidence.score == "r2"
    assert teacher.accuracy.estimate > 0.99
    assert 0 < compressed.drop.low < compressed.drop.estimate < compressed.drop.high
    assert set(compressed.further) == {"rmse", "mae"}
    assert compressed.confusion == ()
    assert compressed.parity.agreement is None
    assert "BCa" in evidence.methods["drop interval"]
    assert validate(files, data, QUICK, seed=0).files[1].drop == compressed.drop
