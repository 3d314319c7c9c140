"""How much the answers of a fake-quantized model move when next to nothing does: what no comparison can be finer than.

Where a value lies next to the middle between two steps, a hair decides which it becomes, and the layers behind make
more of it, or less. A model that has learned mostly makes less of it; one of many layers with drawn weights goes
another way altogether: of two MobileNets as Keras draws them, files that were right in every kernel were 7 and 13 steps
from Keras in the mean, where trained and small models are within a tenth of a step.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tasks.contract.named import field, names_of
from tasks.keras_graph.asked import asked
from tasks.keras_graph.rebuild import kind
from tasks.measuring.arrays import Outputs
from tasks.quantization.parameters import kernel_variable, output_step

if TYPE_CHECKING:
    import tensorflow as tf

HAIR = 2.0**-14  # of each kernel: the same integers, whose sums are this much larger
FEW = 64  # examples that are asked


class OutputSlack(NamedTuple):
    """What an integer file's answers at an output are compared by.

    step: the size of the output's steps; 0 if it is not quantized. unrest: by how much the model's own answers move,
    in the mean of the output channel that moves most, in the outputs' unit; shift: by how much they do so to one side.
    """

    step: float
    unrest: float
    shift: float


Slack = Mapping[str, OutputSlack]  # by output; of one alone it is `ONE`'s


def slack(model: "tf.keras.Model", x: Outputs) -> Slack:
    """That of a fake-quantized model, asked a few of these examples `(n, …)`; its weights are what they were then."""
    few = x[:FEW]
    before = asked(model, few)
    kernels = [kernel_variable(layer) for layer in model.layers if kind(layer) == "QuantizeWrapperV2"]
    values = [kernel.numpy() for kernel in kernels]
    try:
        for kernel, value in zip(kernels, values, strict=True):
            kernel.assign(value * (1 + HAIR))
        after = asked(model, few)
    finally:
        for kernel, value in zip(kernels, values, strict=True):
            kernel.assign(value)
    return {
        name: _of_output(output_step(model, number), field(before, name), field(after, name))
        for number, name in enumerate(names_of(before))
    }


def _of_output(step: float, before: Outputs, after: Outputs) -> OutputSlack:
    moved = (after.astype(np.float64) - before.astype(np.float64)).reshape(-1, before.shape[-1])
    unrest, shift = (each.max(initial=0) for each in (np.abs(moved).mean(axis=0), np.abs(moved.mean(axis=0))))
    return OutputSlack(step, float(unrest), float(shift))
