"""Changes to training images that keep their meaning, drawn from a seed alone: no state, no history."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig

if TYPE_CHECKING:
    import tensorflow as tf


def check_augmentation(config: DataConfig, input_shape: tuple[int, ...], places: int, *, several: bool) -> None:
    """Refuses to augment what is no image, or to move it out of sight or away from its targets.

    Args:
        config: what to do.
        input_shape: of one example.
        places: how many axes of an example's targets are those of the image: none where a target is of all of it.
        several: whether an example has several inputs.

    Raises:
        DataError: names the field that asks for it.

    """
    for field in ("flip", "shift", "brightness", "mixup"):
        if several and (value := getattr(config, field)):
            raise DataError(
                f"data.{field}", value, "changes examples with one input, and these have several; leave it out"
            )
    for field in ("flip", "shift", "brightness"):
        if (value := getattr(config, field)) and len(input_shape) != 3:
            raise DataError(
                f"data.{field}", value, f"inputs of shape {input_shape} are no images; leave it at its default"
            )
    for field in ("flip", "shift"):
        if (value := getattr(config, field)) and places:
            raise DataError(
                f"data.{field}", value, "would move an image, and not the targets of its pixels; leave it out"
            )
    if config.shift >= min(input_shape[:2], default=0) and config.shift:
        raise DataError(
            "data.shift",
            config.shift,
            f"images of {input_shape[0]}x{input_shape[1]} can be moved by fewer pixels than that",
        )


def augments(config: DataConfig) -> bool:
    """Whether a config asks for any change."""
    return config.flip or config.shift > 0 or config.brightness > 0 or config.mixes


def drawn(
    count: "int | tf.Tensor", seed: "tf.Tensor", config: DataConfig, minimum: float, maximum: float
) -> dict[str, "tf.Tensor"]:
    """What happens to each of so many images: flip, down, right and light, `(count,)` each, as far as it is asked for.

    Args:
        count: how many.
        seed: int64 `(2,)`; the same one draws the same changes.
        config: what to do, and how much at most.
        minimum: the smallest raw value.
        maximum: the largest.

    """
    import tensorflow as tf

    def uniform(number: int, lowest: float, highest: float) -> "tf.Tensor":
        return tf.random.stateless_uniform(
            (count,), tf.random.experimental.stateless_fold_in(seed, number), lowest, highest
        )

    draws = {}
    if config.flip:
        draws["flip"] = uniform(0, 0.0, 1.0) < 0.5
    if config.shift:
        for number, way in ((1, "down"), (2, "right")):
            draws[way] = tf.cast(tf.floor(uniform(number, -config.shift, config.shift + 1)), tf.int32)
    if config.brightness:
        reach = config.brightness * (maximum - minimum)
        draws["light"] = uniform(3, -reach, reach)
    return draws


def augment(images: "tf.Tensor", draws: Mapping[str, "tf.Tensor"], minimum: float, maximum: float) -> "tf.Tensor":
    """Flips, moves and brightens each image of a batch by its own draw.

    Args:
        images: float32 `(batch, height, width, channels)`, raw values.
        draws: what `drawn` gave for these images.
        minimum: the smallest raw value; brightness is cut there.
        maximum: the largest.

    Returns:
        As `images`. Pixels that a move brings in repeat the edge, as the MLPerf Tiny reference's training does.

    """
    import tensorflow as tf

    if "flip" in draws:
        images = tf.where(draws["flip"][:, None, None, None], images[:, :, ::-1], images)
    for axis, way in ((1, "down"), (2, "right")):
        if way in draws:
            size = images.shape[axis]
            places = tf.clip_by_value(tf.range(size)[None, :] + draws[way][:, None], 0, size - 1)
            images = tf.gather(images, places, axis=axis, batch_dims=1)
    if "light" in draws:
        images = tf.clip_by_value(images + draws["light"][:, None, None, None], minimum, maximum)
    return images
