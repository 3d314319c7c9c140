"""What a teacher says is asked once, kept by content, and the same as if it were asked each time."""

import os

import numpy as np
import pytest

from tasks.contract import progress
from tasks.contract.state_folder import home
from tasks.data import DataConfig, open_data
from tasks.distill import DistillConfig, distill
from tasks.quantize import QuantizeConfig, quantize
from tasks.train import train
from tasks.training import teacher_answers as taught
from tasks.training.loop import FitConfig, fit
from tasks.training.losses import Teaching, softened
from tasks.training.mistakes import label_loss
from tasks.training.teacher_answers import keeper, taught_by
from tasks.zoo import ModelConfig, build_model

SHORT = FitConfig(epochs=3, batch_size=32, learning_rate=0.01)
SOFT = DistillConfig(method="soft_targets", mix=0.9, fit=SHORT)


def never(*_):
    pass


@pytest.fixture(autouse=True)
def empty(tmp_path, monkeypatch):
    """A state folder of each test's own, for the files."""
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def digits():
    return open_data(DataConfig(reader="digits", limit=200))


@pytest.fixture(scope="module")
def viewed():
    return open_data(DataConfig(reader="digits", limit=200, shift=1, brightness=0.2, views=2))


@pytest.fixture(scope="module")
def teacher(digits):
    model = build_model(ModelConfig(model="mlp"), digits, seed=1)
    return train(model, digits, SHORT, seed=1, report=never)


@pytest.fixture
def notes():
    """The notes that a person sees."""
    notes = []

    class Notes(progress.RunLog):
        def note(self, stage, message):
            notes.append(f"{stage}: {message}")

    before = progress.listener()
    progress.listen(Notes())
    yield notes
    progress.listen(before)


def student(data):
    return build_model(ModelConfig(model="mlp", width=0.25), data, seed=2)


def files():
    return sorted((home() / "taught").iterdir())


def log_softmax_of(teacher, x):
    return np.log(np.maximum(teacher(x).numpy().astype(np.float64), 1e-30))


def test_what_is_kept_is_what_the_teacher_says_in_order(digits, teacher):
    kept = keeper(teacher, digits, never)
    for split in ("train", "validation"):
        answers = kept(split, 0)
        assert isinstance(answers, np.memmap)
        np.testing.assert_allclose(answers, log_softmax_of(teacher, digits.arrays(split)[0]), atol=1e-4)
    assert len(files()) == 2


def test_each_view_has_answers_of_its_own(viewed, teacher):
    kept = keeper(teacher, viewed, never)
    seen = []
    for view in (0, 1):
        x = np.concatenate([x for x, _ in viewed.batches("train", 7, augment=True, view=view).as_numpy_iterator()])
        np.testing.assert_allclose(kept("train", view), log_softmax_of(teacher, x), atol=1e-4)
        seen.append(x)
    assert np.abs(seen[0] - seen[1]).max() > 1
    assert np.abs(kept("train", 0) - kept("train", 1)).max() > 0.01


@pytest.mark.parametrize("streamed", [False, True])
def test_a_batch_carries_the_answers_to_what_it_shows(viewed, teacher, streamed):
    """The one thing that must hold: teacher and student see the same view of the same example."""
    data = viewed
    if streamed:
        from dataclasses import replace

        x = viewed.in_memory["train"].copy()
        data = replace(viewed, in_memory={}, stream=lambda _split: iter(np.array_split(x, 9)), _tensors={})
    answers = keeper(teacher, viewed, never)("train", 1)
    count = 0
    batches = data.batches("train", 32, shuffle_seed=5, augment=True, view=1, beside=answers)
    for x, _, soft_targets in batches.as_numpy_iterator():
        np.testing.assert_allclose(soft_targets, log_softmax_of(teacher, x), atol=1e-4)
        count += len(x)
    assert count == data.counts["train"]


def test_kept_or_asked_it_learns_the_same(digits, teacher):
    """One teacher in batches of 256 and of 32 rounds differently, and no more than that."""
    kept, asked = student(digits), student(digits)
    distill(kept, teacher, digits, SOFT, seed=3, report=never)
    fit(asked, digits, SHORT, softened(digits.heads, teacher, SOFT.teaching, label_loss(digits)), seed=3, report=never)
    assert files()
    for one, other in zip(kept.get_weights(), asked.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_it_is_asked_once_for_all_epochs_stages_and_runs(digits, teacher, notes):
    first = distill(student(digits), teacher, digits, SOFT, seed=3, report=never)
    made = {file: file.stat().st_ino for file in files()}
    assert len(made) == 2
    assert sum("once" in note for note in notes) == 2
    notes.clear()
    again = distill(student(digits), teacher, digits, SOFT, seed=3, report=never)
    config = QuantizeConfig(method="training", calibration_examples=64, fit=SHORT)
    quantize(first, digits, config, teacher=teacher, teaching=SOFT.teaching, seed=4, report=never)
    assert {file: file.stat().st_ino for file in files()} == made
    assert not notes
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def test_views_are_answered_in_the_epochs_that_show_them(viewed, teacher, notes):
    distill(student(viewed), teacher, viewed, SOFT, seed=3, report=never)
    assert len(files()) == 3, "two views of train, and validation as it is"
    assert [note for note in notes if "view 2 of 2" in note]
    assert [viewed.view(epoch) for epoch in range(1, 6)] == [0, 1, 0, 1, 0]


def test_changes_drawn_anew_are_never_kept(teacher):
    fresh = open_data(DataConfig(reader="digits", limit=200, shift=1))
    distill(student(fresh), teacher, fresh, SOFT, seed=3, report=never)
    assert fresh.view(1) is None
    assert len(files()) == 1, "validation only"


def test_another_teacher_other_data_and_other_changes_are_asked_anew(digits, viewed, teacher):
    other = build_model(ModelConfig(model="mlp"), digits, seed=9)
    fewer = open_data(DataConfig(reader="digits", limit=150))
    darker = open_data(viewed.config.model_copy(update={"brightness": 0.3}))
    for model, data in ((teacher, digits), (other, digits), (teacher, fewer), (teacher, viewed), (teacher, darker)):
        keeper(model, data, never)("train", 0)
    assert len(files()) == 5
    more_views = open_data(viewed.config.model_copy(update={"views": 5}))
    keeper(teacher, more_views, never)("train", 0)
    keeper(teacher, viewed, never)("validation", 0)
    keeper(teacher, darker, never)("validation", 0)
    assert len(files()) == 6, "how many views there are changes none of them, and validation is never changed"


def test_what_was_cut_off_is_made_again(digits, teacher):
    whole = np.array(keeper(teacher, digits, never)("train", 0))
    [file] = files()
    file.write_bytes(file.read_bytes()[:300])
    np.testing.assert_array_equal(keeper(teacher, digits, never)("train", 0), whole)


def test_a_full_disk_is_noted_and_leaves_no_answers(digits, teacher, notes):
    """A real one: the kernel refuses to let a file of this process grow beyond so many bytes."""
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    taught_so = student(digits)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        distill(taught_so, teacher, digits, SOFT, seed=3, report=never)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert files() == []
    assert sum("File too large" in note for note in notes) == 1 + SHORT.epochs, "validation once, train each epoch"
    asked = student(digits)
    objective = softened(digits.heads, teacher, SOFT.teaching, label_loss(digits))
    fit(asked, digits, SHORT, objective, seed=3, report=never)
    assert all(np.array_equal(a, b) for a, b in zip(taught_so.get_weights(), asked.get_weights(), strict=True))


def test_the_longest_unused_make_room(digits, teacher, monkeypatch):
    kept = keeper(teacher, digits, never)
    kept("train", 0)
    [train_file] = files()
    kept("validation", 0)
    size = sum(file.stat().st_size for file in files())
    for age, file in enumerate(sorted(files(), key=lambda file: file == train_file)):
        os.utime(file, (1000 + age, 1000 + age))  # the train file is the newer one
    still_open = kept("validation", 0)  # and now the older
    monkeypatch.setattr(taught, "LIMIT", size)
    other = build_model(ModelConfig(model="mlp"), digits, seed=9)
    keeper(other, digits, never)("validation", 0)
    assert train_file not in files()
    assert len(files()) == 2
    assert np.isfinite(still_open).all()


def test_what_would_take_too_much_is_asked_at_each_step(digits, teacher, monkeypatch, notes):
    monkeypatch.setattr(taught, "LIMIT", 1000)
    distill(student(digits), teacher, digits, SOFT, seed=3, report=never)
    assert not (home() / "taught").exists()
    assert "asked anew" in notes[0]


def test_a_teacher_that_does_not_count_is_not_asked(digits, teacher):
    config = SOFT.model_copy(update={"mix": 0.0})
    distill(student(digits), teacher, digits, config, seed=3, report=never)
    assert not (home() / "taught").exists()


def test_hints_go_on_after_pruning_and_in_quantization(digits, teacher, notes):
    import tensorflow as tf

    from tasks.prune import PruneConfig, prune

    layers = {"teacher_layer": "dense2_relu", "student_layer": "dense2_relu"}
    teaching = DistillConfig(method="features", feature_weight=100.0, mix=0.0, **layers).teaching
    x, _ = digits.arrays("train")

    def apart(model):
        own, of_teacher = (tf.keras.Model(m.inputs, m.get_layer("dense2_relu").output)(x) for m in (model, teacher))
        return float(tf.reduce_mean(tf.square(own - of_teacher)) / tf.reduce_mean(tf.square(of_teacher)))

    whole = build_model(ModelConfig(model="mlp"), digits, seed=2)
    config = PruneConfig(method="magnitude", sparsity=0.3, frequency=2, fit=SHORT)
    options = {"teacher": teacher, "seed": 0, "report": never}
    hinted = prune(whole, digits, config, teaching=teaching, **options)
    alone = prune(whole, digits, config, teaching=Teaching(mix=0.0), **options)
    assert apart(hinted) < apart(alone) / 2
    assert not notes


def test_a_hint_at_a_layer_that_is_gone_is_noted(digits, teacher, notes):
    teaching = DistillConfig(method="features", teacher_layer="dense2_relu", student_layer="no_such").teaching
    config = QuantizeConfig(method="training", calibration_examples=64, fit=SHORT)
    options = {"teacher": teacher, "seed": 0, "report": never}
    with_note = quantize(student(digits), digits, config, teaching=teaching, **options)
    assert [note for note in notes if note.startswith("quantize-training: ") and "'no_such'" in note]
    soft = quantize(student(digits), digits, config, teaching=Teaching(), **options)
    assert all(np.array_equal(a, b) for a, b in zip(with_note.get_weights(), soft.get_weights(), strict=True))


def test_where_answers_are_kept_the_teacher_is_not_in_the_graph(digits, teacher):
    """Not only the same numbers: the step has no forward pass of the teacher in it."""

    class Refusing:
        def __getattr__(self, name):
            return getattr(teacher, name)

        def __call__(self, *_arguments, **_options):
            raise AssertionError("asked again")

    keeper(teacher, digits, never)("train", 0)
    keeper(teacher, digits, never)("validation", 0)
    objective = taught_by(digits, Refusing(), Teaching(), stage="distill")
    fit(student(digits), digits, SHORT, objective, seed=0, report=never)
