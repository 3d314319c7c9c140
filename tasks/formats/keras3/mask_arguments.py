"""Masks that the config of a Keras 3 model hands to its layers as arguments, and what they are computed by.

Keras 3 writes down most masks so, those that it handed on behind the scenes too (`keras/src/layers/layer.py`).
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from tasks.formats.keras3.layers import Entry, leaves
from tasks.formats.keras3.masks import MaskExpression, Masks, Unmaskable
from tasks.formats.keras3.tensors import COMPUTED_BY


@dataclass(frozen=True)
class Place:
    """A tensor by the layer that it comes out of."""

    name: str
    call: int
    place: int


def mask_argument(value: Any, whose: str, kept: Container[str], named: dict[str, Entry]) -> Any:
    """What a mask is computed by, with the tensors of `kept` layers as places.

    Args:
        value: an argument in a config: a tensor, None, or a list of them.
        whose: the layer that is called with it, for messages.
        kept: the layers that are built.
        named: those that the config lists.

    Raises:
        Unmaskable: by an operation that is not known here, which it names.

    """
    if isinstance(value, list):
        return [mask_argument(each, whose, kept, named) for each in value]
    if not isinstance(value, dict) or value.get("class_name") != "__keras_tensor__":
        return value
    name, call, place = leaves(value["config"]["keras_history"])[0]
    if name in kept:
        return Place(name, call, place)
    entry = named[name]
    node, operation, settings = entry["inbound_nodes"][call], entry["class_name"], entry["config"]
    if operation == "Any" and (parts := _parts(node["args"][0], whose, kept, named)) is not None:
        return parts
    if operation == "ConvertToTensor":
        return mask_argument(node["args"][0], whose, kept, named)
    if operation not in COMPUTED_BY or settings.get("keepdims") or node["kwargs"]:
        raise Unmaskable(
            f"'{whose}' is given a mask that '{name}' ({operation}) makes, for which no operation of Keras 2 is known "
            "here: have a Masking layer or an Embedding(mask_zero=True) make it"
        )
    axis = (settings["axis"],) if "axis" in settings else ()
    return (operation, *(_tuples(mask_argument(each, whose, kept, named)) for each in node["args"]), *axis)


def _parts(value: Any, whose: str, kept: Container[str], named: dict[str, Entry]) -> Any:
    """What a Concatenate of Keras 3 computes its mask by, as ("Parts", axis, (tensor, its mask), …); None if it is not.

    Each mask is laid over its tensor, `mask[..., None] | zeros_like(tensor)`, or all of `ones_like(tensor)`.
    """
    whole, inputs = _made_by(value, named)
    if whole.get("class_name") != "Concatenate" or not isinstance(inputs[0], list):
        return None
    laid_over = []
    for part in inputs[0]:
        entry, args = _made_by(part, named)
        if entry.get("class_name") == "OnesLike":
            laid_over.append((mask_argument(args[0], whose, kept, named), None))
            continue
        if entry.get("class_name") != "LogicalOr":
            return None
        (mask, over), (zeros, tensor) = (_made_by(arg, named) for arg in args)
        if (mask.get("class_name"), zeros.get("class_name")) != ("ExpandDims", "ZerosLike"):
            return None
        laid_over.append((mask_argument(tensor[0], whose, kept, named), mask_argument(over[0], whose, kept, named)))
    return ("Parts", whole["config"]["axis"], *laid_over)


def _made_by(value: Any, named: dict[str, Entry]) -> tuple[Entry, list[Any]]:
    """The operation that a tensor comes out of, and what it is called with."""
    if not isinstance(value, dict) or value.get("class_name") != "__keras_tensor__":
        return {}, []
    name, call, _ = leaves(value["config"]["keras_history"])[0]
    return named[name], named[name]["inbound_nodes"][call]["args"] if named[name]["inbound_nodes"] else []


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def mask_of(argument: Any, tensors: dict[tuple[str, int], list[Any]], masks: Masks) -> Any:
    """A mask of `mask_argument` with the tensors of the graph that is being built in their places."""
    if isinstance(argument, list):
        return [mask_of(each, tensors, masks) for each in argument]
    if isinstance(argument, Place):
        return ("Tensor", masks.leaf(tensors[argument.name, argument.call][argument.place]))
    return _filled(argument, tensors, masks)


def _filled(argument: Any, tensors: dict[tuple[str, int], list[Any]], masks: Masks) -> MaskExpression | Any:
    if isinstance(argument, Place):
        return masks.leaf(tensors[argument.name, argument.call][argument.place])
    if not isinstance(argument, tuple):
        return argument
    if argument and argument[0] == "Parts":
        _, axis, *parts = argument
        whole = [tensors[place.name, place.call][place.place] for place, _ in parts]
        return masks.side_by_side("LogicalOr", whole, [_filled(mask, tensors, masks) for _, mask in parts], axis)
    filled = tuple(_filled(each, tensors, masks) for each in argument)
    if filled[:1] == ("LogicalOr",) and filled[1] == filled[2]:  # as of masks that are handed on
        return filled[1]
    return filled
