"""The layers that `keras.applications` defines for itself, in ConvNeXt and InceptionResNetV2: opened, and made plain.

Neither Keras lists them among its layers, so that a file of one cannot be opened where nobody names them.
"""

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.keras_graph.rebuild import Call, Copies, flat, free_names, kind, rebuild

if TYPE_CHECKING:
    import tensorflow as tf

# By class name, the module of `applications` that defines it.
OWN = {"CustomScaleLayer": "inception_resnet_v2", "LayerScale": "convnext", "StochasticDepth": "convnext"}


def is_own(name: str, module: str) -> bool:
    """Whether a config's class, in the module that its config names, is one of these."""
    return name in OWN and module in (
        f"{package}.applications.{OWN[name]}" for package in ("keras", "keras.src", "tf_keras", "tf_keras.src")
    )


def classes(package: str = "tf_keras") -> dict[str, Any]:
    """These layers by class name, of Keras 2 (`tf_keras`) or Keras 3 (`keras`)."""
    return {
        name: getattr(importlib.import_module(f"{package}.src.applications.{module}"), name)
        for name, module in OWN.items()
    }


def in_plain_layers(model: "tf.keras.Model") -> "tf.keras.Model":
    """The same function, of layers that all stages know; the model itself if it has none of these.

    A factor for each channel of an image is a depthwise convolution of one place, which has the same weights to train,
    and which the layer before takes in where it can: `folding.fold`.
    """
    known = classes()

    def own(layer: "tf.keras.layers.Layer") -> bool:
        return type(layer) is known.get(kind(layer))

    if not any(map(own, model._flatten_layers())):
        return model
    model, copies = flat(model), Copies()
    free = free_names(layer.name for layer in model.layers)
    made: dict[int, Any] = {}

    def answer(call: Call) -> Any:
        layer = call.layer
        if not own(layer) or (kind(layer) != "StochasticDepth" and len(layer.output_shape) != 4):
            return copies.call(layer, call.args, call.kwargs)
        if id(layer) not in made:
            made[id(layer)] = _MADE[kind(layer)](layer, free)
        return made[id(layer)](*call.args)

    return rebuild(model, answer)


def _factors(name: str, values: np.ndarray, *, trainable: bool) -> Any:
    """A layer that multiplies each channel of an image by its value."""
    import tensorflow as tf

    layer = tf.keras.layers.DepthwiseConv2D(1, use_bias=False, name=name, trainable=trainable)
    layer.build((None, None, None, len(values)))
    layer.set_weights([values.reshape(1, 1, -1, 1)])
    return layer


def _layer_scale(layer: "tf.keras.layers.Layer", free: Any) -> Any:  # noqa: ARG001
    return _factors(layer.name, layer.gamma.numpy(), trainable=layer.trainable)


def _stochastic_depth(layer: "tf.keras.layers.Layer", free: Any) -> Any:  # noqa: ARG001
    import tensorflow as tf

    alike = (None, *(1 for _ in layer.output_shape[1:]))  # an example is left out whole, or not at all
    return tf.keras.layers.Dropout(layer.drop_path_rate, noise_shape=alike, name=layer.name)


def _custom_scale(layer: "tf.keras.layers.Layer", free: Any) -> Any:
    import tensorflow as tf

    values = np.full(layer.output_shape[-1], layer.scale, np.float32)
    scaled, add = (
        _factors(free(f"{layer.name}_scale"), values, trainable=False),
        tf.keras.layers.Add(name=layer.name),
    )
    return lambda tensors: add([tensors[0], scaled(tensors[1])])


_MADE = {"CustomScaleLayer": _custom_scale, "LayerScale": _layer_scale, "StochasticDepth": _stochastic_depth}
