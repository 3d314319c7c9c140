"""What ONNX Runtime executes of a file: its profile, beside the file's own operators.

Multiply-accumulates are counted in the file as it was written, where every shape is known to ONNX. Which kernel each
runs in is in the profile of a run: the optimiser renames operators, fuses them and changes their layout, but what it
makes of one bears the name of the operator or of its output. How often a loop turned, and on which
shapes, is known from the profile alone.
"""

import json
import math
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.formats.audit import Audit, LayerAudit, counted
from tasks.formats.onnx.bodies import bodies, nodes_within
from tasks.formats.onnx.saturation import saturating
from tasks.formats.onnx.sums import rounded_apart

if TYPE_CHECKING:
    import onnx

KERNEL_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}  # each number comes with its scale and zero point
TAKING_FLOAT = frozenset(
    {"DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
)  # integer kernels that quantize by themselves
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
MULTIPLYING = frozenset(
    {"Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "MatMulIntegerToFloat"}
).union(GATES, KERNEL_AT, TAKING_FLOAT)
KERNEL = re.compile("Conv|Gemm|MatMul|GRU|LSTM|RNN")  # a multiplying kernel has one of these in its name
INTEGERS = frozenset({"uint8", "int8"})
Shapes = dict[str, tuple[int, ...]]


def audit(file: Path, example: np.ndarray) -> Audit:
    """Multiply-accumulates of one example, by operator and kernel.

    Args:
        file: an ONNX file with one input.
        example: one input as a batch of one, float32.

    """
    import onnx

    model = onnx.load(file)
    ran = _profile(file, example)
    work = _work(model, ran)
    owners = _owners(model, work)
    risky = saturating(model)
    kernels: dict[str, Any] = {}
    for event in ran:
        owner = owners.get(_plain(event["name"])) if KERNEL.search(event["args"]["op_name"]) else None
        if owner is not None:
            kernels.setdefault(owner, event)
    layers = []
    for name, macs in work.items():
        call = kernels.get(name)
        kernel = call["args"]["op_name"] if call is not None else "not found"
        integer = call is not None and (_first_type(call) <= INTEGERS or kernel in TAKING_FLOAT)
        why = "" if integer else _why(model, name)
        layers.append(
            LayerAudit(
                name=name.split("/")[0],
                kernel=kernel,
                macs=macs,
                integer=integer,
                why=why,
                saturates=integer and name in risky,
            )
        )
    return Audit(
        layers=tuple(layers),
        kernels=counted([event["args"]["op_name"] for event in ran]),
        sums_apart=rounded_apart(model),
    )


def _profile(file: Path, example: np.ndarray) -> list[dict[str, Any]]:
    """The kernels that one run calls, in their order."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        session.run(None, {session.get_inputs()[0].name: example})
        events = json.loads(Path(session.end_profiling()).read_text())
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def _plain(name: str) -> str:
    """A kernel's name without what the optimiser puts around it."""
    name = name.removesuffix("_kernel_time").removeprefix("fused ").removeprefix("InsertedPrecisionFreeCast_")
    return re.sub(r"(_token_\d+|_nchwc|_nhwc|/MatMulAddFusion|_quant)+$", "", name)


def _first_type(event: dict[str, Any]) -> set[str]:
    """The number type of a kernel's first input."""
    return set(next(iter(event["args"]["input_type_shape"]), {"nothing": 0}))


def multiply_accumulates(file: Path, example: np.ndarray) -> dict[str, int]:
    """Multiply-accumulates for one example of each operator that multiplies, by its name; `audit` says what is taken.

    A file is run only for what stands in loops.
    """
    import onnx

    model = onnx.load(file)
    nested = any(node.op_type in MULTIPLYING for node in _inside(model))
    return _work(model, _profile(file, example) if nested else [])


def _work(model: "onnx.ModelProto", ran: list[dict[str, Any]]) -> dict[str, int]:
    """The same; `ran` is what was called for a batch of one."""
    shapes = _shapes(model)
    work = {node.name: _macs(node, shapes) for node in model.graph.node if node.op_type in MULTIPLYING}
    for node in _inside(model):
        if node.op_type in MULTIPLYING:
            calls = [event for event in ran if _plain(event["name"]) == node.name]
            work[node.name] = sum(_macs(node, _shapes_of_call(node, event)) for event in calls)
    return work


def _inside(model: "onnx.ModelProto") -> "list[onnx.NodeProto]":
    """What stands in the bodies of operators."""
    return [inner for node in model.graph.node for body in bodies(node) for inner in nodes_within(body.node)]


def _shapes_of_call(node: "onnx.NodeProto", event: dict[str, Any]) -> Shapes:
    """The shapes of a kernel's inputs and outputs, under the names that its operator has for them."""

    def listed(key: str) -> list[tuple[int, ...]]:
        return [tuple(next(iter(value.values()))) for value in event["args"][key]]

    shapes = dict(
        zip(node.input, listed("input_type_shape"), strict=False)
    )  # an optimiser may have joined a bias to it
    return shapes | dict(zip(node.output, listed("output_type_shape"), strict=False))


def _shapes(model: "onnx.ModelProto") -> Shapes:
    """Every tensor's shape for a batch of one; 1 for axes that stay unknown.

    Where ONNX cannot infer it, as behind operators that ONNX Runtime adds to it, one run does.
    """
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    for value in [*single.graph.input, *single.graph.output]:
        if value.type.tensor_type.shape.dim:  # a file of others may leave an output's shape open
            value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(single, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim)
    needed = {name for node in graph.node if node.op_type in MULTIPLYING for name in (node.input[0], node.output[0])}
    return shapes | _seen(single, sorted(needed - shapes.keys()))


def _seen(model: "onnx.ModelProto", names: list[str]) -> Shapes:
    """The shapes that tensors have in a run on zeros."""
    if not names:
        return {}
    import onnx
    import onnxruntime

    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    zeros = {
        value.name: np.zeros(
            [max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in model.graph.input
    }
    return {name: value.shape for name, value in zip(names, session.run(names, zeros), strict=True)}


def _macs(node: "onnx.NodeProto", shapes: Shapes) -> int:
    first, result = shapes[node.input[0]], shapes[node.output[0]]
    kernel = shapes.get(node.input[KERNEL_AT.get(node.op_type, 1)], ())
    if node.op_type in GATES:  # (steps, batch, features) by (directions, gates * hidden, features)
        hidden = kernel[1] // GATES[node.op_type]
        return first[0] * kernel[0] * kernel[1] * (kernel[2] + hidden)
    if node.op_type == "DynamicQuantizeLSTM":  # (steps, batch, features) by (directions, features, gates * hidden)
        return first[0] * kernel[0] * kernel[2] * (kernel[1] + kernel[2] // GATES["LSTM"])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(kernel[1:])
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        return math.prod(result) * math.prod(kernel[1:])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(result) * (first[0] if transposed else first[-1])


def _owners(model: "onnx.ModelProto", work: dict[str, int]) -> dict[str, str]:
    """For each name that a kernel may bear, the operator whose work it does: the next one upstream that multiplies."""
    owners: dict[str, str] = {}
    givers: dict[str, str] = {}
    for node in nodes_within(model.graph.node):
        upstream = (givers[name] for name in node.input if name in givers)
        owner = node.name if node.name in work else next(upstream, "")
        if owner:
            owners[_plain(node.name)] = owner
            for name in node.output:
                givers[name] = owners[_plain(name)] = owner
    return owners


def _why(model: "onnx.ModelProto", name: str) -> str:
    """Why an operator was not turned into an integer kernel, as far as the file shows."""
    givers = {output: node.op_type for node in model.graph.node for output in node.output}
    node = next((node for node in model.graph.node if node.name == name), None)
    if node is None:
        return "loops and branches have no integer kernels here"
    takers = [other.op_type for other in model.graph.node if node.output[0] in other.input]
    if node.op_type in GATES:
        return "recurrent layers have no integer kernel here"
    if givers.get(node.input[0]) != "DequantizeLinear":
        return "what it takes is not held to 8 bits"
    if givers.get(node.input[1]) != "DequantizeLinear":
        return "its kernel is not held to 8 bits"
    if takers != ["QuantizeLinear"]:
        return "what it gives is not held to 8 bits"
    return "ONNX Runtime did not replace it by an integer kernel"
