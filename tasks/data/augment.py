"""Changes to training images that keep their meaning, drawn from a seed and a batch's number: no state, no history."""

from typing import TYPE_CHECKING

from tasks.data.config import DataConfig
from tasks.errors import DataError

if TYPE_CHECKING:
    import tensorflow as tf


def check_augmentation(config: DataConfig, input_shape: tuple[int, ...]) -> None:
    """Refuses to augment what is no image, or to move it out of sight.

    Raises:
        DataError: names the field that asks for it.

    """
    for field in ("flip", "shift", "brightness"):
        if (value := getattr(config, field)) and len(input_shape) != 3:
            raise DataError(
                f"data.{field}", value, f"inputs of shape {input_shape} are no images; leave it at its default"
            )
    if config.shift >= min(input_shape[:2], default=0) and config.shift:
        raise DataError(
            "data.shift",
            config.shift,
            f"images of {input_shape[0]}x{input_shape[1]} can be moved by fewer pixels than that",
        )


def augments(config: DataConfig) -> bool:
    """Whether a config asks for any change."""
    return config.flip or config.shift > 0 or config.brightness > 0


def augment(images: "tf.Tensor", seed: "tf.Tensor", config: DataConfig, minimum: float, maximum: float) -> "tf.Tensor":
    """Flips, moves and brightens each image of a batch by its own draw.

    Args:
        images: float32 `(batch, height, width, channels)`, raw values.
        seed: int64 `(2,)`; the same one draws the same changes.
        config: what to do, and how much at most.
        minimum: the smallest raw value; brightness is cut there.
        maximum: the largest.

    Returns:
        As `images`. Pixels that a move brings in repeat the edge, as the MLPerf Tiny reference's training does.

    """
    import tensorflow as tf

    batch = tf.shape(images)[0]

    def drawn(number: int, lowest: float, highest: float) -> "tf.Tensor":
        return tf.random.stateless_uniform(
            (batch,), tf.random.experimental.stateless_fold_in(seed, number), lowest, highest
        )

    if config.flip:
        images = tf.where(drawn(0, 0.0, 1.0)[:, None, None, None] < 0.5, images[:, :, ::-1], images)
    if config.shift:
        for number, axis in ((1, 1), (2, 2)):
            size = images.shape[axis]
            moves = tf.cast(tf.floor(drawn(number, -config.shift, config.shift + 1)), tf.int32)
            places = tf.clip_by_value(tf.range(size)[None, :] + moves[:, None], 0, size - 1)
            images = tf.gather(images, places, axis=axis, batch_dims=1)
    if config.brightness:
        reach = config.brightness * (maximum - minimum)
        images = tf.clip_by_value(images + drawn(3, -reach, reach)[:, None, None, None], minimum, maximum)
    return images
