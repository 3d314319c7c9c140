"""Recurrent layers for LiteRT, in loops that it has: over tensors. Keras' own is over lists of them, of a fixed batch.

LiteRT has a whole LSTM, for a batch of one: but that keeps its state from one example to the next.
"""

import functools
from typing import TYPE_CHECKING, Any

from tasks.keras_graph.rebuild import Copies, rebuild

if TYPE_CHECKING:
    import tensorflow as tf


def looping(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function with recurrent layers in a loop over tensors, wherever they stand: in wrappers too.

    One step after the other, as `unroll=True` writes them, they would take 2 KB or so a step, and the file could take
    sequences of one length alone. Layers that were brought with `unroll=True` answer so, and stay as they are: going
    backwards, Keras then leaves out the wrong steps of a masked sequence.

    Args:
        model: flat. Its layers are copied.

    """
    if not any(_is_recurrent(part) for layer in model.layers for part in layer._flatten_layers()):
        return model
    copies = Copies()
    model = rebuild(model, lambda call: copies.call(call.layer, call.args, call.kwargs))
    for layer in model.layers:
        for part in layer._flatten_layers():
            if _is_recurrent(part):
                part.call = functools.partial(_looped, part)
    return model


def _is_recurrent(layer: "tf.keras.layers.Layer") -> bool:
    """Whether Keras' own loop is what a layer computes."""
    import tensorflow as tf

    return (
        isinstance(layer, tf.keras.layers.RNN)
        and type(layer).call.__module__.startswith("tf_keras.")
        and not layer.unroll
    )


def _looped(
    layer: "tf.keras.layers.Layer",
    inputs: Any,
    mask: Any = None,
    training: Any = None,  # noqa: ARG001  files answer as in inference
    initial_state: Any = None,
    constants: Any = None,
) -> Any:
    """What `layer.call` returns, as `tf.keras.backend.rnn` computes it.

    Args:
        layer: a recurrent one.
        inputs: `(batch, steps, …)`, or steps first if the layer is `time_major`, or several such; states may follow.
        mask: `(batch, steps)`, where a step counts.
        training: what it says is not asked.
        initial_state: what to begin with.
        constants: what the cell takes at each step.

    """
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla

    inputs, states, constants = layer._process_inputs(inputs, initial_state, constants)
    axis = 0 if getattr(layer, "time_major", False) else 1
    taken = tf.nest.map_structure(lambda each: _steps_first(each, axis), inputs)
    counting = None if mask is None else _steps_first(tf.nest.flatten(mask)[0], axis)
    more = {"constants": list(constants)} if constants else {}
    first = tf.nest.flatten(taken)[0]
    count = tf.shape(first)[0] if first.shape[0] is None else first.shape[0]

    def turn(number: Any, states: Any, last: Any, *outputs: Any) -> tuple[Any, ...]:
        """A step more; one that does not count leaves states and output as they were."""
        place = count - 1 - number if layer.go_backwards else number
        step = tf.nest.map_structure(lambda each: tf.gather(each, place), taken)
        output, new = layer.cell(step, states, **more)
        new = tf.nest.pack_sequence_as(states, tf.nest.flatten(new))
        if counting is not None:
            counts = tf.gather(counting, place)
            output = _where(counts, output, tf.zeros_like(output) if layer.zero_output_for_mask else last)
            new = tf.nest.map_structure(lambda one, other: _where(counts, one, other), new, states)
        if layer.return_sequences:
            start = tf.stack([number, *[0] * len(output.shape)])
            outputs = (xla.dynamic_update_slice(outputs[0], tf.expand_dims(output, 0), start),)
        return number + 1, new, output, *outputs

    one, batch = _shape_of_sequences(layer, inputs)[2:], tf.shape(first)[1]
    begin = [tf.constant(0), tuple(states), tf.zeros([batch, *one], first.dtype)]
    begin += [tf.zeros([count, batch, *one], first.dtype)] if layer.return_sequences else []
    _, states, last, *outputs = tf.while_loop(lambda number, *_: number < count, turn, begin)
    output = _steps_first(outputs[0], axis) if layer.return_sequences else last
    return [output, *states] if layer.return_state else output


def _shape_of_sequences(layer: "tf.keras.layers.Layer", inputs: Any) -> list[int | None]:
    """`(batch, steps, …)`, or steps first, of a layer's outputs if it returns all of them."""
    import tensorflow as tf

    returns = layer.return_sequences, layer.return_state
    layer.return_sequences, layer.return_state = True, False
    try:
        return list(layer.compute_output_shape(tf.nest.map_structure(lambda each: each.shape, inputs)))
    finally:
        layer.return_sequences, layer.return_state = returns


def _steps_first(values: Any, axis: int) -> Any:
    """Values `(batch, steps, …)` as `(steps, batch, …)`, or the other way; as they are if steps are their axis 0."""
    import tensorflow as tf

    if axis == 0:
        return values
    return tf.transpose(values, [1, 0, *range(2, len(values.shape))])


def _where(real: Any, one: Any, other: Any) -> Any:
    """`one` in examples where a step counts, `(batch,)`, and `other` where it does not."""
    import tensorflow as tf

    return tf.where(tf.reshape(real, [-1] + [1] * (len(one.shape) - 1)), one, other)
