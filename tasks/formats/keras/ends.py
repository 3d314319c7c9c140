"""Which of a model's inputs and outputs stand for which of the data's: by name, where there are several."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.contract.errors import ModelError
from tasks.contract.named import ONE, identifier
from tasks.contract.problem import one_for_two
from tasks.data.heads import Head
from tasks.keras_graph.names import signature_names
from tasks.keras_graph.output_meaning import meaning
from tasks.keras_graph.rebuild import inputs_used

if TYPE_CHECKING:
    import tensorflow as tf

Shape = tuple[int, ...]


def check_counts(
    inputs: Sequence[str], outputs: Sequence[str], data: Sequence[str], heads: Sequence[str], name: str, field: str
) -> None:
    """Compare how many inputs and outputs a model has with what the data have.

    Args:
        inputs: the names of the model's.
        outputs: likewise.
        data: the names of the data's inputs.
        heads: those of what they have targets for.
        name: what the user calls the model, for messages.
        field: the recipe's name for it, for messages.

    Raises:
        ModelError: there are more or fewer; lists both, and says what to write.

    """
    if len(inputs) != len(data):
        raise ModelError(field, name, _unlike("input", inputs, data))
    if len(outputs) != len(heads):
        raise ModelError(field, name, _unlike("output", outputs, heads))


def places(
    model: "tf.keras.Model", data: Sequence[str], heads: Sequence[str], name: str, field: str
) -> tuple[list[int], list[int]]:
    """Which of a model's inputs takes each of the data's, and which of its outputs each head is, counted from 0.

    One takes the data's one, whatever it is called.

    Raises:
        ModelError: there are more or fewer, or they are called otherwise; lists both, and says what to write.

    """
    inputs, outputs = signature_names(model)
    if len(outputs) == 1:
        outputs = list(model.output_names)
    check_counts(inputs, outputs, data, heads, name, field)
    return _places("input", inputs, data, name, field), _places("output", outputs, heads, name, field)


def _places(what: str, own: Sequence[str], wanted: Sequence[str], name: str, field: str) -> list[int]:
    if len(wanted) == 1:
        return [0]
    known = {identifier(each): place for place, each in enumerate(own)}
    if known.keys() != {identifier(each) for each in wanted}:
        raise ModelError(field, name, _unlike(what, own, wanted))
    return [known[identifier(each)] for each in wanted]


def _unlike(what: str, own: Sequence[str], wanted: Sequence[str]) -> str:
    """What the model and the data have, and how they come to have the same."""
    if what == "input":
        has = f"has {_listed('input', own)}; the data have {_listed('input', wanted)}"
        called = "its keras.Input layers, or the keys of a dict of them"
        return f"{has}: call them alike (data.input: {', '.join(own)}); the model's names are those of {called}"
    has = f"has {_listed('output', own)}; the data have {_listed('target', wanted)}"
    if len(wanted) == 1:
        heads = ", ".join(f"{{name: {identifier(each)}, …}}" for each in own)
        return (
            f"{has}: give each a target (data.heads: [{heads}]), or bring the model up to one of them, "
            f"tf.keras.Model(model.input, model.get_layer('{own[0]}').output)"
        )
    named = ", ".join(f"{{name: {identifier(each)}, …}}" for each in own)
    alike = "or have the function that builds it give a dict, tf.keras.Model(inputs, {"
    alike += ", ".join(f"'{each}': …" for each in wanted) + "})"
    if len(own) == 1:
        return f"{has}: leave data.heads out, {alike}"
    return f"{has}: call them alike (data.heads: [{named}]), {alike}"


def _listed(what: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"one {what}" if names[0] == ONE else f"the {what} {names[0]}"
    return f"the {what}s {', '.join(names)}"


def check_shapes(
    model: "tf.keras.Model", inputs: Mapping[str, Shape], taken: Sequence[int], name: str, field: str
) -> None:
    """Compare the shapes that a model takes with the data's.

    Raises:
        ModelError: an input takes other examples.

    """
    for (each, sizes), place in zip(inputs.items(), taken, strict=True):
        shape = tuple(model.inputs[place].shape[1:])
        if not fits(shape, sizes):
            of = f" as its input {each}" if len(inputs) > 1 else ""
            raise ModelError(field, name, f"takes examples of shape {shape}{of}; the data's have {sizes}")


def check_heads(model: "tf.keras.Model", heads: Sequence[Head], name: str, field: str) -> None:
    """Compare what each output gives with what its head needs; the model's stand in the order of heads.

    Raises:
        ModelError: an output gives something else.

    """
    for number, head in enumerate(heads):
        shape = tuple(model.outputs[number].shape[1:])
        called = f"its output {head.name} " if len(heads) > 1 else ""
        one = head.problem == "classification" and one_for_two(shape, head.output_shape)
        if one and meaning(model, number) != "shares":
            raise ModelError(
                field,
                name,
                f"{called}gives one value for two classes, and no sigmoid makes it a share of the second: end the "
                "model in Dense(1, activation='sigmoid')",
            )
        if not one and not fits(shape, head.output_shape):
            remedy = f"{called}gives predictions of shape {shape}; a {head.problem} of these data needs"
            remedy += f" {head.output_shape}"
            if head.problem == "classification":
                remedy += ", a value for each class: probabilities, logits, or a sigmoid each"
                remedy += "; or, for two classes, one sigmoid" if head.output_shape == (2,) else ""
            raise ModelError(field, name, remedy)


def idle_inputs(model: "tf.keras.Model") -> str:
    """Which input no output hangs on, which files would not have, and the way out; empty if each counts."""
    used = inputs_used(model)
    idle = [layer.name for place, layer in enumerate(model._input_layers) if place not in used]
    if not idle:
        return ""
    return f"answers the same whatever its input {idle[0]} is: leave it out of the model, and of data.input"


def fits(shape: tuple[int | None, ...], sizes: Shape) -> bool:
    """Whether a shape is of these sizes; None fits any."""
    return len(shape) == len(sizes) and all(axis in (None, size) for axis, size in zip(shape, sizes, strict=True))
