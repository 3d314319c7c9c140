"""The failures that a person can cause or mend. Each message names the problem, where it is, and the way out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

NOTHING = "nothing"  # where a digest is expected: there is no such file

LONGEST = 200  # characters of a value that a message shows


def shown(value: object) -> str:
    """A value as Python writes it, cut off where that is long, at no cost for what is cut off."""
    text = ""
    for part in _written(value):
        text += part
        if len(text) > LONGEST:
            return text[:LONGEST] + "…"
    return text


def _written(value: object) -> Iterator[str]:
    """What `repr` writes of lists and dicts, piece by piece."""
    if isinstance(value, dict):
        yield from _listed("{", value, "}", value)
    elif isinstance(value, list):
        yield from _listed("[", value, "]", {})
    else:
        yield repr(value)


def _listed(opened: str, items: Iterable[object], closed: str, values: Mapping[object, object]) -> Iterator[str]:
    yield opened
    for number, item in enumerate(items):
        yield ", " if number else ""
        yield from _written(item)
        if values:
            yield ": "
            yield from _written(values[item])
    yield closed


class SlimlineError(Exception):
    """A failure whose message is written for the person who runs Slimline: shown without a traceback."""

    exit_code = 1


class InvalidInput(SlimlineError):
    """An input is wrong: names the field, the value, and what would be right."""

    exit_code = 2

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {shown(value)}: {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def __reduce__(self) -> tuple[type["InvalidInput"], tuple[str, object, str]]:
        """Copies and crosses processes whole, although its message is made from three parts."""
        return type(self), (self.field, self.value, self.remedy)


class RecipeError(InvalidInput):
    """The recipe is not one: an unknown key, a value out of bounds, a file that is not there."""


class DataError(InvalidInput):
    """The data cannot be trained on as they are: shapes, types, NaN, labels, empty splits."""


class ModelError(InvalidInput):
    """A model that was brought cannot be used: unreadable, unsafe, or does not fit the data."""


class MetricError(InvalidInput):
    """A metric that there is not, that is not made for the problem, or that gave no figure."""


class VersionError(InvalidInput):
    """A registered version, or an alias, that is not there, or is not what was registered."""


class TargetMissing(InvalidInput):
    """A server needs a file that the version does not have: says which `targets` its recipe should name."""


class OptionWrong(InvalidInput):
    """A command cannot take an option's value: says which option, and what it can take."""


class PortTaken(InvalidInput):
    """Another program listens on the port that a server was to have, or its own other protocol would."""


class OutputTaken(InvalidInput):
    """Where a bundle is to be written there is something already."""


class FileDifference(NamedTuple):
    """A file that is not what was recorded. recorded, actual: its sha256, or `NOTHING` where there is no such file."""

    file: str
    recorded: str
    actual: str

    @property
    def kind(self) -> str:
        """What happened to it, in a word."""
        if self.recorded == NOTHING:
            return "extra"
        return "missing" if self.actual == NOTHING else "damaged"


class FilesDamaged(SlimlineError):
    """Files of a folder are not those that were recorded: a line for each that is damaged, missing or extra."""

    way_out = ""

    def __init__(self, whose: str, differences: Sequence[FileDifference]) -> None:
        width = max(len(each.file) for each in differences)
        lines = [
            f"- {each.kind:<7} {each.file:<{width}} recorded {each.recorded[:12]}, is {each.actual[:12]}"
            for each in differences
        ]
        super().__init__("\n".join([f"{whose}: not every file is the one that was recorded", *lines, self.way_out]))
        self.whose = whose
        self.differences = tuple(differences)

    def __reduce__(self) -> tuple[type["FilesDamaged"], tuple[str, tuple[FileDifference, ...]]]:
        """Copies and crosses processes whole, although its message is made from two parts."""
        return type(self), (self.whose, self.differences)


class VersionDamaged(FilesDamaged):
    """A registered version's files are not those that were registered."""

    way_out = (
        "The store was changed or is damaged: put the files back from a backup, or compress again, which registers a "
        "new version, and put that in service"
    )


class VersionUnsigned(SlimlineError):
    """A registered version is not signed by the key that is asked for."""

    def __init__(self, uri: str, key: Path, why: str) -> None:
        super().__init__(
            f"{uri} is not signed by the key in SLIMLINE_PUBLIC_KEY ({key}): {why}. If you trust it, whoever has the "
            f"private key signs it: `slimline sign {uri}`. To open versions unsigned, do not set SLIMLINE_PUBLIC_KEY"
        )
        self.uri = uri
        self.key = key
        self.why = why

    def __reduce__(self) -> tuple[type["VersionUnsigned"], tuple[str, Path, str]]:
        """Copies and crosses processes whole, although its message is made from three parts."""
        return type(self), (self.uri, self.key, self.why)


class BundleDamaged(FilesDamaged):
    """A bundle's files are not those that were put there."""

    way_out = "A copy was cut off, or it was changed: deploy the version again"


class BundleMismatch(SlimlineError):
    """A server's configuration does not fit the model beside it: says in what, and what the model has."""


class ServerFailed(SlimlineError):
    """A bundle's server did not start, or died: quotes its last output."""


class ImageFailed(SlimlineError):
    """An image could not be built or pushed: quotes the last output of the program that was to."""


class TooSlow(SlimlineError):
    """A bundle's server takes longer than was promised: says how long, and what to do."""


class AnswersDiffer(SlimlineError):
    """A file does not answer as the model it was made from: says for which target, from which layer on, how far."""


class NotPromoted(SlimlineError):
    """The champion stays: says in what the candidate is worse, which limit it breaks, or who did not approve."""


class AliasesMoved(SlimlineError):
    """Somebody else moved the aliases of the same registered model: says who, and that nothing was changed."""


class SmokeTestFailed(SlimlineError):
    """What serves does not answer as it did when it was registered: says which answers, and by how much."""


class ConversionError(SlimlineError):
    """A model cannot be written for a target: says which layer, which operator, which target, and what to do."""


class BudgetNotKept(SlimlineError):
    """What was measured is outside the budget: says which limit, by how much, and which knob to turn.

    `result` is what the compression came to all the same.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class NothingInside(SlimlineError):
    """No trial of a search keeps the budget: says which is the nearest, and which limits it misses by how much."""


class StoreError(SlimlineError):
    """The artifact store answered with something other than what was kept there."""


class PruningFailed(SlimlineError):
    """Removing channels does not make a model as small or fast as is asked for: says what can be reached."""


class ProcessorMissing(SlimlineError):
    """A processor cannot be asked here: says why, and how it could be."""


class ProcessorFailed(SlimlineError):
    """A file is not answered on another processor: says which, and quotes the last output of the program there."""
