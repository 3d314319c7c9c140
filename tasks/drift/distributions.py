"""Drift: how far the distribution of a figure has moved, and whether that can be chance.

Two questions, because each alone misleads. A test alone alarms over nothing once there are many examples; a distance
alone alarms by chance while there are few. So a figure has drifted when its population stability index is beyond a
limit *and* a chi-squared test of homogeneity, corrected for the number of figures by Holm (1979), says that it is no
chance.

The population stability index, the sum of (p - q)·ln(p / q) over bins, is Jeffreys' divergence of two histograms
(Kullback and Leibler 1951). Credit scoring reads it as: below 0.1 nothing, from 0.25 a different population (Siddiqi
2006). Bins are the reference's tenths, so each figure has a scale of its own and outliers have no weight.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.measuring.arrays import Figure

Values = npt.NDArray[np.floating]

BINS = 10
TIED = 0.05  # share of a reference in one value from which that value gets a bin of its own


class Distribution(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How often a figure fell into each bin: all that is kept of a reference, so it can travel with a version."""

    edges: tuple[float, ...] = Field(description="Where one bin ends and the next begins, ascending.")
    counts: tuple[int, ...] = Field(description="Of each bin; one more than edges.")


class Drift(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How far one figure has moved."""

    name: str
    stability_index: Figure = Field(ge=0, description="The population stability index; 0 is no difference.")
    p_value: Figure = Field(ge=0, le=1, description="Of the chi-squared test, corrected for the number of figures.")
    drifted: bool = Field(description="Beyond the limit, and no chance.")


def distribution(values: Values) -> Distribution:
    """A reference of numbers `(n,)`, in bins that hold a tenth each as far as equal values let them."""
    values = np.asarray(values, np.float64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    tied = [edge for edge in edges if np.count_nonzero(values == edge) >= TIED * len(values)]
    edges = np.unique([*edges, *np.nextafter(tied, np.inf)])
    return Distribution(edges=tuple(edges.tolist()), counts=_counted(values, edges))


def class_distribution(numbers: npt.NDArray[np.int64], classes: int, most: int = 2 * BINS) -> Distribution:
    """A reference of class numbers `(n,)`: a bin a class, or neighbours together where there are more than `most`."""
    edges = np.unique(np.linspace(0, classes, min(classes, most) + 1)[1:-1].round()) - 0.5
    return Distribution(edges=tuple(edges.tolist()), counts=_counted(np.asarray(numbers, np.float64), edges))


def _counted(values: Values, edges: Values) -> tuple[int, ...]:
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return tuple(int(count) for count in counts)


def drifts(
    references: Mapping[str, Distribution], values: Mapping[str, Values], *, limit: float, significance: float
) -> list[Drift]:
    """Compare figures `(n,)` with their references, by name; those that moved furthest first.

    Args:
        references: by name.
        values: the new ones, by the same names.
        limit: population stability index beyond which a figure may have drifted.
        significance: the chance, over all figures together, to call any of them drifted when none has.

    """
    counts = {
        name: _counted(np.asarray(values[name], np.float64), np.array(reference.edges))
        for name, reference in references.items()
    }
    corrected = holm([homogeneity(reference.counts, counts[name]) for name, reference in references.items()])
    moved = []
    for (name, reference), p_value in zip(references.items(), corrected, strict=True):
        index = stability_index(reference.counts, counts[name])
        drifted = index > limit and p_value < significance
        moved.append(Drift(name=name, stability_index=index, p_value=p_value, drifted=drifted))
    return sorted(moved, key=lambda drift: (-drift.stability_index, drift.name))


def stability_index(reference: Sequence[int], counts: Sequence[int]) -> float:
    """The population stability index of two histograms with the same bins.

    Half an example is added to each bin, so that an empty one is rare and not impossible.
    """
    p, q = (np.asarray(each, np.float64) + 0.5 for each in (reference, counts))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((p - q) * np.log(p / q)))


def homogeneity(reference: Sequence[int], counts: Sequence[int]) -> float:
    """The chi-squared test's p-value of two histograms `(bins,)` being draws from one distribution."""
    from scipy.stats import chi2_contingency

    table = np.array([reference, counts])
    table = table[:, table.sum(axis=0) > 0]
    return float(chi2_contingency(table, correction=False).pvalue) if table.shape[1] > 1 else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, by Holm's step-down procedure (1979): in the order in which they came.

    SciPy 1.17 has Benjamini and Hochberg's alone, and statsmodels would bring four packages for these five lines.
    """
    order = np.argsort(p_values, kind="stable")
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = highest
    return corrected
