"""Where a graph begins and ends: its inputs and outputs put in the order of the data's, in float32."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.keras_graph.names import pinned
from tasks.keras_graph.own_types import own_type
from tasks.keras_graph.rebuild import Copies, check_graph, walk

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class End:
    """An input of a model to be.

    place: of the old model's input that it stands for. shape: of one example.
    """

    place: int
    name: str
    shape: tuple[int, ...]


def with_ends(
    model: "tf.keras.Model", inputs: Sequence[End], outputs: Sequence[int], names: Sequence[str]
) -> "tf.keras.Model":
    """The model with other inputs and outputs of the same tensors, all its inputs float32, and weights of its own.

    Args:
        model: nested models in it stay as they are.
        inputs: in their new order, each of the old ones once.
        outputs: the numbers of the old ones in their new order.
        names: what the outputs are called in every format, if there are several.

    Raises:
        ConversionError: the model is no graph of layers.

    """
    import tensorflow as tf

    check_graph(model)
    copies = Copies()
    made = {end.place: tf.keras.Input(end.shape, name=end.name) for end in inputs}
    ours = [made[place] for place in range(len(model.inputs))]
    cast = [
        own_type(tensor, old.dtype, layer.name)
        for tensor, old, layer in zip(ours, model.inputs, model._input_layers, strict=True)
    ]
    given = walk(model, cast, lambda node, args, kwargs: copies.call(node.layer, args, kwargs))
    return tf.keras.Model(list(made.values()), pinned([given[number] for number in outputs], names), name=model.name)
