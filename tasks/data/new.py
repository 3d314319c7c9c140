"""New data: examples that came after training, read to be measured on; all of them count, and none are split off."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.errors import DataError
from tasks.contract.named import ONE, fields, packed
from tasks.data import READERS, reader_of
from tasks.data.address import Address
from tasks.data.config import DataConfig, ReaderName, at
from tasks.data.heads import Head
from tasks.data.labels import listed, numbered
from tasks.data.remote import addresses_shown
from tasks.data.sample import Pair, newest, reservoir
from tasks.data.scan import checked_inputs, checked_targets, limited, target_of
from tasks.data.source import OPTIONAL, Source
from tasks.data.tables.slimline_columns import Column


class NewDataConfig(BaseModel, frozen=True, extra="forbid", title="New data"):
    """Where new data are; how they are read is the recipe's."""

    reader: ReaderName = Field("npz", description="What reads them; see the recipe's.", json_schema_extra=at(0))
    source: Address = Field(
        "",
        description="A path, an address, a tf.keras.datasets name, or package.module:function.",
        json_schema_extra=at(1),
    )
    input: str = Field("", description="As in the recipe: the array or column of inputs.", json_schema_extra=at(2))
    target: str = Field(
        "",
        description="The array or column of labels or values; of several outputs it is where data.heads says.",
        json_schema_extra=at(3),
    )
    labels: bool = Field(True, description="Whether they have any.", json_schema_extra=at(4))

    def beside(self, recipe: DataConfig) -> DataConfig:
        """What reads them, with the recipe's settings for all but the place.

        Raises:
            DataError: one target, where the recipe says of each output where its targets are.

        """
        if self.target and recipe.heads:
            names = ", ".join(of_head.target for of_head in recipe.of_heads.values())
            raise DataError("data.target", self.target, f"leave it out: the recipe's data.heads read {names}")
        where = {"input": self.input, "target": self.target}
        if self.reader == recipe.reader:  # whose columns, keys or features have the same names as before
            where = {name: value or getattr(recipe, name) for name, value in where.items()}
        place = {"source": self.source, **where, "test_source": "", "limit": 0}
        unused = set(OPTIONAL) - set(READERS[self.reader].fields)  # which a reader refuses, so that none is passed over
        defaults = {name: DataConfig.model_fields[name].default for name in unused}
        return recipe.model_copy(update={"reader": self.reader, **defaults, **place})


@dataclass(frozen=True, eq=False)
class NewData:
    """New examples.

    x: raw inputs float32 `(n, …)`; several are records by their names.
    y: as `Dataset.arrays` gives targets, of several outputs records by their names; none where there are no labels.
    available: how many examples the source has.
    notes: what a person should know of how they were read, in sentences.
    """

    x: np.ndarray
    y: np.ndarray | None
    available: int
    notes: tuple[str, ...] = ()


@addresses_shown()
def open_new(
    config: DataConfig,
    *,
    labels: bool,
    inputs: Mapping[str, tuple[int, ...]],
    heads: Sequence[Head],
    limit: int,
    last: bool = False,
    columns: Sequence[str] = (),
    encoding: Sequence[Column] = (),
) -> NewData:
    """At most `limit` of the source's examples, drawn from all of them.

    Args:
        config: what is read; its problems are the model's.
        labels: whether the source has them.
        inputs: the shape of each input of an example that the model takes, by its name; the only one has none.
        heads: what the model answers.
        limit: examples to keep.
        last: whether those are the last ones: the newest, in a file that is added to at its end.
        columns: the names of those that the model learned from, which a table's are looked up by; none where it learned
            from arrays, whose values are taken as they stand.
        encoding: what a table's columns became, where they did not all stay numbers.

    Raises:
        DataError: a column that is missing, examples of another shape, NaN, labels that the model does not know.

    """
    config = _as_the_model_takes(config, inputs, heads, labels=labels)
    reader = reader_of(config)
    by_name = reader.read_named if columns else None
    targets = [name for head in heads for name in head.target_columns]
    source = by_name(config, columns, targets, encoding) if by_name else reader.read(config)
    kept, available = (newest if last else reservoir)(_checked(source, config, inputs), limit)
    if kept is None:
        raise DataError("data.source", config.source, "holds no examples")
    x, y = kept
    notes = source.notes
    if len(x) < available:
        how = "the last ones" if last else "drawn from all"
        notes = (*notes, f"Measured on {len(x):,} of {available:,} new examples, {how}.")
    if config.problem == "reconstruction":
        return NewData(x, None, available, notes)
    return NewData(x, packed({head.name: _as_answered(y, head, config, source) for head in heads}), available, notes)


def _as_the_model_takes(
    config: DataConfig, inputs: Mapping[str, tuple[int, ...]], heads: Sequence[Head], *, labels: bool
) -> DataConfig:
    """The config, which reads what a model takes and answers.

    Raises:
        DataError: it reads the targets of other outputs.

    """
    if not labels:  # for a reconstruction no reader looks for any
        config = config.model_copy(update={"problem": "reconstruction", "heads": ()})
    elif {head.name for head in heads} != set(config.of_heads):
        asked = ", ".join(config.of_heads) or "one output without a name"
        raise DataError("data.heads", asked, f"the model answers {', '.join(head.name for head in heads) or 'one'}")
    if len(inputs) > 1 and not config.input and "input" in READERS[config.reader].fields:
        return config.model_copy(update={"input": ", ".join(inputs)})
    return config


def _checked(source: Source, config: DataConfig, inputs: Mapping[str, tuple[int, ...]]) -> Iterator[Pair]:
    """Every example of a source, as the model takes them, with its targets."""
    for part, stream in source.parts.items():
        for encoded, y in limited(stream, config.limit):
            x = _as_taken(checked_inputs(source.decode(encoded), part), inputs, part)
            targets = {
                head: checked_targets(
                    None if of_head.problem == "reconstruction" else target_of(y, head, of_head), len(x), part, of_head
                )
                for head, of_head in config.of_heads.items()
            }
            yield x, packed(targets)


def _as_taken(x: np.ndarray, inputs: Mapping[str, tuple[int, ...]], part: str) -> np.ndarray:
    """Inputs `(n, …)` in the model's order, as float32.

    Raises:
        DataError: one that is missing, or of another shape.

    """
    there = fields(x)
    if len(there) == len(inputs) == 1:
        there = dict(zip(inputs, there.values(), strict=True))
    if absent := [name for name in inputs if name not in there]:
        has = ", ".join(filter(None, there)) or "one input without a name"
        raise DataError("data.input", f"{part}: {has}", f"the model also takes {', '.join(absent) or 'one alone'}")
    for name, shape in inputs.items():
        if there[name].shape[1:] != shape:
            which = f"{part}: {name}" if name else part
            raise DataError("data.source", f"{which}: examples {there[name].shape[1:]}", f"the model takes {shape}")
    return packed({name: np.asarray(there[name], np.float32) for name in inputs})


def _as_answered(y: np.ndarray, head: Head, config: DataConfig, source: Source) -> np.ndarray:
    """One output's targets, of those of all: labels by the model's class names.

    Raises:
        DataError: labels that the model does not know, or targets of another shape.

    """
    of_head, values = config.of_heads[head.name], head.of(y)
    expected = head.output_shape
    if head.problem == "classification":
        theirs = source.classes if head.name == ONE else source.classes_of.get(of_head.target, ())
        values, expected = _as_the_model_numbers(values, of_head, theirs, head.classes), expected[:-1]
    if values.shape[1:] != expected:
        places = "one target" if expected == () else f"targets {expected}"
        which = f"{head.name}: " if head.name else ""
        raise DataError(
            "data.target", f"{which}targets {values.shape[1:]} an example", f"the model was made for {places}"
        )
    return values


def _as_the_model_numbers(
    y: np.ndarray, config: DataConfig, theirs: tuple[str, ...], classes: tuple[str, ...]
) -> np.ndarray:
    """Labels `(n,)` of a source that may name its classes, and may lack some, by the model's class names.

    Raises:
        DataError: labels that the source's names do not cover, or names that the model does not know.

    """
    if not theirs:
        return numbered({"new": y}, config.model_copy(update={"classes": classes}), ())[0]["new"]
    numbers = numbered({"new": y}, config.model_copy(update={"classes": ()}), theirs)[0]["new"]
    if unknown := sorted(set(theirs) - set(classes)):
        if config.classes and len(theirs) == len(classes):  # names of the recipe's own, which stand for the source's
            return numbers
        raise DataError("data.source", listed(unknown), f"the model knows {listed(classes)}; drop the others")
    return np.array([classes.index(name) for name in theirs], np.int64)[numbers]
