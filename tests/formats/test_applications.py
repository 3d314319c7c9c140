"""Keras' own applications, a block of each kind from its own code: brought from a file, and made into each format."""

import importlib

import numpy as np
import pytest
from small_models import images

from tasks.formats import FORMATS
from tasks.formats.keras import files as format_keras
from tasks.formats.parity import targets_apart
from tasks.keras_graph.folding import fold
from tasks.measuring.agreement import furthest
from tasks.quantization.fake_quantization import fake_quantized

pytestmark = pytest.mark.slow

SHAPE, CLASSES = (48, 48, 3), 5
SETTINGS = {"weights": None, "input_shape": SHAPE, "classes": CLASSES, "classifier_activation": None}
BLOCKS = {"depths": [1, 1, 1, 1], "default_size": 48, **SETTINGS}
WIDTHS = [8, 16, 24, 32]


def code(name):
    return importlib.import_module(f"tf_keras.src.applications.{name}")


def resnet(stack, preact):
    def stacks(tensor):
        return stack(stack(tensor, 8, 2, name="first"), 16, 2, name="second")

    return code("resnet").ResNet(stacks, preact, True, weights=None, input_shape=SHAPE, classes=CLASSES)


def nasnet(skip):
    settings = {"num_blocks": 1, "stem_block_filters": 16, "filter_multiplier": 2, "default_size": 48}
    return code("nasnet").NASNet(penultimate_filters=96, skip_reduction=skip, include_top=True, **settings, **SETTINGS)


def inception_resnet():
    import tensorflow as tf

    layers, inception = tf.keras.layers, code("inception_resnet_v2")
    inception.layers = layers  # as InceptionResNetV2 itself sets it
    inputs = layers.Input(SHAPE, name="image")
    tensor = inception.conv2d_bn(layers.Rescaling(1 / 127.5, -1, name="scale")(inputs), 16, 3, strides=4)
    for kind in ("block35", "block17", "block8"):
        tensor = inception.inception_resnet_block(tensor, 0.2, kind, 1, activation=None if kind == "block8" else "relu")
    tensor = layers.GlobalAveragePooling2D(name="mean")(tensor)
    return tf.keras.Model(inputs, layers.Dense(CLASSES, name="out")(tensor), name="inception_resnet")


FAMILIES = {
    "convnext": lambda: code("convnext").ConvNeXt(projection_dims=WIDTHS, layer_scale_init_value=0.3, **BLOCKS),
    "densenet": lambda: code("densenet").DenseNet([1, 2, 1, 2], **SETTINGS),
    "efficientnet": lambda: code("efficientnet").EfficientNet(0.25, 0.1, 48, **SETTINGS),
    "efficientnet_v2": lambda: code("efficientnet_v2").EfficientNetV2(
        0.25, 0.1, 48, model_name="efficientnetv2-b0", **SETTINGS
    ),
    "inception_resnet": inception_resnet,
    "mobilenet": lambda: code("mobilenet").MobileNet(alpha=0.25, **SETTINGS),
    "mobilenet_v2": lambda: code("mobilenet_v2").MobileNetV2(alpha=0.35, **SETTINGS),
    "mobilenet_v3": lambda: code("mobilenet_v3").MobileNetV3Small(alpha=0.75, **SETTINGS),
    "nasnet_large": lambda: nasnet(skip=True),
    "nasnet_mobile": lambda: nasnet(skip=False),
    "regnet_x": lambda: code("regnet").RegNet(widths=WIDTHS, group_width=8, block_type="X", **BLOCKS),
    "regnet_y": lambda: code("regnet").RegNet(widths=WIDTHS, group_width=8, block_type="Y", **BLOCKS),
    "resnet": lambda: resnet(code("resnet").stack1, preact=False),
    "resnet_v2": lambda: resnet(code("resnet").stack2, preact=True),
}


def settled(family):
    """A model whose normalisations have the statistics of the images, and the images."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    model, x = FAMILIES[family](), images(48, SHAPE)
    for layer in model._flatten_layers():
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    model(x, training=True)
    return model, x


@pytest.mark.parametrize("family", FAMILIES)
def test_an_application_is_brought_and_its_files_answer_right(family, tmp_path):
    model, x = settled(family)
    model.save(tmp_path / "model.keras")
    ours = format_keras.import_model(tmp_path / "model.keras", trust=False)
    expected = model(x, training=False).numpy()
    assert np.ptp(expected, axis=0).min() > 0
    for brought in (ours, fold(ours)):
        assert furthest(brought(x, training=False).numpy(), expected).share <= 1
    assert targets_apart(ours, tuple(FORMATS), "float32", x, len(x)) == {}
    assert targets_apart(fake_quantized(ours, x), tuple(FORMATS), "int8", x, len(x)) == {}
