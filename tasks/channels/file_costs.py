"""What a smaller model would cost where it ships: its file is made, weighed and timed.

Sums of single layers' times are no substitute: runtimes fuse layers, and reorder tensors between them.
"""

import functools
import shutil
import tempfile
import weakref
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
from tasks.measuring.timing import ratio_interval, time_anew
from tasks.quantization.fake_quantization import fake_quantized

if TYPE_CHECKING:
    import tensorflow as tf

Open = Callable[[], Predict]

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
        self._place = tempfile.mkdtemp(prefix="slimline-costs-")
        weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)

    def file(self, model: "tf.keras.Model", precision: Precision) -> tuple[int, Open]:
        """The bytes of a model's file, and what opens it as long as this object lives."""
        form = FORMATS[self.goal.target]
        source = fake_quantized(model, self.x) if precision == "int8" else model
        folder = Path(tempfile.mkdtemp(dir=self._place))
        form.write(source, folder, precision, classes=self.classes)
        return sizes(folder, self.goal.target)[0], functools.partial(form.load, folder, self.goal.threads)

    def times(self, one: Open, other: Open) -> tuple[Floats, Floats]:
        """Seconds of two files, one example at a time, in turn."""
        seconds = time_anew({"a": one, "b": other}, self.x[:1], ROUNDS, WARMUP, SECONDS)
        return seconds["a"], seconds["b"]


def keeps(costs: FileCosts, teacher: "tf.keras.Model") -> Callable[["tf.keras.Model"], bool]:
    """Whether a file of a model, in one of the goal's precisions, would keep its limits beside the teacher's float."""
    goal = costs.goal
    weight, whole = costs.file(teacher, "float32")

    def check(model: "tf.keras.Model", precision: Precision) -> bool:
        size, file = costs.file(model, precision)
        if 0 < goal.max_size_bytes < size or weight / size < goal.min_size_ratio:
            return False
        if not (goal.max_latency_ms or goal.min_speedup):
            return True
        own, teachers = costs.times(file, whole)
        if goal.max_latency_ms and 1000 * float(np.median(own)) * SLACK > goal.max_latency_ms:
            return False
        return ratio_interval(teachers, own, goal.confidence).low >= goal.min_speedup * SLACK

    return lambda model: any(check(model, precision) for precision in goal.precisions)


def faster(costs: FileCosts, model: "tf.keras.Model", share: float) -> Callable[["tf.keras.Model"], bool]:
    """Whether a smaller model's file takes no more than this share of a model's time, in the goal's first precision."""
    precision = costs.goal.precisions[0]
    _, whole = costs.file(model, precision)

    def check(smaller: "tf.keras.Model") -> bool:
        own, before = costs.times(costs.file(smaller, precision)[1], whole)
        return bool(np.median(own) <= share * np.median(before))

    return check
