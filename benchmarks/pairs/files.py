"""The files of one float model: the same graph with the same ranges, its kernels' steps by each rule."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.conversion.subjects import Subject
from tasks.formats.onnx import files as form
from tasks.quantization.fake_quantization import fake_quantized

if TYPE_CHECKING:
    import onnx

KernelFile = Literal["float", "full", "pairs", "half", "unsigned"]
KERNELS: tuple[Literal["full", "pairs", "half"], ...] = ("full", "pairs", "half")
MIDDLE = 128  # of an unsigned byte: what zero becomes


@dataclass(frozen=True)
class KernelWay:
    """A file, and how it is opened. says: what it is, for a reader of the table."""

    made: KernelFile
    switched: bool = False
    says: str = ""


FULL, PAIRS = "full range", "pair rule"
WAYS: dict[str, KernelWay] = {
    "float": KernelWay("float", says="not quantized"),
    FULL: KernelWay("full", says="steps of max\\|w\\| / 127, what ONNX Runtime's and LiteRT's own tools make"),
    PAIRS: KernelWay("pairs", says="what Slimline makes"),
    "`reduce_range`": KernelWay("half", says="steps of max\\|w\\| / 64: weights of seven bits"),
    "U8U8": KernelWay("unsigned", says="the full-range file with weights + 128 and zero points of 128, as uint8"),
    "`x64quantprecision`": KernelWay(
        "full", True, "the full-range file, opened with ONNX Runtime's switch of that name"
    ),
}


def write(subject: Subject, folder: Path) -> None:
    """Put the five files in folders of their names, and the input that they are timed with."""
    for name in ("float", *KERNELS, "unsigned"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    form.write(subject.model, folder / "float", "float32", classes=subject.data.classes)
    for kernels in KERNELS:
        quantized = fake_quantized(subject.model, subject.examples, kernels=kernels)
        form.write(quantized, folder / kernels, "int8", classes=subject.data.classes)
    (folder / "unsigned" / form.FILE).write_bytes(unsigned((folder / "full" / form.FILE).read_bytes()))
    np.save(folder / "example.npy", subject.x[:1])


def digest(folder: Path) -> str:
    """What tells whether files are those that figures were made with."""
    content = b"".join((folder / name / form.FILE).read_bytes() for name in ("float", *KERNELS, "unsigned"))
    return hashlib.sha256(content).hexdigest()


def unsigned(model: bytes) -> bytes:
    """A file with the same weights as unsigned bytes: what ONNX Runtime's switch does when it opens one."""
    import onnx

    proto = onnx.load_from_string(model)
    moving = {tensor.name: tensor for _, (kernel, _, zero) in _kernels(proto) for tensor in (kernel, zero)}
    for tensor in moving.values():  # kernels may share their zeros
        moved = onnx.numpy_helper.to_array(tensor).astype(np.int16) + MIDDLE
        tensor.CopyFrom(onnx.numpy_helper.from_array(moved.astype(np.uint8), tensor.name))
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def scales(model: bytes) -> dict[str, np.ndarray]:
    """The size of the steps of each kernel's channels `(channels,)`, by the operator's name; of empty channels NaN."""
    import onnx

    steps_of = {}
    for node, tensors in _kernels(onnx.load_from_string(model)):
        numbers, steps, zeros = (onnx.numpy_helper.to_array(tensor) for tensor in tensors)
        (axis,) = (each.i for each in node.attribute if each.name == "axis")
        others = tuple(place for place in range(numbers.ndim) if place != axis)
        some = (numbers != np.expand_dims(zeros, others)).any(axis=others)
        steps_of[node.name] = np.where(some, steps, np.nan)
    return steps_of


def _kernels(
    proto: "onnx.ModelProto",
) -> Iterator[tuple["onnx.NodeProto", tuple["onnx.TensorProto", "onnx.TensorProto", "onnx.TensorProto"]]]:
    """Each DequantizeLinear of constants in bytes, with these, their scales and their zero points."""
    import onnx

    bytes_ = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        kernel = constants.get(node.input[0])
        if node.op_type == "DequantizeLinear" and kernel is not None and kernel.data_type in bytes_:
            yield node, (kernel, constants[node.input[1]], constants[node.input[2]])
