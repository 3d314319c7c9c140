"""Whether a target's file answers as the Keras model that it was made from, and if not, from which layer on."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.artifact import Precision, Target
from tasks.contract.errors import SlimlineError
from tasks.contract.named import field, names_of, packed
from tasks.formats import FORMATS
from tasks.keras_graph.asked import asked
from tasks.keras_graph.rebuild import calls_of, inputs_used
from tasks.measuring.agreement import NOISE, Difference, furthest, mean_steps, worst
from tasks.measuring.answers import Predict
from tasks.measuring.arrays import Outputs
from tasks.quantization.sensitivity import OutputSlack, Slack, slack

if TYPE_CHECKING:
    import tensorflow as tf

TINY = float(np.finfo(np.float32).tiny)
FEW = 16  # examples that are asked one, two and many at a time
# Each format's `STEPS`: what an integer file's answers may be off by in the mean over the examples and places of an
# output channel, and to one side of it. Sums that are rounded to the other step move those behind them by a few, and
# more behind a tanh. Of the zoo's models and of random graphs 0.04 (ONNX Runtime), 0.6 (SavedModel), 0.5 (LiteRT) and
# 2.6 (TensorRT) were seen, where it is not a tanh of a tanh. Where a model's own answers move by more, when next to
# nothing does, so may a file's: `sensitivity`.
RESTLESS = 3.0  # times a model's unrest that a file of it may be off by, beside that


def answers_apart(
    actual: Outputs, expected: Outputs, target: Target, precision: Precision, *, by: Slack | None = None
) -> Difference | None:
    """Where a file's answers are not its Keras model's; nothing if they are.

    Files in float32 may be off by what float32 is, and integer files by a few steps. Others compute in other numbers
    than the model: what those cost is measured, and bounded by the budget.

    Args:
        actual: of the file, `(n, …)`, or records of several outputs, each of which is looked at by itself.
        expected: of the model, which is fake-quantized if the file has integers.
        target: the runtime.
        precision: of the file.
        by: what the model's answers are compared by; none if the file's ranges are not the model's.

    """
    if precision == "float32":
        difference = furthest(actual, expected)
    elif precision == "int8" and by is not None:
        each = (
            _steps_apart(field(actual, name), field(expected, name), target, by[name])._replace(name=name)
            for name in names_of(expected)
        )
        difference = worst(each)
    else:
        return None
    return difference if difference.share > 1 else None


def _steps_apart(actual: Outputs, expected: Outputs, target: Target, by: OutputSlack) -> Difference:
    told = NOISE * float(np.abs(expected).max(initial=0))  # by float32: an untrained network may answer all alike
    step = max(by.step or float(np.ptp(expected)) / 255, told, TINY)
    most, most_shift = FORMATS[target].STEPS
    restless = RESTLESS * np.array([by.unrest, by.shift]) / step
    return mean_steps(actual, expected, step, most + restless[0], most_shift + restless[1])


def sizes_apart(
    call: Predict,
    target: Target,
    precision: Precision,
    x: Outputs,
    batch: int,
    answers: Outputs,
    *,
    by: Slack | None = None,
) -> str | None:
    """Whether a file answers otherwise one or two at a time than many; in words, or nothing.

    What computes in floats sums otherwise for another number of examples, and where a model is quantized, as a
    SavedModel of integers is, that may be a step: it is allowed what the file is from its model.

    Args:
        call: the file.
        target: its runtime.
        precision: of it; ranges that are measured anew for each batch make its answers hang on that, by design.
        x: examples `(n, …)`; `FEW` of them are asked.
        batch: how many were asked at once.
        answers: what it answered then, to the same examples.
        by: as for `answers_apart`.

    """
    few, expected = x[:FEW], answers[:FEW]
    for size in (1, 2):
        if size >= batch or precision not in ("float32", "int8"):
            continue
        actual = np.concatenate([call(few[start : start + size]) for start in range(0, len(few), size)])
        difference = furthest(actual, expected)
        if difference.share > 1 and (by is None or answers_apart(actual, expected, target, precision, by=by)):
            return f"asked {size} at a time it answers otherwise than {batch}: {difference}"
    return None


def first_layer_apart(model: "tf.keras.Model", target: Target, precision: Precision, x: Outputs) -> str:
    """The layer from which on a target's file answers otherwise than its Keras model.

    Files are made of the model up to a layer, and that layer is looked for as in a sorted list: what is wrong stays so.

    Args:
        model: what the file was made from.
        target: the runtime.
        precision: of the file.
        x: a few examples, raw inputs `(n, …)`.

    Returns:
        The layer's name and kind, for messages; nothing if a file of the whole model answers right.

    """
    output = next((each for each in model.outputs if _apart(*_up_to(each, model, x), target, precision)), None)
    if output is None:
        return ""
    whole, x = _up_to(output, model, x)
    nodes = [node for node in calls_of(whole) if hasattr(node.outputs, "dtype") and node.outputs.dtype.is_floating]
    low, high = 0, len(nodes) - 1  # the last is apart, as the model is
    while low < high:
        middle = (low + high) // 2
        if _apart(*_up_to(nodes[middle].outputs, whole, x), target, precision):
            high = middle
        else:
            low = middle + 1
    layer = nodes[low].layer
    layer = getattr(layer, "layer", layer)  # what fake quantization has put around one
    return f"'{layer.name}' ({type(layer).__name__})"


def _up_to(tensor: "tf.Tensor", model: "tf.keras.Model", x: Outputs) -> tuple["tf.keras.Model", Outputs]:
    """A model up to a tensor, with the inputs that this hangs on, and the examples for those."""
    import tensorflow as tf

    used = inputs_used(tf.keras.Model(model.inputs, tensor))
    part = tf.keras.Model([model.inputs[place] for place in used], tensor, name=model.name)
    names = [names_of(x)[place] for place in used]
    return part, packed({name: field(x, name) for name in names})


def _apart(model: "tf.keras.Model", x: Outputs, target: Target, precision: Precision) -> bool:
    """Whether a file made of a model answers otherwise; not if none can be made, which is another fault."""
    try:
        with _written(model, target, precision) as call:
            expected = asked(model, x)
            by = slack(model, x) if precision == "int8" else None
            return answers_apart(call(x), expected, target, precision, by=by) is not None
    except SlimlineError:
        return False


@contextmanager
def _written(model: "tf.keras.Model", target: Target, precision: Precision) -> Iterator[Predict]:
    """A file made of a model, as a function, as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="slimline-parity-") as folder:
        FORMATS[target].write(model, Path(folder), precision, classes=())
        yield FORMATS[target].load(Path(folder))


def difference_message(
    model: "tf.keras.Model", target: Target, precision: Precision, difference: Difference | str, x: Outputs
) -> str:
    """What people read of a file that answers otherwise than the model it was made from."""
    if isinstance(difference, str):
        return f"{target} in {precision}: {difference}"
    layer = first_layer_apart(model, target, precision, x[:FEW])
    where = f"they part at layer {layer}" if layer else "written anew it answers right, so this file was changed since"
    return f"{target} in {precision}: {difference}; {where}"


def targets_apart(
    model: "tf.keras.Model", targets: Sequence[Target], precision: Precision, x: Outputs, batch: int
) -> dict[Target, str]:
    """Make files of a model for every target, and compare their answers with its own.

    Args:
        model: as it is to be converted; fake-quantized if the precision is int8.
        targets: the runtimes.
        precision: float32 or int8.
        x: a few examples, raw inputs `(n, …)`.
        batch: how many are asked at once; fewer are asked too.

    Returns:
        What is wrong by target, in words, with the layer; targets that answer right are not in it.

    """
    expected = asked(model, x, batch)
    by = slack(model, x) if precision == "int8" else None
    messages: dict[Target, str] = {}
    for target in targets:
        try:
            with _written(model, target, precision) as call:
                answers = call(x)
                difference = answers_apart(answers, expected, target, precision, by=by) or sizes_apart(
                    call, target, precision, x, len(x), answers, by=by
                )
        except SlimlineError as error:
            messages[target] = str(error)
            continue
        if difference is not None:
            messages[target] = difference_message(model, target, precision, difference, x)
    return messages
