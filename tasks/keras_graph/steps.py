"""What a TimeDistributed calls at each step, called once for the steps of all examples: kernels stand by themselves."""

from typing import TYPE_CHECKING, Any

from tasks.keras_graph.rebuild import Call, Copies, flat, free_names, kind, rebuild

if TYPE_CHECKING:
    import tensorflow as tf


def at_once(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function with the layers in TimeDistributed ones in their place, the steps folded into the batch.

    Args:
        model: flat. Its layers are copied, if there is anything to be done.

    """
    if not any(kind(layer) == "TimeDistributed" for layer in model.layers):
        return model
    copies = Copies()
    free = free_names(layer.name for layer in model.layers)
    folded: dict[int, tuple[Any, Any]] = {}  # outputs with steps, and what they were folded

    def answer(call: Call) -> Any:
        if not _opens(call, {layer.name for layer in model.layers}):
            return copies.call(call.layer, call.args, call.kwargs)
        steps, inner = call.args[0], call.layer.layer
        _, tensor = folded.get(id(steps), (None, None))
        if tensor is None:
            tensor = _reshaped(steps, (-1, *steps.shape[2:]), free(f"{call.layer.name}_steps"))
        named = {} if hasattr(inner, "layers") else {"name": call.layer.name}
        tensor = copies.call(inner, (tensor,), {}, **named)
        output = _reshaped(tensor, (-1, steps.shape[1], *tensor.shape[1:]), free(f"{call.layer.name}_examples"))
        folded[id(output)] = output, tensor
        return output

    return flat(rebuild(model, answer))


def _opens(call: Call, names: set[str]) -> bool:
    """Whether a call is of a layer that can be called for all steps at once, with sizes that are known."""
    if kind(call.layer) != "TimeDistributed" or call.kwargs.get("mask") is not None:
        return False
    steps, inner = call.args[0], call.layer.layer
    masked = getattr(steps, "_keras_mask", None) is not None
    recurrent = any(hasattr(part, "cell") for part in inner._flatten_layers())
    known = None not in (*steps.shape[1:], *call.layer.output_shape[1:])
    return known and not masked and not recurrent and not (hasattr(inner, "layers") and inner.name in names)


def _reshaped(tensor: Any, shape: tuple[int, ...], name: str) -> Any:
    """A tensor in another shape, of whose batch nothing stays."""
    import tensorflow as tf

    operation = {"class_name": "TFOpLambda", "config": {"name": name, "function": "reshape"}}
    return tf.keras.layers.deserialize(operation)(tensor, shape)
