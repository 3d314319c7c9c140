"""What constants alone decide is computed once, when a file is made.

tf2onnx writes whole weights into a file to be asked for their shape, and reshapes others with each call.
"""

from typing import TYPE_CHECKING

import numpy as np

from tasks.formats.onnx.graph import array, bypass, constant

if TYPE_CHECKING:
    import onnx_ir as ir

# Operators that ask for shapes or move values: what they give is never larger than what they take.
FOLDED = frozenset(
    {"Cast", "Concat", "Gather", "ReduceProd", "Reshape", "Shape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)


def fold_constants(graph: "ir.Graph", opset: int) -> None:
    """Puts constants, in place, where a graph of an opset computes them from constants; subgraphs stay as they are."""
    for node in list(graph):
        values = [array(value) for value in node.inputs]
        known = [value for value in values if value is not None]
        if node.op_type in FOLDED and values and len(known) == len(values) and not node.outputs[0].is_graph_output():
            bypass(node, constant(_computed(node, known, opset)))


def _computed(node: "ir.Node", values: list[np.ndarray], opset: int) -> np.ndarray:
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    alone = onnx.NodeProto(op_type=node.op_type, output=["y"], input=[f"x{place}" for place in range(len(values))])
    alone.attribute.extend(ir.serde.serialize_attribute(attribute) for attribute in node.attributes.values())
    takes = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in zip(alone.input, values, strict=True)
    ]
    gives = onnx.ValueInfoProto(name="y")
    model = onnx.helper.make_model(
        onnx.helper.make_graph([alone], "alone", takes, [gives]), opset_imports=[onnx.helper.make_opsetid("", opset)]
    )
    (computed,) = ReferenceEvaluator(model).run(None, dict(zip(alone.input, values, strict=True)))
    return np.asarray(computed)
