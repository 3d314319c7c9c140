"""Training: one loop for every stage that trains, which can be killed at any time and goes on where it was."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.errors import SlimlineError
from tasks.data import Dataset
from tasks.keras_graph.output_meaning import as_learned
from tasks.training.checkpoint import Progress, Values, resume, save
from tasks.training.devices import Replicas, TrainingConfig, placed
from tasks.training.losses import Lesson, Objective, mean_scores, one_each

if TYPE_CHECKING:
    import tensorflow as tf

STEPS_AT_ONCE = 64  # between returns to Python: many enough to cost nothing, few enough that Ctrl-C is heard

EpochReport = Callable[[int, int, Values], None]  # (epoch from 1, epochs, figures)


class FitConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Fit"):
    """How long and how fast a model learns."""

    epochs: int = Field(
        20,
        ge=0,
        le=10_000,
        description="Most passes over the training examples: more take longer and may learn more; 0 leaves the model.",
        json_schema_extra={"position": 0},
    )
    batch_size: int = Field(
        64,
        ge=1,
        le=65_536,
        description="Examples a step: more make an epoch faster and each epoch's learning coarser.",
        json_schema_extra={"position": 1},
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = Field(
        "adam",
        description="What makes steps of gradients: adam (AdamW with weight_decay), sgd (with momentum 0.9), rmsprop.",
        json_schema_extra={"position": 2},
    )
    learning_rate: float = Field(
        0.001,
        gt=0,
        le=10,
        description="Size of a step: higher learns faster, until it learns nothing.",
        json_schema_extra={"position": 3},
    )
    schedule: Literal["constant", "cosine", "step"] = Field(
        "cosine",
        description="How the step size falls: not at all, along a cosine to zero, or to a tenth at half and again at "
        "three quarters of the epochs.",
        json_schema_extra={"position": 4},
    )
    warmup_epochs: float = Field(
        0.0,
        ge=0,
        le=1_000,
        description="Epochs in which the step size rises from zero: more make a start with large steps safer.",
        json_schema_extra={"position": 5},
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Pulls kernels towards zero, by this share of the learning rate each step: higher fits the "
        "training examples less closely.",
        json_schema_extra={"position": 6},
    )
    patience: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Stop after so many epochs without a better validation score: more wait longer; 0 never stops.",
        json_schema_extra={"position": 7},
    )


def fit(
    model: "tf.keras.Model",
    data: Dataset,
    config: FitConfig,
    objective: Objective,
    *,
    seed: int,
    report: EpochReport,
    checkpoints: Path | None = None,
    on_step: Callable[[int], None] | None = None,
    on_epoch_end: Callable[[int], None] | None = None,
    best_from: int = 1,
    training: TrainingConfig = TrainingConfig(),  # noqa: B008  frozen
) -> None:
    """Train a model in place; it ends with the weights of its best epoch by validation score (then by validation loss).

    The same model, data, config, objective and seed on the same machine give the same weights, bit by bit. With
    `checkpoints` this also holds for a training that was killed and called again: it goes on after its last whole
    epoch, and first reports the epochs that it already had. Shuffling, augmentation and dropout are drawn from seed and
    epoch for this. Not reached: layers of the user's own that keep random state outside Keras' generator, and variables
    that an objective changes without naming them among its lesson's weights; and several GPUs, see `trained_on`.

    On several devices each has its part of every batch, and a step is that of the whole batch, up to rounding. Each
    draws dropout for itself; `relational` hints compare the examples of one part. With other devices or another
    precision a training that was killed begins anew.

    Args:
        model: Keras 2 model, its inputs and outputs in the order of the data's.
        data: what is learned (train) and what the best epoch is chosen by (validation).
        config: how.
        objective: what is made small. A model's own regularisation losses are added; a teacher's answers that its
            lesson keeps go along with the examples, as long as these are not changed anew each epoch.
        seed: of everything random.
        report: called for each epoch with its figures: loss, score, validation_loss, validation_score, learning_rate,
            seconds. Loss and score of the training are means over the epoch while the model changed.
        checkpoints: a folder of this training only, made when there is something to keep.
        on_step: called before each step with its number from 0; makes each step a call of its own.
        on_epoch_end: called after an epoch's last step with its number from 1, before validation.
        best_from: the first epoch that may be chosen, for models that are not what they are to be before.
        training: what it runs on. But for the processor in float32 the model has its new weights at the end only, so
            `on_epoch_end` cannot look at them.

    Raises:
        RecipeError: fewer devices than are asked for.
        SlimlineError: the loss is no number any more.

    """
    if not config.epochs:
        return
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    model = as_learned(model, data.problems)
    tf.keras.utils.set_random_seed(seed)
    with placed(model, training) as (model, replicas), _seedable(model) as generators:
        total = math.ceil(data.counts["train"] / config.batch_size)
        lesson = objective(model)
        weights = [*model.trainable_weights, *lesson.weights]
        optimizer = replicas.scaling(_optimizer(config))
        optimizer.build(weights)
        state = [*model.weights, *lesson.weights, *optimizer.variables, *replicas.scales(optimizer)]
        identity = _identity(model, data, config, seed, best_from, replicas)
        progress, best = resume(checkpoints, identity, state, len(model.weights))
        for epoch, values in enumerate(progress.history, 1):
            report(epoch, config.epochs, values)
        run, validate = _steps(model, data, config, lesson, optimizer, weights, total, replicas)
        while progress.epoch < config.epochs and not _gave_up(progress, config, best_from):
            began = time.perf_counter()
            epoch = progress.epoch + 1
            for number, generator in enumerate(generators):
                generator.reset_from_seed(derived(seed, epoch, number + 1))
            view = data.view(epoch)
            batches = data.batches(
                "train",
                config.batch_size,
                shuffle_seed=derived(seed, epoch, 0),
                augment=True,
                view=view,
                weighted=bool(data.weights),
                beside=lesson.kept("train", view) if lesson.kept and view is not None else None,
            )
            loss, score = run(batches, (epoch - 1) * total, on_step)
            if on_epoch_end is not None:
                on_epoch_end(epoch)
            replicas.agree(model.weights)
            validation_loss, validation_score = validate()
            values = {
                "loss": loss,
                "score": score,
                "validation_loss": validation_loss,
                "validation_score": validation_score,
                "learning_rate": float(optimizer.learning_rate.numpy()),
                "seconds": time.perf_counter() - began,
            }
            if not all(map(math.isfinite, values.values())):
                raise SlimlineError(
                    f"training: the loss is no number any more in epoch {epoch} (loss {loss}, validation loss "
                    f"{validation_loss}): lower fit.learning_rate, which is {config.learning_rate:g}, or raise "
                    "fit.warmup_epochs"
                )
            progress.epoch = epoch
            progress.history.append(values)
            figure = (validation_score, -validation_loss)
            if epoch >= best_from and (not best or figure > progress.best):
                progress.best, progress.best_epoch = figure, epoch
                best = [variable.numpy() for variable in model.weights]
            if checkpoints is not None:
                save(checkpoints, identity, progress, state, best)
            report(epoch, config.epochs, values)
        if best:
            for variable, value in zip(model.weights, best, strict=True):
                variable.assign(value)


def derived(seed: int, *numbers: int) -> int:
    """Another seed for each tuple of numbers, of 63 bits: neighbouring seeds must not give related streams."""
    text = ":".join(map(str, (seed, *numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def learning_rate(config: FitConfig, step: "tf.Tensor", total: int) -> "tf.Tensor":
    """The step size at a step (counted from 0) of `total` an epoch, float32.

    Warm-up is linear (Goyal et al., 2017), the cosine falls to zero (Loshchilov and Hutter, 2017), the steps are those
    of He et al. (2016).
    """
    import tensorflow as tf

    step = tf.cast(step, tf.float32)
    last, warm = float(config.epochs * total), config.warmup_epochs * total
    if config.schedule == "cosine":
        share = tf.clip_by_value((step - warm) / max(last - warm, 1.0), 0.0, 1.0)
        factor = 0.5 * (1 + tf.cos(math.pi * share))
    elif config.schedule == "step":
        factor = 0.1 ** (tf.cast(step >= last / 2, tf.float32) + tf.cast(step >= 3 * last / 4, tf.float32))
    else:
        factor = tf.ones_like(step)
    if warm:
        factor *= tf.minimum((step + 1) / warm, 1.0)
    return config.learning_rate * factor


def _optimizer(config: FitConfig) -> "tf.keras.optimizers.Optimizer":
    import tensorflow as tf

    options = {"learning_rate": config.learning_rate, "weight_decay": config.weight_decay or None}
    if config.optimizer == "sgd":
        optimizer = tf.keras.optimizers.SGD(momentum=0.9, nesterov=True, **options)
    elif config.optimizer == "rmsprop":
        optimizer = tf.keras.optimizers.RMSprop(**options)
    else:
        optimizer = tf.keras.optimizers.Adam(**options)
    if config.weight_decay:  # decoupled (Loshchilov and Hutter, 2019); shifts and scales are no kernels
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


Run = Callable[["tf.data.Dataset", int, Callable[[int], None] | None], tuple[float, float]]


def _steps(
    model: "tf.keras.Model",
    data: Dataset,
    config: FitConfig,
    lesson: Lesson,
    optimizer: "tf.keras.optimizers.Optimizer",
    weights: "list[tf.Variable]",
    total: int,
    replicas: Replicas,
) -> tuple[Run, Callable[[], tuple[float, float]]]:
    """One epoch's training and one validation, each compiled once: sums stay inside TensorFlow until the end."""
    import tensorflow as tf

    sums = tf.Variable(tf.zeros(3, tf.float64), trainable=False, name="sums")  # losses, scores, examples

    def figures(loss: "tf.Tensor", y: Any, predictions: Any) -> "tf.Tensor":
        count = tf.cast(tf.shape(one_each(predictions)[0])[0], tf.float64)
        score = tf.reduce_sum(tf.cast(mean_scores(data.heads, y, predictions), tf.float64))
        return tf.stack([tf.cast(loss, tf.float64) * count, score, count])

    def next_of(batches: "Iterator[tuple[Any, ...]]") -> tuple[Any, ...]:
        """Inputs, targets, the teacher's answers if they are kept, and what the examples count if not all alike."""
        x, y, *more = next(batches)
        weights = more.pop(0) if data.weights else None
        return x, y, more[0] if more else None, weights

    def learn(x: Any, y: Any, soft_targets: Any, weigh: Any, share: "tf.Tensor | None") -> "tf.Tensor":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            loss, predictions = lesson.loss(x, y, soft_targets, True, weigh)
            own = [tf.cast(each, tf.float32) for each in model.losses]  # of mixed precision
            penalised = loss + tf.add_n(own) if own else loss
            made_small = replicas.scaled_up(penalised if share is None else penalised * share, optimizer)
        gradients = replicas.scaled_down(tape.gradient(made_small, weights), optimizer)
        optimizer.apply_gradients(
            (gradient, variable) for gradient, variable in zip(gradients, weights, strict=True) if gradient is not None
        )
        return figures(loss, y, predictions)

    def look(x: Any, y: Any, soft_targets: Any, weigh: Any, _share: "tf.Tensor | None") -> "tf.Tensor":
        loss, predictions = lesson.loss(x, y, soft_targets, False, weigh)
        return figures(loss, y, predictions)

    def steps(batches: "Iterator[tuple[Any, ...]]", first: "tf.Tensor", count: "tf.Tensor") -> None:
        for step in tf.range(first, first + count):
            optimizer.learning_rate.assign(learning_rate(config, step, total))
            sums.assign_add(replicas.total(learn, next_of(batches)))

    def checks(batches: "Iterator[tuple[Any, ...]]", count: "tf.Tensor") -> None:
        for _ in tf.range(count):
            sums.assign_add(replicas.total(look, next_of(batches)))

    train_steps, validation_steps = tf.function(steps), tf.function(checks)

    def means() -> tuple[float, float]:
        loss, score, count = sums.numpy()
        sums.assign(tf.zeros(3, tf.float64))
        return float(loss / count), float(score / count)

    def run(batches: "tf.data.Dataset", first: int, on_step: Callable[[int], None] | None) -> tuple[float, float]:
        iterator = iter(batches)
        stride = STEPS_AT_ONCE if on_step is None else 1
        for start in range(0, total, stride):
            if on_step is not None:
                on_step(first + start)
            train_steps(iterator, tf.constant(first + start), tf.constant(min(stride, total - start)))
        return means()

    at_once = max(config.batch_size, 256)  # nothing is kept for gradients, so more fit
    soft_targets = lesson.kept("validation", 0) if lesson.kept else None
    validation = data.batches("validation", at_once, weighted=bool(data.weights), beside=soft_targets)
    count = math.ceil(data.counts["validation"] / at_once)

    def validate() -> tuple[float, float]:
        validation_steps(iter(validation), tf.constant(count))
        return means()

    return run, validate


@contextmanager
def _seedable(model: "tf.keras.Model") -> Iterator[list["tf.random.Generator"]]:
    """Gives dropout and its like generators that can be set anew at each epoch, as long as the block lasts.

    Keras 2 draws from stateful operations otherwise, whose state lives in a compiled kernel, out of reach.
    """
    holders = [layer._random_generator for layer in model.submodules if hasattr(layer, "_random_generator")]
    before = [(holder._rng_type, holder._built, getattr(holder, "_generator", None)) for holder in holders]
    for holder in holders:
        holder._rng_type, holder._built = holder.RNG_STATEFUL, False
        holder._maybe_init()
    try:
        yield [holder._generator for holder in holders]
    finally:
        for holder, (kind, built, generator) in zip(holders, before, strict=True):
            holder._rng_type, holder._built, holder._generator = kind, built, generator


def _gave_up(progress: Progress, config: FitConfig, best_from: int) -> bool:
    since = progress.epoch - max(progress.best_epoch, best_from - 1)
    return bool(config.patience) and since >= config.patience


def _identity(
    model: "tf.keras.Model", data: Dataset, config: FitConfig, seed: int, best_from: int, replicas: Replicas
) -> str:
    """What a checkpoint must have been made under to be gone on from: the same training from the same start."""
    under = [config.model_dump(), data.digest, data.config.treatment, seed, best_from, *replicas.identity]
    digest = hashlib.sha256(json.dumps(under).encode())
    for variable in model.weights:
        digest.update(str(variable.shape).encode() + np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()
