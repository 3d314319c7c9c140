"""What a version's data and answers were like when it was made: what new data are compared with later.

It travels with the version as `profile.json`, so that drift is seen without the training data.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from tasks.contract.errors import StoreError
from tasks.contract.named import ONE
from tasks.contract.problem import Problem
from tasks.data import Dataset
from tasks.data.heads import Head
from tasks.data.statistics import Variance
from tasks.drift.distributions import Distribution, class_distribution, distribution
from tasks.drift.features import Features, features_of, named
from tasks.measuring.intervals import Interval
from tasks.measuring.scores import by_class

FILE = "profile.json"
PREDICTIONS = "predictions.json"
MOST = 50_000  # examples that a distribution is made of: more would move no tenth by as much as a percent


class Profile(BaseModel, frozen=True, extra="ignore"):
    """Of a version's profile what drift and decay are measured by; a person finds more in the file."""

    problem: Problem
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = Field((), description="Of a table: the inputs' names, in the order of the values.")
    target_columns: tuple[str, ...] = Field((), description="Of a table: the targets' names.")
    encoding: tuple[dict[str, Any], ...] = Field((), description="Of a table that has more than numbers: its columns.")
    variance: Variance = 1.0
    inputs: dict[str, Distribution] = Field(description="Of each training example's statistics, by name.")
    targets: dict[str, Distribution] = Field(description="Of the training examples' labels or values.")
    predictions: dict[str, Distribution] = Field({}, description="Of the shipped file's answers to the test split.")
    scores: dict[str, Interval] = Field({}, description="Each target's own on the test split, where there are several.")
    heads: tuple[Head, ...] = Field((), description="Of a model with several outputs, each one.")
    input_shapes: dict[str, tuple[int, ...]] = Field({}, description="Of a model with several inputs, each one's.")

    @property
    def each_head(self) -> tuple[Head, ...]:
        """Every output; the only one has no name."""
        return self.heads or (
            Head(
                problem=self.problem,
                output_shape=self.output_shape,
                classes=self.classes,
                variance=self.variance,
                target_columns=self.target_columns,
            ),
        )

    @property
    def each_input(self) -> dict[str, tuple[int, ...]]:
        """The shape of every input of an example, by its name; the only one has none."""
        return self.input_shapes or {ONE: self.input_shape}


def input_distributions(dataset: Dataset) -> dict[str, Distribution]:
    """Of the train split's examples, or of a sample of them, read chunk by chunk."""
    drawn = np.zeros(dataset.counts["train"], bool)
    drawn[dataset.drawn("train", MOST)] = True
    chunks, start = [], 0
    for x, _ in dataset.examples("train"):
        chunks.append(features_of(x[drawn[start : start + len(x)]], dataset.columns))
        start += len(x)
    return {name: distribution(values) for name, values in joined(chunks).items()}


def joined(chunks: Iterable[Features]) -> Features:
    """Figures of chunks of examples as figures of all."""
    parts = list(chunks)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def target_figures(problem: Problem, y: np.ndarray, names: Sequence[str] = ()) -> Features:
    """Targets as figures `(n,)`, by name; none where the inputs are the targets.

    Of classes at several places of an example it is the share of each class in it.
    """
    if problem == "classification":
        return {"label": np.asarray(y, np.float64)} if y.ndim == 1 else _class_shares(y, names)
    if problem == "reconstruction":
        return {}
    return named(_of_example(y), names, "target")


def answer_figures(problem: Problem, x: np.ndarray, answers: np.ndarray, names: Sequence[str] = ()) -> Features:
    """Answers `(n, …)` as figures `(n,)`, by name: what is answered and how surely, the values, or the error."""
    if problem == "classification":
        shares = by_class(answers).astype(np.float64)
        sureness = shares.max(axis=-1).reshape(len(x), -1).mean(axis=1)
        if shares.ndim == 2:
            return {"answer": shares.argmax(axis=1).astype(np.float64), "sureness": sureness}
        classes = names or tuple(map(str, range(shares.shape[-1])))
        return {**_class_shares(shares.argmax(axis=-1), classes), "sureness": sureness}
    if problem != "reconstruction":
        return named(_of_example(answers), names, "answer")
    return {"error": np.square(answers.astype(np.float64) - x).reshape(len(x), -1).mean(axis=1)}


def _class_shares(labels: np.ndarray, classes: Sequence[str]) -> Features:
    """Labels `(n, …)` as the share of each class in an example."""
    flat = labels.reshape(len(labels), -1)
    return {name: (flat == number).mean(axis=1) for number, name in enumerate(classes)}


def _of_example(values: np.ndarray) -> np.ndarray:
    """Values `(n, …, targets)` as their mean over an example `(n, targets)`."""
    return values if values.ndim == 2 else values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)


def distributions(figures: Mapping[str, np.ndarray], classes: int) -> dict[str, Distribution]:
    """References for figures by name; `classes` are those that a label or an answer numbers."""
    return {
        name: class_distribution(values.astype(np.int64), classes)
        if classes and name in ("label", "answer")
        else distribution(values)
        for name, values in figures.items()
    }


class Predictions(BaseModel, frozen=True, extra="forbid"):
    """What the file that ships answered to the test split: what its answers to new data are compared with."""

    predictions: dict[str, Distribution] = Field(description="Of its answers, by the name of each figure.")
    scores: dict[str, Interval] = Field({}, description="Each target's own, where there are several.")


def write_predictions(predictions: Predictions, folder: Path) -> None:
    """Put them beside the evidence that they were measured with."""
    (folder / PREDICTIONS).write_text(predictions.model_dump_json(indent=1))


def open_predictions(folder: Path) -> Predictions:
    """Those of an evidence folder whose digest was checked."""
    return Predictions.model_validate_json((folder / PREDICTIONS).read_bytes())


def write_profile(content: Mapping[str, Any], folder: Path) -> None:
    """Put a profile into a folder; inputs keep their order."""
    (folder / FILE).write_text(json.dumps(content, indent=1))


def open_profile(folder: Path) -> Profile:
    """The profile that a version's folder holds.

    Raises:
        StoreError: there is none, or one without distributions.

    """
    try:
        return Profile.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError) as error:
        raise StoreError(
            f"{folder / FILE} is no profile that drift can be measured by; compress and register again: {error}"
        ) from error
