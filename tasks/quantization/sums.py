"""Sums of two tensors in integers: how each processor's kernel rounds them, and scales with which all round alike.

An integer sum is (a - za) * sa / sc + (b - zb) * sb / sc + zc, rounded. ONNX Runtime's kernels (core/mlas/lib/qladd.cpp
and intrinsics/avx2/qladd_avx2.cpp) compute it in float32 on x86, in another order and with other roundings with AVX2
than without, and on ARM64 with whole numbers of 22 bits. All are right to far below a step; but where a sum lies next
to the middle between two steps, they end on either side of it. Of 60 sums with drawn scales 25 had one to three such
pairs of numbers, of 65,536, between x86 and ARM64, and 13 between the two kernels of x86: enough for one answer in 300
of a residual network to differ. A scale that is smaller by some hundred-thousandths moves the middles away from them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]

FINEST = 2.0**-17  # by how much a range is made smaller at once: at its end that is a five-hundredth of a step
MOST = 4096  # so often at most: 3 %
# What a kernel is off by at most, as a share of the largest number that it can meet: 2^-20 with whole numbers of 22
# bits, a quarter of that in float32. Sums that are further from a middle are rounded alike by all.
CLOSE = 2.0**-18


class Steps(NamedTuple):
    """How a tensor is quantized to 8 bits: the size of a step, and the number that stands for zero."""

    size: np.float32
    zero: int


def apart(first: Steps, second: Steps, output: Steps, lowest: int = 0) -> int:
    """How many of the 65,536 pairs of numbers are added to different numbers by different kernels.

    Args:
        first: what is added, as the kernel takes it.
        second: what it is added to.
        output: what comes out.
        lowest: the smallest of the 256 numbers: 0, or -128 for signed ones.

    """
    numbers = np.arange(lowest, lowest + 256)
    ratios = float(first.size) / float(output.size), float(second.size) / float(output.size)
    sums = (numbers[:, None] - first.zero) * ratios[0] + (numbers - second.zero) * ratios[1]
    close = np.abs(sums - np.floor(sums) - 0.5) < CLOSE * 256 * (1 + sum(ratios))
    a, b = (numbers[places] for places in np.nonzero(close))
    expected, *others = (np.clip(result, lowest, lowest + 255) for result in _kernels(a, b, first, second, output))
    return int(np.any([other != expected for other in others], axis=0).sum())


def agreed(first: Steps, second: Steps, scaled: Callable[[float], Steps], lowest: int = 0) -> float:
    """By what a sum's range is to be multiplied, 1 or a little less, so that all kernels round all pairs alike.

    Args:
        first: what is added, as the kernel takes it.
        second: what it is added to.
        scaled: from such a factor to the steps of the sum.
        lowest: as for `apart`.

    Returns:
        1 too if there is no such factor, as `apart` shows.

    """
    factors = (1 - times * FINEST for times in range(MOST))
    return next((factor for factor in factors if not apart(first, second, scaled(factor), lowest)), 1.0)


def _kernels(a: Whole, b: Whole, first: Steps, second: Steps, output: Steps) -> Iterator[Whole]:
    """What each kernel makes of pairs of numbers, before it cuts them off at 8 bits.

    Where one side is a single number for many of the other, as with a bias, x86 adds it first, whichever it is.
    """
    left = a.astype(np.float32), np.float32(first.size / output.size)
    right = b.astype(np.float32), np.float32(second.size / output.size)
    zeros = np.float32(first.zero), np.float32(second.zero)
    for one, other in ((left, right), (right, left)):
        for fused in (False, True):  # whether compilers may leave out the rounding between a product and a sum
            both = _add(zeros[1] * right[1], (zeros[0], left[1]), fused=fused)
            start = np.float32(output.zero) - both
            yield np.rint(_add(_add(start, one, fused=False), other, fused=False)).astype(np.int64)
            yield np.rint(_add(_add(start, one, fused=True), other, fused=True)).astype(np.int64)
            yield np.rint(_add(_add(start, one, fused=False), other, fused=True)).astype(np.int64)
    yield _in_whole_numbers(a, b, first, second, output)


def _add(start: Any, side: tuple[Any, np.float32], *, fused: bool) -> Any:
    """A product and a sum in float32; fused, they are rounded once: 64 bits hold both without rounding."""
    numbers, ratio = side
    if fused:
        return (np.float64(numbers) * np.float64(ratio) + np.float64(start)).astype(np.float32)
    return start + numbers * ratio


def _in_whole_numbers(a: Whole, b: Whole, first: Steps, second: Steps, output: Steps) -> Whole:
    """As on ARM64: multipliers of which the larger one has 22 bits, a shift that rounds, and halves away from zero."""
    ratios = np.float32(first.size / output.size), np.float32(second.size / output.size)
    if min(ratios) < 2.0**-14 or max(ratios) >= 2.0**8:  # it computes as anybody would
        values = (first.size * (a - first.zero).astype(np.float32) + second.size * (b - second.zero)) / output.size
        return np.rint(values.astype(np.float32)).astype(np.int64) + output.zero
    shift = 21 - int(np.floor(np.log2(max(ratios))))
    factors = [int(np.rint(ratio * np.float32(2.0**shift))) for ratio in ratios]
    total = factors[0] * (a - first.zero) + factors[1] * (b - second.zero)
    total -= total < 0
    sums: Whole = ((total + (1 << (shift - 1))) >> shift) + output.zero
    return sums
