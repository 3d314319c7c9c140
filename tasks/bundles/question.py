"""A prediction to copy: a recorded example as a request, the commands that send it, and what it was answered."""

import json
from pathlib import Path
from typing import Any

from tasks.bundles.contents import Contents, ServerName, render
from tasks.bundles.outputs import DATATYPES, Output, need_labels
from tasks.contract.artifact import Target
from tasks.contract.named import ONE, Array, by_name, fields
from tasks.formats import FORMATS
from tasks.formats.onnx.signature import signature

REQUEST, PROGRAM = "request.json", "ask.py"
FIRST = 5  # numbers of an answer that a page shows
# By server: where it listens as it is started by its own files, and where labels and examples lie in its bundle.
OPEN_INFERENCE = {"docker": ("127.0.0.1:8080", "model/"), "triton": ("127.0.0.1:8000", ""), "kserve": ("", "model/")}


def write_question(folder: Path, server: ServerName, target: Target, contents: Contents) -> dict[str, Any]:
    """Put `request.json` into a bundle, and `ask.py` where the server speaks the Open Inference Protocol.

    Gives what the bundle's page says of them; nothing for one that is asked in another way.
    """
    if server != "tfserving" and server not in OPEN_INFERENCE:  # it is asked in a way of its own, and its page says how
        return {}
    example, outputs = contents.sample()["examples"][:1], contents.outputs(target)
    about = {"answer": "; ".join(map(_begins, outputs))}
    if server == "tfserving":
        instance = {name: each[0].tolist() for name, each in fields(example).items()}
        body: dict[str, Any] = {"instances": [instance.get(ONE, instance)]}
    else:
        given, gives = signature(contents.files(server, target) / FORMATS[target].FILE)
        names = [tensor.name for tensor in given]
        tensors = by_name(example, names)
        body = {"inputs": [_tensor(name, each) for name, each in tensors.items()]}
        address, place = OPEN_INFERENCE[server]
        taken = {name: f'examples["{name}"]' if example.dtype.names else "examples" for name in names}
        ends = {"inputs": taken, "outputs": outputs, "output": gives[0].name, "labels": need_labels(outputs)}
        render("ask.py.jinja", folder / PROGRAM, address=address, place=place, name=contents.name, **ends)
        about |= {"address": address, "program": PROGRAM}
    (folder / REQUEST).write_text(json.dumps(body) + "\n", encoding="utf-8")
    return about


def _begins(output: Output) -> str:
    """The first numbers of what an output answered to the first recorded example."""
    answer = output.answers[0].ravel()
    numbers = ", ".join([*(f"{value:.4f}" for value in answer[:FIRST]), *["…"] * (answer.size > FIRST)])
    return f"`{output.name}` {numbers}" if output.name else numbers


def _tensor(name: str, values: Array) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(values.shape),
        "datatype": DATATYPES[values.dtype.name],
        "data": values.ravel().tolist(),
    }
