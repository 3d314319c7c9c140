"""The pair rule: kernels in steps so that no integer kernel of an x86 processor can saturate on them.

Without VNNI, x86 has no instruction that multiplies bytes and adds the products in 32 bits. Integer kernels use
VPMADDUBSW (Intel SDM, volume 2): two unsigned bytes times two signed ones, u0 * w0 + u1 * w1, added in 16 signed bits,
and *saturated* there. Both activations at 255 and both weights at 127 give 64,770, and the kernel goes on with 32,767:
the same file answers otherwise than on a processor with VNNI or on ARM, and nothing says so.

A pair cannot saturate if its positive weights sum to at most 128 and its negative ones to at least -128, as
255 * 128 = 32,640. So a channel's step is the larger of what its largest weight needs, max|w| / 127, and of what its
heaviest pair needs, sum / 128. Kernels whose weights have the shape of a bell grow their steps by a few percent to a
third; the usual remedy, half the range for every weight (`reduce_range` of ONNX Runtime), doubles them.

Which weights meet, as read in ONNX Runtime's MLAS (ConvSymKernelAvx2.S, QgemmU8X8KernelAvx2.S, QgemvU8S8KernelAvx2.S,
and `ReorderFilter` in qlinearconv.cc): consecutive ones of an output channel's weights in the order (height, width,
input channel), for a grouped convolution those of its group; along the inner dimension of a matrix product. oneDNN and
OpenVINO fill input channels up to a multiple of four first, so that with an odd number of them others meet: both are
bound. Depthwise kernels widen their bytes before they multiply and are exact, and a transposed convolution has no
integer kernel there: neither is bound.
"""

from typing import TYPE_CHECKING, Literal

from tasks.quantization.saturation import LIMIT

if TYPE_CHECKING:
    import tensorflow as tf

Kernels = Literal["pairs", "full", "half"]

LEVELS = 127  # of a kernel on each side of zero
HALF = 64  # of a kernel of half the range, as `reduce_range` has it
CLEAR = 1 + 2.0**-16  # two weights that lie on halves would both be rounded up, to a sum of 129: steps a hair larger
SMALLEST = 1e-9  # a channel of nothing but zeros still needs a step


def meeting(kind: str, kernel_shape: tuple[int, ...]) -> int:
    """How many consecutive weights of a channel are filled up to an even number before they meet in pairs.

    Args:
        kind: the Keras layer's class.
        kernel_shape: of its kernel, as Keras has it.

    Returns:
        The number of input channels; 1 where weights meet across all places alone; 0 where none meet.

    """
    if kind in ("Dense", "Conv1D", "Conv2D"):
        return kernel_shape[-2]
    if kind == "DepthwiseConv2D" and kernel_shape[-1] > 1:  # several filters for a channel: computed as groups
        return 1
    return 0


def steps(rows: "tf.Tensor", inner: int, levels: int = LEVELS) -> "tf.Tensor":
    """The size of each channel's steps, `(channels,)`, in the unit of the weights.

    Args:
        rows: the kernel, `(places * inner, channels)`, rows in the order (height, width, input channel).
        inner: what `meeting` gave.
        levels: steps on each side of zero.

    """
    import tensorflow as tf

    sizes = tf.reduce_max(tf.abs(rows), axis=0) / levels
    if inner:
        sizes = tf.maximum(sizes, _heaviest(rows) / LIMIT * CLEAR)
    if inner > 1 and inner % 2:
        filled = tf.pad(tf.reshape(rows, (-1, inner, rows.shape[-1])), ((0, 0), (0, 1), (0, 0)))
        sizes = tf.maximum(sizes, _heaviest(tf.reshape(filled, (-1, rows.shape[-1]))) / LIMIT * CLEAR)
    return tf.maximum(sizes, SMALLEST / levels)


def _heaviest(rows: "tf.Tensor") -> "tf.Tensor":
    """What the like-signed weights of a channel's pairs sum to at most, `(channels,)`."""
    import tensorflow as tf

    rows = tf.pad(rows, ((0, rows.shape[0] % 2), (0, 0)))
    sides = tf.nn.relu(rows), tf.nn.relu(-rows)
    return tf.reduce_max([tf.reduce_max(side[0::2] + side[1::2], axis=0) for side in sides], axis=0)
