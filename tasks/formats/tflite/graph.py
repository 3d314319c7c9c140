"""A TFLite graph that can be rewritten: which operator takes which tensors, and in what steps tensors are counted."""

import copy
import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tasks.formats.tflite.operators import SINCE


class TFLiteSteps(NamedTuple):
    """What the integers of a tensor mean: `(integer - zero) * size`."""

    size: float
    zero: int

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The integers that values are rounded to, int8."""
        steps: np.ndarray = np.clip(np.rint(values / self.size) + self.zero, -128, 127).astype(np.int8)
        return steps


class TFLiteGraph:
    """A model's first graph. Operators stay in running order; their inputs and outputs are numbers of tensors.

    inner: the graphs of its loops, which go into the file with it.
    """

    def __init__(self, content: bytes) -> None:
        from tensorflow.lite.python import schema_py_generated as schema

        names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
        self.model = schema.ModelT.InitFromPackedBuf(content)
        self._kinds: list[str] = [names[number] for number in codes(self.model)]
        self._numbers = {name: number for number, name in names.items()}
        self._take(0)
        self.inner = [self._beside(number) for number in range(1, len(self.model.subgraphs))]

    def _beside(self, number: int) -> "TFLiteGraph":
        """Another graph of the same model."""
        other = copy.copy(self)  # the model and its kinds of operators stay one
        other.inner = []
        other._take(number)
        return other

    def _take(self, number: int) -> None:
        self.number = number
        self.graph = self.model.subgraphs[number]
        self.operators: list[Any] = list(self.graph.operators)
        self.tensors: list[Any] = self.graph.tensors
        for operator in self.operators:
            operator.inputs, operator.outputs = list(map(int, operator.inputs)), list(map(int, operator.outputs))
        self.inputs, self.outputs = list(map(int, self.graph.inputs)), list(map(int, self.graph.outputs))

    def kind(self, operator: Any) -> str:
        """An operator's name in the schema."""
        return self._kinds[int(operator.opcodeIndex)]

    def set_kind(self, operator: Any, kind: str, version: int) -> None:
        """Makes an operator one of that kind, which runtimes know since some version."""
        from tensorflow.lite.python import schema_py_generated as schema

        for place, (name, code) in enumerate(zip(self._kinds, self.model.operatorCodes, strict=True)):
            if (name, code.version) == (kind, version):
                operator.opcodeIndex = place
                return
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = self._numbers[kind], version
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        self._kinds.append(kind)
        operator.opcodeIndex = len(self._kinds) - 1

    def in_integers(self, operator: Any) -> None:
        """Marks that an operator is one that takes integers."""
        kind, version = self.kind(operator), self.model.operatorCodes[operator.opcodeIndex].version
        self.set_kind(operator, kind, max(version, SINCE[kind]))

    def made(self, kind: str, inputs: list[int], outputs: list[int]) -> Any:
        """A new operator, which is in no place yet."""
        from tensorflow.lite.python import schema_py_generated as schema

        operator = schema.OperatorT()
        operator.inputs, operator.outputs = inputs, outputs
        self.set_kind(operator, kind, SINCE[kind])
        return operator

    def takers(self) -> dict[int, list[Any]]:
        """The operators that take each tensor, once for each time."""
        takers: dict[int, list[Any]] = defaultdict(list)
        for operator in self.operators:
            for tensor in operator.inputs:
                takers[tensor].append(operator)
        return takers

    def constant(self, tensor: int) -> np.ndarray | None:
        """A constant's values; none if the tensor is no constant in float32."""
        from tensorflow.lite.python import schema_py_generated as schema

        if tensor < 0 or self.tensors[tensor].type != schema.TensorType.FLOAT32:
            return None
        data = self.model.buffers[self.tensors[tensor].buffer].data
        if data is None or not len(data):
            return None
        values: np.ndarray = np.frombuffer(bytes(data), np.float32).reshape(self.shape(tensor))
        return values

    def layer(self, tensor: int) -> str:
        """The Keras layer that a tensor is of."""
        return layer_of(self.tensors[tensor].name.decode())

    def is_integer(self, tensor: int) -> bool:
        """Whether a tensor is in 8-bit integers."""
        from tensorflow.lite.python import schema_py_generated as schema

        return bool(self.tensors[tensor].type == schema.TensorType.INT8)

    def shape(self, tensor: int) -> list[int]:
        """A tensor's lengths; -1 where they are free."""
        details = self.tensors[tensor]
        known = details.shape if details.shapeSignature is None else details.shapeSignature
        return [] if known is None else [int(length) for length in known]

    def steps(self, tensor: int) -> TFLiteSteps:
        """What a tensor in integers is counted in."""
        known = self.tensors[tensor].quantization
        return TFLiteSteps(float(known.scale[0]), int(known.zeroPoint[0]))

    def copied(self, tensor: int) -> Any:
        """A tensor of the same kind, which is in no place yet."""
        return copy.deepcopy(self.tensors[tensor])

    def like(self, tensor: int, steps: TFLiteSteps) -> int:
        """A new tensor in 8-bit integers, of the shape that another one has."""
        from tensorflow.lite.python import schema_py_generated as schema

        made = copy.deepcopy(self.tensors[tensor])
        made.type, made.buffer = schema.TensorType.INT8, 0
        self.tensors.append(made)
        self.count_in(len(self.tensors) - 1, np.array([steps.size]), np.array([steps.zero]))
        return len(self.tensors) - 1

    def in_floats(self, tensor: int) -> int:
        """A new tensor in float, of the shape that one in integers has."""
        from tensorflow.lite.python import schema_py_generated as schema

        made = copy.deepcopy(self.tensors[tensor])
        made.type, made.buffer, made.quantization = schema.TensorType.FLOAT32, 0, None
        self.tensors.append(made)
        return len(self.tensors) - 1

    def count_in(self, tensor: int, sizes: np.ndarray, zeros: np.ndarray, axis: int = 0) -> None:
        """Says what a tensor's integers mean: one size and zero for all, or one for each place of an axis."""
        from tensorflow.lite.python import schema_py_generated as schema

        made = schema.QuantizationParametersT()
        made.scale, made.zeroPoint = sizes.astype(np.float32), zeros.astype(np.int64)
        made.quantizedDimension = axis
        self.tensors[tensor].quantization = made

    def integers(self, values: np.ndarray, sizes: np.ndarray, name: bytes, *, zero: int = 0, axis: int = 0) -> int:
        """A new constant of whole numbers."""
        from tensorflow.lite.python import schema_py_generated as schema

        made, buffer = schema.TensorT(), schema.BufferT()
        made.name, made.shape = name, np.array(values.shape, np.int32)
        made.hasRank = True
        made.type = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}[values.dtype.name]
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        made.buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        self.tensors.append(made)
        self.count_in(len(self.tensors) - 1, sizes, np.full(sizes.shape, zero), axis)
        return len(self.tensors) - 1

    def finished(self, size: int) -> bytes:
        """The file, of about so many bytes, with nothing in it that nothing uses."""
        for graph in (self, *self.inner):
            graph._drop_unused()
            graph.graph.operators = graph.operators
            graph.graph.inputs, graph.graph.outputs = graph.inputs, graph.outputs
            graph._renumber()
        self._drop_from_model()
        return packed(self.model, size)

    def loops(self, value: Callable[[int, int], Any]) -> list[tuple["TFLiteGraph", int]]:
        """What loops of this graph repeat, and how often: once if they end by anything but a count from 0 on.

        Args:
            value: what a tensor, by its number, of a graph, by its own, had in it.

        """
        found = []
        for operator in self.operators:
            if self.kind(operator) == "WHILE":
                asks = self.inner[operator.builtinOptions.condSubgraphIndex - 1]
                turns = 1
                if [asks.kind(each) for each in asks.operators] == ["LESS"]:
                    end, here = asks.operators[0].inputs[1], asks.number
                    if end in asks.inputs:
                        end, here = operator.inputs[asks.inputs.index(end)], self.number
                    turns = int(value(end, here))
                found.append((self.inner[operator.builtinOptions.bodySubgraphIndex - 1], turns))
        return found

    def _drop_unused(self) -> None:
        needed, kept = set(self.outputs), []
        for operator in reversed(self.operators):
            if needed.intersection(operator.outputs) or not operator.outputs:
                needed.update(operator.inputs)
                kept.append(operator)
        self.operators = kept[::-1]

    def _renumber(self) -> None:
        used = {-1, *self.inputs, *self.outputs}
        for operator in self.operators:
            used.update(operator.inputs, operator.outputs, _numbers(operator.intermediates))
        places = {tensor: place for place, tensor in enumerate(sorted(used), -1)}
        self.graph.tensors = [self.tensors[tensor] for tensor in sorted(used)[1:]]
        for holder in (self.graph, *self.operators):
            for field in ("inputs", "outputs", "intermediates"):
                if getattr(holder, field, None) is not None:
                    setattr(holder, field, [places[tensor] for tensor in _numbers(getattr(holder, field))])
        for signature in self.model.signatureDefs or ():
            if signature.subgraphIndex == self.number:
                for entry in (*signature.inputs, *signature.outputs):
                    entry.tensorIndex = places[entry.tensorIndex]

    def _drop_from_model(self) -> None:
        """Constants and kinds of operators that no graph has."""
        holders = [tensor for graph in self.model.subgraphs for tensor in graph.tensors]
        holders += self.model.metadata or ()
        filled = sorted({0, *(holder.buffer for holder in holders)})
        for holder in holders:
            holder.buffer = filled.index(holder.buffer)
        self.model.buffers = [self.model.buffers[buffer] for buffer in filled]
        spoken = sorted({operator.opcodeIndex for graph in self.model.subgraphs for operator in graph.operators})
        for graph in self.model.subgraphs:
            for operator in graph.operators:
                operator.opcodeIndex = spoken.index(operator.opcodeIndex)
        self.model.operatorCodes = [self.model.operatorCodes[code] for code in spoken]


def layer_of(*names: str) -> str:
    """The Keras layer of the first name that has one, as `.../model/layer/...` does; else the first name."""
    for name in names:
        parts = name.split(";")[0].split("/")
        if len(parts) > 1:
            return parts[1]
    return names[0]


def named_by_layers(content: bytes) -> bytes:
    """The same file, with inner tensors named by their layer alone: operators' names were a third of a recurrent one's.

    `layer_of` finds the same in what is left.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content)
    for graph in model.subgraphs:
        ends = {*_numbers(graph.inputs), *_numbers(graph.outputs)}
        for number, tensor in enumerate(graph.tensors):
            if number not in ends and tensor.name:
                tensor.name = b"/".join(bytes(tensor.name).split(b";")[0].split(b"/")[:2])
    return packed(model, len(content))


def _numbers(tensors: Any) -> list[int]:
    return [] if tensors is None else [int(tensor) for tensor in tensors]


def packed(model: Any, size: int) -> bytes:
    """A `ModelT` of the schema as a file, of about so many bytes; each text and each array is in it once.

    Kernels by channel have a zero point for each, all of them 0, in 8 bytes: a tenth of MobileNetV2's file.
    """
    import flatbuffers  # type: ignore[import-untyped]

    class Builder(flatbuffers.Builder):  # type: ignore[misc]
        """Its own shared strings have to be asked for, and what the schema generates does not."""

        def __init__(self, size: int) -> None:
            super().__init__(size)
            self._there: dict[tuple[str, bytes], int] = {}  # where, by type and digest: a kernel may be large

        def CreateString(self, s: str | bytes, *_: str) -> int:  # noqa: N802  the library's own name
            text = s.encode() if isinstance(s, str) else bytes(s)
            return self._once("text", text, lambda: super(Builder, self).CreateString(text))

        def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
            content = np.ascontiguousarray(x).view(np.uint8)
            return self._once(x.dtype.str, content, lambda: super(Builder, self).CreateNumpyVector(x))

        def _once(self, kind: str, content: Any, create: Callable[[], int]) -> int:
            what = kind, hashlib.sha256(content).digest()
            if what not in self._there:
                self._there[what] = create()
            return self._there[what]

    builder = Builder(size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def codes(model: Any) -> list[int]:
    """Each operator code's number, of a `ModelT`; older files have small ones in a field of their own."""
    return [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
