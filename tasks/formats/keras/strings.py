"""Layers that make numbers of strings, which have to stand before a model: data are numbers."""

from typing import Any

from tasks.contract.errors import ModelError

STRINGS = frozenset({"StringLookup", "TextVectorization"})


def takes_strings(name: str) -> str:
    """What a person is told of such a layer."""
    return (
        f"takes strings, and data are numbers: bring what stands behind it, keras.Model(model.get_layer({name!r})."
        f"output, model.output), and give as data what keras.Model(model.input, model.get_layer({name!r}).output) "
        "makes of your texts; or the texts as they are, a table's column, with data.table.texts and "
        "data.table.vocabulary, the layer's words"
    )


def refuse_strings(part: Any, where: str, field: str) -> None:
    """Refuse a config with such a layer anywhere in it.

    Raises:
        ModelError: names the layer.

    """
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        refuse_strings(value, where, field)
    if isinstance(part, dict) and part.get("class_name") in STRINGS and isinstance(part.get("config"), dict):
        name = str(part["config"].get("name"))
        raise ModelError(field, where, f"its layer '{name}' ({part['class_name']}) {takes_strings(name)}")
