"""A prediction to copy: a recorded example as a request, the commands that send it, and what it was answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundles.contents import Contents, ServerName, render
from tasks.contract.artifact import Target
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
    example, answer = (contents.sample()[name][0] for name in ("examples", target))
    about = {"answer": ", ".join(f"{value:.4f}" for value in answer.ravel()[:FIRST]), "cut": answer.size > FIRST}
    if server == "tfserving":
        body: dict[str, Any] = {"instances": [example.tolist()]}
    else:
        (model_input,), (model_output,) = signature(contents.files(server, target) / FORMATS[target].FILE)
        shape = [1, *example.shape]
        values = np.asarray(example, np.float32).ravel().tolist()
        body = {"inputs": [{"name": model_input.name, "shape": shape, "datatype": "FP32", "data": values}]}
        address, place = OPEN_INFERENCE[server]
        ends = {"input": model_input.name, "output": model_output.name, "said": contents.said(target)}
        render("ask.py.jinja", folder / PROGRAM, address=address, place=place, name=contents.name, **ends)
        about |= {"address": address, "program": PROGRAM}
    (folder / REQUEST).write_text(json.dumps(body) + "\n", encoding="utf-8")
    return about
