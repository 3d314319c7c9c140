"""Which weights can make an integer kernel saturate: the arithmetic of x86 processors without VNNI.

There, ONNX Runtime multiplies unsigned by signed bytes with VPMADDUBSW, which adds two products into 16 signed bits and
saturates (Intel 64 and IA-32 Architectures Software Developer's Manual, PMADDUBSW): u0 * w0 + u1 * w1 with u of 0 to
255. What meets are consecutive weights of an output channel, (2i, 2i + 1), along the inner dimension of a matrix or
along (kernel height, kernel width, input channel) of a convolution; an odd number of them is filled up with a zero.
Read in onnxruntime/core/mlas/lib/x86_64 (ConvSymKernelAvx2.S, QgemmU8X8KernelAvx2.S, QgemvU8S8KernelAvx2.S), and in
qlinearconv.cc for the order. With VNNI, on ARM and without AVX2 the same sums are made in 32 bits.
"""

import numpy as np
import numpy.typing as npt

Int8s = npt.NDArray[np.int8]
LIMIT = 128  # 255 * 128 = 32,640 is inside 16 signed bits, 255 * 129 = 32,895 is not


def saturating(rows: Int8s) -> npt.NDArray[np.bool_]:
    """Which output channels have two weights that meet and can saturate, `(channels,)`.

    A pair cannot, whatever it is multiplied by, if its positive weights sum to 128 at most and its negative ones to
    -128 at least.

    Args:
        rows: the weights as they are stored, `(inner, channels)`, in the order in which a kernel takes them.

    """
    even = np.pad(rows.astype(np.int16), ((0, len(rows) % 2), (0, 0)))
    pairs = even.reshape(-1, 2, rows.shape[1])
    most, least = pairs.clip(min=0).sum(axis=1), pairs.clip(max=0).sum(axis=1)
    saturated: npt.NDArray[np.bool_] = ((most > LIMIT) | (least < -LIMIT)).any(axis=0)
    return saturated


def convolution_rows(kernel: Int8s, multiple: int = 1) -> Int8s:
    """A convolution's kernel in the order in which it is multiplied, `(inner, output channels)`.

    Args:
        kernel: `(output channels, input channels of a group, *kernel's shape)`, as ONNX has it.
        multiple: of which the input channels are made one by zeros: 1 in ONNX Runtime, 4 in OpenVINO and oneDNN, where
            with an odd number of channels other weights meet.

    """
    last = np.moveaxis(kernel, 1, -1)
    filled = np.pad(last, [*[(0, 0)] * (last.ndim - 1), (0, -last.shape[-1] % multiple)])
    return filled.reshape(len(kernel), -1).T


def convolution_saturates(kernel: Int8s, groups: int) -> bool:
    """Whether a convolution can saturate in ONNX Runtime.

    One group after the other is a matrix, so that nothing meets across groups. With one input and one output channel
    in each group the kernel is another one (MlasConvDepthwise), which widens to 16 bits first: never. That is not so
    where a group has several output channels.

    Args:
        kernel: as for `convolution_rows`.
        groups: of the convolution.

    """
    depthwise = kernel.shape[1] == 1 and len(kernel) == groups
    return not depthwise and bool(saturating(convolution_rows(kernel)).any())


def matrix_saturates(matrix: Int8s) -> bool:
    """Whether a matrix, or any of several, `(..., inner, channels)`, can saturate."""
    stacked = matrix.reshape(-1, *matrix.shape[-2:]) if matrix.ndim > 1 else matrix.reshape(1, -1, 1)
    return any(saturating(rows).any() for rows in stacked)
