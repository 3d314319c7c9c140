"""What measures answers to a split of a data set: of each output by its problem, targets and groups."""

from collections.abc import Mapping

from tasks.contract.named import Array
from tasks.data import Dataset, Split
from tasks.measuring.config import ValidateConfig
from tasks.measuring.measure import Measure, measure_of

Measures = Mapping[str, Measure]  # by the output's name


def measured_on(
    data: Dataset,
    split: Split,
    y: Array,
    config: ValidateConfig,
    seed: int,
    *,
    metrics: Mapping[str, str] | None = None,
) -> Measures:
    """Measures of the answers to what `data.sample(split, config.max_examples)` takes, by the output's name.

    Args:
        data: what is answered.
        split: which one.
        y: the right answers, as `sample` gave them.
        config: names the metrics, the confidence and how many examples.
        seed: of bootstraps.
        metrics: of each output; takes the place of the config's.

    Raises:
        MetricError: as `measure_of`.

    """
    groups = data.groups_of(split, config.max_examples)
    return {
        head.name: measure_of(
            metrics[head.name] if metrics else config.metric_of(head.name),
            head.problem,
            head.of(y),
            head.variance,
            names=head.target_columns,
            groups=groups,
            confidence=config.confidence,
            seed=seed,
        )
        for head in data.heads
    }
