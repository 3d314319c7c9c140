"""Masks: for each image of `images/` a picture of its name in `masks/`, whose pixels are the classes of its pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers.images import undecodable

IMAGES, MASKS = "images", "masks"
SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff")  # that lose nothing
MODES = ("1", "L", "P", "I;16", "I")  # one number a pixel; of a palette its places


def has_masks(root: Path) -> bool:
    """Whether a folder has images and masks side by side."""
    return (root / IMAGES).is_dir() and (root / MASKS).is_dir()


def decoded(pairs: Sequence[tuple[Path, Path]], config: DataConfig) -> np.ndarray:
    """Masks uint8 `(n, height, width)` of images and their masks, resized as the images are, by the nearest pixel.

    Raises:
        DataError: a mask that cannot be decoded, holds no classes, or is of another size than its image or the others.

    """
    masks = [mask_of(image, mask, config.image_size) for image, mask in pairs]
    for (_, path), mask in zip(pairs, masks, strict=True):
        if mask.shape != masks[0].shape:
            remedy = f"is {mask.shape[1]}x{mask.shape[0]} where others are {masks[0].shape[1]}x{masks[0].shape[0]}"
            raise DataError("data.source", str(path), f"{remedy}; set data.image_size to resize all")
    return np.stack(masks)


def mask_of(image: Path, mask: Path, size: int) -> np.ndarray:
    """One mask, uint8 `(height, width)`."""
    from PIL import Image

    try:
        with Image.open(image) as picture:
            expected = picture.size
        with Image.open(mask) as picture:
            if picture.mode not in MODES:
                raise DataError(
                    "data.source",
                    str(mask),
                    f"has {picture.mode} pixels; a mask has the number of a class in each: save it grey or with a "
                    "palette",
                )
            if picture.size != expected:
                value = "{}x{}, its image {}x{}".format(*picture.size, *expected)
                raise DataError("data.source", f"{mask}: {value}", "a mask has its image's size; make them alike")
            classes = picture.resize((size, size), Image.Resampling.NEAREST) if size else picture
            values = np.array(classes)
    except undecodable() as error:
        raise DataError("data.source", str(mask), f"no mask that can be decoded ({error})") from error
    if values.max() > 255 or values.min() < 0:
        raise DataError("data.source", f"{mask}: class {values.max()}", "number the classes of masks from 0 to 255")
    return values.astype(np.uint8)


def fault(mask: Path) -> str:
    """Why a mask cannot be decoded, or nothing."""
    from PIL import Image

    try:
        with Image.open(mask) as picture:
            picture.load()
    except undecodable() as error:
        return str(error) or type(error).__name__
    return ""
