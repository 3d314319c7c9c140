"""A page about the served model for a browser: what it takes, what it gives, a request to copy. It loads nothing."""

import html
import json
from typing import Any

STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto}"
SHOWN = 8  # numbers of an example that the page shows


def page(about: dict[str, Any], base: str) -> str:
    """The page as HTML.

    Args:
        about: the model's metadata, as the server answers them.
        base: the server's address as the browser has it, without a slash at its end.

    """
    (taken,), (given,) = about["inputs"], about["outputs"]
    one = [1, *taken["shape"][1:]]
    tensor = {"name": taken["name"], "shape": one, "datatype": taken["datatype"], "data": ["…"]}
    request = json.dumps({"inputs": [tensor]}, ensure_ascii=False)
    url = f"{base}/v2/models/{about['name']}"
    labels = ", ".join(about["labels"]) or "none"
    rows = {
        "takes": f"{taken['name']}: {taken['datatype']} {taken['shape']}",
        "gives": f"{given['name']}: {given['datatype']} {given['shape']}",
        "labels, in the order of the answers": labels,
        "version": about["versions"][0],
    }
    table = "".join(f"<tr><th align=left>{html.escape(key)}<td>{html.escape(value)}" for key, value in rows.items())
    command = f"curl {url}/infer -H 'content-type: application/json' -d '{request}'"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(about['name'])}</title>"
        f"<style>{STYLE}</style><h1>{html.escape(about['name'])}</h1><table>{table}</table>"
        f"<p>Open Inference Protocol. One example, its numbers where the dots are:<pre>{html.escape(command)}</pre>"
        "<p><a href=openapi.json>openapi.json</a>, <a href=metrics>metrics</a>"
    )
