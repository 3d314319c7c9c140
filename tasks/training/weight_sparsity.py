"""Zeros in kernels, by tensorflow-model-optimization's schedule."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tasks.data import Dataset
from tasks.keras_graph.rebuild import Call, Copies, flat, free_names, kind, rebuild
from tasks.training.loop import EpochReport, FitConfig, fit
from tasks.training.losses import Objective

if TYPE_CHECKING:
    import tensorflow as tf

# Layers whose kernels tfmot prunes. A depthwise kernel has few weights, each of which matters.
PRUNABLE = frozenset({"Conv1D", "Conv2D", "Conv2DTranspose", "Dense", "SeparableConv1D", "SeparableConv2D"})
MATRICES = frozenset({"Dense"})  # tfmot takes blocks out of these only


@dataclass(frozen=True)
class Zeros:
    """Which weights become zero, and how gently.

    pattern: the smallest of each kernel, all but n of each m neighbours, or whole blocks `(height, width)`. sparsity:
    their share, for the smallest and for blocks. schedule: whether it grows or is there at once. begin, end: as shares
    of the training. frequency: steps between two looks at which weights are smallest.
    """

    pattern: Literal["magnitude", "n_m", "block"]
    sparsity: float
    schedule: Literal["polynomial", "constant"]
    n: int
    m: int
    block: tuple[int, int]
    begin: float
    end: float
    frequency: int


def sparse(
    student: "tf.keras.Model",
    data: Dataset,
    zeros: Zeros,
    config: FitConfig,
    objective: Objective,
    *,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None,
) -> "tf.keras.Model":
    """The model with zeros in its kernels, fine-tuned by tensorflow-model-optimization's schedule.

    Layers that tfmot cannot prune in the asked way stay whole. The best epoch is chosen among those that ended with all
    zeros in place.
    """
    steps = math.ceil(data.counts["train"] / config.batch_size)
    begin, end = _span(zeros, config.epochs * steps)
    wrapped = _wrapped(student, zeros, begin, end)
    wrappers = [layer for layer in wrapped.layers if kind(layer) == "PruneLowMagnitude"]

    def in_place(_epoch: int = 0) -> None:
        # a step ends with the optimizer's update, which moves pruned weights too
        for wrapper in wrappers:
            wrapper.pruning_obj.weight_mask_op()

    for wrapper in wrappers:
        wrapper.pruning_step.assign(0)  # each training step adds one
    if config.epochs:
        fit(
            wrapped,
            data,
            config,
            objective,
            seed=seed,
            report=report,
            checkpoints=checkpoints,
            on_epoch_end=in_place,
            best_from=max(1, math.ceil(end / steps)),
        )
    else:
        for wrapper in wrappers:
            wrapper.pruning_step.assign(end)
            wrapper.pruning_obj.conditional_mask_update()
        in_place()
    return _stripped(wrapped)


def _span(zeros: Zeros, total: int) -> tuple[int, int]:
    """The first and last of all steps in which zeros are made; weights are looked at in the last one too."""
    begin, end = math.floor(zeros.begin * total), math.floor(zeros.end * total)
    return begin, max(begin + (end - begin) // zeros.frequency * zeros.frequency, begin + 1)


def _wrapped(model: "tf.keras.Model", zeros: Zeros, begin: int, end: int) -> "tf.keras.Model":
    """The model with tfmot's wrappers around what can be pruned in the asked way."""
    from tensorflow_model_optimization.sparsity import keras as sparsity

    frequency = min(zeros.frequency, end - begin)
    # 2:4 keeps two of four; tfmot counts the zeros
    options: dict[str, Any] = {"sparsity_m_by_n": (zeros.m - zeros.n, zeros.m)} if zeros.pattern == "n_m" else {}
    if zeros.pattern == "block":
        options = {"block_size": zeros.block}
    if zeros.schedule == "polynomial" and zeros.pattern != "n_m":
        options["pruning_schedule"] = sparsity.PolynomialDecay(0.0, zeros.sparsity, begin, end, frequency=frequency)
    else:
        options["pruning_schedule"] = sparsity.ConstantSparsity(zeros.sparsity, begin, end, frequency)
    able = MATRICES if zeros.pattern == "block" else PRUNABLE
    model, copies = flat(model), Copies()
    free = free_names(layer.name for layer in model.layers)
    wrappers: dict[int, Any] = {}

    def answer(call: Call) -> Any:
        layer = call.layer
        if kind(layer) not in able:
            return copies.call(layer, call.args, call.kwargs)
        if id(layer) in wrappers:
            return wrappers[id(layer)](*call.args, **call.kwargs)
        inner = type(layer).from_config(layer.get_config())
        wrappers[id(layer)] = _wrapper()(inner, free(f"prune_low_magnitude_{layer.name}"), **options)
        output = wrappers[id(layer)](*call.args, **call.kwargs)
        inner.set_weights(layer.get_weights())
        return output

    return rebuild(model, answer)


@cache
def _wrapper() -> Any:
    """The class of what is put around a layer to prune it: tfmot's, which hands on the mask that the layer would."""
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    class PruneLowMagnitude(pruning_wrapper.PruneLowMagnitude):  # type: ignore[misc]
        def __init__(self, layer: Any, name: str, **options: Any) -> None:
            super().__init__(layer, **options)
            self._name = name  # tfmot's own may be another layer's

        def call(self, inputs: Any, training: Any = None) -> Any:  # no layer with a kernel reads a mask
            return super().call(inputs, training=training)

        def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
            return self.layer.compute_mask(inputs, mask) if self.layer.supports_masking else None

    return PruneLowMagnitude


def _stripped(model: "tf.keras.Model") -> "tf.keras.Model":
    """The model without wrappers, masks and counters."""
    copies = Copies()

    def answer(call: Call) -> Any:
        layer = call.layer.layer if kind(call.layer) == "PruneLowMagnitude" else call.layer
        return copies.call(layer, call.args, call.kwargs)

    return rebuild(model, answer)


def sparsity_by_layer(model: "tf.keras.Model") -> dict[str, float]:
    """The share of zeros in each layer's kernels, by the layer's name, for all layers that have kernels."""
    kernels: dict[str, list[np.ndarray]] = {}
    for layer in model.layers:
        name = layer.layer.name if kind(layer) == "QuantizeWrapperV2" else layer.name
        for weight in layer.weights:
            if "kernel" in weight.name.split("/")[-1] and weight.shape.rank > 1:  # not a range of `my_kernel`
                kernels.setdefault(name, []).append(weight.numpy())
    return {
        layer: sum(int(np.count_nonzero(kernel == 0)) for kernel in of_layer) / sum(kernel.size for kernel in of_layer)
        for layer, of_layer in kernels.items()
    }
