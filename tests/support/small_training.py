"""A small training, with its weights and history."""

import contextlib

from tasks.training.loop import FitConfig, fit
from tasks.training.losses import supervised
from tasks.training.mistakes import label_loss
from tasks.zoo import ModelConfig, build_model

SHORT = FitConfig(epochs=3, batch_size=32, learning_rate=0.01)


class Stopped(Exception):
    pass


def trained(data, config=SHORT, *, model="mlp", width=0.25, seed=5, stop_after=0, **options):
    """A small model's weights and history after `fit`; `stop_after` interrupts it as a failure would."""
    history = []

    def report(epoch, epochs, values):
        assert epochs == config.epochs
        assert epoch == len(history) + 1
        history.append(values)
        if epoch == stop_after:
            raise Stopped

    network = build_model(ModelConfig(model=model, width=width), data, seed=seed)
    objective = supervised(label_loss(data))
    with contextlib.suppress(Stopped):
        fit(network, data, config, objective, seed=seed, report=report, **options)
    return network, history
