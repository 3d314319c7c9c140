"""Metrics against scikit-learn's, their intervals against what they are to cover, and functions of the user's own."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tasks.contract.errors import MetricError
from tasks.measuring.intervals import bootstrap_figure, bootstrap_mean
from tasks.measuring.measure import measure_of
from tasks.measuring.metrics import NAMED, metric_of

seeds = st.integers(0, 2**32 - 1)


def figure(metric, problem, y, answers, **options):
    return measure_of(metric, problem, y, **options).figure(answers)


@given(st.integers(2, 5), seeds, st.booleans())
@settings(max_examples=30, deadline=None)
def test_of_classes_they_are_scikit_learns(classes, seed, coarse):
    """`coarse` answers have ties, as those of integers do."""
    random = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), random.integers(0, classes, 60)])
    answers = random.dirichlet(np.ones(classes), len(y))
    if coarse:
        answers = np.round(answers * 8) / 8 + 1e-3
        answers /= answers.sum(axis=1, keepdims=True)
    named = answers.argmax(axis=1)
    column = answers[:, 1] if classes == 2 else answers
    one_hot = (y[:, None] == np.arange(classes))[:, 1:] if classes == 2 else y[:, None] == np.arange(classes)
    labels = np.unique([*y, *named])
    expected = {
        "balanced_accuracy": sk.balanced_accuracy_score(y, named),
        "f1_macro": sk.f1_score(y, named, average="macro", labels=labels),
        "f1_micro": sk.f1_score(y, named, average="micro"),
        "mean_iou": sk.jaccard_score(y, named, average="macro", labels=labels),
        "roc_auc": sk.roc_auc_score(y, column, multi_class="ovr"),
        "average_precision": sk.average_precision_score(one_hot, answers[:, 1:] if classes == 2 else answers),
        "log_loss": sk.log_loss(y, answers),
        "accuracy": sk.accuracy_score(y, named),
    }
    assert set(expected) == {m.name for m in NAMED if "classification" in m.problems} | {"accuracy"}
    for name, value in expected.items():
        assert figure(name, "classification", y, answers) == pytest.approx(value, rel=1e-6), name
    if not coarse and classes > 2:  # of equal shares scikit-learn takes the last ones
        assert figure("top_2", "classification", y, answers) == pytest.approx(
            sk.top_k_accuracy_score(y, answers, k=2, labels=np.arange(classes))
        )


@given(st.integers(2, 4), seeds)
@settings(max_examples=20, deadline=None)
def test_of_labels_they_are_scikit_learns(labels, seed):
    random = np.random.default_rng(seed)
    y = np.concatenate([np.zeros((1, labels)), np.ones((1, labels)), random.integers(0, 2, (50, labels))]).astype(int)
    answers = random.uniform(0, 1, y.shape).astype(np.float32)
    said = answers >= 0.5
    expected = {
        "label_accuracy": (said == y).mean(),
        "f1_macro": sk.f1_score(y, said, average="macro"),
        "f1_micro": sk.f1_score(y, said, average="micro"),
        "roc_auc": sk.roc_auc_score(y, answers, average="macro"),
        "average_precision": sk.average_precision_score(y, answers, average="macro"),
    }
    logits = np.log(answers / (1 - answers))
    for name, value in expected.items():
        assert figure(name, "multilabel", y, answers) == pytest.approx(value, rel=1e-6), name
        assert figure(name, "multilabel", y, logits) == pytest.approx(value, rel=1e-5), name


@given(seeds)
@settings(max_examples=20)
def test_of_numbers_they_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    y, answers = random.normal(3, 2, (2, 40, 1))
    expected = {
        "mae": sk.mean_absolute_error(y, answers),
        "rmse": sk.root_mean_squared_error(y, answers),
        "smape": np.mean(2 * np.abs(y - answers) / (np.abs(y) + np.abs(answers))),
        "quantile_0.9": sk.mean_pinball_loss(y, answers, alpha=0.9),
        "r2": sk.r2_score(y, answers),
    }
    for name, value in expected.items():
        assert figure(name, "regression", y, answers, variance=float(y.var())) == pytest.approx(value), name


def test_of_pixels_each_counts():
    y = np.array([[[0, 0], [1, 1]], [[2, 2], [2, 0]]])
    answers = np.eye(3)[np.array([[[0, 1], [1, 1]], [[2, 2], [0, 0]]])]
    flat, named = y.reshape(-1), answers.argmax(axis=-1).reshape(-1)
    assert figure("accuracy", "classification", y, answers) == 6 / 8
    assert figure("mean_iou", "classification", y, answers) == pytest.approx(
        sk.jaccard_score(flat, named, average="macro")
    )
    with pytest.raises(MetricError, match="several: take mean_iou"):
        figure("roc_auc", "classification", y, answers)


@pytest.mark.parametrize("metric", ["f1_macro", "roc_auc", "average_precision", "rmse"])
def test_a_resample_is_the_examples_that_it_drew(metric):
    """Weights are counts: the figure of each resample is that of its examples, written out."""
    random = np.random.default_rng(1)
    problem = "regression" if metric == "rmse" else "classification"
    y = random.normal(size=(30, 1)) if metric == "rmse" else random.integers(0, 3, 30)
    answers = random.normal(size=(30, 1)) if metric == "rmse" else random.dirichlet(np.ones(3), 30)
    drawn = random.integers(0, 30, (20, 30))
    weights = np.stack([np.bincount(rows, minlength=30) for rows in drawn]).astype(float)
    together = metric_of(metric, problem).together(y, answers)(weights)
    for rows, value in zip(drawn, together, strict=True):
        assert value == pytest.approx(figure(metric, problem, y[rows], answers[rows]))


def test_of_a_mean_the_bootstrap_of_figures_is_that_of_means():
    values = np.random.default_rng(0).exponential(1, 150)
    mean = bootstrap_mean(values)
    figures = bootstrap_figure(lambda weights: weights @ values / weights.sum(axis=1), np.arange(150))
    assert figures.estimate == pytest.approx(mean.estimate)
    assert (figures.low, figures.high) == pytest.approx((mean.low, mean.high), abs=0.02)


@pytest.mark.parametrize(("grouped", "least", "most"), [(True, 0.86, 0.99), (False, 0.2, 0.7)])
def test_groups_are_drawn_whole(grouped, least, most):
    """Of 40 patients with 10 images each that are alike, images by themselves claim too much."""
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        right = random.random(40) < 0.7
        groups = np.repeat(np.arange(40), 10)
        answers = np.where(right[groups][:, None], [[0.0, 1.0]], [[1.0, 0.0]])
        measure = measure_of("accuracy", "classification", np.ones(400, int), groups=groups if grouped else None)
        ends = measure.interval(answers)
        held += ends.low <= 0.7 <= ends.high
    assert least <= held / 60 <= most


def test_less_of_an_error_is_better():
    y = np.zeros((50, 1))
    near, far = (np.random.default_rng(0).normal(0, size, (50, 1)) for size in (1, 2))
    for metric in ("mae", "rmse", "-own_metrics:cost"):
        drop = measure_of(metric, "regression", y).drop(near, far)
        assert 0 < drop.low < drop.estimate < drop.high, metric
        assert measure_of(metric, "regression", y).drop(far, near).high < 0


@pytest.fixture(autouse=True)
def own_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_metrics.py").write_text(
        "import numpy as np\n"
        "def cost(y, answers):\n    '''What a wrong answer costs.\n\n    In euros.'''\n"
        "    return abs(y - answers).mean()\n"
        "def each(y, answers):\n    return np.abs(y - answers)[:, 0]\n"
        "def two(y, answers):\n    return [1.0, 2.0]\n"
        "def fails(y, answers):\n    return 1 / 0\n"
    )


def test_a_function_of_ones_own():
    y, answers = np.random.default_rng(0).normal(size=(2, 60, 1))
    by_number, by_example = (measure_of(f"-own_metrics:{name}", "regression", y) for name in ("cost", "each"))
    mae = measure_of("mae", "regression", y)
    assert by_number.metric.text == "What a wrong answer costs"
    for measure in (by_number, by_example):
        assert measure.figure(answers) == pytest.approx(mae.figure(answers))
        assert measure.drop(y, answers).high == pytest.approx(mae.drop(y, answers).high, rel=0.05)
    for name, why in (
        ("two", "one finite number, or one for each"),
        ("fails", "ZeroDivisionError"),
        ("no", "imported"),
    ):
        with pytest.raises(MetricError, match=why):
            figure(f"own_metrics:{name}", "regression", y, answers)


@pytest.mark.parametrize(
    ("metric", "problem", "way_out"),
    [("f1", "classification", "f1_macro"), ("roc_auc", "regression", "mae, rmse"), ("mae", "multilabel", "f1_macro")],
)
def test_another_name_is_answered_with_those_that_there_are(metric, problem, way_out):
    with pytest.raises(MetricError, match=way_out):
        metric_of(metric, problem)
    with pytest.raises(MetricError, match="any answer is right"):
        figure("top_3", "classification", np.array([0, 1, 2]), np.eye(3))


def test_a_slice_that_lost_is_seen_where_the_mean_hides_it():
    from tasks.measuring.parts import slices_of

    random = np.random.default_rng(0)
    y, slices = random.integers(0, 2, 600), np.where(np.arange(600) < 60, "rare", "common")
    before = np.eye(2)[y]
    after = before.copy()
    after[:60][random.random(60) < 0.4] = 0.5, 0.5
    after[60:90] = before[60:90]
    measure = measure_of("accuracy", "classification", y)
    shown = slices_of(measure, slices, before, after)
    assert set(shown) == {"rare", "common"}
    assert shown["common"].drop.estimate == 0
    own = measure_of("accuracy", "classification", y[:60])
    assert shown["rare"].drop == own.drop(before[:60], after[:60])
    assert shown["rare"].drop.low > 0.05
    one_class = np.where(y == 0, "zeros", "both")
    assert set(slices_of(measure_of("roc_auc", "classification", y), one_class, before, after)) == set()


def test_each_class_has_scikit_learns_recall_and_precision():
    from tasks.measuring.parts import classes_of

    random = np.random.default_rng(0)
    y, answers = random.integers(0, 3, 90), random.dirichlet(np.ones(4), 90)
    answers[:, 3] = 0
    answered = answers.argmax(axis=1)
    shown = classes_of("classification", y, answers, ("a", "b", "c", "none"))
    assert [shown[name].recall for name in "abc"] == pytest.approx(sk.recall_score(y, answered, average=None), rel=1e-5)
    assert [shown[name].precision for name in "abc"] == pytest.approx(
        sk.precision_score(y, answered, average=None), rel=1e-5
    )
    assert (shown["none"].labels, shown["none"].recall, shown["none"].precision) == (0, None, None)


def test_pixels_that_are_all_right_are_no_share_of_images():
    """As 20 images, of which none is wrong, they would be worth a drop of a sixth."""
    y = np.random.default_rng(0).integers(0, 2, (20, 8, 8))
    measure = measure_of("accuracy", "classification", y)
    assert measure.drop(np.eye(2)[y], np.eye(2)[y]).high == 0
    one_each = measure_of("accuracy", "classification", y[:, 0, 0])
    assert one_each.drop(np.eye(2)[y[:, 0, 0]], np.eye(2)[y[:, 0, 0]]).high == pytest.approx(3.84 / 23.84, rel=1e-2)
