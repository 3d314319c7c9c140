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
    request = json.dumps({"inputs": list(map(_asked, about["inputs"]))}, ensure_ascii=False)
    url = f"{base}/v2/models/{about['name']}"
    named = about["labels"] if isinstance(about["labels"], dict) else {"": about["labels"]}
    labels = "; ".join(f"{name} {', '.join(classes) or 'none'}".strip() for name, classes in named.items())
    rows = {
        "takes": "; ".join(map(_told, about["inputs"])),
        "gives": "; ".join(map(_told, about["outputs"])),
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


def _told(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']}: {tensor['datatype']} {tensor['shape']}"


def _asked(tensor: dict[str, Any]) -> dict[str, Any]:
    """One example of a tensor, as a request has it."""
    return {"name": tensor["name"], "shape": [1, *tensor["shape"][1:]], "datatype": tensor["datatype"], "data": ["…"]}
