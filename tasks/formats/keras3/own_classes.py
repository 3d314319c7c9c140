"""Classes of the user's own in Keras 3: found where their files name them, and models of them as graphs of layers."""

import inspect
from typing import Any

import numpy as np

from tasks.contract import own_function
from tasks.contract.errors import ModelError
from tasks.formats.keras3.layers import MODELS

EXAMPLES = 2
NEAR = 1e-5  # of the largest value


def custom_objects(config: Any, name: str, field: str) -> dict[str, Any]:
    """The classes and functions of somebody's own that a config names, from modules that are imported for that.

    Args:
        config: a model's, as Keras 3 writes it.
        name: what the user calls the model, for messages.
        field: the recipe's name for it, for messages.

    Raises:
        ModelError: there is no such module.

    """
    import keras

    found: dict[str, Any] = {}

    def visit(part: Any) -> None:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            visit(value)
        if not isinstance(part, dict) or not isinstance(part.get("module"), str):
            return
        module = part["module"]
        called = str(part["config"] if part["class_name"] == "function" else part["class_name"])
        known = str(part.get("registered_name") or called)
        if module.split(".")[0] in ("keras", "builtins") or known in keras.saving.get_custom_objects():
            return
        try:
            found[known] = own_function.load(f"{module}:{called}")
        except (ValueError, ImportError, AttributeError) as error:
            where = "a program that was run" if module == "__main__" else f"{module}.py"
            raise ModelError(
                field,
                name,
                f"has the class {called} of {where} in it, and {error}: put the class into a module of its own, build "
                "and save the model with that, and run slimline in the folder where the module lies",
            ) from error

    visit(config)
    return found


def as_graph(model: Any, name: str, field: str) -> Any:
    """A model of a class of one's own as a graph of the layers that it calls, with the same weights.

    Where what it does between its layers cannot be followed, the graph has the model itself as its one layer.

    Raises:
        ModelError: it does not know what it is called with.

    """
    import keras
    import tensorflow as tf

    if type(model).__name__ in MODELS and model.built:
        return model
    ends = keras.Input((1,))
    if type(model).call in (type(keras.Model(ends, ends)).call, keras.Sequential.call) and model.built:
        return keras.Model(model.inputs, model.outputs, name=model.name)
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    if not model.built or len(shapes) != 1:
        raise ModelError(
            field,
            name,
            f"is a {type(model).__name__} of Keras 3 that does not know the shape of its one input: call it once on "
            "examples (several in a dict), or build it with the functional API, or as a Sequential with keras.Input",
        )
    inputs = _inputs(shapes[0])
    whole = keras.Model(inputs, model(inputs), name=f"{model.name}_graph")
    passed = {"training": False} if "training" in inspect.signature(model.call).parameters else {}
    try:
        graph = keras.Model(inputs, model.call(inputs, **passed), name=model.name)
        graph.to_json()
        same = {id(each) for each in graph.weights} == {id(each) for each in model.weights}
    except Exception:  # what is between its layers is code of theirs, and may be anything
        return whole
    draw = np.random.default_rng(0)
    x = tf.nest.map_structure(lambda each: draw.uniform(0, 1, (EXAMPLES, *(n or 8 for n in each.shape[1:]))), inputs)
    expected, actual = (tf.nest.flatten(each(x, training=False)) for each in (model, graph))
    near = all(np.allclose(a, e, NEAR, NEAR * np.abs(e).max()) for a, e in zip(actual, expected, strict=True))
    return graph if same and near else whole


def _inputs(shape: Any) -> Any:
    import keras

    if isinstance(shape, dict):
        return {key: keras.Input(tuple(each)[1:], name=key) for key, each in shape.items()}
    if isinstance(shape[0], int | None):
        return keras.Input(tuple(shape)[1:], name="input")
    return [keras.Input(tuple(each)[1:], name=f"input_{place}") for place, each in enumerate(shape, 1)]
