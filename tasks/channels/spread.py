"""How a cut is spread over layers: so that what each gives up moves the model's answers alike."""

import numpy as np

from tasks.channels.gates import gated
from tasks.channels.graph import ChannelGraph
from tasks.channels.importance import Scores
from tasks.contract.named import Array
from tasks.keras_graph.asked import asked
from tasks.quantization.mixed_precision import change

SHARES = (0.25, 0.5, 0.75)  # of each group's units that are taken away to see what it costs
RISE, SMALLEST = 1.001, 1e-12  # more units cost more, if only a little, so that a group keeps its own order


def by_sensitivity(graph: ChannelGraph, scores: Scores, x: Array) -> Scores:
    """Scores that keep each group's own order, and compare groups by what they cost.

    A unit's score is the mean squared change of the model's outputs over their variance once it and the less important
    ones of its group are gone: measured at some shares, and on lines between them. Cut in this order, every group gives
    up as many units as move the outputs equally far. Li et al. 2017, section 3.2, choose layers' shares by hand so.

    Args:
        graph: what is cut.
        scores: `(units,)`: each group's order; infinite for those that must stay.
        x: raw inputs `(n, …)`, or records of them, that answers are compared on.

    Returns:
        `(units,)`.

    """
    parts = gated(graph)
    before = asked(parts.model, x)
    spread = scores.copy()
    for group in graph.groups:
        least = group[np.argsort(scores[group], kind="stable")]
        least = least[np.isfinite(scores[least])]
        counts, costs = [0], [0.0]
        for count in sorted({int(share * len(least)) for share in SHARES} - {0}):
            with parts.without(least[:count]):
                changed = change(asked(parts.model, x), before)
            costs.append(max(changed, RISE * costs[-1], SMALLEST))
            counts.append(count)
        spread[least] = np.interp(np.arange(1, len(least) + 1), [*counts, len(least) + 1], [*costs, 2 * costs[-1]])
    return spread
