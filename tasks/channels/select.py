"""Which units are removed: the least important of all layers, as few as reach what is asked for."""

from collections.abc import Callable

import numpy as np

from tasks.channels.graph import ChannelGraph
from tasks.channels.importance import Scores
from tasks.channels.rules import ChannelMask

NEVER = np.iinfo(np.int64).max


def order(graph: ChannelGraph, scores: Scores, floor: float, multiple: int) -> Callable[[int], ChannelMask]:
    """What stays of a graph when so many of its least important units are to go.

    Each group keeps as many of its own most important units as is the nearest width that it may have; so a few more or
    fewer go than were asked for, and never fewer when more are asked for.

    Args:
        graph: what is cut.
        scores: `(units,)`: how much each matters; infinite for those that must stay.
        floor: share of each group's units that stays at least; one always does.
        multiple: how many channels a group keeps is a multiple of this, or all.

    Returns:
        From a number of units to the mask `(units,)` of those that stay.

    """
    ranks = np.empty(graph.units, np.int64)
    ranks[np.argsort(scores, kind="stable")] = np.arange(graph.units)
    ranks[np.isinf(scores)] = NEVER

    def stays(count: int) -> ChannelMask:
        mask = np.ones(graph.units, bool)
        for group in graph.groups:
            of_group = ranks[group]
            bound = max(int((of_group == NEVER).sum()), int(np.ceil(floor * len(group))), 1)
            kept = int((of_group >= count).sum())
            width = min(_widths(len(group), bound, multiple), key=lambda width: abs(width - kept))
            mask[group[np.argsort(of_group, kind="stable")[: len(group) - width]]] = False
        return mask

    return stays


def _widths(count: int, least: int, multiple: int) -> list[int]:
    """How many of a group's units may be kept, the most first: of two that are as near, the wider one is taken."""
    return [count, *range((count - 1) // multiple * multiple, least - 1, -multiple)]


def fewest(stays: Callable[[int], ChannelMask], units: int, enough: Callable[[ChannelMask], bool]) -> int | None:
    """The smallest number of units whose removal is enough, or None if that of all is not.

    Args:
        stays: what is left, from `order`.
        units: how many there are.
        enough: whether what is left satisfies; what satisfies still does when more is removed.

    """
    if enough(stays(0)):
        return 0
    if not enough(stays(units)):
        return None
    few, many = 0, units
    while many - few > 1:  # `few` is not enough, `many` is
        middle = (few + many) // 2
        if (stays(middle) == stays(few)).all():  # widths are the same, so the answer is
            few = middle
        elif (stays(middle) == stays(many)).all() or enough(stays(middle)):
            many = middle
        else:
            few = middle
    return many
