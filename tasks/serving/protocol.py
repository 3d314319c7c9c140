"""The Open Inference Protocol's requests and responses: from bytes to tensors and back, without needless copies.

The protocol is KServe's `predict_v2`, with Triton's extension for binary tensors. What does not follow it is refused in
words; whether the tensors are what a model takes is not asked here.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from kserve.errors import InvalidInput
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest, ModelInferResponse
from kserve.protocol.infer_type import get_content
from kserve.utils.numpy_codec import from_np_dtype, to_np_dtype

from tasks.contract.named import Array
from tasks.serving.admission import SIZE_OF_JSON

DIGITS = 12  # of a size in that header: more than memory has


@dataclass(slots=True)
class Tensor:
    """A tensor as it was sent. data: values, nested or not; none where it is binary, in `raw`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] | None
    raw: memoryview | bytes | None = None

    def as_numpy(self) -> Array:
        """Its values, a view of what was sent where that is binary; raises ValueError if they do not fit its shape."""
        dtype = to_np_dtype(self.datatype)
        if self.raw is not None:
            return np.frombuffer(self.raw, dtype).reshape(self.shape)
        return np.array(self.data, dtype).reshape(self.shape)


@dataclass(slots=True)
class Question:
    """What is asked. wishes: the outputs that it names, and whether as bytes. binary: so where it does not say."""

    id: str
    inputs: list[Tensor]
    wishes: dict[str, bool | None]
    binary: bool


@dataclass(slots=True)
class Answer:
    """A response. outputs: name, values `(n, …)`, and whether they are sent as bytes."""

    id: str
    model: str
    version: str
    outputs: list[tuple[str, Array, bool]]


def from_rest(body: bytes, size: bytes | None) -> Question:
    """A request over REST; `size` is the header that says how long its JSON is, where binary tensors follow.

    Raises:
        InvalidInput: it does not follow the protocol; says where.

    """
    head, tail = memoryview(body), memoryview(b"")
    if size is not None:
        if not size.isdigit() or len(size) > DIGITS or int(size) > len(body):
            told = f"{SIZE_OF_JSON.decode()} is {size[:20].decode(errors='replace')!r}, and the body has {len(body)}"
            raise _wrong(f"{told} bytes")
        head, tail = head[: int(size)], head[int(size) :]
    request = _json(head)
    if type(request) is not dict:
        raise _wrong("it is no object of JSON")
    inputs, start = [], 0
    for number, sent in enumerate(_listed(request, "inputs", "request")):
        where = f"inputs.{number}"
        tensor = Tensor(
            name=_field(sent, "name", str, where),
            datatype=_field(sent, "datatype", str, where).upper(),
            shape=_whole_numbers(_field(sent, "shape", list, where), f"{where}.shape"),
            data=None,
        )
        length = _parameter(sent, "binary_data_size", int, where)
        if length is None:
            tensor.data = _field(sent, "data", list, where)
        elif 0 <= length <= len(tail) - start:
            tensor.raw = tail[start : start + length]
            start += length
        else:
            raise _wrong(f"{where}: binary_data_size is {length}, and {len(tail) - start} bytes are left")
        inputs.append(tensor)
    if start < len(tail):
        raise _wrong(f"{len(tail) - start} bytes stand behind the last tensor")
    wishes = {
        _field(wished, "name", str, f"outputs.{number}"): _parameter(wished, "binary_data", bool, f"outputs.{number}")
        for number, wished in enumerate(_listed(request, "outputs", "request", needed=False))
    }
    return Question(
        id=_field(request, "id", str, "request", needed=False) or "",
        inputs=inputs,
        wishes=wishes,
        binary=_parameter(request, "binary_data_output", bool, "request") or False,
    )


def to_rest(answer: Answer) -> tuple[bytes, int | None]:
    """A response's body, and how long its JSON is if bytes follow."""
    outputs: list[dict[str, Any]] = []
    tails: list[bytes] = []
    for name, values, binary in answer.outputs:
        told: dict[str, Any] = {"name": name, "shape": values.shape, "datatype": datatype(values.dtype)}
        if binary:
            tails.append(values.tobytes())
            told["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            # the shortest digits of a float32 are another number to who reads float64, as most readers of JSON do
            exact = values.astype(np.float64) if values.dtype.kind == "f" else values
            told["data"] = np.ascontiguousarray(exact).ravel()
        outputs.append(told)
    response = {"model_name": answer.model, "model_version": answer.version, "id": answer.id, "outputs": outputs}
    head = orjson.dumps(response, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *tails]), len(head)) if tails else (head, None)


def from_grpc(request: ModelInferRequest) -> Question:
    """A request over gRPC; raises InvalidInput as `from_rest`."""
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise _wrong(f"{len(request.inputs)} inputs, and {len(raw)} raw_input_contents")
    inputs = []
    for number, sent in enumerate(request.inputs):
        if raw and sent.HasField("contents"):
            raise _wrong(f"inputs.{number}: has contents beside raw_input_contents")
        kind = sent.datatype.upper()
        data = None if raw else get_content(kind, sent.contents)
        inputs.append(Tensor(sent.name, kind, list(sent.shape), data, raw[number] if raw else None))
    return Question(request.id, inputs, {output.name: True for output in request.outputs}, binary=True)


def to_grpc(answer: Answer) -> ModelInferResponse:
    """A response as a message, its values as bytes."""
    response = ModelInferResponse(id=answer.id, model_name=answer.model, model_version=answer.version)
    for name, values, _ in answer.outputs:
        response.outputs.add(name=name, datatype=datatype(values.dtype), shape=values.shape)
        response.raw_output_contents.append(values.tobytes())
    return response


@cache
def datatype(dtype: npt.DTypeLike) -> str:
    """A type's name in the protocol, such as FP32."""
    return str(from_np_dtype(np.dtype(dtype)))


def _wrong(what: str) -> InvalidInput:
    return InvalidInput(f"the request does not follow the Open Inference Protocol: {what}")


def _json(head: memoryview) -> Any:
    try:
        return orjson.loads(head)
    except orjson.JSONDecodeError as error:
        try:  # NaN and infinity are no JSON, and are written all the same; where they stand for numbers they are named
            return json.loads(bytes(head))
        except (ValueError, RecursionError):
            raise _wrong(f"no JSON ({error})") from error


def _field(sent: Any, name: str, kind: type, where: str, *, needed: bool = True) -> Any:
    if type(sent) is not dict:
        raise _wrong(f"{where} is no object")
    value = sent.get(name)
    if type(value) is kind or (value is None and not needed):
        return value
    raise _wrong(f"{where}.{name} is {'missing' if value is None else f'no {WORDS[kind]}'}")


WORDS = {str: "text", int: "whole number", bool: "true or false", list: "list", dict: "object"}


def _listed(sent: Any, name: str, where: str, *, needed: bool = True) -> Sequence[Any]:
    values: list[Any] = _field(sent, name, list, where, needed=needed) or []
    return values


def _whole_numbers(values: list[Any], where: str) -> list[int]:
    if any(type(value) is not int for value in values):
        raise _wrong(f"{where} has what is no whole number")
    return values


def _parameter(sent: dict[str, Any], name: str, kind: type, where: str) -> Any:
    parameters = _field(sent, "parameters", dict, where, needed=False)
    return _field(parameters, name, kind, f"{where}.parameters", needed=False) if parameters else None
