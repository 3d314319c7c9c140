"""A float model of which one layer at a time computes as in integers: one graph for all of these changes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.folding import fold, split
from tasks.keras_graph.rebuild import KERNELS, Call, Copies, kernel_of, kind, rebuild
from tasks.quantization.fake_quantization import custom_objects, fake_quantized
from tasks.quantization.pair_rule import meeting
from tasks.quantization.parameters import ends
from tasks.quantization.placement import clips

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True, eq=False)
class Switched:
    """A flat model without batch normalisation, in float until something is switched.

    switches: by layer name, for those with an integer kernel: one for each time that the layer is called.
    """

    model: "tf.keras.Model"
    switches: Mapping[str, tuple["tf.Variable", ...]]

    @contextmanager
    def weights(self, layer: str, bits: int) -> Iterator[None]:
        """While the block lasts, the layer's kernel is rounded to so many bits, with steps for each channel."""
        kernel = kernel_of(self.model.get_layer(layer))
        value = kernel.numpy()
        kernel.assign(rounded(self.model.get_layer(layer), bits))
        try:
            yield
        finally:
            kernel.assign(value)

    @contextmanager
    def outputs(self, layer: str) -> Iterator[None]:
        """While the block lasts, the layer's output, after its Relu, is rounded to 8 bits with its calibrated range."""
        try:
            for switch in self.switches[layer]:
                switch.assign(True)
            yield
        finally:
            for switch in self.switches[layer]:
                switch.assign(False)


def rounded(layer: "tf.keras.layers.Layer", bits: int) -> "tf.Tensor":
    """A layer's kernel in steps of so many bits, symmetric about zero, for each channel by the pair rule.

    The rule binds with 8 bits alone: pairs of shorter weights cannot saturate.
    """
    kernel = kernel_of(layer)
    _, axes = KERNELS[kind(layer)]
    meet = meeting(kind(layer), tuple(kernel.shape))
    quantizer = custom_objects()["ChannelQuantizer"](axes, keep_zeros=False, inner=meet, levels=2 ** (bits - 1) - 1)
    return quantizer(kernel, False, {})


def switched(model: "tf.keras.Model", examples: np.ndarray) -> Switched:
    """The model with a switch at every output that integer kernels quantize.

    Args:
        model: any graph of layers; left as it is.
        examples: raw inputs `(n, …)`, or records of them, that set the ranges.

    Raises:
        ConversionError: the model is no graph of layers.

    """
    import tensorflow as tf

    class Switch(tf.keras.layers.Layer):  # type: ignore[misc]  # Keras has no annotations
        """Rounds to 256 steps of a range while it is on."""

        def __init__(self, low: float, high: float, name: str) -> None:
            super().__init__(name=name)
            self.low, self.high = low, high
            self.on = tf.Variable(False, trainable=False)

        def call(self, x: "tf.Tensor") -> "tf.Tensor":
            low, high = self.low, self.high
            return tf.cond(self.on, lambda: tf.quantization.fake_quant_with_min_max_args(x, low, high), lambda: x)

        def compute_mask(self, inputs: "tf.Tensor", mask: Any = None) -> Any:  # noqa: ARG002
            return mask

    quantized, plain, copies = fake_quantized(model, examples), split(fold(model)), Copies()
    switches: dict[str, list[tf.Variable]] = {}

    def answer(call: Call) -> Any:
        layer = call.layer
        if kind(layer) == "QuantizeWrapperV2":
            inner = layer.layer
            switches.setdefault(inner.name, [])
            # as they were: integers settle biases, and their wrapper has the kernel apart
            return copies.call(inner, call.args, call.kwargs, weights=plain.get_layer(inner.name).get_weights())
        if kind(layer) != "QuantizeLayer":
            return copies.call(layer, call.args, call.kwargs)
        switch = Switch(*ends(layer), name=layer.name)
        maker = _maker(call.producers[0]) if call.producers else ""
        if maker:
            switches[maker].append(switch.on)
        return switch(*call.args)

    with tf.keras.utils.custom_object_scope(custom_objects()):
        graph = rebuild(quantized, answer)
    return Switched(graph, {name: tuple(each) for name, each in switches.items()})


def _maker(layer: "tf.keras.layers.Layer") -> str:
    """The layer with a kernel that a range behind this one belongs to: this one, or the one before its Relu."""
    if kind(layer) == "QuantizeWrapperV2":
        return str(layer.layer.name)
    before = [parent.layer for node in layer._inbound_nodes for parent in node.parent_nodes]
    return _maker(before[0]) if clips(layer) and len(before) == 1 else ""
