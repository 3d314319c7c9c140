"""Keras graphs taken apart and put together again: how stages change a model's layers without changing the model.

A model is walked call by call in its own order, and each call of a layer is answered with new tensors. What comes out
is a functional model with the same inputs, made of new layers; the one that was handed in stays as it was.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.keras_graph.activations import (
    activation_name,
    check_activations,
    ends_with_activation,
    standing_for,
    stands_alone,
)
from tasks.keras_graph.names import pinned, signature_names

if TYPE_CHECKING:
    import tensorflow as tf

# Layers that multiply by a kernel, by class name: the attribute that holds it, and which of its axes, from the end,
# count the output channels, which may each have a scale of their own.
KERNELS: dict[str, tuple[str, tuple[int, ...]]] = {
    "Dense": ("kernel", (-1,)),
    "Conv1D": ("kernel", (-1,)),
    "Conv2D": ("kernel", (-1,)),
    "DepthwiseConv2D": ("depthwise_kernel", (-2, -1)),  # counted over input channel and multiplier
    "Conv2DTranspose": ("kernel", (-2,)),
}


RANGE = "_range"  # a layer that quantizes another one's output is called as that one, and this
ACTIVATION = "_activation"  # the same for one that is another one's activation


@dataclass(frozen=True)
class Call:
    """One use of a layer in a graph without nested models."""

    layer: "tf.keras.layers.Layer"
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    producers: tuple["tf.keras.layers.Layer", ...]  # whose tensors it takes
    followers: tuple["tf.keras.layers.Layer", ...]  # who takes its tensors, once for each time
    leaves: bool  # whether an output of the model is among its tensors
    uses: int  # how often the model calls this layer in all


Answer = Callable[[Call], Any]


def kind(layer: "tf.keras.layers.Layer") -> str:
    """A layer's class, by name."""
    return type(layer).__name__


def kernel_of(layer: "tf.keras.layers.Layer") -> "tf.Variable":
    """The variable that a layer of `KERNELS` multiplies by."""
    return getattr(layer, KERNELS[kind(layer)][0])


def rebuild(
    model: "tf.keras.Model", answer: Answer, source: Callable[["tf.keras.layers.Layer", Any], Any] | None = None
) -> "tf.keras.Model":
    """The model again, with every call of a layer answered by `answer(call)`. Nested models have to be flat already.

    Args:
        model: a graph of layers.
        answer: from a call to its output.
        source: what takes the place of an input, from its layer and the new input; the latter if left out.

    Raises:
        ConversionError: the model is no graph of layers, so that nothing can be known of its inside.

    """
    check_graph(model)
    nodes = calls_of(model)
    followers: dict[str, list[tf.keras.layers.Layer]] = defaultdict(list)
    producers: dict[str, tf.keras.layers.Layer] = {}
    for node in nodes:
        for key in node.flat_input_ids:
            followers[key].append(node.layer)
        producers |= dict.fromkeys(node.flat_output_ids, node.layer)
    uses = Counter(id(node.layer) for node in nodes)
    leaving = {str(id(tensor)) for tensor in model.outputs}

    def follow(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return answer(
            Call(
                node.layer,
                args,
                kwargs,
                tuple(producers[key] for key in node.flat_input_ids if key in producers),
                tuple(layer for key in node.flat_output_ids for layer in followers[key]),
                bool(leaving.intersection(node.flat_output_ids)),
                uses[id(node.layer)],
            )
        )

    inputs = _inputs(model)
    sources = inputs
    if source is not None:
        sources = [source(layer, tensor) for layer, tensor in zip(model._input_layers, inputs, strict=True)]
    return assembled(model, inputs, walk(model, sources, follow))


def flat(model: "tf.keras.Model") -> "tf.keras.Model":
    """A copy made of plain layers, with weights of its own.

    The layers of nested models are in their place, named `outer_inner`, and called for training or not as the nested
    model was. Activations that Keras has no name for, such as layers, are layers behind those that they belong to.

    Raises:
        ConversionError: the model, or one inside it, is no graph of layers; an activation is code that no
            file holds; a nested model has a mask as an argument.

    """
    import tensorflow as tf

    copies = Copies()
    names: dict[int, str] = {}
    free = free_names(layer.name for layer in model.layers if not isinstance(layer, tf.keras.Model))
    behind: dict[int, Any] = {}

    def named(layer: "tf.keras.layers.Layer", prefix: str) -> str:
        if id(layer) not in names:  # those that are not nested have their names already
            names[id(layer)] = free(prefix + layer.name) if prefix else layer.name
        return names[id(layer)]

    def plain(layer: "tf.keras.layers.Layer", args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        if not ends_with_activation(layer):
            check_activations(layer)
            return copies.call(layer, args, kwargs, name=name)
        known, activation = activation_name(layer.activation), layer.activation
        if known:
            return copies.call(layer, args, kwargs, name=name, activation=known)
        if not stands_alone(activation):
            return copies.call(layer, args, kwargs, name=name)
        own = activation.get_weights() if isinstance(activation, tf.keras.layers.Layer) else []
        alone = kind(layer) == "Activation"
        tensor = args[0]
        if not alone:
            weights = layer.get_weights()
            weights = weights[: len(weights) - len(own)]
            tensor = copies.call(layer, args, kwargs, name=name, weights=weights, activation="linear")
        key = id(activation) if own else id(layer)  # what has weights may be shared
        if key not in behind:
            behind[key] = standing_for(activation, name if alone else free(f"{name}{ACTIVATION}"), name)
            tensor = behind[key](tensor)
            behind[key].set_weights(own)
            return tensor
        return behind[key](tensor)

    def inline(prefix: str, training: dict[str, Any]) -> Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]:
        def follow(node: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            layer = node.layer
            own = training_of(layer, args, kwargs)
            if own is None and layer._expects_training_arg:
                kwargs, own = {**kwargs, **training}, training.get("training")
            if not isinstance(layer, tf.keras.Model):
                return plain(layer, args, kwargs, named(layer, prefix))
            check_graph(layer)
            if kwargs.get("mask") is not None:
                raise ConversionError(
                    f"model '{layer.name}' is given a mask as an argument, which its layers cannot be given in its "
                    "place: have a Masking layer or an Embedding(mask_zero=True) before it hand the mask on"
                )
            below = {"training": own} if own is not None else {}
            outputs = walk(layer, tf.nest.flatten(args), inline(f"{prefix}{layer.name}_", below))
            return tf.nest.pack_sequence_as(layer._nested_outputs, outputs)

        return follow

    check_graph(model)
    inputs = _inputs(model)
    return assembled(model, inputs, walk(model, inputs, inline("", {})))


def training_of(layer: "tf.keras.layers.Layer", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a call says of training, by name or by place; None if it says nothing."""
    spec = layer._call_spec
    if not spec.arg_was_passed("training", args, kwargs, inputs_in_args=True):
        return None
    return spec.get_arg_value("training", args, kwargs, inputs_in_args=True)


def free_names(taken: Iterable[str]) -> Callable[[str], str]:
    """Names for new layers: the one asked for, or with the first number behind it that nothing else has."""
    known = set(taken)

    def free(name: str) -> str:
        chosen, count = name, 1
        while chosen in known:
            count += 1
            chosen = f"{name}_{count}"
        known.add(chosen)
        return chosen

    return free


class Copies:
    """Layers copied with their weights, each once however often it is called."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def call(
        self,
        layer: "tf.keras.layers.Layer",
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        /,  # settings may have these names
        *,
        weights: list[np.ndarray] | None = None,
        **changes: Any,
    ) -> Any:
        """The output of the layer's copy for these tensors.

        Args:
            layer: what to copy.
            args: what to call the copy with.
            kwargs: the same, by name.
            weights: in the copy's own order, instead of the layer's.
            changes: settings of the layer's config that the copy has different.

        """
        new = id(layer) not in self._made
        if new:
            self._made[id(layer)] = copied(layer, changes)
        copy = self._made[id(layer)]
        output = copy(*args, **kwargs)
        if new:
            carry(copy, values_of(layer) if weights is None else weights)
        return output


def carry(layer: "tf.keras.layers.Layer", weights: list[np.ndarray]) -> None:
    """Set the weights of a layer or a model, and what some layers derive from theirs.

    A Normalization that was adapted to data computes with constants that it makes from its weights.
    """
    layer.set_weights(weights)
    for part in layer._flatten_layers():
        if hasattr(part, "finalize_state"):
            part.finalize_state()


def is_adapted(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a lookup layer has a vocabulary from data, which neither its config has, nor any file of ours."""
    return getattr(layer, "input_vocabulary", ...) is None and int(layer.lookup_table.size()) > 0


def values_of(layer: "tf.keras.layers.Layer") -> list[np.ndarray]:
    """A layer's weights as its copy has them: a vocabulary is in the copy's config."""
    if not is_adapted(layer):
        return list(layer.get_weights())
    return [layer.idf_weights.numpy()] if layer.output_mode == "tf_idf" else []


def copied(layer: "tf.keras.layers.Layer", changes: dict[str, Any]) -> "tf.keras.layers.Layer":
    """A layer of the same settings but for the changes, without the weights; a model inside as one of such layers."""
    import tensorflow as tf

    if getattr(layer, "_is_graph_network", False):
        return tf.keras.models.clone_model(layer, clone_function=lambda part: copied(part, {}))
    if kind(layer) == "TimeDistributed" and "layer" not in changes:  # its config has what is in it, as code too
        settings = {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy, **changes}
        return type(layer)(copied(layer.layer, {}), **settings)
    if kind(layer) == "Lambda":  # its config holds the function as code, which Keras refuses to load
        settings = {"output_shape": layer._output_shape, "mask": layer.mask, "arguments": layer.arguments}
        return type(layer)(layer.function, **{**settings, "name": layer.name, "trainable": layer.trainable, **changes})
    if is_adapted(layer):
        learnt = {"vocabulary": layer.get_vocabulary(include_special_tokens=False)}
        if layer.output_mode == "tf_idf":
            learnt["idf_weights"] = layer.idf_weights.numpy()[layer._token_start_index() :]
        changes = {**learnt, **changes}
    function = getattr(layer, "activation", None)
    if not ends_with_activation(layer) or activation_name(function) or hasattr(function, "get_config"):
        return type(layer).from_config({**layer.get_config(), **changes})
    # code, which a config has no place for, or has by a name that is another's
    layer.activation = tf.keras.activations.linear
    try:
        settings = layer.get_config()
    finally:
        layer.activation = function
    return type(layer).from_config({**settings, "activation": function, **changes})


def check_graph(model: "tf.keras.Model") -> None:
    """Raises ConversionError unless a model is a graph of layers."""
    if not getattr(model, "_is_graph_network", False):
        raise ConversionError(
            f"model '{model.name}' ({kind(model)}) is not a graph of layers, so its inside cannot be read or changed: "
            "build it with the functional API or as a Sequential that knows its input shape, and save that"
        )


def calls_of(model: "tf.keras.Model") -> list[Any]:
    """The calls of layers that a graph consists of, each after those that it depends on."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    return [node for depth in depths for node in model._nodes_by_depth[depth] if not node.is_input]


def inputs_used(model: "tf.keras.Model") -> list[int]:
    """The numbers of the inputs on which an output hangs."""
    used = {key for node in calls_of(model) for key in node.flat_input_ids} | {str(id(each)) for each in model.outputs}
    return [place for place, each in enumerate(model.inputs) if str(id(each)) in used]


def _inputs(model: "tf.keras.Model") -> list[Any]:
    import tensorflow as tf

    return [
        tf.keras.Input(tensor.shape[1:], batch_size=tensor.shape[0], dtype=tensor.dtype, name=layer.name)
        for tensor, layer in zip(model.inputs, model._input_layers, strict=True)
    ]


def walk(
    model: "tf.keras.Model", inputs: list[Any], follow: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
) -> list[Any]:
    """Call by call through a graph; its outputs for these inputs, flat.

    Args:
        model: nested models in it are calls as those of layers.
        inputs: what takes the place of the model's own, in their order.
        follow: from a node, its arguments and keywords with the new tensors in them, to its output.

    """
    import tensorflow as tf

    known = {str(id(old)): new for old, new in zip(model.inputs, inputs, strict=True)}
    for node in calls_of(model):
        # `map_arguments` takes one of a tensor's copies for each place where it stands
        args, kwargs = node.map_arguments({key: [known[key]] * len(node.flat_input_ids) for key in node.flat_input_ids})
        output = follow(node, args, kwargs)
        known.update(zip(node.flat_output_ids, tf.nest.flatten(output), strict=True))
    return [known[str(id(tensor))] for tensor in model.outputs]


def assembled(model: "tf.keras.Model", inputs: list[Any], outputs: list[Any]) -> "tf.keras.Model":
    """A model of new tensors, its inputs and outputs nested and called as the old one's."""
    import tensorflow as tf

    shape = model._nested_inputs
    named_inputs = dict(zip(sorted(shape), inputs, strict=True)) if isinstance(shape, dict) else inputs
    outputs = pinned(outputs, signature_names(model)[1])
    return tf.keras.Model(named_inputs, tf.nest.pack_sequence_as(model._nested_outputs, outputs), name=model.name)
