"""Which example stands in which split, so that no two splits share an example, or a group of examples."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.contract.problem import Problem

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Digests = npt.NDArray[np.uint64]
RowMask = npt.NDArray[np.bool_]
Membership = dict[Split, tuple[str, RowMask]]  # a split is some rows of one part
NONE: Mapping[str, np.ndarray] = MappingProxyType({})


def assign(
    digests: Mapping[str, Digests],
    strata: Mapping[str, npt.NDArray[np.int64]],
    *,
    validation: float,
    test: float,
    seed: int,
    groups: Mapping[str, Digests] = NONE,
    times: Mapping[str, np.ndarray] = NONE,
) -> tuple[Membership, int, int]:
    """Draws the splits that the source has not, and keeps those it has apart.

    A test part that the source has wins over validation, and both over train: rows whose content or group is in the
    stronger are left out of the weaker. Where a split is drawn, rows of the same group, or without groups of the same
    content, go to the same side, each stratum gives its share, and which rows are drawn depends on these and the seed
    alone. With times the last rows are drawn instead, test after validation after train, and none of one moment stand
    in two splits.

    Args:
        digests: `(rows,)` for each part: equal where the content is.
        strata: `(rows,)` for each part: the class of each row, or zeros.
        validation: share of the part that it is drawn from.
        test: share of the part `all`.
        seed: another one draws other rows.
        groups: `(rows,)` for each part: equal where the group is; none where rows have no groups.
        times: `(rows,)` for each part: numbers that sort as the times do; none where splits are drawn.

    Returns:
        The rows of each split, how many were left out because their content stands in another split, and how many
        others because their group does.

    """
    whole = "all" if "all" in digests else "train"
    free = {part: np.ones(len(values), bool) for part, values in digests.items()}
    members: Membership = {}
    left_out = [0, 0]
    shares: dict[Split, float] = {"test": test, "validation": validation}
    for split, fraction in shares.items():
        if split in digests:
            members[split] = (split, free.pop(split))
        else:
            of = np.ones_like(free[whole]) if whole == "all" else free[whole]
            if times:
                drawn = draw_last(times[whole], free[whole], share(fraction, of))
            else:
                units = (groups or digests)[whole]
                drawn = draw(units, strata[whole], free[whole], share(fraction, of), seed)
            members[split] = (whole, drawn)
            free[whole] &= ~drawn
        part, rows = members[split]
        for kind, keys in enumerate((digests, groups)):
            for weaker, kept in free.items() if keys else ():
                shared = kept & np.isin(keys[weaker], keys[part][rows])
                left_out[kind] += int(np.count_nonzero(shared))
                kept &= ~shared
    members["train"] = (whole, free[whole])
    return members, left_out[0], left_out[1]


def rows_of(members: Membership, values: Mapping[str, np.ndarray]) -> dict[Split, np.ndarray]:
    """Of what each part has of each of its rows, that of each split."""
    return {split: values[part][rows] for split, (part, rows) in members.items()}


def strata_of(targets: np.ndarray, problem: Problem) -> npt.NDArray[np.int64]:
    """What each split gets its share of: classes `(rows,)`, where an example has one; else all examples are alike."""
    if problem == "classification" and targets.ndim == 1:
        return targets.astype(np.int64, copy=False)
    return np.zeros(len(targets), np.int64)


def share(fraction: float, rows: RowMask) -> int:
    """A share of some rows, to the nearest whole row."""
    return round(fraction * int(np.count_nonzero(rows)))


def draw(units: Digests, strata: npt.NDArray[np.int64], free: RowMask, count: int, seed: int) -> RowMask:
    """Draws `count` of the free rows, by stratum, keeping rows of the same unit (content, or group) together.

    The number is exact unless a stratum is so small that one unit is more than its share, or units cannot be laid out
    to fit.

    Returns:
        The rows drawn, as `(rows,)` booleans.

    """
    rows = np.flatnonzero(free)
    if not len(rows):
        return np.zeros(len(free), bool)
    keys, unit, sizes = np.unique(units[rows], return_inverse=True, return_counts=True)
    stratum = prevailing(strata[rows], unit)
    order = np.argsort(scrambled(keys, seed), kind="stable")
    quotas = apportion(np.bincount(stratum, weights=sizes).astype(np.int64), count)
    taken = np.zeros(len(keys), bool)
    for number, quota in enumerate(quotas):
        members = order[stratum[order] == number]
        taken[fitting(members, sizes, int(quota))] = True
    drawn = np.zeros(len(free), bool)
    drawn[rows] = taken[unit]
    return drawn


def prevailing(strata: npt.NDArray[np.int64], unit: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The stratum of most of each unit's rows, as rows of one unit may differ; of several the first."""
    kinds = int(strata.max()) + 1
    pairs, counts = np.unique(unit * kinds + strata, return_counts=True)
    ordered = pairs[np.lexsort((pairs, -counts, pairs // kinds))]
    _, first = np.unique(ordered // kinds, return_index=True)
    strongest: npt.NDArray[np.int64] = ordered[first] % kinds
    return strongest


def draw_last(times: np.ndarray, free: RowMask, count: int) -> RowMask:
    """Draws about `count` of the free rows: all from one moment on, which comes nearest to that number.

    Returns:
        The rows drawn, as `(rows,)` booleans; none where all are of one moment.

    """
    moments, sizes = np.unique(times[free], return_counts=True)
    if len(moments) < 2:
        return np.zeros(len(free), bool)
    later = np.cumsum(sizes[::-1])[::-1][1:]  # rows from each moment on, but for the first, before which there are none
    first = moments[1:][np.abs(later - count).argmin()]
    drawn: RowMask = free & (times >= first)
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
    """The first units in order that fit into a quota of rows, passing over those that would exceed it.

    Where none fits, the smallest one, if others are left.
    """
    whole = int(np.searchsorted(np.cumsum(sizes[members]), quota, side="right"))
    taken = list(members[:whole])
    spare = quota - int(sizes[members[:whole]].sum())
    for member in members[whole:]:
        if not spare:
            break
        if sizes[member] <= spare:
            taken.append(member)
            spare -= int(sizes[member])
    if quota and not taken and len(members) > 1:
        taken.append(members[sizes[members].argmin()])
    return np.array(taken, np.int64)


def scrambled(contents: Digests, seed: int) -> Digests:
    """A number for each content in which the seed decides the order: splitmix64 (Steele, Lea, Flood 2014)."""
    mixed = contents + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
