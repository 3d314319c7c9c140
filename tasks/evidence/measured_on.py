"""What measures answers to a split of a data set: by its problem, targets and groups."""

from typing import Any

import numpy.typing as npt

from tasks.data import Dataset, Split
from tasks.measuring.config import ValidateConfig
from tasks.measuring.measure import Measure, measure_of


def measured_on(
    data: Dataset, split: Split, y: npt.NDArray[Any], config: ValidateConfig, seed: int, *, metric: str = ""
) -> Measure:
    """A measure of the answers to what `data.sample(split, config.max_examples)` takes.

    Args:
        data: what is answered.
        split: which one.
        y: the right answers, as `sample` gave them.
        config: names the metric, the confidence and how many examples.
        seed: of bootstraps.
        metric: takes the place of the config's.

    Raises:
        MetricError: as `measure_of`.

    """
    return measure_of(
        metric or config.metric,
        data.config.problem,
        y,
        data.variance,
        names=data.target_columns,
        groups=data.groups_of(split, config.max_examples),
        confidence=config.confidence,
        seed=seed,
    )
