"""How MLflow asks a version that takes a table: a DataFrame by the names of its columns, arrays as they stand.

A copy of this file goes with every such version, as its `loader_module`: it needs nothing else of Slimline, so that
`mlflow.pyfunc.load_model` finds all that it takes where the version is.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

PROFILE = "profile.json"  # beside the file: the names of columns, of targets and of classes
TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


NUMBERS = (
    int,
    float,
    Decimal,
    np.integer,
    np.floating,
    np.bool_,
)  # in a column of objects; no text that looks like one


class Table:
    """A version's ONNX file, and the names that belong to its values."""

    def __init__(self, file: Path) -> None:
        import onnxruntime

        profile = json.loads((file.parent / PROFILE).read_text())
        self.columns: list[str] = profile["columns"]
        self.answered: list[str] = profile.get("classes") or profile.get("target_columns") or self.columns
        self.session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (given,), (wanted,) = self.session.get_inputs(), self.session.get_outputs()
        self.given, self.wanted, self.type = given.name, wanted.name, TYPES[given.type]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> "dict[str, np.ndarray] | pd.DataFrame":  # noqa: ARG002
        """Answer a DataFrame with one of as many rows and the same index, arrays `(n, columns)` with arrays.

        Args:
            data: a DataFrame, or a dict or list of records that make one; or an array, alone or under the input's name.
                Of a DataFrame columns are taken by name, in any order, and those that the model does not know are left
                out. Numbers of all types are taken, and read as the training's were.
            params: what MLflow passes; there are none.

        Raises:
            ValueError: a column that is missing, that holds something other than finite numbers, or an array of another
                shape; says which.

        """
        import pandas as pd

        if isinstance(data, dict) and set(data) == {self.given} and self.columns != [self.given]:
            data = data[self.given]
        elif isinstance(data, dict):
            data = pd.DataFrame(data if any(map(np.ndim, data.values())) else [data])
        elif isinstance(data, list) and data and isinstance(data[0], dict):
            data = pd.DataFrame(data)
        if not isinstance(data, pd.DataFrame):
            return {self.wanted: self._asked(self._array(data))}
        found = self._asked(self._taken(data))
        names = self.answered if found.shape[1:] == (len(self.answered),) else None
        return pd.DataFrame(found.reshape(len(found), -1), index=data.index, columns=names)

    def _taken(self, frame: "pd.DataFrame") -> np.ndarray:
        """The columns that the model knows `(n, columns)`, in its order."""
        there = [str(name) for name in frame.columns]
        if missing := [name for name in self.columns if name not in there]:
            raise ValueError(
                f"columns {', '.join(map(repr, missing))} are missing: the model takes {', '.join(self.columns)}, and "
                f"there are {', '.join(there) or 'none'}. Rename them, or give an array in the model's order"
            )
        if twice := [name for name in self.columns if there.count(name) > 1]:
            raise ValueError(f"columns {', '.join(map(repr, twice))} stand there twice: drop one of each")
        return np.stack([self._column(name, frame.iloc[:, there.index(name)]) for name in self.columns], axis=1)

    def _column(self, name: str, values: "pd.Series") -> np.ndarray:
        if values.dtype.kind not in "biuf" and not all(isinstance(value, NUMBERS) for value in values):
            raise ValueError(f"column {name!r} holds {values.dtype}, not numbers: give numbers")
        return self._checked(values.to_numpy(np.float64, na_value=np.nan), f"column {name!r}")

    def _array(self, data: Any) -> np.ndarray:
        values = np.asarray(data)
        if values.dtype.kind not in "biuf" or values.ndim != 2 or values.shape[1] != len(self.columns):
            raise ValueError(
                f"an array of {values.dtype} with the shape {values.shape}: the model takes numbers (n, "
                f"{len(self.columns)}), the columns {', '.join(self.columns)}"
            )
        return self._checked(values.astype(np.float64), "the array")

    def _checked(self, numbers: np.ndarray, where: str) -> np.ndarray:
        """Numbers in double precision as the file takes them."""
        with np.errstate(over="ignore", invalid="ignore"):
            cast = numbers.astype(self.type)
        if not np.isfinite(cast).all() or not np.isfinite(numbers).all():
            raise ValueError(
                f"{where} holds missing values, infinity, or numbers that {np.dtype(self.type)} cannot hold"
            )
        if np.dtype(self.type).kind == "i" and (cast != numbers).any():
            raise ValueError(f"{where} holds other than whole numbers, which the model takes")
        return cast

    def _asked(self, x: np.ndarray) -> np.ndarray:
        answers: np.ndarray = self.session.run([self.wanted], {self.given: x})[0]
        return answers


def _load_pyfunc(path: str) -> Table:
    """What MLflow calls, with the path of the ONNX file."""
    return Table(Path(path))
