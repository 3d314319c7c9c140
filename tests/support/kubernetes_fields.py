"""Compares YAML files with the models of KServe's and Kubernetes' clients: python kubernetes_fields.py KIND FILE …."""

import re
import sys
from pathlib import Path

import kserve
import kubernetes.client
import yaml


def kubernetes_field(value: object, kind: str, where: str) -> None:
    """Every field is one that KServe's and Kubernetes' own models know, with a value of the type that they say."""
    if match := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        assert isinstance(value, list), where
        for place, item in enumerate(value):
            kubernetes_field(item, match[1], f"{where}[{place}]")
        return
    if match := re.fullmatch(r"[Dd]ict[(\[]str, (.+)[)\]]", kind):
        assert isinstance(value, dict), where
        for key, item in value.items():
            kubernetes_field(item, match[1], f"{where}.{key}")
        return
    plain = {"str": str, "int": int, "bool": bool, "object": object, "ResourceQuantity": str}
    if kind in plain:
        assert isinstance(value, plain[kind]), f"{where}: {value!r} is no {kind}"
        return
    if kind == "IntOrString":
        assert isinstance(value, int | str), where
        return
    model = getattr(kserve, kind, None) or getattr(kubernetes.client, kind)
    assert isinstance(value, dict), where
    fields = {model.attribute_map[name]: type_name for name, type_name in model.openapi_types.items()}
    for key, item in value.items():
        assert key in fields, f"{where}.{key}: {kind} has no such field"
        kubernetes_field(item, fields[key], f"{where}.{key}")


if __name__ == "__main__":
    for kind_name, file in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        kubernetes_field(yaml.safe_load(Path(file).read_text()), kind_name, Path(file).stem)
