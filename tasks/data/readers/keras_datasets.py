"""The data sets of tf.keras.datasets, downloaded once into Keras' own cache."""

import contextlib
import sys
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import Reader, Source, array_part, version

WORDS = 2000  # of a review or a newswire, the most frequent ones: as bag-of-words, since the texts differ in length

# Class names where the data set's page has them and its files have not.
CLASSES: dict[str, tuple[str, ...]] = {
    "boston_housing": (),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": (),
    "fashion_mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "imdb": ("negative", "positive"),
    "mnist": (),
    "reuters": (),
}


def read(config: DataConfig) -> Source:
    """The parts `train` and `test`; images `(n, height, width, channels)`, texts as bags of words `(n, WORDS)`.

    Raises:
        DataError: an unknown name, or a download that failed.

    """
    check_name(config)
    import tensorflow as tf

    options: dict[str, Any] = {"num_words": WORDS} if config.source in ("imdb", "reuters") else {}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the download's progress; standard output belongs to the caller
            train, test = getattr(tf.keras.datasets, config.source).load_data(**options)
    except Exception as error:  # Keras raises bare Exception for a download that failed
        raise DataError(
            "data.source", config.source, f"Keras could not load it ({error}); check the network connection"
        ) from error
    parts = {name: array_part(as_examples(x), y) for name, (x, y) in (("train", train), ("test", test))}
    return Source(parts, CLASSES[config.source] if config.problem == "classification" else ())


def check_name(config: DataConfig) -> None:
    """Refuses what tf.keras.datasets has not, before TensorFlow is imported."""
    if config.source not in CLASSES:
        raise DataError("data.source", config.source, f"tf.keras.datasets has {', '.join(CLASSES)}")


def as_examples(inputs: np.ndarray) -> np.ndarray:
    """Word lists become bags of words, and grey images get their channel axis."""
    if inputs.dtype == object:
        bags = np.zeros((len(inputs), WORDS), np.uint8)
        for bag, words in zip(bags, inputs, strict=True):
            bag[np.asarray(words, np.int64)] = 1
        return bags
    return inputs[..., np.newaxis] if inputs.ndim == 3 else inputs


def identity(config: DataConfig) -> str:
    """Keras checks what it downloads against digests of its own, so its version says which bytes they are."""
    check_name(config)
    return f"{config.source} {WORDS} {version('tf-keras')}"


READER = Reader(read, identity, fields=("source",))
