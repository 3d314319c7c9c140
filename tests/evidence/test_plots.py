"""Plots show the numbers that they were made from."""

import io

import numpy as np
import pytest
from made_evidence import evidence_of, made

from tasks.evidence import plots

HISTORY = [
    {"loss": 2.0, "score": 0.3, "validation_loss": 1.9, "validation_score": 0.4},
    {"loss": 1.0, "score": 0.7, "validation_loss": 1.1, "validation_score": 0.8},
    {"loss": 0.5, "score": 0.9, "validation_loss": 1.2, "validation_score": 0.7},
]


@pytest.fixture
def evidence():
    return evidence_of(made(), made("compressed", lost=3, gained=1, speed=(1.1, 1.2, 1.3)))


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def drawn(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert file.getvalue().startswith(b"\x89PNG")
    return file.getvalue()


def test_learning_curves():
    figure = plots.learning_curves(HISTORY, "accuracy")
    loss, score = figure.axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0, 1.0, 0.5], [1.9, 1.1, 1.2]]
    best = score.lines[-1]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([2], [0.8])
    assert score.get_title() == "Accuracy"
    drawn(figure)


@pytest.mark.parametrize("history", [[], HISTORY[:1], [{"loss": 1.0}, {"loss": 0.5}], HISTORY * 40])
def test_learning_curves_of_any_length(history):
    drawn(plots.learning_curves(history))


def test_sparsity_by_layer():
    figure = plots.sparsity_by_layer({"conv": 0.5, "$dense_1$": 0.0})
    (panel,) = figure.axes
    assert [bar.get_width() for bar in panel.patches] == [0.5, 0.0]
    assert {"50.0%", "0.0%", "conv", "$dense_1$"} <= set(texts(figure))
    drawn(figure)
    drawn(plots.sparsity_by_layer({}))


def test_confusion(evidence):
    figure = plots.confusion(evidence, evidence.files[1])
    assert {"95", "5", "7", "93", "cat & <b>dog</b>"} <= set(texts(figure))
    (image,) = figure.axes[0].images
    np.testing.assert_allclose(np.asarray(image.get_array()).sum(axis=1), 1)
    drawn(figure)


def test_confusion_of_many_classes_has_no_numbers():
    number = 40
    counts = tuple(tuple(3 * int(row == column) for column in range(number)) for row in range(number))
    classes = tuple(f"class {label}" for label in range(number))
    evidence = evidence_of(made(confusion=counts), classes=classes)
    figure = plots.confusion(evidence, evidence.files[0])
    assert "3" not in texts(figure)
    drawn(figure)


def test_drops_are_in_points_with_their_intervals(evidence):
    (panel,) = plots.drops(evidence).axes
    line, point = panel.lines[:2]
    drop = evidence.files[1].drop
    assert list(line.get_xdata()) == [100 * drop.low, 100 * drop.high]
    assert list(point.get_xdata()) == [100 * drop.estimate]
    drawn(plots.drops(evidence))
    drawn(plots.drops(evidence_of(made())))


def test_pareto_joins_what_no_other_beats(evidence):
    worse = made("student", lost=20, size_bytes=20_000)
    figure = plots.pareto(evidence_of(evidence.files[0], worse, evidence.files[1]))
    left, right = figure.axes
    front = left.lines[0]
    assert list(front.get_xdata()) == [10_000 / 1024, 40_000 / 1024], "the student is larger than one and worse"
    assert list(front.get_ydata()) == [94.0, 95.0]
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in left.lines if len(line.get_xdata()) == 1}
    assert points == {(40_000 / 1024, 95.0), (20_000 / 1024, 85.0), (10_000 / 1024, 94.0)}
    low, high = right.get_xlim()
    assert low < 0.1 < high < 1, "equal latencies do not stretch the axis"
    drawn(figure)


def test_recall_by_class_has_the_worst_fall_on_top(evidence):
    figure = plots.recall_by_class(evidence, evidence.files[1])
    (panel,) = figure.axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["cat & <b>dog</b>", "$x_1$ | y"][::-1]
    teacher, compressed = panel.containers[:2]
    assert [bar.get_width() for bar in teacher] == [0.95, 0.95]
    assert [bar.get_width() for bar in compressed] == [0.93, 0.95]
    drawn(figure)


def test_sizes_and_latencies(evidence):
    figure = plots.sizes_and_latencies(evidence)
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [40_000 / 1024, 10_000 / 1024]
    assert list(right.lines[0].get_xdata()) == pytest.approx([0.1, 0.2])
    assert "0.1  (1.20x)" in texts(figure)
    assert left.get_ylim() == right.get_ylim()
    drawn(figure)


def test_a_figure_is_the_same_twice_and_knows_no_screen(evidence):
    import sys

    assert drawn(plots.drops(evidence)) == drawn(plots.drops(evidence))
    assert "matplotlib.pyplot" not in sys.modules or plots.drops(evidence).canvas.manager is None
