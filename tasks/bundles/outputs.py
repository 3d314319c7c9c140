"""What each output of a version answers, in words for people and in Python for the programs that bundles bring."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.contract.named import Array
from tasks.contract.problem import Problem
from tasks.measuring.scores import are_logits

# What the Open Inference Protocol calls the types of tensors, by NumPy's names; Triton's files put TYPE_ before.
DATATYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


@dataclass(frozen=True, eq=False)
class Output:
    """An output of a version.

    name: empty where there is no other. labels: class names in label order; empty where it tells no classes apart.
    answers: its recorded ones `(n, …)`.
    """

    name: str
    problem: Problem
    labels: list[str]
    answers: Array

    @property
    def mean(self) -> str:
        """What its answers are, in words; empty for numbers."""
        if not self.labels:
            return ""
        what = "value, as the model gives it," if are_logits(self.answers) else "probability"
        where = " at each place" if self.answers.ndim > 2 else ""
        if self.problem == "multilabel":
            return f"a {what} for each of {len(self.labels)} labels, in their order; any number of them may be there"
        if self.answers.shape[-1] == 1:
            return f"the share of {self.labels[1]!r}{where}; the rest is {self.labels[0]!r}'s"
        return f"a {what} for each of {len(self.labels)} classes{where}, in the order of their labels"

    @property
    def said(self) -> str:
        """What an answer says, as an item that Python makes of `labels` and `scores` `(…)`; empty for numbers."""
        if not self.labels:
            return ""
        labels = f'labels["{self.name}"]' if self.name else "labels"
        if self.problem == "multilabel":
            even = 0 if are_logits(self.answers) else 0.5
            return f'"labels": [name for name, score in zip({labels}, scores) if score >= {even}]'
        number = "(scores[..., 0] > 0.5).astype(int)" if self.answers.shape[-1] == 1 else "scores.argmax(axis=-1)"
        return f'"classes": {number}.tolist()' if self.answers.ndim > 2 else f'"label": {labels}[int({number})]'

    @property
    def item(self) -> str:
        """An answer as Python makes it of `scores`: what it says, and its numbers."""
        return f'{{{self.said}{", " if self.said else ""}"scores": scores.tolist()}}'

    @property
    def file(self) -> str:
        """Where its labels lie, a line each, for who reads no JSON."""
        return f"labels_{self.name}.txt" if self.name else "labels.txt"


def need_labels(outputs: Iterable[Output]) -> bool:
    """Whether a program that says what outputs answer has to read labels for it."""
    return any("labels" in output.said for output in outputs)


def write_labels(folder: Path, outputs: Iterable[Output]) -> None:
    """Put the labels of each output that has any into a folder, a line each."""
    for output in outputs:
        if output.labels:
            (folder / output.file).write_text("".join(f"{name}\n" for name in output.labels), encoding="utf-8")
