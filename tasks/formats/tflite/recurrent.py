"""Recurrent layers for LiteRT, step by step: it has no loop over lists of tensors whose batch is free.

It has a whole LSTM, for a batch of one: but that keeps its state from one example to the next.
"""

import functools
from typing import TYPE_CHECKING, Any

from tasks.contract.errors import ConversionError
from tasks.keras_graph.rebuild import Copies, kind, rebuild

if TYPE_CHECKING:
    import tensorflow as tf


def stepwise(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function with recurrent layers one step after the other, wherever they stand: in wrappers too.

    Keras can do that itself, `unroll=True`, but not with convolutions in it, and going backwards it then leaves out
    the wrong steps of a masked sequence. Layers that were brought with `unroll=True` answer so, and stay as they are.

    Args:
        model: flat. Its layers are copied.

    Raises:
        ConversionError: when the model is called, if a recurrent layer takes sequences of any length.

    """
    if not any(_is_recurrent(part) for layer in model.layers for part in layer._flatten_layers()):
        return model
    copies = Copies()
    model = rebuild(model, lambda call: copies.call(call.layer, call.args, call.kwargs))
    for layer in model.layers:
        for part in layer._flatten_layers():
            if _is_recurrent(part):
                part.call = functools.partial(_by_steps, part, layer)
    return model


def _is_recurrent(layer: "tf.keras.layers.Layer") -> bool:
    """Whether Keras' own loop is what a layer computes."""
    import tensorflow as tf

    return (
        isinstance(layer, tf.keras.layers.RNN)
        and type(layer).call.__module__.startswith("tf_keras.")
        and not layer.unroll
    )


def _by_steps(
    layer: "tf.keras.layers.Layer",
    owner: "tf.keras.layers.Layer",
    inputs: Any,
    mask: Any = None,
    training: Any = None,  # noqa: ARG001  files answer as in inference
    initial_state: Any = None,
    constants: Any = None,
) -> Any:
    """What `layer.call` returns, as `tf.keras.backend.rnn` computes it with a loop.

    Args:
        layer: a recurrent one.
        owner: the layer of the model that it is, or is in.
        inputs: `(batch, steps, …)`, or steps first if the layer is `time_major`; states may follow.
        mask: `(batch, steps)`, where a step counts.
        training: what it says is not asked.
        initial_state: what to begin with.
        constants: what the cell takes at each step.

    """
    import tensorflow as tf

    inputs, states, constants = layer._process_inputs(inputs, initial_state, constants)
    axis = 0 if getattr(layer, "time_major", False) else 1
    if tf.nest.is_nested(inputs) or inputs.shape[axis] is None:
        raise ConversionError(
            f"layer '{owner.name}' ({kind(owner)}) takes sequences of any length, for which litert has no loop: "
            "give the model's Input a number of steps, or name another target (onnxruntime or savedmodel)"
        )
    steps = tf.unstack(inputs, axis=axis)
    masks = [None] * len(steps) if mask is None else tf.unstack(tf.nest.flatten(mask)[0], axis=axis)
    more = {"constants": list(constants)} if constants else {}
    outputs: list[Any] = []
    for place in range(len(steps))[:: -1 if layer.go_backwards else 1]:
        output, new = layer.cell(steps[place], tuple(states), **more)
        new = new if tf.nest.is_nested(new) else [new]
        if masks[place] is not None:
            hidden = layer.zero_output_for_mask or not outputs
            output = _where(masks[place], output, tf.zeros_like(output) if hidden else outputs[-1])
            pairs = zip(tf.nest.flatten(new), tf.nest.flatten(states), strict=True)
            new = tf.nest.pack_sequence_as(new, [_where(masks[place], one, before) for one, before in pairs])
        states = new
        outputs.append(output)
    output = tf.stack(outputs, axis=axis) if layer.return_sequences else outputs[-1]
    return [output, *states] if layer.return_state else output


def _where(real: Any, one: Any, other: Any) -> Any:
    """`one` in examples where a step counts, `(batch,)`, and `other` where it does not."""
    import tensorflow as tf

    return tf.where(tf.reshape(real, [-1] + [1] * (len(one.shape) - 1)), one, other)
