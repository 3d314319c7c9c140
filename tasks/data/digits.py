"""The 1,797 handwritten digits that ship inside scikit-learn: 8x8 grey images with values 0 to 16."""

import numpy as np

from tasks.data.config import DataConfig
from tasks.data.source import Reader, Source, array_part, version


def read(config: DataConfig) -> Source:  # noqa: ARG001 - the signature of `Reader.read`
    """All digits as one part; inputs uint8 `(n, 8, 8, 1)`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., np.newaxis]  # the values are whole numbers
    names = tuple(str(name) for name in digits.target_names)
    return Source({"all": array_part(images, digits.target)}, names)


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """The digits are those of the installed scikit-learn."""
    return version("scikit-learn")


READER = Reader(read, identity, fields=())
