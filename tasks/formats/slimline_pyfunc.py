"""How MLflow asks a version: a DataFrame by the names of its columns, tensors as they stand, in the file's own runtime.

A copy of this file goes with every version that takes a table or several tensors, or whose default file is not ONNX, as
its `loader_module`: it needs nothing else of Slimline, so that `mlflow.pyfunc.load_model` finds all that it takes where
the version is.
"""

import importlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

PROFILE = "profile.json"  # at the version's top: the names of columns, of targets and of classes
# ONNX Runtime's own words for the types that a file can take, as NumPy calls them.
TYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
# What a column of objects may hold; no text that looks like a number.
NUMBERS = (int, float, Decimal, np.integer, np.floating, np.bool_)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output. shape: without the batch axis; -1 where any length will do."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class File:
    """An open file. ask: from values `(n, …)` of each input's type, by name, to each output's answers `(n, …)`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ask: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def open_file(place: Path, profile: Mapping[str, Any]) -> File:
    """A model.onnx in ONNX Runtime, a model.tflite in LiteRT, or the folder of a SavedModel in TensorFlow.

    Inputs and outputs stand in the order of the version's profile: files of two of these formats have none.
    """
    opened = _saved_model if place.is_dir() else _tflite if place.suffix == ".tflite" else _onnx
    file = opened(place)
    heads = [head["name"] for head in profile.get("heads", ())]
    inputs, outputs = _ordered(file.inputs, profile.get("input_shapes", ())), _ordered(file.outputs, heads)
    return File(inputs, outputs, file.ask)


def _ordered(ends: Sequence[TensorSpec], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Inputs or outputs in the order of these names; those that are not among them stay behind the others."""
    places = {name: place for place, name in enumerate(names)}
    return tuple(sorted(ends, key=lambda end: places.get(end.name, len(places))))


def _onnx(place: Path) -> File:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(place), providers=["CPUExecutionProvider"])
    inputs, outputs = (tuple(map(onnx_tensor, ends)) for ends in (session.get_inputs(), session.get_outputs()))
    names = [output.name for output in outputs]

    def ask(x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, map(np.asarray, session.run(names, dict(x))), strict=True))

    return File(inputs, outputs, ask)


def onnx_tensor(tensor: Any) -> TensorSpec:
    """An input or output as ONNX Runtime describes it."""
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in tensor.shape)
    return TensorSpec(tensor.name, TYPES[tensor.type], shape[1:])


def _tflite(place: Path) -> File:
    """Values are floats where the file's own ends are int8: their steps are its own matter."""
    from ai_edge_litert.interpreter import Interpreter

    def end(name: str, details: dict[str, Any]) -> TensorSpec:
        dtype = "float32" if details["quantization"][0] else np.dtype(details["dtype"]).name
        return TensorSpec(name, dtype, tuple(int(size) for size in details["shape_signature"][1:]))

    @lru_cache(maxsize=4)
    def ready(shapes: tuple[tuple[int, ...], ...]) -> Any:  # a change of the batch size plans the memory anew
        interpreter = Interpreter(str(place))
        for entry, shape in zip(entries.values(), shapes, strict=True):
            interpreter.resize_tensor_input(entry["index"], shape)
        interpreter.allocate_tensors()
        return interpreter

    def ask(x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        interpreter = ready(tuple(x[name].shape for name in entries))
        for name, entry in entries.items():
            interpreter.set_tensor(entry["index"], as_steps(x[name], entry))
        interpreter.invoke()
        return {name: as_values(interpreter.get_tensor(answer["index"]), answer) for name, answer in answers.items()}

    signature = Interpreter(str(place)).get_signature_runner()
    entries, answers = signature.get_input_details(), signature.get_output_details()
    inputs, outputs = (tuple(end(*each) for each in ends.items()) for ends in (entries, answers))
    return File(inputs, outputs, ask)


def as_steps(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """Raw values in the type that an interpreter's tensor has: themselves, or the nearest steps of its range."""
    scale, zero = details["quantization"]
    if not scale or details["dtype"] == np.float32:
        return values if values.dtype == details["dtype"] else values.astype(details["dtype"])
    ends = np.iinfo(details["dtype"])
    steps: np.ndarray = np.clip(np.rint(values / scale) + zero, ends.min, ends.max).astype(details["dtype"])
    return steps


def as_values(steps: np.ndarray, details: dict[str, Any]) -> np.ndarray:
    """What a tensor of an interpreter means: itself, or float32 where it holds steps."""
    scale, zero = details["quantization"]
    if not scale or details["dtype"] == np.float32:
        return steps
    values: np.ndarray = ((steps.astype(np.float32) - zero) * scale).astype(np.float32)
    return values


def _saved_model(place: Path) -> File:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(place))
    function = loaded.signatures["serving_default"]

    def end(name: str, spec: Any) -> TensorSpec:
        return TensorSpec(name, spec.dtype.name, tuple(size or -1 for size in spec.shape[1:]))

    inputs = tuple(end(name, spec) for name, spec in function.structured_input_signature[1].items())
    outputs = tuple(end(name, spec) for name, spec in function.structured_outputs.items())

    def ask(x: Mapping[str, np.ndarray], _owner: Any = loaded) -> dict[str, np.ndarray]:  # it owns the variables
        return {name: np.asarray(each) for name, each in function(**{n: tf.constant(v) for n, v in x.items()}).items()}

    return File(inputs, outputs, ask)


class Tensors:
    """A version that takes tensors."""

    def __init__(self, file: File) -> None:
        self.file = file

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> dict[str, np.ndarray]:  # noqa: ARG002
        """Answers `(n, …)` under each output's name to examples `(n, …)` under each input's, or of one input alone.

        Args:
            data: a dict of arrays or lists, or a DataFrame with a column for each input and an example in each row; of
                one input also the array itself.
            params: what MLflow passes; there are none.

        Raises:
            ValueError: another name, another shape, or no numbers; says what is right.

        """
        names = [input_.name for input_ in self.file.inputs]
        if hasattr(data, "columns") and set(names) <= set(data.columns):  # a DataFrame
            data = {name: data[name].tolist() for name in names}
        elif not isinstance(data, dict) and len(names) == 1:
            data = {names[0]: data}
        if not isinstance(data, dict) or set(data) != set(names):
            given = ", ".join(map(repr, data)) if isinstance(data, dict) else type(data).__name__
            takes = f"one, {names[0]!r}" if len(names) == 1 else ", ".join(map(repr, names))
            raise ValueError(f"inputs {given}: the model takes {takes}")
        x = {input_.name: _checked(input_, data[input_.name]) for input_ in self.file.inputs}
        if len(set(map(len, x.values()))) > 1:
            told = ", ".join(f"{name} {len(each)}" for name, each in x.items())
            raise ValueError(f"inputs of unlike many examples: {told}: give each as many")
        answers = self.file.ask(x)
        return {output.name: answers[output.name] for output in self.file.outputs}


def _checked(input_: TensorSpec, values: Any) -> np.ndarray:
    """Examples `(n, …)` as an input takes them."""
    try:
        x = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{input_.name}: its examples have shapes of their own: {error}") from error
    if x.ndim == 1 and input_.shape == (1,):  # a column of numbers
        x = x[:, None]
    fits = x.ndim == len(input_.shape) + 1 and all(
        size in (-1, is_) for size, is_ in zip(input_.shape, x.shape[1:], strict=True)
    )
    if x.dtype.kind not in "biuf" or not fits:
        shape = ", ".join("any" if size < 0 else str(size) for size in input_.shape)
        raise ValueError(f"{input_.name}: {x.dtype} with the shape {x.shape}: the model takes numbers (n, {shape})")
    with np.errstate(invalid="ignore"):  # NaN is no whole number, and is refused below
        taken = x.astype(input_.dtype, copy=False)
    if taken.dtype.kind in "biu" and not np.array_equal(taken, x):
        raise ValueError(f"{input_.name}: the model takes {input_.dtype}, and not all of these {x.dtype} are such")
    return taken


class Table:
    """A version that takes a table, and the names that belong to its values."""

    encoding: Sequence[Any] = ()  # what columns became, where they did not all stay numbers

    def __init__(self, file: File, profile: dict[str, Any]) -> None:
        self.columns: list[str] = profile["columns"]
        heads = profile.get("heads") or [profile]
        self.answered = {
            output.name: self._answered(output, head, several=len(heads) > 1)
            for output, head in zip(file.outputs, heads, strict=True)
        }
        if encoding := profile.get("encoding", ()):  # beside this file in a version, and in its package in Slimline
            name = "tasks.data.tables.slimline_columns" if __package__ else "slimline_columns"
            self.encoder = importlib.import_module(name)
            self.encoding = [self.encoder.from_json(column) for column in encoding]
        self.file = file
        (input_,) = file.inputs
        self.input, self.type = input_.name, np.dtype(input_.dtype)

    def _answered(self, output: TensorSpec, head: dict[str, Any], *, several: bool) -> list[str]:
        """What an output's values are called."""
        classes, width = head.get("classes", ()), output.shape[-1] if output.shape else 1
        names: list[str] = classes or head.get("target_columns") or self.columns
        names = names[1:] if classes and width == 1 else names  # one sigmoid: the second class's share
        if not several:
            return names
        if len(names) != width:
            names = list(map(str, range(width)))
        return [output.name] if width == 1 and not classes else [f"{output.name}/{name}" for name in names]

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> "dict[str, np.ndarray] | pd.DataFrame":  # noqa: ARG002
        """Answer a DataFrame with one of as many rows and the same index, arrays `(n, columns)` with arrays.

        Of several outputs each has its columns, called `output/class`, or as the output itself where it is one number.

        Args:
            data: a DataFrame, or a dict or list of records that make one; or an array, alone or under the input's name.
                Of a DataFrame columns are taken by name, in any order, and those that the model does not know are left
                out. Numbers of all types are taken, and read as the training's were; so are categories, dates and gaps
                where the training had such. Columns may also be the inputs that those become.
            params: what MLflow passes; there are none.

        Raises:
            ValueError: a column that is missing, that holds something other than it did, or an array of another shape;
                says which.

        """
        import pandas as pd

        if isinstance(data, dict) and set(data) == {self.input} and self.columns != [self.input]:
            data = data[self.input]
        elif isinstance(data, dict):
            data = pd.DataFrame(data if any(map(np.ndim, data.values())) else [data])
        elif isinstance(data, list) and data and isinstance(data[0], dict):
            data = pd.DataFrame(data)
        if not isinstance(data, pd.DataFrame):
            answers = self.file.ask({self.input: self._array(data)})
            return {name: answers[name] for name in self.answered}
        answers = self.file.ask({self.input: self._taken(data)})
        parts = [
            pd.DataFrame(
                answers[output].reshape(len(data), -1),
                index=data.index,
                columns=names if answers[output].shape[1:] == (len(names),) else None,
            )
            for output, names in self.answered.items()
        ]
        return parts[0] if len(parts) == 1 else pd.concat(parts, axis=1)

    def _taken(self, frame: "pd.DataFrame") -> np.ndarray:
        """The columns that the model knows `(n, columns)`, in its order."""
        there = [str(name) for name in frame.columns]
        known = [column.name for column in self.encoding] or self.columns
        if set(known) - set(there) and not set(self.columns) - set(there):
            known = self.columns  # the inputs themselves
        if missing := [name for name in known if name not in there]:
            raise ValueError(
                f"columns {', '.join(map(repr, missing))} are missing: the model takes {', '.join(known)}, and "
                f"there are {', '.join(there) or 'none'}. Rename them, or give an array in the model's order"
            )
        if twice := [name for name in known if there.count(name) > 1]:
            raise ValueError(f"columns {', '.join(map(repr, twice))} stand there twice: drop one of each")
        columns = [frame.iloc[:, there.index(name)] for name in known]
        if self.encoding and known is not self.columns:
            encoded = [self._encoded(column, of) for column, of in zip(self.encoding, columns, strict=True)]
            return np.concatenate(encoded, axis=1)
        return np.stack([self._column(name, of) for name, of in zip(known, columns, strict=True)], axis=1)

    def _encoded(self, column: Any, values: "pd.Series") -> np.ndarray:
        """One column's inputs `(n, inputs)`, as they were in training."""
        read = {"number": as_numbers, "date": as_dates}.get(column.kind, self._texts)
        try:
            taken = read(values, column.format)
        except (TypeError, ValueError) as error:
            raise ValueError(f"column {column.name!r} holds {values.dtype}, not what it did: {error}") from error
        if column.categories and (new := self.encoder.unseen(column, taken)).any():
            what = "texts without a word" if column.kind == "words" else "values are categories"
            warnings.warn(
                f"column {column.name!r}: {new.sum():,} of {len(new):,} {what} that no training row had, such as "
                f"{taken[new][0]!r}",
                stacklevel=2,
            )
        return self._checked(self.encoder.inputs_of(column, taken), f"column {column.name!r}")

    def _texts(self, values: "pd.Series", written: str) -> np.ndarray:  # noqa: ARG002 - as `as_dates`
        """Categories or texts, None where one is missing."""
        gaps = values.isna()
        texts = [None if gap else self.encoder.text_of(value) for value, gap in zip(values, gaps, strict=True)]
        return np.array(texts, object)

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
            raise ValueError(f"{where} holds missing values, infinity, or numbers that {self.type} cannot hold")
        if self.type.kind == "i" and (cast != numbers).any():
            raise ValueError(f"{where} holds other than whole numbers, which the model takes")
        return cast


def as_numbers(values: "pd.Series", written: str = "") -> np.ndarray:  # noqa: ARG001 - as `as_dates`
    """Numbers, NaN where one is missing."""
    if values.dtype.kind not in "biuf" and not all(isinstance(value, NUMBERS) for value in values.dropna()):
        raise ValueError("give numbers")
    return np.asarray(values.to_numpy(np.float64, na_value=np.nan))


def as_dates(values: "pd.Series", written: str = "") -> np.ndarray:
    """Dates as datetime64[us] in UTC, NaT where one is missing; `written` as in strptime, or ISO 8601."""
    import pandas as pd

    if values.dtype.kind in "biuf":
        raise ValueError("give dates")
    texts = values.map(lambda value: isinstance(value, str)).any()
    dates = pd.to_datetime(values, utc=True, format=(written or "ISO8601") if texts else None)
    return np.asarray(dates.dt.tz_localize(None).to_numpy("datetime64[us]"))


def _load_pyfunc(path: str) -> Tensors | Table:
    """What MLflow calls, with the path of the version's default file."""
    place = Path(path)
    profile = json.loads(next(up / PROFILE for up in place.parents if (up / PROFILE).exists()).read_text())
    file = open_file(place, profile)
    return Table(file, profile) if profile.get("columns") else Tensors(file)
