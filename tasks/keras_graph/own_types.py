"""The types in which a brought model takes its inputs: kept in its graph, and given back to it in files.

Inside, every model takes float32, as data, ranges and teachers do. One that came with ids in int32 or pixels in uint8
has a cast to that type behind such an input, called as `own_type` calls it. That outlives every rebuild and Keras' own
files, and where a file of the model is written the input takes the place of the cast.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.named import Array, identifier, ordered
from tasks.keras_graph.rebuild import calls_of, kind

if TYPE_CHECKING:
    import tensorflow as tf

OWN = "__own_type"  # such a layer is called as the input, and this
MOST = 1 << 24  # the whole numbers up to which float32 has them all


def own_type(tensor: Any, dtype: Any, name: str) -> Any:
    """What a model takes of the float32 input of that name, in its own type; of other floats no file is told."""
    import tensorflow as tf

    if dtype == tensor.dtype:
        return tensor
    if dtype.is_floating:
        return tf.cast(tensor, dtype)
    settings = {"class_name": "TFOpLambda", "config": {"name": f"{name}{OWN}", "function": "cast"}}
    return tf.keras.layers.deserialize(settings)(tensor, dtype.name)


def is_own_type(layer: "tf.keras.layers.Layer") -> bool:
    """Whether a layer does nothing but give an input its own type."""
    return bool(kind(layer) == "TFOpLambda" and layer.name.endswith(OWN))


def own_types(model: "tf.keras.Model") -> list[str]:
    """What a model takes at each of its inputs, as it came: float32, or the whole numbers that it is cast to."""
    takers = [[node for node in calls_of(model) if str(id(tensor)) in node.flat_input_ids] for tensor in model.inputs]
    return [
        nodes[0].outputs.dtype.name if nodes and all(is_own_type(node.layer) for node in nodes) else tensor.dtype.name
        for nodes, tensor in zip(takers, model.inputs, strict=True)
    ]


def unfit(model: "tf.keras.Model", x: Array) -> str:
    """Why a model cannot take examples `(n, …)` in its own types, with the first such value; empty if it can."""
    names = [layer.name for layer in model._input_layers]
    for name, dtype, values in zip(names, own_types(model), ordered(x, list(map(identifier, names))), strict=True):
        if np.dtype(dtype).kind not in "biu":
            continue
        least, most = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        least, most = max(least, -MOST), min(most, MOST)
        wrong = values[(values != np.floor(values)) | (values < least) | (values > most)]
        if wrong.size:
            return (
                f"takes {dtype} at its input '{name}', and the data have {wrong[0]:.10g} there: whole numbers from "
                f"{least:,} to {most:,} are taken as they are. Give those, or build the model with a float32 Input"
            )
    return ""
