"""Names and order in an ONNX file are the graph's alone, whatever tf2onnx counts and in which order it walks."""

import random

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tasks.formats.onnx.graph import only_consumer
from tasks.formats.onnx.lowering import join_biases
from tasks.formats.onnx.names import read, written

FLOAT = TensorProto.FLOAT


def value(name, shape=("unk__7", 3), kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def number(name, amount):
    return numpy_helper.from_array(np.array(amount, np.float32), name)


def proto(nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, "tf2onnx", inputs, outputs, constants, doc_string="by chance")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branching(seed):
    """Twice x, and then: if their sum is above zero, that twice, else 1 more and 1 times of it; both added.

    One branch gives out what it captures, and twice; the other has equal constants, and takes either of them.
    """
    draw = random.Random(seed)
    count = iter(draw.sample(range(1000), 100))

    def named(layer, kind):
        return f"model/{layer}/{kind}__{next(count)}"

    def node(layer, kind, inputs, outputs=1, **attributes):
        name = named(layer, kind)
        outputs = [f"{name}:{place}" for place in range(outputs)]
        return helper.make_node(kind, inputs, outputs, name=name, **attributes)

    double = node("double", "Mul", ["x:0", "model/double/two:0"])
    (doubled,) = double.output
    total = node("choose", "ReduceSum", [doubled], keepdims=0)
    above = node("choose", "Greater", [total.output[0], "zero__9"])
    captured = helper.make_graph([], named("choose", "then"), [], [value(doubled), value(doubled)])
    ones = [named("choose", "one") for _ in range(2)]
    more = node("choose", "Add", [doubled, draw.choice(ones)])
    same = node("choose", "Identity", [more.output[0]])
    times = node("choose", "Mul", [doubled, draw.choice(ones)])
    inner = [more, times, same]
    draw.shuffle(inner)
    computed = helper.make_graph(
        sorted(inner, key=lambda each: each is same),
        named("choose", "else"),
        [],
        [value(same.output[0]), value(times.output[0])],
        [number(name, 1) for name in ones],
    )
    choice = node("choose", "If", [above.output[0]], 2, then_branch=captured, else_branch=computed)
    last = node("last", "Add", list(choice.output))
    constants = [number("model/double/two:0", 2), number("zero__9", 0)]
    draw.shuffle(constants)
    return proto([double, total, above, choice, last], [value("x:0")], [value(last.output[0])], constants)


def test_a_file_depends_on_the_graph_alone():
    files = {written(read(branching(seed)), ["input"], ["output"]).SerializeToString() for seed in range(20)}
    (file,) = files
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert (session.get_inputs()[0].name, session.get_inputs()[0].shape) == ("input", ["batch", 3])
    x = np.array([[1, 2, 3]], np.float32)
    np.testing.assert_allclose(session.run(["output"], {"input": x})[0], 4 * x)
    np.testing.assert_allclose(session.run(["output"], {"input": -x})[0], 1 - 4 * x)


def test_operators_are_called_as_their_layers_inside_subgraphs_too():
    model = ir.from_proto(written(read(branching(0)), ["input"], ["output"]))
    names = [node.name for node in model.graph]
    assert names == ["double/Mul", "choose/ReduceSum", "choose/Greater", "choose/If", "last/Add"]
    inner = {graph.name: [node.name for node in graph] for graph in model.graph.subgraphs()}
    assert inner == {
        "choose/If:0": ["choose/Add", "choose/Mul"],
        "choose/If:1": ["choose/Identity", "choose/Identity_2"],
    }


def test_what_a_subgraph_captures_has_no_consumer_beside_it():
    graph = read(branching(0)).graph
    doubled = graph[0].outputs[0]
    assert {node.op_type for node in doubled.consumers()} == {"ReduceSum", "Identity", "Add", "Mul"}
    assert only_consumer(graph[1].outputs[0]) is graph[2]
    assert only_consumer(doubled) is None
    for inner in graph.subgraphs():
        for node in list(inner):
            if node.op_type in ("Identity", "Mul") and node.inputs[0] is doubled:
                inner.remove(node)
                node.replace_input_with(0, None)
    graph[1].replace_input_with(0, graph.inputs[0])
    assert [node.op_type for node in doubled.consumers()] == ["Add"]
    assert only_consumer(doubled) is None, "an Add in a branch is none to be joined with what stands outside"


def test_a_bias_at_a_models_end_is_joined_too():
    kernel, bias = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([5, 7], np.float32)
    nodes = [
        helper.make_node("MatMul", ["x:0", "model/dense/kernel"], ["product"], name="model/dense/MatMul"),
        helper.make_node("Add", ["product", "model/dense/bias"], ["sum"], name="model/dense/BiasAdd"),
    ]
    constants = [
        numpy_helper.from_array(kernel, "model/dense/kernel"),
        numpy_helper.from_array(bias, "model/dense/bias"),
    ]
    model = read(proto(nodes, [value("x:0")], [value("sum", ("unk__3", 2))], constants))
    join_biases(model.graph)
    file = written(model, ["input"], ["output"])
    assert [node.op_type for node in file.graph.node] == ["Gemm"]
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    assert (session.get_outputs()[0].name, session.get_outputs()[0].shape) == ("output", ["batch", 2])
    x = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], x @ kernel + bias)
