"""Encoded images to arrays, with Pillow."""

import io
import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import version

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FIELDS = ("image_size", "color")
GREY_MODES = ("1", "L", "LA")


@dataclass(frozen=True, slots=True)
class Encoded:
    """One image that is not decoded yet: its bytes, or the file that holds them, and what to call it in a message."""

    name: str
    content: bytes | Path


def decoder(config: DataConfig) -> Callable[[np.ndarray], np.ndarray]:
    """Turns `(n,)` encoded images into uint8 `(n, height, width, channels)`.

    The first image that it sees decides the size and, with `color: auto`, the channels. Transparency is dropped.
    """
    expected: dict[str, tuple[int, ...]] = {}

    def decode(images: Iterable[Encoded]) -> np.ndarray:
        from PIL import Image

        decoded = []
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file that would fill the memory
            for image in images:
                pixels = pixels_of(image, config, expected.get("shape", ()))
                shape = expected.setdefault("shape", pixels.shape)
                if pixels.shape != shape:
                    difference = f"is {described(pixels.shape)} where the first image is {described(shape)}"
                    raise DataError("data.source", image.name, f"{difference}; set data.image_size to resize all")
                decoded.append(pixels)
        return np.stack(decoded)

    return decode


def pixels_of(image: Encoded, config: DataConfig, expected: tuple[int, ...]) -> np.ndarray:
    """One decoded image, uint8 `(height, width, channels)`."""
    from PIL import Image

    content = image.content
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
            mode = color_mode(image, picture, config, expected)
            converted = picture if picture.mode == mode else picture.convert(mode)
            if config.image_size:
                converted = converted.resize((config.image_size, config.image_size), Image.Resampling.BILINEAR)
            pixels = np.array(converted, np.uint8)
    except undecodable() as error:
        remedy = f"no image that can be decoded ({error}); replace or remove it"
        raise DataError("data.source", image.name, remedy) from error
    return pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def undecodable() -> tuple[type[Exception], ...]:
    """What Pillow raises where a file is damaged, or would fill the memory."""
    from PIL import Image

    damaged = (OSError, ValueError, SyntaxError, EOFError, struct.error)
    return (*damaged, Image.DecompressionBombError, Image.DecompressionBombWarning)


def fault(image: Encoded) -> str:
    """Why an image cannot be decoded, or nothing."""
    from PIL import Image

    content = image.content
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
                picture.load()
        except undecodable() as error:
            return str(error) or type(error).__name__
    return ""


def identity() -> str:
    """Pillow decides the pixels."""
    return version("pillow")


def color_mode(image: Encoded, picture: "Image", config: DataConfig, expected: tuple[int, ...]) -> str:
    """`L` or `RGB`, by the config or by the first image."""
    if picture.mode.startswith(("I", "F")):
        raise DataError(
            "data.source",
            image.name,
            f"has {picture.mode} pixels, more than eight bits; save it with eight bits a channel",
        )
    grey = picture.mode in GREY_MODES
    if config.color != "auto":
        return "L" if config.color == "grey" else "RGB"
    if expected and expected[-1] == 1 and not grey:
        raise DataError(
            "data.source", image.name, "has colours where the first image is grey; set data.color to 'rgb' or 'grey'"
        )
    return "L" if grey and (not expected or expected[-1] == 1) else "RGB"


def described(shape: tuple[int, ...]) -> str:
    """`32x32 with 3 channels`."""
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
