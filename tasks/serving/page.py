"""A page about the served models for a browser: what each takes and gives, a request to copy. It loads nothing."""

import html
import json
from collections.abc import Sequence
from typing import Any

STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto}"
SHOWN = 8  # numbers of an example that the page shows


def page(served: Sequence[dict[str, Any]], base: str) -> str:
    """The page as HTML.

    Args:
        served: each model's metadata, as the server answers them, and what its shadow found, if it has one.
        base: the server's address as the browser has it, without a slash at its end.

    """
    twice = {about["name"] for about in served if [other["name"] for other in served].count(about["name"]) > 1}
    parts = [_part(about, base, by_version=about["name"] in twice) for about in served]
    title = ", ".join(dict.fromkeys(about["name"] for about in served))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"{''.join(parts)}<p><a href=openapi.json>openapi.json</a>, <a href=metrics>metrics</a>"
    )


def _part(about: dict[str, Any], base: str, *, by_version: bool) -> str:
    """One model's part; by its version where another version of it is served too."""
    request = json.dumps({"inputs": list(map(_asked, about["inputs"]))}, ensure_ascii=False)
    (version,) = about["versions"]
    url = f"{base}/v2/models/{about['name']}" + (f"/versions/{version}" if by_version else "")
    named = about["labels"] if isinstance(about["labels"], dict) else {"": about["labels"]}
    labels = "; ".join(f"{name} {', '.join(classes) or 'none'}".strip() for name, classes in named.items())
    rows = {
        "takes": "; ".join(map(_told, about["inputs"])),
        "gives": "; ".join(map(_told, about["outputs"])),
        "labels, in the order of the answers": labels,
        "version": version,
    } | ({"shadow": about["shadow"]} if "shadow" in about else {})
    table = "".join(f"<tr><th align=left>{html.escape(key)}<td>{html.escape(value)}" for key, value in rows.items())
    command = f"curl {url}/infer -H 'content-type: application/json' -d '{request}'"
    return (
        f"<h1>{html.escape(about['name'])}</h1><table>{table}</table><p>Open Inference Protocol. One example, its "
        f"numbers where the dots are:<pre>{html.escape(command)}</pre>"
    )


def _told(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']}: {tensor['datatype']} {tensor['shape']}"


def _asked(tensor: dict[str, Any]) -> dict[str, Any]:
    """One example of a tensor, as a request has it."""
    return {"name": tensor["name"], "shape": [1, *tensor["shape"][1:]], "datatype": tensor["datatype"], "data": ["…"]}
