"""Layers of Keras 2 called so that they leave out the steps that their like in Keras 3 does.

Where a layer would see another mask (`masks`), it gets the right one: as an argument, which is
computed by operations of TensorFlow; by a Reshape before it that hands no mask on; or as numbers.
"""

from collections.abc import Callable
from typing import Any

from tasks.formats.keras3.layers import MODELS, Entry
from tasks.formats.keras3.masks import (
    MINDING,
    ROLES,
    Keras3Call,
    MaskExpression,
    MaskInput,
    Masks,
    Unmaskable,
    joint,
    same,
)
from tasks.formats.keras3.tensors import COMPUTED_BY, flattened, is_tensor, wrapped
from tasks.keras_graph.rebuild import free_names

Caller = Callable[[list[Any], dict[str, Any]], Any]  # from arguments to a layer's output


class MaskedCalls:
    """Calls of one graph's layers, each with the masks that it has to have."""

    def __init__(self, names: list[str]) -> None:
        """`names` are those that layers of the graph have already."""
        self.masks = Masks()
        self._free = free_names(names)
        self._built: dict[MaskExpression, Any] = {}

    def called(
        self,
        entry: Entry,
        layer: Any,
        caller: Caller,
        args: list[Any],
        kwargs: dict[str, Any],
        explicit: dict[str, Any] | None = None,
    ) -> list[Any]:
        """The outputs of a layer or an operation for tensors, with the masks that it has in Keras 3.

        Args:
            entry: its config.
            layer: what stands for it in Keras 2; None for an operation.
            caller: calls that.
            args: tensors and constants.
            kwargs: the same, by name.
            explicit: masks that the model itself hands to the layer, by argument.

        Raises:
            Unmaskable: it cannot have them.

        """
        import tensorflow as tf

        call = Keras3Call(entry, layer, args, kwargs, explicit or {})
        right, own = self.masks.compared(call, self.masks.theirs, self.masks.ours)
        corrected = not same(right, own)
        outputs: list[Any] = tf.nest.flatten(
            self._answered(call, caller, right, own) if corrected else caller(args, kwargs)
        )
        self.masks.note(Keras3Call(entry, layer, args, kwargs, call.explicit, corrected, tuple(outputs)))
        return outputs

    def _answered(self, call: Keras3Call, caller: Caller, right: Any, own: Any) -> Any:
        if call.layer is not None and call.kind in MINDING:
            return self._minding(call, caller, right)
        if call.kind == "MultiHeadAttention":
            return caller(*self._attending(call, right, own))
        if call.layer is None or call.kind in (*MODELS, "Concatenate"):
            if any(flattened(right)):
                raise Unmaskable(
                    f"{call.shown} is given a mask that Keras 2 hands on otherwise: put that model's layers into the "
                    "outer one"
                )
            return caller(self._stopped(call.args, call), self._stopped(call.kwargs, call))
        mask = [self._tensor(each, call) for each in right] if isinstance(right, list) else self._tensor(right, call)
        return caller(call.args, {**call.kwargs, "mask": mask})

    def _attending(self, call: Keras3Call, right: Any, own: Any) -> tuple[list[Any], dict[str, Any]]:
        """Masks that are not the right ones are stopped, and those that are become one, (batch, steps, steps)."""
        roles, mask = call.roles, call.kwargs.get("attention_mask")
        pieces: list[MaskExpression] = [] if mask is None else [("Tensor", self.masks.leaf(mask))]
        for role, tensor in roles.items():
            if right.get(role) != own[role]:
                roles[role] = self._stopped(tensor, call)
                pieces += [("ExpandDims", right[role], ROLES[role])] if right.get(role) else []
        kwargs = {key: value for key, value in call.kwargs.items() if key not in ROLES}
        if pieces:
            kwargs["attention_mask"] = self._tensor(joint("LogicalAnd", pieces), call)
        return [roles[role] for role in ROLES if role in roles], kwargs

    def _minding(self, call: Keras3Call, caller: Caller, masks: list[MaskExpression]) -> Any:
        """A product or an extreme of masked tensors: a step that is left out has no say.

        After `keras/src/layers/merging/multiply.py` and `base_merge.py` of 3.15; Keras 2 looks at no mask there.
        """
        tensors = call.first
        rank = max(len(tensor.shape) for tensor in tensors)  # one with fewer axes gets more, and loses its mask
        masks = [mask if len(tensor.shape) == rank else None for tensor, mask in zip(tensors, masks, strict=True)]
        either = None if None in masks else joint("LogicalOr", masks)
        alike = either is not None and either == masks[0]

        def merged(tensors: list[Any]) -> Any:
            return caller([tensors], call.kwargs)

        if call.kind == "Multiply":
            if not alike:
                tensors = [self._chosen(mask, tensor, 1.0, call) for mask, tensor in zip(masks, tensors, strict=True)]
            return self._chosen(either, merged(tensors), 0.0, call)
        if alike:
            return self._chosen(either, merged(tensors), tensors[0], call)
        if len(tensors) > 2:
            raise Unmaskable(f"{call.shown} is given more than two tensors, with several masks: give it two at a time")
        first, second = tensors
        second = self._chosen(masks[1], second, first, call)
        return merged([self._chosen(masks[0], first, second, call), second])

    def _chosen(self, mask: MaskExpression, one: Any, other: Any, call: Keras3Call) -> Any:
        """One where a mask has the step, and the other where it has not; the first where there is no mask."""
        if mask is None:
            return one
        steps = self._tensor(("ExpandDims", mask, -1), call)
        return wrapped("where", self._free(f"{call.entry['config']['name']}_chosen"))(steps, one, other)

    def _stopped(self, value: Any, call: Keras3Call) -> Any:
        """Tensors that Keras 2 has a mask for, without it: a Reshape to the same shape hands none on."""
        import tensorflow as tf

        if isinstance(value, dict):
            return {key: self._stopped(each, call) for key, each in value.items()}
        if isinstance(value, list):
            return [self._stopped(each, call) for each in value]
        if not is_tensor(value) or self.masks.in_keras2(value, self.masks.ours) is None:
            return value
        shape = [-1 if size is None else size for size in value.shape[1:]]
        if shape.count(-1) > 1:
            raise Unmaskable(f"{call.shown} is not to see its input's mask: give all axes of its input but one a size")
        return tf.keras.layers.Reshape(shape, name=self._free(f"{call.entry['config']['name']}_unmasked"))(value)

    def _tensor(self, mask: MaskExpression, call: Keras3Call) -> Any:
        """A tensor with a mask's values, (batch, steps)."""
        if mask is None:
            return None
        if mask not in self._built:
            operation, *arguments = mask
            inputs = [self._argument(each, call) for each in arguments]
            if operation == "Tensor":
                self._built[mask] = inputs[0]
            else:
                layer = wrapped(COMPUTED_BY[operation], self._free(f"{call.entry['config']['name']}_mask"))
                self._built[mask] = layer(*inputs)
            self.masks.passed[id(self._built[mask])] = mask
        return self._built[mask]

    def _argument(self, value: Any, call: Keras3Call) -> Any:
        if isinstance(value, MaskInput):
            if value.number not in self.masks.tensors:
                raise Unmaskable(
                    f"{call.shown} is given a mask that is made inside a model before it: put that model's layers into "
                    "the outer one"
                )
            return self.masks.tensors[value.number]
        if isinstance(value, tuple) and isinstance(value[0], tuple):
            return [self._tensor(each, call) for each in value]
        return self._tensor(value, call) if isinstance(value, tuple) else value
