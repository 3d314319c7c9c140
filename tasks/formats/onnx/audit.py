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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.contract.named import by_name
from tasks.formats.audit import Audit, LayerAudit, counted
from tasks.formats.onnx.graph import dequantize_before
from tasks.formats.onnx.saturation import saturating
from tasks.formats.onnx.sums import rounded_apart
from tasks.formats.slimline_pyfunc import onnx_tensor

if TYPE_CHECKING:
    import onnx_ir as ir

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
HOLDING = frozenset({"If", "Loop", "Scan"})  # their time is that of the kernels in them, which are called too
CALLS = 6  # the first of which finds its memory
Shapes = dict[str, tuple[int, ...]]


def audit(file: Path, example: np.ndarray) -> Audit:
    """Multiply-accumulates of one example, by operator and kernel.

    Args:
        file: an ONNX file.
        example: a batch of one, float32.

    """
    import onnx_ir as ir

    model = ir.load(file)
    calls = _profile(file, example, CALLS)
    ran = calls[0]
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
        integer = call is not None and _takes_integers(call)
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
        integer_time=_integer_time([event for call in calls[1:] for event in call]),
    )


def _integer_time(ran: Sequence[dict[str, Any]]) -> float | None:
    """The share of kernels' time in those that take integers; turning them into floats is no work in integers."""
    times = [(event["dur"], _takes_integers(event)) for event in ran if event["args"]["op_name"] not in HOLDING]
    whole = sum(time for time, _ in times)
    return sum(time for time, integer in times if integer) / whole if whole else None


def _takes_integers(event: dict[str, Any]) -> bool:
    kernel = event["args"]["op_name"]
    return kernel in TAKING_FLOAT or (_first_type(event) <= INTEGERS and kernel != "DequantizeLinear")


def _profile(file: Path, example: np.ndarray, calls: int = 1) -> list[list[dict[str, Any]]]:
    """The kernels that each call runs, in their order."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        inputs = list(map(onnx_tensor, session.get_inputs()))
        taken = by_name(example, [end.name for end in inputs], [end.dtype for end in inputs])
        for _ in range(calls):
            session.run(None, taken)
        events = json.loads(Path(session.end_profiling()).read_text())
    ran = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
    each = len(ran) // calls  # the same example, and so the same kernels
    return [ran[each * number : each * (number + 1)] for number in range(calls)]


def _plain(name: str) -> str:
    """A kernel's name without what the optimiser puts around it."""
    name = name.removesuffix("_kernel_time").removeprefix("fused ").removeprefix("InsertedPrecisionFreeCast_")
    return re.sub(r"(_token_\d+|_nchwc|_nhwc|/MatMulAddFusion|/MatmulTransposeFusion/|_quant)+$", "", name)


def _first_type(event: dict[str, Any]) -> set[str]:
    """The number type of a kernel's first input."""
    return set(next(iter(event["args"]["input_type_shape"]), {"nothing": 0}))


def multiply_accumulates(file: Path, example: np.ndarray) -> dict[str, int]:
    """Multiply-accumulates for one example of each operator that multiplies, by its name; `audit` says what is taken.

    A file is run only for what stands in loops.
    """
    import onnx_ir as ir

    model = ir.load(file)
    nested = any(node.op_type in MULTIPLYING for node in _inside(model))
    return _work(model, _profile(file, example)[0] if nested else [])


def _work(model: "ir.Model", ran: list[dict[str, Any]]) -> dict[str, int]:
    """The same; `ran` is what was called for a batch of one."""
    shapes = _shapes(model)
    work = {node.name: _macs(node, shapes) for node in model.graph if node.op_type in MULTIPLYING}
    for node in _inside(model):
        if node.op_type in MULTIPLYING:
            calls = [event for event in ran if _plain(event["name"]) == node.name]
            work[node.name] = sum(_macs(node, _shapes_of_call(node, event)) for event in calls)
    return work


def _inside(model: "ir.Model") -> "list[ir.Node]":
    """What stands in subgraphs."""
    return [node for graph in model.graph.subgraphs() for node in graph]


def _shapes_of_call(node: "ir.Node", event: dict[str, Any]) -> Shapes:
    """The shapes of a kernel's inputs and outputs, under the names that its operator has for them."""

    def listed(values: "Sequence[ir.Value | None]", key: str) -> Shapes:
        shapes = [tuple(next(iter(value.values()))) for value in event["args"][key]]
        # an optimiser may have joined a bias to the inputs
        return {value.name: shape for value, shape in zip(values, shapes, strict=False) if value is not None}

    return listed(node.inputs, "input_type_shape") | listed(node.outputs, "output_type_shape")


def _shapes(model: "ir.Model") -> Shapes:
    """Every tensor's shape for a batch of one.

    Where ONNX cannot infer all of it, as behind a Reshape to a size that the file computes, or behind operators that
    ONNX Runtime adds, one run does.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import ShapeInferencePass

    single = model.clone()
    for value in [*single.graph.inputs, *single.graph.outputs]:
        if value.shape:  # a file of others may leave an output's shape open
            value.shape = ir.Shape([1, *value.shape[1:]])
    ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(single)
    values = ir.convenience.create_value_mapping(single.graph, include_subgraphs=False)
    shapes = {name: _sizes(value) for name, value in values.items() if value.shape is not None and _is_known(value)}
    multiplying = [node for node in single.graph if node.op_type in MULTIPLYING]
    needed = {value.name: value for node in multiplying for value in (node.inputs[0], node.outputs[0])}
    return shapes | _seen(single, [needed[name] for name in sorted(needed.keys() - shapes.keys())])


def _is_known(value: "ir.Value") -> bool:
    return all(isinstance(size, int) for size in value.shape or ())


def _sizes(value: "ir.Value") -> tuple[int, ...]:
    return tuple(max(size, 1) if isinstance(size, int) else 1 for size in value.shape)


def _seen(model: "ir.Model", values: "list[ir.Value]") -> Shapes:
    """The shapes that tensors have in a run on zeros."""
    if not values:
        return {}
    import onnx_ir as ir
    import onnxruntime

    model.graph.outputs.extend(values)
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    zeros = {value.name: np.zeros(_sizes(value), value.dtype.numpy()) for value in model.graph.inputs}
    names = [value.name for value in values]
    return {name: answer.shape for name, answer in zip(names, session.run(names, zeros), strict=True)}


def _macs(node: "ir.Node", shapes: Shapes) -> int:
    first, result = shapes[node.inputs[0].name], shapes[node.outputs[0].name]
    kernel = shapes.get(node.inputs[KERNEL_AT.get(node.op_type, 1)].name, ())
    if node.op_type in GATES:  # (steps, batch, features) by (directions, gates * hidden, features)
        hidden = kernel[1] // GATES[node.op_type]
        return first[0] * kernel[0] * kernel[1] * (kernel[2] + hidden)
    if node.op_type == "DynamicQuantizeLSTM":  # (steps, batch, features) by (directions, features, gates * hidden)
        return first[0] * kernel[0] * kernel[2] * (kernel[1] + kernel[2] // GATES["LSTM"])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(kernel[1:])
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        return math.prod(result) * math.prod(kernel[1:])
    return math.prod(result) * (first[0] if node.attributes.get_int("transA", 0) else first[-1])


def _owners(model: "ir.Model", work: dict[str, int]) -> dict[str, str]:
    """For each name that a kernel may bear, the operator whose work it does: the next one upstream that multiplies."""
    owners: dict[str, str] = {}
    by_output: dict[ir.Value | None, str] = {}
    for node in model.graph.all_nodes():
        upstream = (by_output[value] for value in node.inputs if value in by_output)
        owner = node.name if node.name in work else next(upstream, "")
        if owner:
            owners[_plain(node.name)] = owner
            for value in node.outputs:
                by_output[value] = owners[_plain(value.name)] = owner
    return owners


def _why(model: "ir.Model", name: str) -> str:
    """Why an operator was not turned into an integer kernel, as far as the file shows."""
    node = next((node for node in model.graph if node.name == name), None)
    if node is None:
        return "loops and branches have no integer kernels here"
    consumers = node.outputs[0].consumers()
    if node.op_type in GATES:
        return "recurrent layers have no integer kernel here"
    if dequantize_before(node.inputs[0]) is None:
        return "what it takes is not held to 8 bits"
    if dequantize_before(node.inputs[1]) is None:
        return "its kernel is not held to 8 bits"
    if [consumer.op_type for consumer in consumers] != ["QuantizeLinear"]:
        return "what it gives is not held to 8 bits"
    return "ONNX Runtime did not replace it by an integer kernel"
