"""Our own handlers for TensorFlow operators that tf2onnx has none for, or a wrong one.

tf2onnx takes a dict of them (`custom_op_handlers` of `tf2onnx.convert.from_keras`). Each is called with tf2onnx's graph
and the node, and puts operators of ONNX opset 17 in its place (github.com/onnx/onnx, docs/Operators.md). What tf2onnx
does there, and what is done instead, each says in its docstring; `docs/onnx-handlers.md` has the list.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.formats.onnx import resizing as onnx_resizing
from tasks.formats.onnx.names import layer_of

Handler = Callable[[Any, Any], None]


def handlers() -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """The handlers by TensorFlow operator, in the form that tf2onnx takes."""
    return {name: (_called(handler), []) for name, handler in HANDLERS.items()}


def _called(handler: Handler) -> Callable[..., None]:
    """tf2onnx hands over the node's name and arguments too."""
    return lambda graph, node, _name, _arguments: handler(graph, node)


def _put(graph: Any, node: Any, kind: str, inputs: list[str], **attributes: Any) -> None:
    """An ONNX operator in a node's place, with its name, its output, and what is known of that."""
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node(kind, inputs, attr=attributes, name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes)


def _make(graph: Any, node: Any, kind: str, inputs: list[str], **attributes: Any) -> str:
    """An ONNX operator on the way there, named as the node's layer; its output."""
    from tf2onnx.utils import make_name

    made = graph.make_node(kind, inputs, attr=attributes, name=make_name(f"{node.name}/{kind}"))
    return str(made.output[0])


def _constant(graph: Any, node: Any, value: Any, like: str = "") -> str:
    """A constant; a number is of the type of the tensor `like`."""
    from tf2onnx.utils import make_name, map_onnx_to_numpy_type

    array = np.array(value, map_onnx_to_numpy_type(graph.get_dtype(like))) if like else np.asarray(value)
    return str(graph.make_const(make_name(f"{node.name}/constant"), array).output[0])


def _is_float(graph: Any, tensor: str) -> bool:
    from tf2onnx.utils import map_onnx_to_numpy_type

    return np.issubdtype(map_onnx_to_numpy_type(graph.get_dtype(tensor)), np.floating)


def _erfc(graph: Any, node: Any) -> None:
    """1 - Erf(x). tf2onnx has none; TensorFlow's exact GELU is x * erfc(-x / sqrt(2)) / 2."""
    (x,) = node.input
    _put(graph, node, "Sub", [_constant(graph, node, 1, x), _make(graph, node, "Erf", [x])])


def _expm1(graph: Any, node: Any) -> None:
    """tanh(x / 2) * (exp(x) + 1), which is exact next to zero too. tf2onnx has none."""
    (x,) = node.input
    half = _make(graph, node, "Mul", [x, _constant(graph, node, 0.5, x)])
    more = _make(graph, node, "Add", [_make(graph, node, "Exp", [x]), _constant(graph, node, 1, x)])
    _put(graph, node, "Mul", [_make(graph, node, "Tanh", [half]), more])


def _log1p(graph: Any, node: Any) -> None:
    """log(u) * x / (u - 1) with u = 1 + x, and x where u is 1: Kahan's way, exact next to zero. tf2onnx has none."""
    (x,) = node.input
    one = _constant(graph, node, 1, x)
    u = _make(graph, node, "Add", [x, one])
    same = _make(graph, node, "Equal", [u, one])
    step = _make(graph, node, "Where", [same, one, _make(graph, node, "Sub", [u, one])])
    ratio = _make(graph, node, "Div", [x, step])
    product = _make(graph, node, "Mul", [_make(graph, node, "Log", [u]), ratio])
    _put(graph, node, "Where", [same, x, product])


def _xlogy(graph: Any, node: Any) -> None:
    """The product x * log(y), and 0 where x is. tf2onnx has none."""
    x, y = node.input
    zero = _constant(graph, node, 0, x)
    product = _make(graph, node, "Mul", [x, _make(graph, node, "Log", [y])])
    _put(graph, node, "Where", [_make(graph, node, "Equal", [x, zero]), zero, product])


def _bucketize(graph: Any, node: Any) -> None:
    """How many boundaries a number is not below, as Keras' Discretization asks. tf2onnx has none."""
    import onnx

    (x,) = node.input
    floats = _make(graph, node, "Cast", [x], to=onnx.TensorProto.FLOAT)
    last = _constant(graph, node, np.array([-1], np.int64))
    limits = _constant(graph, node, np.array(node.get_attr("boundaries").floats, np.float32))
    below = _make(graph, node, "Less", [_make(graph, node, "Unsqueeze", [floats, last]), limits])
    counts = _make(graph, node, "Cast", [_make(graph, node, "Not", [below])], to=onnx.TensorProto.INT32)
    _put(graph, node, "ReduceSum", [counts, last], keepdims=0)


def _rounded_off(graph: Any, node: Any, rest: str) -> str:
    """Whether division towards zero is not division downwards: something is left, of another sign than the divisor."""
    _, y = node.input
    zero = _constant(graph, node, 0, y)
    signs = [_make(graph, node, "Less", [tensor, zero]) for tensor in (rest, y)]
    left = _make(graph, node, "Not", [_make(graph, node, "Equal", [rest, zero])])
    return _make(graph, node, "And", [left, _make(graph, node, "Xor", signs)])


def _floor_division(graph: Any, node: Any) -> None:
    """Rounded down. tf2onnx takes Div for whole numbers, which ONNX Runtime rounds towards zero."""
    from tf2onnx.onnx_opset.math import FloorDiv

    x, y = node.input
    if _is_float(graph, x):
        FloorDiv.version_6(graph, node)
        return
    quotient = _make(graph, node, "Div", [x, y])
    rest = _make(graph, node, "Sub", [x, _make(graph, node, "Mul", [quotient, y])])
    less = _make(graph, node, "Cast", [_rounded_off(graph, node, rest)], to=graph.get_dtype(x))
    _put(graph, node, "Sub", [quotient, less])


def _floor_modulo(graph: Any, node: Any) -> None:
    """The rest of division downwards: Mod for whole numbers; for others Mod with `fmod`, and the divisor more below 0.

    tf2onnx takes x - y * Div(x, y), which is wrong for whole numbers below zero and off for large quotients.
    """
    x, y = node.input
    if not _is_float(graph, x):
        _put(graph, node, "Mod", [x, y], fmod=0)
        return
    rest = _make(graph, node, "Mod", [x, y], fmod=1)
    wrong = _rounded_off(graph, node, rest)
    _put(graph, node, "Where", [wrong, _make(graph, node, "Add", [rest, y]), rest])


def _gather(graph: Any, node: Any) -> None:
    """tf2onnx takes an axis counted from the end for one counted from the start where there are batch axes."""
    from tf2onnx.onnx_opset.tensor import GatherV2

    axis = node.inputs[2].get_tensor_value() if node.inputs[2].is_const() else 0
    batch = node.get_attr_value("batch_dims", 0)
    if axis < 0:
        rank = len(graph.get_shape(node.input[0]))
        graph.replace_input(node, node.input[2], _constant(graph, node, np.array(axis + rank, np.int32)), 2)
    if batch < 0:
        node.set_attr("batch_dims", batch + len(graph.get_shape(node.input[1])))
    GatherV2.version_12(graph, node)


def _one_hot(graph: Any, node: Any) -> None:
    """An index below zero is none: it becomes one beyond the last, for ONNX's OneHot counts it from the end."""
    from tf2onnx.onnx_opset.tensor import OneHot

    index, depth = node.input[:2]
    if graph.get_dtype(depth) != graph.get_dtype(index):
        depth = _make(graph, node, "Cast", [depth], to=graph.get_dtype(index))
    below = _make(graph, node, "Less", [index, _constant(graph, node, 0, index)])
    known = _make(graph, node, "Where", [below, depth, index])
    graph.copy_shape(index, known)
    graph.copy_dtype(index, known)
    graph.replace_input(node, index, known, 0)
    OneHot.version_13(graph, node)


def _select(graph: Any, node: Any) -> None:
    """Where. tf2onnx multiplies both sides by 0 or 1 and adds, so that one that is not taken can still make it NaN."""
    import onnx

    condition, x, y = node.input
    ranks = [len(graph.get_shape(tensor)) for tensor in (condition, x)]
    if node.type == "Select" and ranks[0] == 1 < ranks[1]:  # whole rows are taken
        condition = _make(
            graph, node, "Reshape", [condition, _constant(graph, node, np.array([-1] + [1] * (ranks[1] - 1), np.int64))]
        )
    if graph.get_dtype(x) != onnx.TensorProto.BOOL:
        _put(graph, node, "Where", [condition, x, y])
        return
    first = _make(graph, node, "And", [condition, x])
    second = _make(graph, node, "And", [_make(graph, node, "Not", [condition]), y])
    _put(graph, node, "Or", [first, second])


def _multiply_no_nan(graph: Any, node: Any) -> None:
    """The product x * y, and 0 where y is, whatever x is. tf2onnx has none."""
    x, y = node.input
    zero = _constant(graph, node, 0, y)
    _put(graph, node, "Where", [_make(graph, node, "Equal", [y, zero]), zero, _make(graph, node, "Mul", [x, y])])


def _matrix_product(graph: Any, node: Any) -> None:
    """SparseMatMul, for matrices that are mostly zeros and dense all the same: a product. tf2onnx has none."""
    sides = []
    for tensor, side in zip(node.input, "ab", strict=True):
        turned = bool(node.get_attr_value(f"transpose_{side}", 0))
        sides.append(_make(graph, node, "Transpose", [tensor], perm=[1, 0]) if turned else tensor)
    _put(graph, node, "MatMul", sides)


def _truncated_modulo(graph: Any, node: Any) -> None:
    """The rest of division towards zero: Mod with `fmod`. tf2onnx has none."""
    _put(graph, node, "Mod", list(node.input), fmod=1)


def _adjust_saturation(graph: Any, node: Any) -> None:
    """Every channel's distance from the largest times a factor, as far as the smallest stays above zero.

    tf2onnx sorts the channels, and puts them back by the order that it sorted them by instead of its inverse.
    """
    x, factor = node.input
    zero = _constant(graph, node, 0, x)
    most, least = (_make(graph, node, kind, [x], axes=[-1], keepdims=1) for kind in ("ReduceMax", "ReduceMin"))
    distance = _make(graph, node, "Sub", [most, least])
    reach = _make(graph, node, "Min", [_make(graph, node, "Mul", [distance, factor]), most])
    reach = _make(graph, node, "Max", [reach, zero])
    gray = _make(graph, node, "Equal", [distance, zero])
    divisor = _make(graph, node, "Where", [gray, _constant(graph, node, 1, x), distance])
    ratio = _make(graph, node, "Div", [reach, divisor])
    _put(graph, node, "Sub", [most, _make(graph, node, "Mul", [_make(graph, node, "Sub", [most, x]), ratio])])


def _convolution_in_space(graph: Any, node: Any) -> None:
    """tf2onnx looks for the groups of a convolution by the name of the data format, and knows those of images alone."""
    from tf2onnx.onnx_opset.nn import ConvOp

    channels = graph.get_shape(node.input[0])[1 if node.get_attr_value("data_format") == b"NCDHW" else -1]
    groups = channels // graph.get_shape(node.input[1])[-2]
    ConvOp.version_13(graph, node)
    node.set_attr("group", groups)


def _transposed_convolution(graph: Any, node: Any) -> None:
    """With a stride larger than the kernel nobody writes the last places, and tf2onnx makes that pads below zero.

    ONNX says it as `output_padding`: places that only the bias reaches, behind the last (TensorFlow has them there).
    Where sizes are open, tf2onnx adds zeros behind the last places, and the bias before that: it has to come after.
    """
    from tf2onnx.onnx_opset.nn import ConvTranspose, get_shape_from_const_or_concat

    if len(node.input) > 3 and get_shape_from_const_or_concat(graph, node.inputs[0]) is None:
        bias = node.input[3]
        graph.remove_input(node, bias, 3)
        added = graph.insert_new_node_on_output("Add", node.output[0], name=f"{node.name}/Add")
        graph.replace_inputs(added, [node.output[0], bias])
        graph.copy_shape(node.output[0], added.output[0])
        graph.copy_dtype(node.output[0], added.output[0])
    ConvTranspose.version_11(graph, node)
    pads = list(node.get_attr("pads").ints) if node.get_attr("pads") else []
    axes = len(pads) // 2
    beyond = [max(0, -(pads[axis] + pads[axis + axes])) for axis in range(axes)]
    if any(beyond):
        node.set_attr("pads", [0 if beyond[place % axes] else pad for place, pad in enumerate(pads)])
        node.set_attr("output_padding", beyond)


def _spectrum(graph: Any, node: Any) -> None:
    """DFT on the last axis, real and imaginary parts on one more, which the handlers below take apart.

    tf2onnx knows magnitudes alone, by a product of matrices. ONNX has no complex numbers: nothing else may take them.
    """
    import onnx

    shape = graph.get_shape(node.input[0])
    takers = {taker.type for taker in graph.find_output_consumers(node.output[0])}
    if shape is None or (others := sorted(takers - {"ComplexAbs", "Imag", "Real"})):
        what = "of a tensor of any rank" if shape is None else f"whose complex numbers {', '.join(others)} takes"
        raise ConversionError(
            f"layer '{layer_of([node.name]) or node.name}' needs a Fourier transform {what}, for which ONNX has no "
            "operator: take its real and imaginary parts or its magnitudes first, or name another target (savedmodel)"
        )
    length = _make(graph, node, "Squeeze", [_make(graph, node, "Cast", [node.input[1]], to=onnx.TensorProto.INT64)])
    values = _make(graph, node, "Unsqueeze", [node.input[0], _constant(graph, node, np.array([-1], np.int64))])
    given, known = node.output[0], graph.get_shape(node.output[0])
    _put(graph, node, "DFT", [values, length], axis=len(shape) - 1, onesided=1)
    graph.set_dtype(given, graph.get_dtype(values))
    graph.set_shape(given, [*known, 2])


def _real(graph: Any, node: Any) -> None:
    """The first of each pair that a spectrum has."""
    _put(graph, node, "Gather", [node.input[0], _constant(graph, node, np.array(0, np.int64))], axis=-1)


def _imaginary(graph: Any, node: Any) -> None:
    """The second of each pair that a spectrum has."""
    _put(graph, node, "Gather", [node.input[0], _constant(graph, node, np.array(1, np.int64))], axis=-1)


def _magnitude(graph: Any, node: Any) -> None:
    """The length of each pair that a spectrum has; tf2onnx's own spectra have both parts along the first axis."""
    from tf2onnx.onnx_opset.signal import ComplexAbsOp

    if node.inputs[0].type != "DFT":
        ComplexAbsOp.version_13(graph, node)
        return
    _put(graph, node, "ReduceL2", [node.input[0]], axes=[-1], keepdims=0)


HANDLERS: dict[str, Handler] = {
    "AdjustSaturation": _adjust_saturation,
    "Bucketize": _bucketize,
    "ComplexAbs": _magnitude,
    "Conv3D": _convolution_in_space,
    "Conv2DBackpropInput": _transposed_convolution,
    "Conv3DBackpropInputV2": _transposed_convolution,
    "Erfc": _erfc,
    "Expm1": _expm1,
    "FloorDiv": _floor_division,
    "FloorMod": _floor_modulo,
    "GatherV2": _gather,
    "Imag": _imaginary,
    "Log1p": _log1p,
    "MulNoNan": _multiply_no_nan,
    "OneHot": _one_hot,
    "RFFT": _spectrum,
    "Real": _real,
    "ResizeArea": onnx_resizing.resize,
    "ResizeBicubic": onnx_resizing.resize,
    "ScaleAndTranslate": onnx_resizing.scale_and_translate,
    "Select": _select,
    "SelectV2": _select,
    "SparseMatMul": _matrix_product,
    "TruncateMod": _truncated_modulo,
    "Xlogy": _xlogy,
}
