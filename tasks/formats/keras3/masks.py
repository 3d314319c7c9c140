"""Which steps each layer of a Keras 3 model leaves out, and which its like in Keras 2 would if it was told nothing.

Both hand masks on behind the scenes, and not alike: in Keras 3 a Rescaling hands its input's mask on, and in Keras 2 it
loses it; of two masked tensors that are added, a step stays if it does in either there, and in both here. So both ways
are followed (`keras/src/layers/layer.py` of 3.15 and `tf_keras/src/engine/base_layer.py` of 2.21, with the
`compute_mask` of each layer). `keras3_told` makes the second like the first.

A mask is followed as what it is computed by: None, or an operation of Keras 3 and its arguments, such as
`("NotEqual", Tensor(3), 0)`; two are the same where these are.
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
# Layers of Keras 3 that give back the very tensor that they are given, when they do not train.
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

Mask = tuple[Any, ...] | None
Known = dict[int, Mask]  # by a tensor's number


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph, as an argument of what a mask is computed by."""

    number: int


class Untold(Exception):
    """A mask that Keras 2 cannot be given; its message names the layer, and the way out."""


@dataclass(frozen=True)
class Call:
    """One call of a layer or an operation as Keras 3 has it, and what Keras 2 gives for it."""

    entry: Entry
    layer: Any  # of Keras 2; None for an operation
    args: list[Any]
    kwargs: dict[str, Any]
    explicit: dict[str, Any]  # masks that the model itself hands to the layer, by argument
    told: bool = False  # whether the layer of Keras 2 was told anything of them
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
        given = {**dict(zip(ROLES, self.args, strict=False)), **self.kwargs}
        return {role: given[role] for role in ROLES if given.get(role) is not None}


class Masks:
    """The masks in one graph, by tensor of Keras 2: what Keras 3 has there, and what Keras 2 has."""

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}  # kept, so that no other gets the number of one
        self.theirs: Known = {}
        self.ours: Known = {}
        self.told: Known = {}  # masks that layers of Keras 2 are told, by the tensor that holds one
        self._one: dict[int, int] = {}
        self._calls: list[Call] = []
        self._models: dict[int, tuple[Any, Masks]] = {}

    def leaf(self, tensor: Any) -> Tensor:
        """A tensor as an argument of what a mask is computed by."""
        self.tensors[id(tensor)] = tensor
        return Tensor(id(tensor))

    def hold(self, model: Any, masks: "Masks") -> None:
        """Note the masks inside a model that is called as a layer."""
        self._models[id(model)] = model, masks

    def note(self, call: Call) -> None:
        """Note a call that was made, in the order in which Keras 3 makes them.

        Raises:
            Untold: a layer inside a model that is called would see another mask in Keras 2.

        """
        self._calls.append(call)
        self.tensors |= {id(tensor): tensor for tensor in call.outputs}
        linear = call.kind == "Activation" and call.entry["config"].get("activation") == "linear"
        if call.layer is not None and (call.kind in PASSING or linear):
            self._one[id(call.outputs[0])] = self._number(call.first)
        self._follow(call, self.theirs)
        for tensor in call.outputs:
            self.in_keras2(tensor, self.ours)

    def compared(self, call: Call, theirs: Known, ours: Known) -> tuple[Any, Any]:
        """The mask that a call computes with in Keras 3, and in Keras 2 if it is told none; None where it reads none.

        In the form of the first argument, or by role.
        """
        layer, name = call.layer, call.kind
        first = call.first
        found = self._map(first, lambda tensor: self.in_keras2(tensor, ours))
        if name == "Concatenate":
            axis, rank = call.entry["config"].get("axis", -1), len(first[0].shape)
            # along the steps, where some tensors have none, Keras 2 fails to put them together
            return None, found if axis % rank != rank - 1 and None in found else None
        if layer is None:
            return None, found if name in OPERATIONS_READING else None
        if name in MINDING:
            return self._of(first, theirs), None
        if name == "MultiHeadAttention":
            by_role = {role: self.in_keras2(tensor, ours) for role, tensor in call.roles.items()}
            return self._wanted(call, theirs), by_role
        if not layer._expects_mask_arg or name == "BatchNormalization":  # which uses it for its statistics alone
            return None, None
        if name == "TimeDistributed" and layer.layer.supports_masking:
            return (self._wanted(call, theirs), found) if layer.layer._expects_mask_arg else (None, None)
        return self._wanted(call, theirs) if name in READING else None, found

    # What Keras 3 does

    def _number(self, tensor: Any) -> int:
        """The same for tensors that are one and the same in Keras 3."""
        return self._one.get(id(tensor), id(tensor))

    def _of(self, structure: Any, theirs: Known) -> Any:
        return self._map(structure, lambda tensor: theirs.get(self._number(tensor)))

    def _wanted(self, call: Call, theirs: Known) -> Any:
        """The mask that a call is given: in the form of its first argument; of attention, by role."""
        if call.kind == "MultiHeadAttention":
            given = {role: theirs.get(self._number(tensor)) for role, tensor in call.roles.items()}
            more = {argument.removesuffix("_mask"): mask for argument, mask in call.explicit.items()}
            return given | more | {"query": given["query"]}  # which it takes from the tensor, whatever it is told
        if "mask" in call.explicit:
            return call.explicit["mask"]
        # of several arguments with tensors, only those have masks that have an argument for it
        alone = sum(any(map(is_tensor, flattened(each))) for each in (*call.args, *call.kwargs.values())) == 1
        return self._of(call.first, theirs) if alone else None

    def _follow(self, call: Call, theirs: Known) -> None:
        """What masks there are after a call."""
        if call.layer is not None and call.kind in MODELS:
            model, inner = self._models[id(call.layer)]
            handed, left = inner._through(model, flattened(self._wanted(call, theirs)), call.shown)
            taken = [t for t, mask in zip(flattened(call.first), left, strict=False) if mask is None]
        else:
            handed = self._handed(call, theirs)
            # this one takes the masks away from the tensors that it is given
            taken = list(call.roles.values()) if call.kind == "MultiHeadAttention" else []
        theirs |= {self._number(tensor): None for tensor in taken}
        for tensor, mask in zip(call.outputs, [*handed, *[None] * len(call.outputs)], strict=False):
            if self._number(tensor) == id(tensor):
                theirs[id(tensor)] = mask

    def _handed(self, call: Call, theirs: Known) -> list[Mask]:
        """The masks of the first tensors that a layer gives."""
        if call.layer is None:
            return []
        if call.kind == "MultiHeadAttention":
            return [self._wanted(call, theirs)["query"]]
        first, settings = call.first, call.entry["config"]
        given = call.explicit.get("mask") or self._of(first, theirs)
        if call.kind in MERGING:
            return [None if None in given else joint("LogicalOr", given)]
        if call.kind == "Concatenate":
            return [self.side_by_side("LogicalOr", first, given, settings.get("axis", -1))]
        inner = settings["layer"]["config"] if call.kind == "Bidirectional" else {}
        return self._as_in_both(call.kind, {**inner, **settings}.get, first, given, call.kind in HANDING_ON)

    def _through(self, model: Any, given: list[Mask], name: str) -> tuple[list[Mask], list[Mask]]:
        """What masks a model's outputs have in Keras 3 when it is called with these, and what its inputs have then."""
        theirs: Known = dict(zip(map(id, model.inputs), given, strict=False))
        ours = dict(theirs)
        for call in self._calls:
            if any(given) and (call.told or not same(*self.compared(call, theirs, ours))):
                raise Untold(
                    f"{name} is given a mask, and its layer {call.shown} leaves out other steps for it than it would "
                    "in Keras 2: put that model's layers into the outer one"
                )
            self._follow(call, theirs)
        return [theirs.get(self._number(tensor)) for tensor in model.outputs], list(
            map(theirs.get, map(id, model.inputs))
        )

    # What Keras 2 does

    def in_keras2(self, tensor: Any, known: Known) -> Mask:
        """The mask that a tensor has in Keras 2; None for what is no tensor.

        Args:
            tensor: of this graph.
            known: those of tensors before it, an input's among them; what is found is added.

        """
        history = getattr(tensor, "_keras_history", None)  # a constant has none
        if history is not None and id(tensor) not in known:
            self.tensors[id(tensor)] = tensor
            handed = [] if tensor.node.is_input else self._handed_in_keras2(history.layer, tensor.node, known)
            known[id(tensor)] = handed[history.tensor_index] if history.tensor_index < len(handed) else None
        return known.get(id(tensor))

    def _handed_in_keras2(self, layer: Any, node: Any, known: Known) -> list[Mask]:
        first = node.call_args[0] if node.call_args else node.call_kwargs[layer._call_spec.arg_names[0]]
        if "mask" in node.call_kwargs:
            given = self._map(node.call_kwargs["mask"], lambda mask: self.told.get(id(mask)))
        else:
            given = self._map(first, lambda each: self.in_keras2(each, known))
        if id(layer) in self._models:
            model, inner = self._models[id(layer)]
            within: Known = dict(zip(map(id, model.inputs), flattened(given), strict=False))
            for call in inner._calls:  # one after another, as one that asks the one before would go too deep
                for tensor in call.outputs:
                    inner.in_keras2(tensor, within)
            return [inner.in_keras2(tensor, within) for tensor in model.outputs]
        if kind(layer) in MERGING:
            return [joint("LogicalAnd", [mask for mask in given if mask is not None])]
        if kind(layer) == "Concatenate":
            return [self.side_by_side("LogicalAnd", first, given, layer.axis)]
        setting = lambda key: getattr(layer, key, None)  # noqa: E731  a config's `get` is its like
        return self._as_in_both(kind(layer), setting, first, given, layer.supports_masking)

    # What both do

    def _as_in_both(
        self, name: str, setting: Callable[[str], Any], first: Any, given: Any, hands_on: bool
    ) -> list[Mask]:
        """The masks of the first tensors that a layer gives."""
        if name == "Masking":
            return [("Any", ("NotEqual", self.leaf(first), setting("mask_value")), -1)]
        if name in ("Embedding", "ReversibleEmbedding"):
            return [("NotEqual", self.leaf(first), 0) if setting("mask_zero") else None]
        if name in STEPPING or name == "Bidirectional":
            apart = name == "Bidirectional" and not setting("merge_mode")
            return flattened(given)[:1] * (1 + apart) if setting("return_sequences") else []
        if name in ATTENDING:
            return flattened(given)[:1]
        if name in ("Dot", "GlobalAveragePooling1D", "Lambda"):
            return []
        return flattened(given) if hands_on else []

    def side_by_side(self, together: str, tensors: Any, given: list[Mask], axis: int) -> Mask:
        """The mask of tensors that are put together along an axis, made of theirs by `together`."""
        if not any(given):
            return None
        if axis % len(tensors[0].shape) == len(tensors[0].shape) - 1:
            if together == "LogicalOr" and None in given:
                return None  # one that leaves nothing out
            return joint(together, [mask for mask in given if mask is not None])
        full = [self._full(tensor) if mask is None else mask for tensor, mask in zip(tensors, given, strict=True)]
        return ("Concatenate", tuple(full), axis)

    def _full(self, tensor: Any) -> Mask:
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


def joint(operation: str, masks: Iterable[Mask]) -> Mask:
    """Masks as one; the same one twice is that one."""
    found: Mask = None
    for mask in dict.fromkeys(masks):
        found = mask if found is None else (operation, found, mask)
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two structures hold the same masks; none at all is the same in any form."""
    if isinstance(one, dict):
        return all(one.get(role) == other.get(role) for role in ROLES)
    one, other = flattened(one), flattened(other)
    return bool(one == other or not any((*one, *other)))
