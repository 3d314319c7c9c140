"""Two training examples as one: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), drawn from a seed alone."""

from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig

if TYPE_CHECKING:
    import tensorflow as tf


def check_mixing(config: DataConfig, input_shape: tuple[int, ...], places: int) -> None:
    """Refuses to mix what has no classes for all of it, or is no image to cut from.

    Args:
        config: what to do.
        input_shape: of one example.
        places: how many axes of an example's targets are places of it.

    Raises:
        DataError: names the field that asks for it.

    """
    for field in ("mixup", "cutmix"):
        if not (value := getattr(config, field)):
            continue
        if config.problem not in ("classification", "multilabel") or places:
            raise DataError(f"data.{field}", value, "mixes classes or labels of whole examples, and here are others")
        if config.views:
            raise DataError(f"data.{field}", value, "changes examples anew each epoch: leave out data.views")
    if config.cutmix and len(input_shape) != 3:
        raise DataError(
            "data.cutmix",
            config.cutmix,
            f"inputs of shape {input_shape} are no images to cut from; data.mixup takes any",
        )


def mixed(
    x: "tf.Tensor", y: "tf.Tensor", classes: int, config: DataConfig, seed: "tf.Tensor"
) -> "tuple[tf.Tensor, tf.Tensor]":
    """Each example of a batch, with a share of the one that stands as far from the batch's other end.

    The share is drawn from Beta(a, a), a being the config's number. By mixup both are added up; by CutMix the other's
    box stands in the first. Where both are asked for, one of them is drawn for each batch.

    Args:
        x: float32 `(batch, …)`, of CutMix images `(batch, height, width, channels)`.
        y: labels `(batch,)`, or zeros and ones `(batch, labels)`.
        classes: how many there are.
        config: what to do.
        seed: int64 `(2,)`; the same one draws the same.

    Returns:
        The same shape of inputs, and shares of classes or labels, float32 `(batch, classes)`.

    """
    import tensorflow as tf

    fold = tf.random.experimental.stateless_fold_in
    shares = tf.cast(y, tf.float32) if len(y.shape) == 2 else tf.one_hot(tf.cast(y, tf.int32), classes)

    def kept(alpha: float) -> "tf.Tensor":
        one, other = (
            tf.random.stateless_gamma(tf.shape(x)[:1], fold(seed, number), alpha) + 1e-12 for number in (11, 12)
        )
        return one / (one + other)

    def added() -> "tuple[tf.Tensor, tf.Tensor]":
        share = kept(config.mixup)
        wide = tf.reshape(share, [-1] + [1] * (len(x.shape) - 1))
        return wide * x + (1 - wide) * x[::-1], share

    def cut() -> "tuple[tf.Tensor, tf.Tensor]":
        side = tf.sqrt(1 - kept(config.cutmix))
        inside = tf.ones_like(x[..., 0], tf.bool)
        for axis, number in ((1, 13), (2, 14)):
            size = x.shape[axis]
            middle = tf.random.stateless_uniform(tf.shape(side), fold(seed, number), 0.0, size)
            away = tf.abs(tf.range(size, dtype=tf.float32)[None] + 0.5 - middle[:, None])
            along = away < side[:, None] * size / 2
            inside &= along[:, :, None] if axis == 1 else along[:, None]
        share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))
        return tf.where(inside[..., None], x[::-1], x), share

    if config.mixup and config.cutmix:
        x, share = tf.cond(tf.random.stateless_uniform((), fold(seed, 15)) < 0.5, added, cut)
    else:
        x, share = added() if config.mixup else cut()
    return x, share[:, None] * shares + (1 - share[:, None]) * shares[::-1]
