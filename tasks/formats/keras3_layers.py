"""What of Keras 3 has its like in Keras 2, and what its settings are called there.

Everything is read from configs, as Keras 3 writes them (keras/src/saving/serialization_lib.py of 3.0 to 3.15); neither
Keras is imported.
"""

from collections.abc import Iterator
from typing import Any

from tasks.formats.keras3_operations import OPERATIONS
from tasks.formats.keras_applications import OWN, is_own

Entry = dict[str, Any]  # one layer of a config: {"class_name": …, "config": {…}, "inbound_nodes": […], …}

MODELS = frozenset({"Functional", "Sequential"})
WRAPPERS = frozenset({"Bidirectional", "TimeDistributed"})
RECURRENT = frozenset({"GRU", "LSTM", "SimpleRNN"})
# fmt: off
# Layers of one name and one meaning.
SAME = frozenset({
    "Activation", "ActivityRegularization", "Add", "AlphaDropout", "Average", "AveragePooling1D", "AveragePooling2D",
    "AveragePooling3D", "BatchNormalization", "CenterCrop", "Concatenate", "Conv1D", "Conv1DTranspose", "Conv2D",
    "Conv2DTranspose", "Conv3D", "Conv3DTranspose", "Cropping1D", "Cropping2D", "Cropping3D", "Dense",
    "DepthwiseConv1D", "DepthwiseConv2D", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding", "Flatten", "GRU",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "GroupNormalization", "Identity", "LSTM",
    "LayerNormalization", "LeakyReLU", "Masking", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum",
    "MultiHeadAttention", "Multiply", "Normalization", "PReLU", "Permute", "RandomBrightness", "RandomContrast",
    "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector", "Rescaling", "Reshape",
    "Resizing", "SeparableConv1D", "SeparableConv2D", "SimpleRNN", "Softmax", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "Subtract", "UnitNormalization", "UpSampling1D", "UpSampling2D", "UpSampling3D",
    "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
})
# Activations of one name and one meaning; `hard_sigmoid` has another meaning in each.
ACTIVATIONS = frozenset({
    "elu", "exponential", "gelu", "linear", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "softmax", "softplus", "softsign", "swish", "tanh",
})
# fmt: on
# Those that layers of their own make up.
COMPOSED = frozenset({"hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu"})
RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
# Settings that Keras 2 does not know and that change no answer, whatever they are: weights are carried over, so that
# how they began says nothing, and everything is computed in float32.
IDLE = frozenset({"autocast", "bounding_box_format", "dtype", "flash_attention", "optional", "seed", "use_cudnn"})
# Settings that Keras 2 does not know and that change nothing as long as they have one of these values.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "antialias": (False,),
    "lora_alpha": (None,),
    "lora_rank": (None,),
    "pad_to_aspect_ratio": (False,),
    "quantization_config": (None,),
    "rms_scaling": (False,),
    "sliding_window": (None,),
    "use_gate": (False,),
    "zero_output_for_mask": (False,),
}
# The same, where only some layers of Keras 2 do not know them.
UNKNOWN_TO: dict[str, dict[str, tuple[Any, ...]]] = {
    "Resizing": {"data_format": (None, "channels_last"), "fill_mode": (), "fill_value": ()},
    "ZeroPadding1D": {"data_format": (None, "channels_last")},
    "CenterCrop": {"data_format": (None, "channels_last")},
    **{
        name: {"data_format": (None, "channels_last"), "value_range": (), "factor": (None,)}
        for name in ("RandomFlip", "RandomTranslation", "RandomZoom")
    },
    **{
        name: {"data_format": (None, "channels_last"), "value_range": ()}
        for name in ("RandomContrast", "RandomRotation")
    },
    "RandomBrightness": {"data_format": (None, "channels_last")},
}


def is_operation(entry: Entry) -> bool:
    """Whether an entry is an operation such as `x + 1`, which Keras 3 lists among a model's layers."""
    if entry.get("module"):
        return str(entry["module"]).startswith("keras.src.ops.")
    settings = entry.get("config")  # .h5 files name no modules; layers can be made trainable, operations cannot
    return isinstance(settings, dict) and not {"trainable", "batch_shape", "layers"} & settings.keys()


def refusals(entry: Entry) -> list[str]:
    """Each layer in a model's config that Keras 2 cannot be made to compute, and why."""
    return [
        f"'{part['config'].get('name') or part.get('name')}' ({part['class_name']}) {why}"
        for part in _parts(entry)
        if (why := _why_not(part))
    ]


def computed(settings: dict[str, Any]) -> list[Entry]:
    """The layers and operations that a functional model's outputs come from, their masks aside.

    Keras 3 computes masks by operations that stand among a model's layers; Keras 2 hands them on behind the scenes.
    """
    layers = []
    for layer in settings["layers"]:
        nodes = [
            {**node, "kwargs": {key: value for key, value in node["kwargs"].items() if key != "mask"}}
            for node in layer["inbound_nodes"]
        ]
        layers.append({**layer, "inbound_nodes": nodes})
    named = {layer["name"]: layer for layer in layers}
    needed: set[str] = set()
    waiting = [name for name, _, _ in (*leaves(settings["output_layers"]), *leaves(settings["input_layers"]))]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [giver for giver, _, _ in taken(named[name]["inbound_nodes"])]
    return [layer for layer in layers if layer["name"] in needed]


def _parts(entry: Entry) -> Iterator[Entry]:
    """An entry and all that it consists of."""
    yield entry
    settings = entry["config"]
    inner: list[Entry] = []
    if entry["class_name"] in MODELS:
        inner = computed(settings) if entry["class_name"] == "Functional" else settings["layers"]
    if entry["class_name"] in WRAPPERS:
        inner = [settings[key] for key in ("layer", "backward_layer") if settings.get(key)]
    for part in inner:
        yield from _parts(part)


def _why_not(entry: Entry) -> str:
    """Why an entry has no like in Keras 2; empty if it has one."""
    name, settings = entry["class_name"], entry["config"]
    if is_operation(entry):
        return "" if name in OPERATIONS else "is an operation that no layer of Keras 2 stands for"
    if name in WRAPPERS and activation_of(settings["layer"]["config"].get("activation")) in COMPOSED:
        return "has a layer in it with an activation that Keras 2 does not have"
    if name in MODELS or name in WRAPPERS or name in ("InputLayer", "Lambda"):
        return "" if name != "InputLayer" or not settings.get("sparse") else "takes sparse tensors"
    if name in OWN and not entry.get("module"):
        return "may be anybody's class of that name, as .h5 files do not tell: save the model as a .keras file"
    if name not in SAME and not is_own(name, str(entry.get("module"))):
        return "has no like in Keras 2"
    if policy_of(settings) is None:
        return "has weights in 8 bits already; bring the model that it was quantized from"
    for key, value in settings.items():
        neutral = UNKNOWN_TO.get(name, {}).get(key, NEUTRAL.get(key))
        if neutral and value not in neutral:
            return f"has {key}={value!r}, which Keras 2 does not know"
    for key in ("activation", "recurrent_activation"):
        activation = activation_of(settings.get(key))
        if isinstance(activation, dict) and (key != "activation" or name in RECURRENT or _why_not(activation)):
            return f"has a layer as its {key}"
        known = ACTIVATIONS if name in RECURRENT else ACTIVATIONS | COMPOSED
        if isinstance(activation, str) and activation not in known:
            return f"has the {key} {activation!r}, which Keras 2 does not have" + (
                ", or has another by that name" if activation in COMPOSED else ""
            )
    return ""


def policy_of(settings: dict[str, Any]) -> str | None:
    """The numbers that a layer computes in; None if its weights are integers."""
    policy = settings.get("dtype") or "float32"
    if isinstance(policy, dict):
        if policy.get("class_name") != "DTypePolicy":
            return None
        policy = policy["config"]["name"]
    return None if str(policy).startswith(("int", "float8", "gptq", "awq")) else str(policy)


def activation_of(value: Any) -> str | Entry | None:
    """An activation's name, or the entry of the layer that stands for it."""
    if isinstance(value, dict):
        return str(value.get("config")) if value.get("class_name") == "function" else value
    return str(value) if value is not None else None


def settings_of(entry: Entry) -> dict[str, Any]:
    """A layer's config as Keras 2 takes it; `refusals` has found nothing.

    Left out is how weights begin: they are carried over.
    """
    name = entry["class_name"]
    unknown = {*IDLE, *NEUTRAL, *UNKNOWN_TO.get(name, {})}
    settings = {}
    for key, value in entry["config"].items():
        if key in unknown or key.endswith("_initializer"):
            continue
        if isinstance(value, dict) and "class_name" in value:  # regularizers and constraints
            value = {"class_name": value["class_name"], "config": value.get("config") or {}}
        settings[RENAMED.get(name, {}).get(key, key)] = value
    return settings


def leaves(tensors: Any) -> list[tuple[str, int, int]]:
    """The tensors in a structure of a config, each as layer, call and place: `["name", 0, 0]`."""
    if isinstance(tensors, dict):
        return [leaf for key in tensors for leaf in leaves(tensors[key])]
    if not isinstance(tensors, list):
        return []
    if len(tensors) >= 3 and isinstance(tensors[0], str) and isinstance(tensors[1], int):
        return [(tensors[0], tensors[1], tensors[2])]
    return [leaf for item in tensors for leaf in leaves(item)]


def taken(node: Any) -> list[tuple[str, int, int]]:
    """The tensors that a call takes, in the order of its arguments."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            return leaves(node["config"]["keras_history"])
        return [leaf for value in node.values() for leaf in taken(value)]
    return [leaf for item in node for leaf in taken(item)] if isinstance(node, list) else []
