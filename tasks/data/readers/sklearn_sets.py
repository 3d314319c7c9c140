"""The real tables that ship inside scikit-learn: breast_cancer, diabetes, iris and wine; nothing is downloaded."""

import csv
import gzip
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.source import Reader, Source, array_part, version

CELLS = (
    *("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points"),
    *("symmetry", "fractal dimension"),
)
# Columns by the names that scikit-learn's own functions give them: its files have none.
COLUMNS = {
    "breast_cancer": (
        *(f"mean {figure}" for figure in CELLS),
        *(f"{figure} error" for figure in CELLS),
        *(f"worst {figure}" for figure in CELLS),
    ),
    "diabetes": ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"),
    "iris": ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"),
    "wine": (
        *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
        *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines"),
        "proline",
    ),
}
FILES = {"breast_cancer": "breast_cancer.csv", "iris": "iris.csv", "wine": "wine_data.csv"}


def read(config: DataConfig) -> Source:
    """One set as one part; inputs float32 `(n, columns)`.

    Raises:
        DataError: no such set; diabetes with another problem than regression, as its targets are numbers.

    """
    name = config.source
    if name not in COLUMNS:
        raise DataError("data.source", name, f"scikit-learn ships no such table; one of {', '.join(sorted(COLUMNS))}")
    if name == "diabetes":
        if config.problem == "classification":
            raise DataError("data.problem", config.problem, "the targets of diabetes are numbers; write regression")
        return _source(name, _numbers("diabetes_data_raw.csv.gz"), _numbers("diabetes_target.csv.gz"))
    return _source(name, *_classes(FILES[name]))


def _source(name: str, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...] = ()) -> Source:
    return Source({"all": array_part(x.astype(np.float32), y)}, classes, columns=COLUMNS[name], targets=("target",))


def _place(file: str) -> Path:
    # the file itself: importing scikit-learn takes seconds
    return Path(str(distribution("scikit-learn").locate_file(f"sklearn/datasets/data/{file}")))


def _numbers(file: str) -> np.ndarray:
    with gzip.open(_place(file), "rt") as text:
        return np.loadtxt(text)


def _classes(file: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Inputs, labels `(n,)` and class names of a file whose first line has the counts and the names."""
    with _place(file).open(newline="") as text:
        _, columns, *names = next(csv.reader(text))
        table = np.loadtxt(text, delimiter=",")
    return table[:, : int(columns)], table[:, -1].astype(np.int64), tuple(names)


def identity(config: DataConfig) -> str:
    """The set, and the scikit-learn that has it."""
    return f"{config.source} of {version('scikit-learn')}"


READER = Reader(read, identity, fields=("source",))
