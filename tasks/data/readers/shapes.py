"""Drawn shapes with a class for each pixel: a small data set for segmentation, made and not read."""

import numpy as np

from tasks.data.config import DataConfig
from tasks.data.source import Reader, Source, array_part

CLASSES = ("background", "disc", "square")
IMAGES, SIZE = 1000, 32
NOISE = 0.15  # its deviation, where shapes are 0.4 to 1 brighter or darker than the background
SIGNS = {1: 1, 2: -1}


def read(config: DataConfig) -> Source:  # noqa: ARG001 - the signature of `Reader.read`
    """All images as one part; inputs float32 `(n, 32, 32, 1)`, targets uint8 `(n, 32, 32)`."""
    draw = np.random.default_rng(0)
    images = draw.normal(0, NOISE, (IMAGES, SIZE, SIZE, 1)).astype(np.float32)
    classes = np.zeros((IMAGES, SIZE, SIZE), np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for image, labels in zip(images, classes, strict=True):
        for number in (1, 2):
            (y, x), radius = draw.integers(6, SIZE - 6, 2), draw.integers(3, 7)
            away = np.hypot(rows - y, columns - x) if number == 1 else np.maximum(abs(rows - y), abs(columns - x))
            inside = away <= radius
            labels[inside] = number
            image[inside] += draw.uniform(0.4, 1) * SIGNS[number]
    return Source({"all": array_part(images, classes)}, CLASSES)


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """They are drawn by this file's numbers, which a stage's key has by its source."""
    return f"shapes {IMAGES} {SIZE} {NOISE}"


READER = Reader(read, identity, fields=())
