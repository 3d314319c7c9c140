"""What a smaller model would cost where it ships: its file is made, weighed and timed.

Sums of single layers' times are no substitute: runtimes fuse layers, and reorder tensors between them.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.channels.config import Goal
from tasks.contract.artifact import Precision
from tasks.formats import FORMATS
from tasks.formats.sizes import sizes
from tasks.measuring.answers import Predict
from tasks.measuring.arrays import Floats
from tasks.measuring.timing import ratio_interval, time_in_turn
from tasks.quantization.fake_quantization import fake_quantized

if TYPE_CHECKING:
    import tensorflow as tf

CALIBRATION = 64  # examples: ranges decide about answers, and neither about bytes nor about time
ROUNDS, WARMUP, SECONDS = 400, 20, 6.0
SLACK = 1.03  # what is cut to a limit keeps it by this factor, because the next measurement will be another


class FileCosts:
    """What models cost as files, for one goal: bytes, and seconds beside another file.

    Args:
        goal: the target, and what holds there.
        classes: class names.
        x: raw inputs `(n, …)`, float32, that look like what the model will see.

    """

    def __init__(self, goal: Goal, classes: tuple[str, ...], x: np.ndarray) -> None:
        self.goal, self.classes, self.x = goal, classes, x[:CALIBRATION]

    def file(self, model: "tf.keras.Model", precision: Precision) -> tuple[int, Predict]:
        """The bytes of a model's file, and the loaded file."""
        form = FORMATS[self.goal.target]
        source = fake_quantized(model, self.x) if precision == "int8" else model
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            form.write(source, folder, precision, classes=self.classes)
            return sizes(folder, self.goal.target)[0], form.load(folder, self.goal.threads)

    def shipped(self, model: "tf.keras.Model") -> tuple[int, Predict]:
        """The same in the precision that ships."""
        return self.file(model, self.goal.precision)

    def times(self, call: Predict, other: Predict) -> tuple[Floats, Floats]:
        """Seconds of two files, one example at a time, in turn."""
        seconds = time_in_turn({"a": call, "b": other}, self.x[:1], ROUNDS, WARMUP, SECONDS)
        return seconds["a"], seconds["b"]


def keeps(costs: FileCosts, teacher: "tf.keras.Model") -> Callable[["tf.keras.Model"], bool]:
    """Whether a model's file would keep the goal's limits beside the teacher's float file."""
    goal = costs.goal
    weight, whole = costs.file(teacher, "float32")

    def check(model: "tf.keras.Model") -> bool:
        size, call = costs.shipped(model)
        if 0 < goal.max_size_bytes < size or weight / size < goal.min_size_ratio:
            return False
        if not (goal.max_latency_ms or goal.min_speedup):
            return True
        own, teachers = costs.times(call, whole)
        if goal.max_latency_ms and 1000 * float(np.median(own)) * SLACK > goal.max_latency_ms:
            return False
        return ratio_interval(teachers, own, goal.confidence).low >= goal.min_speedup * SLACK

    return check


def faster(costs: FileCosts, model: "tf.keras.Model", share: float) -> Callable[["tf.keras.Model"], bool]:
    """Whether a smaller model takes no more than this share of a model's time."""
    _, whole = costs.shipped(model)

    def check(smaller: "tf.keras.Model") -> bool:
        own, before = costs.times(costs.shipped(smaller)[1], whole)
        return bool(np.median(own) <= share * np.median(before))

    return check
