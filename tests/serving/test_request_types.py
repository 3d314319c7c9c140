"""What a request may hold for an input of each type: a wrong value is refused, and never made one that fits."""

import re

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from serving_process import serving

from tasks.contract.named import packed
from tasks.versions.labels import write_labels
from tasks.versions.manifest import write_manifest

TYPES = {"FP32": "float32", "UINT8": "uint8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}


def lay_out(folder):
    """A version whose one output is all that its inputs, one of each type, hold."""
    takes = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), ["n", 2])
        for name, dtype in TYPES.items()
    ]
    nodes = [helper.make_node("Cast", [name], [f"{name} told"], to=TensorProto.FLOAT) for name in TYPES]
    nodes.append(helper.make_node("Concat", [f"{name} told" for name in TYPES], ["y"], axis=1))
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2 * len(TYPES)])
    graph = helper.make_graph(nodes, "echo", takes, [gives])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    ones = np.ones((4, 2), np.float32)
    answers = np.ones((4, 2 * len(TYPES)), np.float32)
    np.savez(folder / "sample.npz", examples=packed(dict.fromkeys(TYPES, ones)), onnxruntime=answers)
    write_labels({}, folder)
    write_manifest(folder, name="echo", version=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    lay_out(folder := tmp_path_factory.mktemp("echo"))
    with serving(tmp_path_factory.mktemp("log"), ["tasks.serving", str(folder)]) as running:
        yield running


def asked(server, name, data, datatype=None):
    """The answer to one example with these values in one input."""
    tensors = {each: {"name": each, "shape": [1, 2], "datatype": each, "data": [1, 1]} for each in TYPES}
    tensors["BOOL"]["data"] = [True, True]
    tensors[name] |= {"data": data, "datatype": datatype or name}
    return httpx.post(f"{server.url}/v2/models/echo/infer", json={"inputs": list(tensors.values())})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("FP32", [1, 2.5]),
        ("UINT8", [0, 255]),
        ("INT32", [-7, 2**24]),
        ("INT64", [2**40, 0]),
        ("BOOL", [True, False]),
    ],
)
def test_what_it_holds_is_taken_as_it_is(server, name, data):
    (given,) = asked(server, name, data).json()["outputs"]
    at = 2 * list(TYPES).index(name)
    assert given["data"][at : at + 2] == data
    assert given["data"][:at] + given["data"][at + 2 :] == [1] * (2 * len(TYPES) - 2)


def refused(answer, message):
    assert answer.status_code == 400
    assert re.search(message, answer.json()["error"]), answer.text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("INT32", [1.5, 2]),
        ("INT32", [1.0, 2]),
        ("INT64", [0.5, 1]),
        ("UINT8", [0.5, 1]),
        ("UINT8", [True, False]),
        ("BOOL", [1, 0]),
    ],
)
def test_another_kind_of_number_is_refused(server, name, data):
    refused(asked(server, name, data), rf"{name}: data hold what is no number of that type: {name} is {name} with the")


@pytest.mark.parametrize(("name", "data"), [("UINT8", [256, 0]), ("UINT8", [-1, 0]), ("INT32", [2**31, 0])])
def test_what_its_type_has_no_room_for_is_refused(server, name, data):
    refused(asked(server, name, data), f"{name}: its data do not fill")


@pytest.mark.parametrize(("name", "datatype"), [("INT32", "FP32"), ("FP32", "INT32"), ("INT64", "INT32")])
def test_another_type_is_refused(server, name, datatype):
    refused(asked(server, name, [1, 2], datatype), f"datatype '{datatype}': {name} is {name} with the shape")
