"""What an ONNX file looks up in its tables: ids in its input, and whether its tables have them.

An embedding is a Gather from a constant table. ONNX counts negative ids from the table's end, so that -1 is answered as
the last row is, where Keras refuses it; and an id behind the end stops a call in the runtime. The file itself knows how
many rows there are, and how it makes ids of its input: that part of it is run alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.named import by_name
from tasks.formats.onnx.files import _session
from tasks.formats.onnx.graph import ancestors, array, producer
from tasks.formats.onnx.half_precision import COMPUTED

if TYPE_CHECKING:
    import onnx_ir as ir

SAME_ROWS = frozenset({"Cast", "DequantizeLinear", "Identity"})  # between a table and what it is kept as


def unknown_ids(file: Path) -> Callable[[np.ndarray], str] | None:
    """A check whether inputs `(n, …)` have ids that the file has no row for; none if it looks nothing up.

    It takes records where there are several inputs.

    It answers with the first such id in a sentence, and with nothing if there is none.
    """
    import onnx_ir as ir

    model = ir.load(file)
    graph = model.graph
    lookups = list(_lookups(graph))
    if not lookups:
        return None
    ids = [ir.node("Cast", [lookup.inputs[1]], {"to": ir.DataType.INT64}, graph=graph) for lookup, _ in lookups]
    for node in ids:
        node.outputs[0].dtype = ir.DataType.INT64
    part = ir.convenience.extract(graph, graph.inputs, [node.outputs[0] for node in ids])
    session = _session(ir.to_proto(ir.Model(part, ir_version=model.ir_version)).SerializeToString(), 1)
    types = {input_.name: input_.dtype.numpy() for input_ in graph.inputs}
    needed = [input_.name for input_ in session.get_inputs()]

    def first_unknown(x: np.ndarray) -> str:
        fed = by_name(x, list(types))
        answers = session.run(None, {name: fed[name].astype(types[name], copy=False) for name in needed})
        for rows, (lookup, count) in zip(answers, lookups, strict=True):
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


def _lookups(graph: "ir.Graph") -> "Iterator[tuple[ir.Node, int]]":
    """Every Gather of ids that come from the inputs as they are, with the number of rows that its table has."""
    for node in graph:
        if node.op_type != "Gather":
            continue
        table = node.inputs[0]
        while (source := producer(table)) is not None and source.op_type in SAME_ROWS:
            table = source.inputs[0]
        before = ancestors(node.inputs[1])
        values = {value for step in before for value in step.inputs} | {node.inputs[1]}
        rows = array(table)
        if rows is None or rows.ndim < 2 or not values & set(graph.inputs):
            continue
        if not any(step.op_type in COMPUTED for step in before):
            yield node, rows.shape[node.attributes.get_int("axis", 0)]
