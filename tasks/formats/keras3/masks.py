"""Which steps each layer of a Keras 3 model leaves out, and which its like in Keras 2 would by itself.

Both hand masks on behind the scenes, and not alike: in Keras 3 a Rescaling hands its input's mask on, and in Keras 2 it
loses it; of two masked tensors that are added, a step stays if it does in either there, and in both here. So both ways
are followed (`keras/src/layers/layer.py` of 3.15 and `tf_keras/src/engine/base_layer.py` of 2.21, with the
`compute_mask` of each layer). `masked_calls` makes the second like the first.

A mask is followed as what it is computed by: None, or an operation of Keras 3 and its arguments, such as
`("NotEqual", MaskInput(3), 0)`; two are the same where these are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tasks.formats.keras3.layers import CONVOLVING, MODELS, RECURRENT, Entry
from tasks.formats.keras3.tensors import flattened, is_tensor
from tasks.keras_graph.rebuild import kind

MERGING = frozenset({"Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"})
MINDING = frozenset({"Maximum", "Minimum", "Multiply"})  # of those, the ones whose numbers depend on the masks
ATTENDING = frozenset({"AdditiveAttention", "Attention"})
STEPPING = RECURRENT | CONVOLVING
# Layers of Keras 3 that compute with a mask, and those that hand theirs on as it is.
READING = frozenset({"Bidirectional", "GlobalAveragePooling1D", "Lambda", "Softmax", *ATTENDING, *STEPPING, *MODELS})
# fmt: off
HANDING_ON = frozenset({
    "Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "GroupNormalization", "Identity", "LayerNormalization", "LeakyReLU",
    "MultiHeadAttention", "Normalization", "PReLU", "ReLU", "Rescaling", "Softmax", "SpatialDropout1D",
    "SpatialDropout2D", "SpatialDropout3D", "TimeDistributed", "UnitNormalization",
})
# Layers of Keras 3 whose output is the very tensor that they take, when they do not train.
PASSING = frozenset({
    "ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise", "Identity",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D",
})
# fmt: on
OPERATIONS_READING = frozenset({"Mean", "Softmax"})  # whose layers in Keras 2 do, and they do not
ROLES = {
    "query": -1,
    "value": -2,
    "key": -2,
}  # of what attention is called with, and the axis that its mask lacks there

MaskExpression = tuple[Any, ...] | None
Known = dict[int, MaskExpression]  # by a tensor's number


@dataclass(frozen=True)
class MaskInput:
    """A tensor of the graph, as an argument of what a mask is computed by."""

    number: int


class Unmaskable(Exception):
    """A mask that Keras 2 cannot take; its message names the layer, and the way out."""


@dataclass(frozen=True)
class Keras3Call:
    """One call of a layer or an operation as Keras 3 has it, with its outputs in Keras 2."""

    entry: Entry
    layer: Any  # of Keras 2; None for an operation
    args: list[Any]
    kwargs: dict[str, Any]
    explicit: dict[str, Any]  # masks that the model itself hands to the layer, by argument
    corrected: bool = False  # whether Keras 2 would use other masks by itself
    outputs: tuple[Any, ...] = ()

    @property
    def kind(self) -> str:
        """The class in Keras 3."""
        return str(self.entry["class_name"])

    @property
    def shown(self) -> str:
        """The layer, for messages."""
        return f"'{self.entry['config'].get('name')}' ({self.kind})"

    @property
    def first(self) -> Any:
        """What it is called with first; None for nothing."""
        if self.kind == "MultiHeadAttention":
            return self.roles["query"]
        return self.args[0] if self.args else next(iter(self.kwargs.values()), None)

    @property
    def roles(self) -> dict[str, Any]:
        """What a MultiHeadAttention is called with, by role."""
        arguments = {**dict(zip(ROLES, self.args, strict=False)), **self.kwargs}
        return {role: arguments[role] for role in ROLES if arguments.get(role) is not None}


class Masks:
    """The masks in one graph, by tensor of Keras 2: what Keras 3 has there, and what Keras 2 has."""

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}  # kept, so that no other gets the number of one
        self.theirs: Known = {}
        self.ours: Known = {}
        self.passed: Known = {}  # masks that layers of Keras 2 take as arguments, by the tensor that has one's values
        self._one: dict[int, int] = {}
        self._calls: list[Keras3Call] = []
        self._models: dict[int, tuple[Any, Masks]] = {}

    def leaf(self, tensor: Any) -> MaskInput:
        """A tensor as an argument of what a mask is computed by."""
        self.tensors[id(tensor)] = tensor
        return MaskInput(id(tensor))

    def add_model(self, model: Any, masks: "Masks") -> None:
        """Note the masks inside a model that is called as a layer."""
        self._models[id(model)] = model, masks

    def note(self, call: Keras3Call) -> None:
        """Note a call that was made, in the order in which Keras 3 makes them.

        Raises:
            Unmaskable: a layer inside a model that is called would see another mask in Keras 2.

        """
        self._calls.append(call)
        self.tensors |= {id(tensor): tensor for tensor in call.outputs}
        linear = call.kind == "Activation" and call.entry["config"].get("activation") == "linear"
        if call.layer is not None and (call.kind in PASSING or linear):
            self._one[id(call.outputs[0])] = self._number(call.first)
        self._follow(call, self.theirs)
        for tensor in call.outputs:
            self.in_keras2(tensor, self.ours)

    def compared(self, call: Keras3Call, theirs: Known, ours: Known) -> tuple[Any, Any]:
        """The mask that a call computes with in Keras 3, and in Keras 2 by itself; None where it reads none.

        In the form of the first argument, or by role.
        """
        layer, name = call.layer, call.kind
        first = call.first
        mask = self._map(first, lambda tensor: self.in_keras2(tensor, ours))
        if name == "Concatenate":
            axis, rank = call.entry["config"].get("axis", -1), len(first[0].shape)
            # along the steps, where some tensors have none, Keras 2 fails to put them together
            return None, mask if axis % rank != rank - 1 and None in mask else None
        if layer is None:
            return None, mask if name in OPERATIONS_READING else None
        if name in MINDING:
            return self._of(first, theirs), None
        if name == "MultiHeadAttention":
            by_role = {role: self.in_keras2(tensor, ours) for role, tensor in call.roles.items()}
            return self._mask_of_call(call, theirs), by_role
        if not layer._expects_mask_arg or name == "BatchNormalization":  # which uses it for its statistics alone
            return None, None
        if name == "TimeDistributed" and layer.layer.supports_masking:
            return (self._mask_of_call(call, theirs), mask) if layer.layer._expects_mask_arg else (None, None)
        return self._mask_of_call(call, theirs) if name in READING else None, mask

    # What Keras 3 does

    def _number(self, tensor: Any) -> int:
        """The same for tensors that are one and the same in Keras 3."""
        return self._one.get(id(tensor), id(tensor))

    def _of(self, structure: Any, theirs: Known) -> Any:
        return self._map(structure, lambda tensor: theirs.get(self._number(tensor)))

    def _mask_of_call(self, call: Keras3Call, theirs: Known) -> Any:
        """The mask that a call takes: in the form of its first argument; of attention, by role."""
        if call.kind == "MultiHeadAttention":
            by_role = {role: theirs.get(self._number(tensor)) for role, tensor in call.roles.items()}
            more = {argument.removesuffix("_mask"): mask for argument, mask in call.explicit.items()}
            return by_role | more | {"query": by_role["query"]}  # which it takes from the tensor, not the argument
        if "mask" in call.explicit:
            return call.explicit["mask"]
        # of several arguments with tensors, only those have masks that have an argument for it
        alone = sum(any(map(is_tensor, flattened(each))) for each in (*call.args, *call.kwargs.values())) == 1
        return self._of(call.first, theirs) if alone else None

    def _follow(self, call: Keras3Call, theirs: Known) -> None:
        """What masks there are after a call."""
        if call.layer is not None and call.kind in MODELS:
            model, inner = self._models[id(call.layer)]
            handed, left = inner._through(model, flattened(self._mask_of_call(call, theirs)), call.shown)
            taken = [t for t, mask in zip(flattened(call.first), left, strict=False) if mask is None]
        else:
            handed = self._handed(call, theirs)
            # this one takes the masks away from its inputs
            taken = list(call.roles.values()) if call.kind == "MultiHeadAttention" else []
        theirs |= {self._number(tensor): None for tensor in taken}
        for tensor, mask in zip(call.outputs, [*handed, *[None] * len(call.outputs)], strict=False):
            if self._number(tensor) == id(tensor):
                theirs[id(tensor)] = mask

    def _handed(self, call: Keras3Call, theirs: Known) -> list[MaskExpression]:
        """The masks of a layer's first outputs."""
        if call.layer is None:
            return []
        if call.kind == "MultiHeadAttention":
            return [self._mask_of_call(call, theirs)["query"]]
        first, settings = call.first, call.entry["config"]
        masks = call.explicit.get("mask") or self._of(first, theirs)
        if call.kind in MERGING:
            return [None if None in masks else joint("LogicalOr", masks)]
        if call.kind == "Concatenate":
            return [self.side_by_side("LogicalOr", first, masks, settings.get("axis", -1))]
        inner = settings["layer"]["config"] if call.kind == "Bidirectional" else {}
        return self._as_in_both(call.kind, {**inner, **settings}.get, first, masks, call.kind in HANDING_ON)

    def _through(
        self, model: Any, masks: list[MaskExpression], name: str
    ) -> tuple[list[MaskExpression], list[MaskExpression]]:
        """What masks a model's outputs have in Keras 3 when it is called with these, and what its inputs have then."""
        theirs: Known = dict(zip(map(id, model.inputs), masks, strict=False))
        ours = dict(theirs)
        for call in self._calls:
            if any(masks) and (call.corrected or not same(*self.compared(call, theirs, ours))):
                raise Unmaskable(
                    f"{name} is given a mask, and its layer {call.shown} leaves out other steps for it than it would "
                    "in Keras 2: put that model's layers into the outer one"
                )
            self._follow(call, theirs)
        return [theirs.get(self._number(tensor)) for tensor in model.outputs], list(
            map(theirs.get, map(id, model.inputs))
        )

    # What Keras 2 does

    def in_keras2(self, tensor: Any, known: Known) -> MaskExpression:
        """The mask that a tensor has in Keras 2; None for what is no tensor.

        Args:
            tensor: of this graph.
            known: those of tensors before it, an input's among them; those that are worked out are added.

        """
        history = getattr(tensor, "_keras_history", None)  # a constant has none
        if history is not None and id(tensor) not in known:
            self.tensors[id(tensor)] = tensor
            handed = [] if tensor.node.is_input else self._handed_in_keras2(history.layer, tensor.node, known)
            known[id(tensor)] = handed[history.tensor_index] if history.tensor_index < len(handed) else None
        return known.get(id(tensor))

    def _handed_in_keras2(self, layer: Any, node: Any, known: Known) -> list[MaskExpression]:
        first = node.call_args[0] if node.call_args else node.call_kwargs[layer._call_spec.arg_names[0]]
        if "mask" in node.call_kwargs:
            masks = self._map(node.call_kwargs["mask"], lambda mask: self.passed.get(id(mask)))
        else:
            masks = self._map(first, lambda each: self.in_keras2(each, known))
        if id(layer) in self._models:
            model, inner = self._models[id(layer)]
            within: Known = dict(zip(map(id, model.inputs), flattened(masks), strict=False))
            for call in inner._calls:  # one after another, as one that asks the one before would go too deep
                for tensor in call.outputs:
                    inner.in_keras2(tensor, within)
            return [inner.in_keras2(tensor, within) for tensor in model.outputs]
        if kind(layer) in MERGING:
            return [joint("LogicalAnd", [mask for mask in masks if mask is not None])]
        if kind(layer) == "Concatenate":
            return [self.side_by_side("LogicalAnd", first, masks, layer.axis)]
        setting = lambda key: getattr(layer, key, None)  # noqa: E731  a config's `get` is its like
        return self._as_in_both(kind(layer), setting, first, masks, layer.supports_masking)

    # What both do

    def _as_in_both(
        self, name: str, setting: Callable[[str], Any], first: Any, masks: Any, hands_on: bool
    ) -> list[MaskExpression]:
        """The masks of a layer's first outputs."""
        if name == "Masking":
            return [("Any", ("NotEqual", self.leaf(first), setting("mask_value")), -1)]
        if name in ("Embedding", "ReversibleEmbedding"):
            return [("NotEqual", self.leaf(first), 0) if setting("mask_zero") else None]
        if name in STEPPING or name == "Bidirectional":
            apart = name == "Bidirectional" and not setting("merge_mode")
            return flattened(masks)[:1] * (1 + apart) if setting("return_sequences") else []
        if name in ATTENDING:
            return flattened(masks)[:1]
        if name in ("Dot", "GlobalAveragePooling1D", "Lambda"):
            return []
        return flattened(masks) if hands_on else []

    def side_by_side(self, together: str, tensors: Any, masks: list[MaskExpression], axis: int) -> MaskExpression:
        """The mask of tensors that are put together along an axis, made of theirs by `together`."""
        if not any(masks):
            return None
        if axis % len(tensors[0].shape) == len(tensors[0].shape) - 1:
            if together == "LogicalOr" and None in masks:
                return None  # one that leaves nothing out
            return joint(together, [mask for mask in masks if mask is not None])
        full = [self._full(tensor) if mask is None else mask for tensor, mask in zip(tensors, masks, strict=True)]
        return ("Concatenate", tuple(full), axis)

    def _full(self, tensor: Any) -> MaskExpression:
        """The mask of a tensor that leaves nothing out: each number is equal to itself or not."""
        numbers = ("Equal", self.leaf(tensor), self.leaf(tensor))
        return ("Any", ("LogicalOr", numbers, ("LogicalNot", numbers)), -1)

    @staticmethod
    def _map(structure: Any, function: Callable[[Any], Any]) -> Any:
        """A structure with each tensor answered; a mask is a leaf of it, as a tensor is."""
        if isinstance(structure, dict):
            return {key: Masks._map(each, function) for key, each in structure.items()}
        return (
            [Masks._map(each, function) for each in structure] if isinstance(structure, list) else function(structure)
        )


def joint(operation: str, masks: Iterable[MaskExpression]) -> MaskExpression:
    """Masks as one; the same one twice is that one."""
    whole: MaskExpression = None
    for mask in dict.fromkeys(masks):
        whole = mask if whole is None else (operation, whole, mask)
    return whole


def same(one: Any, other: Any) -> bool:
    """Whether two structures hold the same masks; none at all is the same in any form."""
    if isinstance(one, dict):
        return all(one.get(role) == other.get(role) for role in ROLES)
    one, other = flattened(one), flattened(other)
    return bool(one == other or not any((*one, *other)))
