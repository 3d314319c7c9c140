"""New data: examples that came after training, read to be measured on; all of them count, and none are split off."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.errors import DataError
from tasks.data import READERS, reader_of
from tasks.data.address import Address
from tasks.data.config import DataConfig, ReaderName, at
from tasks.data.labels import listed, numbered
from tasks.data.remote import addresses_shown
from tasks.data.sample import Pair, newest, reservoir
from tasks.data.scan import checked_inputs, checked_targets, limited
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
    target: str = Field("", description="The array or column of labels or values.", json_schema_extra=at(3))
    labels: bool = Field(True, description="Whether they have any.", json_schema_extra=at(4))

    def beside(self, recipe: DataConfig) -> DataConfig:
        """What reads them, with the recipe's settings for all but the place."""
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

    x: raw inputs float32 `(n, …)`. y: as `Dataset.arrays` gives targets; none where there are no labels.
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
    classes: tuple[str, ...],
    input_shape: tuple[int, ...],
    limit: int,
    output_shape: tuple[int, ...] | None = None,
    last: bool = False,
    columns: Sequence[str] = (),
    target_columns: Sequence[str] = (),
    encoding: Sequence[Column] = (),
) -> NewData:
    """At most `limit` of the source's examples, drawn from all of them.

    Args:
        config: what is read; its problem is the model's.
        labels: whether the source has them.
        classes: the model's, which labels are numbered by.
        input_shape: what the model takes.
        limit: examples to keep.
        output_shape: what the model answers to an example, which targets are looked at by, if given.
        last: whether those are the last ones: the newest, in a file that is added to at its end.
        columns: the names of those that the model learned from, which a table's are looked up by; none where it learned
            from arrays, whose values are taken as they stand.
        target_columns: the same of its targets.
        encoding: what a table's columns became, where they did not all stay numbers.

    Raises:
        DataError: a column that is missing, examples of another shape, NaN, labels that the model does not know.

    """
    if not labels:
        config = config.model_copy(update={"problem": "reconstruction"})  # for which no reader looks for labels
    reader = reader_of(config)
    by_name = reader.read_named if columns else None
    source = by_name(config, columns, target_columns, encoding) if by_name else reader.read(config)
    kept, available = (newest if last else reservoir)(_checked(source, config, input_shape), limit)
    if kept is None:
        raise DataError("data.source", config.source, "holds no examples")
    x, y = kept
    notes = source.notes
    if len(x) < available:
        how = "the last ones" if last else "drawn from all"
        notes = (*notes, f"Measured on {len(x):,} of {available:,} new examples, {how}.")
    if config.problem == "reconstruction":
        return NewData(x, None, available, notes)
    if config.problem == "classification":
        y = _as_the_model_numbers(y, config, source.classes, classes)
    expected = output_shape[:-1] if output_shape and config.problem == "classification" else output_shape
    if expected is not None and y.shape[1:] != expected:
        places = "one target" if expected == () else f"targets {expected}"
        raise DataError("data.target", f"targets {y.shape[1:]} an example", f"the model was made for {places}")
    return NewData(x, y, available, notes)


def _checked(source: Source, config: DataConfig, input_shape: tuple[int, ...]) -> Iterator[Pair]:
    """Every example of a source, as the model takes them, with its target."""
    for part, stream in source.parts.items():
        for encoded, y in limited(stream, config.limit):
            x = checked_inputs(source.decode(encoded), part)
            if x.shape[1:] != input_shape:
                raise DataError("data.source", f"{part}: examples {x.shape[1:]}", f"the model takes {input_shape}")
            yield np.asarray(x, np.float32), checked_targets(y, len(x), part, config)


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
