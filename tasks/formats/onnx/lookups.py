"""What an ONNX file looks up in its tables: ids in its input, and whether its tables have them.

An embedding is a Gather from a constant table. ONNX counts negative ids from the table's end, so that -1 is answered as
the last row is, where Keras refuses it; and an id behind the end stops a call in the runtime. The file itself knows how
many rows there are, and how it makes ids of its input: that part of it is run alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.formats.onnx.files import _session
from tasks.formats.onnx.half_precision import COMPUTED
from tasks.formats.tensorrt.rules import Wiring

if TYPE_CHECKING:
    import onnx

SAME_ROWS = frozenset({"Cast", "DequantizeLinear", "Identity"})  # between a table and what it is kept as


def unknown_ids(file: Path) -> Callable[[np.ndarray], str] | None:
    """A check whether inputs `(n, …)` have ids that the file has no row for; none if it looks nothing up.

    It answers with the first such id in a sentence, and with nothing if there is none.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(file)
    wiring = Wiring(model)
    lookups = list(_lookups(wiring, {value.name for value in model.graph.input} - set(wiring.constants)))
    if not lookups:
        return None
    needed = {node.name or node.output[0] for lookup, _ in lookups for node in wiring.ancestors(lookup.input[1])}
    nodes = [node for node in wiring.nodes if (node.name or node.output[0]) in needed]
    ids = [f"looked_up_{number}" for number in range(len(lookups))]
    for name, (lookup, _) in zip(ids, lookups, strict=True):
        nodes.append(helper.make_node("Cast", [lookup.input[1]], [name], to=TensorProto.INT64))
    taken = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "ids",
        list(model.graph.input),
        [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in ids],
        [constant for constant in model.graph.initializer if constant.name in taken],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = _session(part.SerializeToString(), 1)
    input_ = model.graph.input[0]
    dtype = helper.tensor_dtype_to_np_dtype(input_.type.tensor_type.elem_type)

    def first_unknown(x: np.ndarray) -> str:
        for rows, (lookup, count) in zip(
            session.run(ids, {input_.name: x.astype(dtype, copy=False)}), lookups, strict=True
        ):
            outside = np.argwhere((rows < 0) | (rows >= count))
            if len(outside):
                place = tuple(outside[0])
                layer = lookup.name.split("/")[0]
                return (
                    f"{f'example {place[0]}' if place else 'it'} has the id {rows[place]}, and {layer!r} knows the ids "
                    f"0 to {count - 1}"
                )
        return ""

    return first_unknown


def _lookups(wiring: Wiring, inputs: set[str]) -> "Iterator[tuple[onnx.NodeProto, int]]":
    """Every Gather of ids that come from the inputs as they are, with the number of rows that its table has."""
    for node in wiring.nodes:
        if node.op_type != "Gather":
            continue
        table = node.input[0]
        while table in wiring.givers and wiring.givers[table].op_type in SAME_ROWS:
            table = wiring.givers[table].input[0]
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        before = wiring.ancestors(node.input[1])
        names = {name for step in before for name in step.input} | {node.input[1]}
        rows = wiring.constants.get(table)
        if rows is None or rows.ndim < 2 or not names & inputs or any(step.op_type in COMPUTED for step in before):
            continue
        yield node, rows.shape[axis]
