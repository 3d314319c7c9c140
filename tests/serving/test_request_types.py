"""What a request may hold for an input of each type: a wrong value is refused, and never made one that fits."""

import pytest
from kserve import InferInput
from kserve.errors import InvalidInput

from tasks.formats.slimline_pyfunc import TensorSpec
from tasks.serving.model import _values

DATATYPES = {"float32": "FP32", "uint8": "UINT8", "int32": "INT32", "int64": "INT64", "bool": "BOOL"}


def sent(dtype, data, datatype=None):
    tensor = InferInput("x", [1, 2], datatype or DATATYPES[dtype], data)
    return _values(tensor, TensorSpec("x", dtype, (2,)), 8)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("float32", [1, 2.5]),
        ("uint8", [0, 255]),
        ("int32", [-7, 2**31 - 1]),
        ("int64", [2**40, 0]),
        ("bool", [True, False]),
    ],
)
def test_what_it_holds_is_taken_as_it_is(dtype, data):
    x = sent(dtype, data)
    assert x.dtype == dtype
    assert x.tolist() == [data]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [("int32", [1.5, 2]), ("int32", [1.0, 2]), ("uint8", [0.5, 1]), ("uint8", [True, False]), ("bool", [1, 0])],
)
def test_another_kind_of_number_is_refused(dtype, data):
    with pytest.raises(InvalidInput, match=rf"no number of that type: x is {DATATYPES[dtype]} with the shape \[n, 2\]"):
        sent(dtype, data)


@pytest.mark.parametrize(("dtype", "data"), [("uint8", [256, 0]), ("uint8", [-1, 0]), ("int32", [2**31, 0])])
def test_what_its_type_has_no_room_for_is_refused(dtype, data):
    with pytest.raises(InvalidInput, match="its data do not fill"):
        sent(dtype, data)


@pytest.mark.parametrize(("dtype", "datatype"), [("int32", "FP32"), ("float32", "INT32"), ("int64", "INT32")])
def test_another_type_is_refused(dtype, datatype):
    with pytest.raises(InvalidInput, match=f"datatype '{datatype}': x is {DATATYPES[dtype]}"):
        sent(dtype, [1, 2], datatype)
