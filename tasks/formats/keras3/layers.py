"""What of Keras 3 has its like in Keras 2, and what its settings are called there.

Everything is read from configs, as Keras 3 writes them (keras/src/saving/serialization_lib.py of 3.0 to 3.15); neither
Keras is imported.
"""

from typing import Any

from tasks.formats.keras.applications import OWN, is_own
from tasks.formats.keras.strings import STRINGS, takes_strings
from tasks.formats.keras3.activations import ACTIVATED
from tasks.formats.keras3.composed_layers import MADE
from tasks.formats.keras3.operations import OPERATIONS
from tasks.formats.keras3.tensors import COMPUTED_BY

Entry = dict[str, Any]  # one layer of a config: {"class_name": …, "config": {…}, "inbound_nodes": […], …}

MODELS = frozenset({"Functional", "Sequential"})
WRAPPERS = frozenset({"Bidirectional", "SpectralNormalization", "TimeDistributed"})
MASKS = frozenset({"mask", "query_mask", "value_mask", "key_mask"})  # what a layer is called with beside tensors
OF_MASKS = frozenset({"ConvertToTensor", "OnesLike", "ZerosLike"})  # operations that they are computed by
RECURRENT = frozenset({"GRU", "LSTM", "RNN", "SimpleRNN"})
CONVOLVING = frozenset({"ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"})
CELLS = frozenset({"GRUCell", "LSTMCell", "SimpleRNNCell", "StackedRNNCells"})  # what an RNN may be made of
# fmt: off
# Layers of one name and one meaning.
SAME = frozenset({
    "Activation", "ActivityRegularization", "Add", "AdditiveAttention", "AlphaDropout", "Attention", "Average",
    "AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "BatchNormalization", "CategoryEncoding",
    "CenterCrop", "Concatenate", "Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose", "Conv3D",
    "Conv3DTranspose", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Cropping1D", "Cropping2D", "Cropping3D", "Dense",
    "DepthwiseConv1D", "DepthwiseConv2D", "Discretization", "Dot", "Dropout", "ELU", "EinsumDense", "Embedding",
    "Flatten", "GRU", "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D",
    "GlobalAveragePooling3D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
    "GroupNormalization", "HashedCrossing", "Hashing", "Identity", "IntegerLookup", "LSTM", "LayerNormalization",
    "LeakyReLU", "Masking", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "Maximum", "Minimum",
    "MultiHeadAttention", "Multiply", "Normalization", "PReLU", "Permute", "RNN", "RandomBrightness",
    "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "ReLU", "RepeatVector",
    "Rescaling", "Reshape", "Resizing", "SeparableConv1D", "SeparableConv2D", "SimpleRNN", "Softmax",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Subtract", "UnitNormalization", "UpSampling1D",
    "UpSampling2D", "UpSampling3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D",
})
# Layers that change nothing when they do not train; that is seen when both models are compared.
INERT = frozenset({
    "AugMix", "CutMix", "Equalization", "MixUp", "RandAugment", "RandomColorDegeneration", "RandomColorJitter",
    "RandomElasticTransform", "RandomErasing", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert",
    "RandomPerspective", "RandomPosterization", "RandomSaturation", "RandomSharpness", "RandomShear", "Solarization",
})
# Activations of one name and one meaning; `hard_sigmoid` has another meaning in each.
ACTIVATIONS = frozenset({
    "elu", "exponential", "gelu", "linear", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus",
    "softsign", "swish", "tanh",
})
# Layers without a like whose operations are traced; none of them is large by weights that a config alone asks for.
TRACED = frozenset({
    "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "MelSpectrogram", "Pipeline", "Resizing",
    "STFTSpectrogram",
})
# fmt: on
MAX_SIZE = 1 << 14  # of what such a layer's settings ask for
CALLED = {"ReversibleEmbedding": "Embedding"}  # layers of another name and one meaning
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
    "sparse": (False,),
    "use_gate": (False,),
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
    # zeros where a step is masked, which those of Keras 2 never have: without a mask that is no difference
    **{name: {"unroll": (False,), "zero_output_for_mask": ()} for name in CONVOLVING},
    "IntegerLookup": {"oov_method": ("floormod",), "salt": (None,), "vocabulary_size": ()},
    "ReversibleEmbedding": {"logit_soft_cap": (), "reverse_dtype": (), "tie_weights": (True,)},
}
WHOLE = frozenset({"HashedCrossing", "Hashing", "IntegerLookup"})  # layers that compute in whole numbers
WITHOUT_TRAINABLE = frozenset({"Discretization", "HashedCrossing", "Pipeline"})  # layers whose configs do not have it


def is_operation(entry: Entry) -> bool:
    """Whether an entry is an operation such as `x + 1`, which Keras 3 lists among a model's layers."""
    if entry.get("module"):
        return str(entry["module"]).startswith("keras.src.ops.")
    settings = entry.get("config")  # .h5 files name no modules; layers can be made trainable, operations cannot
    layer = isinstance(settings, dict) and {"trainable", "batch_shape", "layers"} & settings.keys()
    return not layer and entry["class_name"] not in WITHOUT_TRAINABLE


def refusals(entry: Entry, *, trust: bool = False) -> list[str]:
    """Each layer in a model's config that Keras 2 cannot be made to compute, and why.

    Args:
        entry: the model's, or a layer's.
        trust: whether code of others may run, by which any layer can be traced.

    """
    name, kind = entry["config"].get("name") or entry.get("name"), entry["class_name"]
    own = [f"'{name}' ({kind}) {why}"] if (why := _why_not(entry)) else []
    if kind in MODELS:
        return [why for part in _parts(entry) for why in refusals(part, trust=trust)]
    inner = [f"'{name}' ({kind}) holds {why}" for part in _parts(entry) for why in refusals(part)]
    return [] if is_traceable(entry, trust=trust) else own + inner


def is_traceable(entry: Entry, *, trust: bool) -> bool:
    """Whether what an entry computes could be traced in Keras 3 itself, no code running that nobody trusts."""
    if entry["class_name"] in MODELS | {"InputLayer", "Lambda"} or _why_never(entry):
        return False
    if trust:
        return True
    if is_operation(entry):
        return bool(entry.get("module"))
    return entry["class_name"] in TRACED and entry.get("module") == "keras.layers" and _is_small(entry["config"])


def is_traced(entry: Entry, *, trust: bool) -> bool:
    """Whether an entry is traced, for want of a like in Keras 2."""
    return bool(is_traceable(entry, trust=trust) and (_why_not(entry) or any(map(refusals, _parts(entry)))))


def _is_small(part: Any) -> bool:
    """Whether no number in a config asks for more memory than a spectrogram takes."""
    if isinstance(part, dict):
        return all(_is_small(value) for key, value in part.items() if key not in ("sampling_rate", "seed"))
    if isinstance(part, list):
        return all(map(_is_small, part))
    return not isinstance(part, int) or part <= MAX_SIZE


def computed(settings: dict[str, Any]) -> list[Entry]:
    """The layers and operations that a functional model's outputs come from, the masks of each call set apart.

    Keras 3 computes masks by operations that stand among a model's layers, and these are left out; what they take is
    not.
    """
    layers = []
    for layer in settings["layers"]:
        nodes = []
        for node in layer["inbound_nodes"]:
            masks = {key: value for key, value in node["kwargs"].items() if key in MASKS and value is not None}
            kwargs = {key: value for key, value in node["kwargs"].items() if key not in MASKS}
            nodes.append({"args": node["args"], "kwargs": kwargs, "masks": masks})
        layers.append({**layer, "inbound_nodes": nodes})
    named = {layer["name"]: layer for layer in layers}
    needed: set[str] = set()
    waiting = [name for name, _, _ in (*leaves(settings["output_layers"]), *leaves(settings["input_layers"]))]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            nodes = named[name]["inbound_nodes"]
            waiting += [giver for node in nodes for giver, _, _ in taken([node["args"], node["kwargs"]])]
            waiting += [giver for node in nodes for giver in _beneath(node["masks"], named)]
    return [layer for layer in layers if layer["name"] in needed]


def _beneath(masks: Any, named: dict[str, Entry]) -> set[str]:
    """The layers and operations from which masks are computed."""
    beneath: set[str] = set()
    seen: set[str] = set()
    waiting = [giver for giver, _, _ in taken(masks)]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if is_operation(named[name]) and named[name]["class_name"] in COMPUTED_BY.keys() | OF_MASKS:
            waiting += [giver for node in named[name]["inbound_nodes"] for giver, _, _ in taken(node["args"])]
        else:
            beneath.add(name)
    return beneath


def executed(settings: dict[str, Any]) -> list[tuple[str, int]]:
    """The calls that a functional model makes, as layer and number, in the order in which Keras 3 makes them.

    That is the longest way to the outputs first (`map_graph` in keras/src/ops/function.py), and decides where a layer
    takes away a mask that another sees otherwise.
    """
    named = {layer["name"]: layer for layer in settings["layers"]}
    models = {layer["name"] for layer in settings["layers"] if layer["class_name"] == "Functional"}

    def givers(call: tuple[str, int]) -> list[tuple[str, int]]:
        name, number = call
        nodes = named[name]["inbound_nodes"]
        inputs = taken([nodes[number]["args"], nodes[number]["kwargs"]]) if nodes else []
        return [(giver, count) for giver, count, _ in inputs]

    calls: dict[tuple[str, int], None] = {}
    for name, number, _ in leaves(settings["output_layers"]):
        waiting = {(name, number - (name in models)): None}  # a model's own graph counts as its first call here
        while waiting:
            call = next(reversed(waiting))
            left = [giver for giver in givers(call) if giver not in calls]
            if left and left[0] in waiting:
                raise ValueError(f"'{left[0][0]}' takes what it gives itself")
            if left:
                waiting[left[0]] = None
            else:
                calls[call] = waiting.pop(call)
    depths: dict[tuple[str, int], int] = {}
    deepest: dict[str, int] = {}
    for call in reversed(calls):
        depth = deepest[call[0]] = depths[call] = max(depths.setdefault(call, 0), deepest.get(call[0], 0))
        for giver in givers(call):
            depths[giver] = max(depth + 1, depths.get(giver, 0))
    return sorted(depths, key=lambda call: -depths[call])


def _parts(entry: Entry) -> list[Entry]:
    """What an entry consists of."""
    settings = entry["config"]
    if is_operation(entry):
        return []
    if entry["class_name"] in MODELS:
        return computed(settings) if entry["class_name"] == "Functional" else list(settings["layers"])
    parts = [settings[key] for key in ("layer", "backward_layer", "cell") if isinstance(settings.get(key), dict)]
    return parts + (list(settings["cells"]) if entry["class_name"] == "StackedRNNCells" else [])


def _why_never(entry: Entry) -> str:
    """Why nothing can stand for an entry, not even what it is traced to; empty if something can."""
    name, settings = entry["class_name"], entry["config"]
    if is_operation(entry) or name in MODELS:
        return ""
    if name == "InputLayer":
        return "takes sparse tensors" if settings.get("sparse") else ""
    if name == "Lambda":
        return "makes a mask of its own, by code of yours" if settings.get("mask") is not None else ""
    if name in STRINGS:
        return takes_strings(str(settings.get("name")))
    if name in OWN and not entry.get("module"):
        return "may be anybody's class of that name, as .h5 files do not tell: save the model as a .keras file"
    if name not in WRAPPERS and policy_of(settings) is None and name not in WHOLE:
        return "has weights in 8 bits already; bring the model that it was quantized from"
    if settings.get("stateful"):
        return (
            "is stateful, so that its answers depend on the calls before, which files do not remember; build the model "
            "with stateful=False and a free batch, and set_weights from this one's get_weights()"
        )
    return next((f"holds a layer that {why}" for part in _parts(entry) if (why := _why_never(part))), "")


def _why_not(entry: Entry) -> str:
    """Why an entry has no like in Keras 2; empty if it has one."""
    name, settings = entry["class_name"], entry["config"]
    if is_operation(entry):
        return "" if name in OPERATIONS else "is an operation that no layer of Keras 2 stands for"
    if name in MODELS or name in WRAPPERS:
        return ""
    if why := _why_never(entry):
        return why
    if name in ("InputLayer", "Lambda"):
        return ""
    if name not in SAME | INERT | CELLS | MADE.keys() | CALLED.keys() and not is_own(name, str(entry.get("module"))):
        return "has no like in Keras 2"
    if name == "RNN" and settings["cell"]["class_name"] not in CELLS:
        return "has a cell of your own"
    return _strange(entry) or _unactivated(entry)


def _strange(entry: Entry) -> str:
    """What setting or call Keras 2 does not know."""
    name = entry["class_name"]
    for key, value in entry["config"].items():
        neutral = UNKNOWN_TO.get(name, {}).get(key, NEUTRAL.get(key))
        if neutral and value not in neutral:
            return f"has {key}={value!r}, which Keras 2 does not know"
    if any(node["kwargs"].get("reverse") for node in entry.get("inbound_nodes") or ()):
        return "is called with reverse=True, which Keras 2 does not know"
    if isinstance(entry["config"].get("mask_value"), dict):
        return "has a tensor as its mask_value, where Keras 2 has a number"
    return ""


def _unactivated(entry: Entry) -> str:
    """What activation Keras 2 does not have."""
    name, settings = entry["class_name"], entry["config"]
    inside = name in RECURRENT | CONVOLVING | CELLS
    for key in ("activation", "recurrent_activation"):
        activation = activation_of(settings.get(key))
        if isinstance(activation, dict) and (key != "activation" or inside or _why_not(activation)):
            return f"has a layer as its {key}"
        if activation == "glu":
            return "has the activation 'glu', whose width Keras 3 itself mistakes; call keras.ops.glu on what it gives"
        known = ACTIVATIONS if inside else ACTIVATIONS | ACTIVATED.keys()
        if isinstance(activation, str) and activation not in known:
            return f"has the {key} {activation!r}, which Keras 2 does not have" + (
                ", or has another by that name" if activation in ACTIVATED else ""
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
    """A layer's config as Keras 2 takes it, of a layer that `refusals` does not refuse.

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
