"""The graph of a Keras 3 model, as its config describes it, made of layers of Keras 2."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.errors import ModelError
from tasks.contract.named import identifier
from tasks.formats.keras import applications as keras_applications
from tasks.formats.keras.brought_file import unlike
from tasks.formats.keras.limits import allowance, check_tensors
from tasks.formats.keras3.activations import ACTIVATED
from tasks.formats.keras3.composed_layers import MADE
from tasks.formats.keras3.layers import (
    CALLED,
    INERT,
    MODELS,
    WRAPPERS,
    Entry,
    activation_of,
    computed,
    executed,
    is_operation,
    is_traceable,
    is_traced,
    leaves,
    policy_of,
    refusals,
    settings_of,
)
from tasks.formats.keras3.mask_arguments import mask_argument, mask_of
from tasks.formats.keras3.masked_calls import Caller, MaskedCalls
from tasks.formats.keras3.masks import Masks, Unmaskable
from tasks.formats.keras3.operations import OPERATIONS
from tasks.formats.keras3.theirs import Theirs, Untraceable
from tasks.keras_graph.names import pinned

if TYPE_CHECKING:
    import tensorflow as tf

FIRST = ("query", "inputs", "sequences", "images", "data", "x")  # what layers of Keras 3 call what they take first


def built(config: Entry, theirs: Theirs, name: str, field: str, *, values: int | None = None) -> "tf.keras.Model":
    """The model of Keras 2 that a config describes, its weights whatever they begin with.

    Args:
        config: as Keras 3 serializes a model.
        theirs: its layers and operations themselves.
        name: what the user calls the model, for messages.
        field: the recipe's name for it, for messages.
        values: numbers that the model's file holds, so that no more weights are made; None sets no bound.

    Raises:
        ModelError: there are layers that have no like in Keras 2, which it names.

    """
    try:
        refused = refusals(config, trust=theirs.trust)
        if not refused:
            with allowance(values):
                model = _pinned(_model(config, theirs)[0], config)
            check_tensors(model, name, field)
            return model
    except (_Unlike, Unmaskable, Untraceable) as error:
        refused = [str(error)]
    except ModelError:
        raise
    except Exception as error:  # a config that is not one fails in whatever way
        raise ModelError(
            field,
            name,
            f"its config cannot be rebuilt in Keras 2 ({type(error).__name__}: {' '.join(str(error).split())[:300]}); "
            "save it again",
        ) from error
    raise unlike(field, name, refused)


class _Unlike(Exception):
    """A layer that has no like in Keras 2; its message names it."""


def _model(entry: Entry, theirs: Theirs) -> tuple["tf.keras.Model", Masks]:
    import tensorflow as tf

    settings = entry["config"]
    if entry["class_name"] == "Sequential":
        layers = list(settings["layers"])
        if layers[0]["class_name"] != "InputLayer":
            shape = settings.get("build_input_shape") or layers[0]["build_config"]["input_shape"]
            layers.insert(0, {"class_name": "InputLayer", "config": {"batch_shape": shape, "name": "input_layer"}})
        calls = MaskedCalls([layer["config"]["name"] for layer in layers])
        inputs = tensor = _input(layers[0]["config"])
        for layer in layers[1:]:
            (tensor,) = calls.called(layer, *_caller(layer, theirs, calls.masks), [tensor], {})
        return tf.keras.Model(inputs, tensor, name=settings["name"]), calls.masks
    layers = computed(settings)
    calls = MaskedCalls([layer["name"] for layer in layers])
    tensors = _tensors(settings, layers, theirs, calls)
    models = {layer["name"] for layer in layers if layer["class_name"] == "Functional"}

    def tensors_of(structure: Any) -> Any:
        if isinstance(structure, dict):
            return {key: tensors_of(value) for key, value in structure.items()}
        if structure and isinstance(structure[0], str):
            name, call, place = leaves(structure)[0]
            return tensors[name, call - (name in models)][place]  # a model's own graph counts as its first call here
        return [tensors_of(item) for item in structure]

    inputs, outputs = tensors_of(settings["input_layers"]), tensors_of(settings["output_layers"])
    model = tf.keras.Model(inputs, outputs, name=settings["name"])
    return model, calls.masks


def _pinned(model: "tf.keras.Model", entry: Entry) -> "tf.keras.Model":
    """The model with each of several outputs called as in Keras 3, whatever layers stand for those that give them."""
    import tensorflow as tf

    if len(model.outputs) == 1 or isinstance(model._nested_outputs, dict):
        return model
    names: list[str] = []
    for name, _, _ in leaves(entry["config"]["output_layers"]):
        again = names.count(name)  # a layer that is called twice
        names.append(f"{name}_{again}" if again else name)
    outputs = pinned(model.outputs, list(map(identifier, names)))
    outputs = tf.nest.pack_sequence_as(model._nested_outputs, outputs)
    return tf.keras.Model(model._nested_inputs, outputs, name=model.name)


def _tensors(
    settings: dict[str, Any], layers: list[Entry], theirs: Theirs, calls: MaskedCalls
) -> dict[tuple[str, int], list[Any]]:
    """The outputs of each call of each of these layers of a functional model."""
    tensors: dict[tuple[str, int], list[Any]] = {}
    kept = {layer["name"]: layer for layer in layers}
    named = {layer["name"]: layer for layer in settings["layers"]}
    callers = {}
    for layer in layers:
        if layer["class_name"] == "InputLayer":
            tensors[layer["name"], 0] = [_input(layer["config"])]
        else:
            callers[layer["name"]] = _caller(layer, theirs, calls.masks)
    for name, call in executed(settings):
        if name not in callers:
            continue  # an input, or what computes a mask
        node = kept[name]["inbound_nodes"][call]
        args, kwargs = _filled(node["args"], tensors), _filled(node["kwargs"], tensors)
        if not args and (first := next((key for key in FIRST if key in kwargs), None)):
            args = [kwargs.pop(first)]  # what comes first has another name in each Keras
        arguments = {key: mask_argument(value, name, kept, named) for key, value in node["masks"].items()}
        explicit = {key: mask_of(value, tensors, calls.masks) for key, value in arguments.items()}
        tensors[name, call] = calls.called(kept[name], *callers[name], args, kwargs, explicit)
    return tensors


def _filled(value: Any, tensors: dict[tuple[str, int], list[Any]]) -> Any:
    """Arguments with tensors and constants in their places."""
    if isinstance(value, list):
        return [_filled(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__keras_tensor__":
        name, call, place = value["config"]["keras_history"]
        return tensors[name, call][place]
    if value.get("class_name") in ("__tensor__", "__numpy__"):
        return np.asarray(value["config"]["value"], value["config"]["dtype"])
    if value.get("class_name") == "__slice__":
        return slice(*(_filled(value["config"][end], tensors) for end in ("start", "stop", "step")))
    if value.get("class_name") == "__ellipsis__":
        return ...
    return {key: _filled(item, tensors) for key, item in value.items()}


def _input(settings: dict[str, Any]) -> Any:
    import tensorflow as tf

    shape = settings.get("batch_shape") or [None, *settings["shape"]]
    dtype = policy_of(settings) or settings["dtype"]
    if dtype in ("float16", "bfloat16", "float64") or dtype.startswith("mixed_"):
        dtype = "float32"
    return tf.keras.Input(shape[1:], batch_size=shape[0], dtype=dtype, name=settings["name"])


def _caller(entry: Entry, theirs: Theirs, masks: Masks) -> tuple[Any, Caller]:
    """What stands for a layer or an operation: a layer, if it is one, and a function of what that is called with."""
    if is_traced(entry, trust=theirs.trust):
        return None, theirs.caller(entry)
    if is_operation(entry):
        return None, _operated(entry, theirs)
    if entry["class_name"] in MADE:
        return _made(entry, theirs)
    if entry["class_name"] in MODELS:
        layer, within = _model(entry, theirs)
        masks.add_model(layer, within)
    else:
        layer = _layer(entry, theirs)
    after = _after(entry, theirs)

    def call(args: list[Any], kwargs: dict[str, Any]) -> Any:
        # what Keras 3 notes about training gives way to what the whole model is called with, as a rule of its own
        passed = {key: value for key, value in kwargs.items() if key == "mask" or value is not None}
        return after(layer(*args, **{key: value for key, value in passed.items() if key != "training"}))

    return layer, call


def _operated(entry: Entry, theirs: Theirs) -> Caller:
    name = entry["config"]["name"]

    def answer(args: list[Any], kwargs: dict[str, Any]) -> Any:
        settings = {**entry["config"], **{key: value for key, value in kwargs.items() if value is not None}}
        output = OPERATIONS[entry["class_name"]](name, settings, args)
        if output is None and is_traceable(entry, trust=theirs.trust):
            output = theirs.caller(entry)(args, kwargs)
        if output is None:
            raise _Unlike(f"'{name}' ({entry['class_name']}) is an operation that no layer of Keras 2 stands for")
        return output

    return answer


def _made(entry: Entry, theirs: Theirs) -> tuple[Any, Caller]:
    name = entry["config"]["name"]
    made = MADE[entry["class_name"]](entry["config"])
    if made is None and is_traceable(entry, trust=theirs.trust):
        return None, theirs.caller(entry)
    calls = 0

    def answer(args: list[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ARG001  they say nothing but training
        nonlocal calls
        calls += 1  # each call has operations of its own
        output = made[1](name if calls == 1 else f"{name}_{calls}", args[0]) if made else None
        if output is None:
            raise _Unlike(
                f"'{name}' ({entry['class_name']}) can be made in Keras 2 along the last axis alone, or axes that "
                "have a size"
            )
        return output

    return made[0] if made else None, answer


def _layer(entry: Entry, theirs: Theirs) -> Any:
    """The layer of Keras 2 alone, without an activation that only other layers make up."""
    import tensorflow as tf

    name = str(entry["class_name"])
    if name in MODELS:  # inside a wrapper
        return _model(entry, theirs)[0]
    if name in INERT:
        return tf.keras.layers.Identity(name=entry["config"]["name"])
    kind = keras_applications.classes().get(name) or getattr(tf.keras.layers, CALLED.get(name, name))
    settings = settings_of(entry)
    if name == "Lambda":
        return kind(
            theirs.function(settings["name"]), name=settings["name"], arguments=settings.get("arguments") or None
        )
    if name in WRAPPERS or name == "RNN":
        inner = {
            key: _layer(entry["config"][key], theirs)
            for key in ("layer", "backward_layer", "cell")
            if entry["config"].get(key)
        }
        return kind(**{**settings, **inner})
    if name == "StackedRNNCells":
        return kind([_layer(cell, theirs) for cell in entry["config"]["cells"]], name=settings["name"])
    for key in ("activation", "recurrent_activation"):
        if key in settings:
            settings[key] = activation_of(settings[key])
    if _composed(entry) is not None:
        settings["activation"] = "linear"
        if name != "Activation":
            return kind(**settings)
        settings["name"] = f"{settings['name']}_given"
    return kind(**settings)


def _composed(entry: Entry) -> str | Entry | None:
    """The activation of a layer that takes layers of its own, if it has one."""
    settings = entry["config"]
    if entry["class_name"] in WRAPPERS:  # what the layer inside ends with can as well be behind all of it
        settings = settings["layer"]["config"]
    activation = activation_of(settings.get("activation"))
    return activation if isinstance(activation, dict) or activation in ACTIVATED else None


def _after(entry: Entry, theirs: Theirs) -> Callable[[Any], Any]:
    """What follows a layer of Keras 2 for it to be the one of Keras 3."""
    activation = _composed(entry)
    if activation is None:
        return lambda tensor: tensor
    name = entry["config"]["name"]
    if entry["class_name"] != "Activation":
        name += "_activation"
    if isinstance(activation, dict):
        layer = _layer({**activation, "config": {**activation["config"], "name": name}}, theirs)
        unmasked = {"mask": None} if layer._expects_mask_arg else {}  # Keras 3 hands an activation no mask
        return lambda tensor: layer(tensor, **unmasked)
    calls = 0

    def follow(tensor: Any) -> Any:
        nonlocal calls
        calls += 1  # nothing in these has weights, so each call has layers of its own
        return ACTIVATED[activation](name if calls == 1 else f"{name}_{calls}", tensor)

    return follow
