"""New data: examples that came after training, read to be measured on; all of them count, and none are split off."""

from dataclasses import dataclass

import numpy as np

from tasks.data import reader_of
from tasks.data.config import DataConfig
from tasks.data.labels import numbered
from tasks.data.scan import checked_inputs, checked_targets, limited
from tasks.errors import DataError


@dataclass(frozen=True, eq=False)
class NewData:
    """New examples.

    x: raw inputs float32 `(n, …)`. y: as `Dataset.arrays` gives targets; none where there are no labels.
    held: how many the source holds.
    """

    x: np.ndarray
    y: np.ndarray | None
    held: int


def open_new(
    config: DataConfig, *, labels: bool, classes: tuple[str, ...], input_shape: tuple[int, ...], limit: int
) -> NewData:
    """The source's last examples, at most `limit`: in a source that is added to, the newest.

    Args:
        config: what is read; its problem is the model's.
        labels: whether the source has them.
        classes: the model's, which labels are numbered by.
        input_shape: what the model takes.
        limit: examples to keep.

    Raises:
        DataError: examples of another shape, NaN, labels that the model does not know.

    """
    if not labels:
        config = config.model_copy(update={"problem": "reconstruction"})  # for which no reader looks for labels
    source = reader_of(config).read(config)
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    held = 0
    for part, stream in source.parts.items():
        for encoded, y in limited(stream, config.limit):
            x = checked_inputs(source.decode(encoded), part)
            if x.shape[1:] != input_shape:
                raise DataError("data.source", f"{part}: examples {x.shape[1:]}", f"the model takes {input_shape}")
            inputs.append(np.asarray(x, np.float32))
            targets.append(checked_targets(y, len(x), part, config))
            held += len(x)
            while sum(map(len, inputs[1:])) >= limit:  # the others are enough
                del inputs[0], targets[0]
    if not held:
        raise DataError("data.source", config.source, "holds no examples")
    x, y = np.concatenate(inputs)[-limit:], np.concatenate(targets)[-limit:]
    if config.problem == "reconstruction":
        return NewData(x, None, held)
    if config.problem == "classification":
        if source.classes and y.dtype.kind in "biu":  # new data may lack a class, so numbers are the source's own
            y = np.array(source.classes, dtype=object)[y]
        y = numbered({"new": y}, config.model_copy(update={"classes": classes}), ())[0]["new"]
    return NewData(x, y, held)
