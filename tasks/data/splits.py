"""Which example stands in which split: decided by content, so that no two splits share an example."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.contract.problem import Problem

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Digests = npt.NDArray[np.uint64]
RowMask = npt.NDArray[np.bool_]
Membership = dict[Split, tuple[str, RowMask]]  # a split is some rows of one part


def assign(
    digests: Mapping[str, Digests],
    strata: Mapping[str, npt.NDArray[np.int64]],
    *,
    validation: float,
    test: float,
    seed: int,
) -> tuple[Membership, int]:
    """Draws the splits that the source has not, and keeps those it has apart.

    A test part that the source has wins over validation, and both over train: rows whose content is in the stronger
    are left out of the weaker. Where a split is drawn, rows of the same content go to the same side, each stratum gives
    its share, and which rows are drawn depends on their content and the seed alone.

    Args:
        digests: `(rows,)` for each part: equal where the content is.
        strata: `(rows,)` for each part: the class of each row, or zeros.
        validation: share of the part that it is drawn from.
        test: share of the part `all`.
        seed: another one draws other rows.

    Returns:
        The rows of each split, and how many were left out because their content stands in another split.

    """
    whole = "all" if "all" in digests else "train"
    members: Membership = {}
    free = np.ones(len(digests[whole]), bool)
    left_out = 0
    if "test" in digests:
        members["test"] = ("test", np.ones(len(digests["test"]), bool))
        free &= ~np.isin(digests[whole], digests["test"])
    else:
        drawn = draw(digests[whole], strata[whole], free, share(test, free), seed)
        members["test"] = (whole, drawn)
        free &= ~drawn
    if "validation" in digests:
        kept = np.ones(len(digests["validation"]), bool)
        part, rows = members["test"]
        kept &= ~np.isin(digests["validation"], digests[part][rows])
        members["validation"] = ("validation", kept)
        free &= ~np.isin(digests[whole], digests["validation"])
        left_out += int(np.count_nonzero(~kept))
    else:
        count = share(validation, np.ones(len(free), bool)) if whole == "all" else share(validation, free)
        drawn = draw(digests[whole], strata[whole], free, count, seed)
        members["validation"] = (whole, drawn)
        free &= ~drawn
    members["train"] = (whole, free)
    used = sum(int(np.count_nonzero(rows)) for part, rows in members.values() if part == whole)
    return members, left_out + len(free) - used


def strata_of(targets: np.ndarray, problem: Problem) -> npt.NDArray[np.int64]:
    """What each split gets its share of: classes `(rows,)`, where an example has one; else all examples are alike."""
    if problem == "classification" and targets.ndim == 1:
        return targets.astype(np.int64, copy=False)
    return np.zeros(len(targets), np.int64)


def share(fraction: float, rows: RowMask) -> int:
    """A share of some rows, to the nearest whole row."""
    return round(fraction * int(np.count_nonzero(rows)))


def draw(digests: Digests, strata: npt.NDArray[np.int64], free: RowMask, count: int, seed: int) -> RowMask:
    """Draws `count` of the free rows, by stratum, keeping rows of the same content together.

    The number is exact unless a stratum is so small that one row is more than its share, or rows of the same content
    cannot be laid out to fit.

    Returns:
        The rows drawn, as `(rows,)` booleans.

    """
    rows = np.flatnonzero(free)
    if not len(rows):
        return np.zeros(len(free), bool)
    contents, first, group, sizes = np.unique(digests[rows], return_index=True, return_inverse=True, return_counts=True)
    stratum = strata[rows][first]  # rows of the same content may differ in label: the first one decides
    order = np.argsort(scrambled(contents, seed), kind="stable")
    quotas = apportion(np.bincount(stratum, weights=sizes).astype(np.int64), count)
    taken = np.zeros(len(contents), bool)
    for number, quota in enumerate(quotas):
        members = order[stratum[order] == number]
        taken[fitting(members, sizes, int(quota))] = True
    drawn = np.zeros(len(free), bool)
    drawn[rows] = taken[group]
    return drawn


def apportion(sizes: npt.NDArray[np.int64], total: int) -> npt.NDArray[np.int64]:
    """Divides `total` among strata by their sizes and largest remainders, at least one to each that has any."""
    ideal = sizes * (total / max(int(sizes.sum()), 1))
    quotas: npt.NDArray[np.int64] = np.minimum(np.maximum(np.floor(ideal).astype(np.int64), 1), sizes)
    missing = max(total - int(quotas.sum()), 0)
    largest = np.argsort(quotas - ideal, kind="stable")[:missing]
    quotas[largest] += 1
    return np.minimum(quotas, sizes)


def fitting(members: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], quota: int) -> npt.NDArray[np.int64]:
    """The first groups in order that fit into a quota of rows, passing over those that would exceed it."""
    whole = int(np.searchsorted(np.cumsum(sizes[members]), quota, side="right"))
    taken = list(members[:whole])
    spare = quota - int(sizes[members[:whole]].sum())
    for member in members[whole:]:
        if not spare:
            break
        if sizes[member] <= spare:
            taken.append(member)
            spare -= int(sizes[member])
    return np.array(taken, np.int64)


def scrambled(contents: Digests, seed: int) -> Digests:
    """A number for each content in which the seed decides the order: splitmix64 (Steele, Lea, Flood 2014)."""
    mixed = contents + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
