"""Images resized by a matrix for each axis, for ways of resizing that ONNX does not have as TensorFlow has them.

Every new pixel is a weighted sum of old ones, with weights that are the product of one for its row and one for its
column. So a resize is two matrix products. The matrices are made by TensorFlow's own operator, from unit vectors: its
weights to the last bit, whatever tables and edges it has.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.contract.errors import ConversionError
from tasks.formats.onnx.names import layer_of

Resized = Callable[[np.ndarray, int, tuple[int, int]], Any]  # images, along which axis, to which size


def resize(graph: Any, node: Any) -> None:
    """ResizeArea and ResizeBicubic.

    tf2onnx takes linear interpolation for areas, and ONNX's cubic, whose weights are not those of TensorFlow's table
    (tensorflow/core/kernels/image/resize_bicubic_op.cc). ONNX has no areas before opset 18.
    """
    import tensorflow as tf

    area = node.type == "ResizeArea"
    ways = {name: bool(node.get_attr_value(name)) for name in ("align_corners", "half_pixel_centers")}

    def resized(images: np.ndarray, _: int, size: tuple[int, int]) -> Any:
        if area:
            return tf.raw_ops.ResizeArea(images=images, size=size, align_corners=ways["align_corners"])
        return tf.raw_ops.ResizeBicubic(images=images, size=size, **ways)

    _resize(graph, node, resized)


def scale_and_translate(graph: Any, node: Any) -> None:
    """ScaleAndTranslate: Lanczos, Gauss, Mitchell's cubic, and all that smooth before they make smaller.

    tf2onnx has none, and ONNX has no such operator.
    """
    import tensorflow as tf

    scale, translation = _scale(graph, node), _known(node, 3)
    method, smoothed = node.get_attr_value("kernel_type").decode(), bool(node.get_attr_value("antialias"))

    def resized(images: np.ndarray, axis: int, size: tuple[int, int]) -> Any:
        only = np.arange(2) == axis  # the other axis has one pixel
        return tf.raw_ops.ScaleAndTranslate(
            images=images,
            size=size,
            scale=np.where(only, scale, 1).astype(np.float32),
            translation=np.where(only, translation, 0).astype(np.float32),
            kernel_type=method,
            antialias=smoothed,
        )

    _resize(graph, node, resized)


def _scale(graph: Any, node: Any) -> np.ndarray:
    """A size by that of the images, as `tf.image.resize` computes it; or any other constant."""
    ratio, shape = node.inputs[2], graph.get_shape(node.input[0])
    if ratio.is_const() or ratio.type not in ("Div", "RealDiv") or shape is None or min(shape[1:3]) < 0:
        return _known(node, 2)
    of_these_images, before = False, [ratio.inputs[1]]
    while before and not of_these_images:  # what it is divided by is the shape of these images
        one = before.pop()
        of_these_images = one.type == "Shape" and one.input[0] == node.input[0]
        before.extend(one.inputs)
    if not of_these_images:
        raise _unknown(node)
    return _known(ratio, 0) / np.array(shape[1:3], np.float32)


def _known(node: Any, place: int) -> np.ndarray:
    if not node.inputs[place].is_const():
        raise _unknown(node)
    value: np.ndarray = node.inputs[place].get_tensor_value(as_list=False)
    return value


def _unknown(node: Any) -> ConversionError:
    return ConversionError(
        f"layer '{layer_of([node.name])}' resizes images ({node.type}) between sizes that are not known: give the "
        "model's Input a height and width and the layer a size, or resize by bilinear or nearest"
    )


def _resize(graph: Any, node: Any, resized: Resized) -> None:
    """Two products in the node's place, `(batch, height, width, channels)`; none along an axis that stays."""
    import onnx
    import tensorflow as tf
    from tf2onnx.utils import make_name

    shape = graph.get_shape(node.input[0])
    if shape is None or min(shape[1:]) < 0:
        raise _unknown(node)
    _, height, width, channels = shape
    new_height, new_width = (int(size) for size in _known(node, 1))
    rows = np.eye(height, dtype=np.float32).reshape(1, height, 1, height)
    columns = np.eye(width, dtype=np.float32).reshape(1, 1, width, width)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # beside the graph that is being converted
        by_row = session.run(resized(rows, 0, (new_height, 1)))[0, :, 0]
        by_column = session.run(resized(columns, 1, (1, new_width)))[0, 0]

    def make(kind: str, inputs: list[str], **attributes: Any) -> str:
        return str(graph.make_node(kind, inputs, attr=attributes, name=make_name(f"{node.name}/{kind}")).output[0])

    def constant(value: np.ndarray) -> str:
        return str(graph.make_const(make_name(f"{node.name}/constant"), value).output[0])

    images = make("Cast", [node.input[0]], to=onnx.TensorProto.FLOAT)
    if not np.array_equal(by_row, np.eye(height)):
        flat = make("Reshape", [images, constant(np.array([0, height, width * channels], np.int64))])
        flat = make("MatMul", [constant(by_row), flat])
        images = make("Reshape", [flat, constant(np.array([0, new_height, width, channels], np.int64))])
    if not np.array_equal(by_column, np.eye(width)):
        images = make("MatMul", [constant(by_column), images])
    shapes, dtypes = node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    graph.make_node("Identity", [images], name=node.name, outputs=node.output, shapes=shapes, dtypes=dtypes)
