"""The 1,797 handwritten digits that ship inside scikit-learn: 8x8 grey images with values 0 to 16."""

import gzip
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

from tasks.data.config import DataConfig
from tasks.data.source import Reader, Source, array_part, version


def read(config: DataConfig) -> Source:  # noqa: ARG001 - the signature of `Reader.read`
    """All digits as one part; inputs uint8 `(n, 8, 8, 1)`."""
    # the file itself: importing scikit-learn takes seconds, and a run that reuses everything has fifteen in all
    file = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))
    with gzip.open(file, "rt") as text:
        table = np.loadtxt(text, delimiter=",", dtype=np.int64)
    images = table[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1)  # the values are whole numbers
    return Source({"all": array_part(images, table[:, -1])}, tuple("0123456789"))


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """The digits are those of the installed scikit-learn."""
    return version("scikit-learn")


READER = Reader(read, identity, fields=())
