"""A data set that was read, checked and split."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.contract.named import ONE, each, fields, kind_of
from tasks.contract.problem import Problem
from tasks.data.augment import augment as augmented
from tasks.data.augment import augments, drawn
from tasks.data.config import DataConfig
from tasks.data.heads import Head, Input, Scaling
from tasks.data.mixing import mixed
from tasks.data.sample import Rows, drawn_order
from tasks.data.shuffle import placed, rebatched, shuffled
from tasks.data.source import rows_per_chunk
from tasks.data.splits import Digests, Split, strata_of
from tasks.data.tables.slimline_columns import Column

if TYPE_CHECKING:
    import tensorflow as tf

# A pipeline, and what makes inputs, targets and rows of its elements: both in one step of it, as each costs threads.
Batches = tuple["tf.data.Dataset", Callable[..., tuple["tf.Tensor", "tf.Tensor", "tf.Tensor"]]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples in three splits that share none.

    digest: sha256 of the problem, class names, and each split's examples and targets in order.
    inputs, heads: what an example has, and what is right for each output; `input` and `head` of data with one of each.
    counts: examples in each split.
    duplicates: examples left out of a split because their content stands in another.
    targets: of each split's examples in their fixed order, as `arrays` gives them; `(n, 0)` of a reconstruction.
    contents: of each split's examples, a number by its content, in their fixed order.
    columns: the names of a table's columns, in the order of an example's values; else none.
    encoding: what a table's columns became, where they did not all stay the numbers that they are.
    notes: what a person should know of how they were read, in sentences.
    groups: of each split's examples `(n,)` int64 in their fixed order: equal where `data.group` is; empty without it.
    slices: of each split's examples `(n,)` texts in their fixed order: what `data.slice` says; empty without it.
    weights: of each split's examples `(n,)` float32 in their fixed order: what each counts in training, 1 in the mean
        over the train split; empty where all count alike.
    """

    config: DataConfig
    digest: str
    inputs: tuple[Input, ...]
    heads: tuple[Head, ...]
    counts: dict[str, int]
    duplicates: int
    targets: dict[Split, np.ndarray] = field(repr=False)
    contents: dict[Split, Digests] = field(repr=False)
    stream: Callable[..., Iterator[np.ndarray]] = field(repr=False)
    in_memory: dict[Split, np.ndarray] = field(repr=False)
    columns: tuple[str, ...] = ()
    encoding: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()
    groups: Mapping[Split, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False)
    slices: Mapping[Split, np.ndarray] = field(default_factory=dict, repr=False)
    weights: Mapping[Split, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)
    _tensors: dict[Split, Any] = field(default_factory=dict, repr=False)
    _orders: dict[Split, Rows] = field(default_factory=dict, repr=False)

    @property
    def input(self) -> Input:
        """The one input."""
        (one,) = self.inputs
        return one

    @property
    def head(self) -> Head:
        """The one output."""
        (one,) = self.heads
        return one

    @property
    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one example, by the input's name."""
        return {each.name: each.shape for each in self.inputs}

    @property
    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one prediction, by the output's name."""
        return {head.name: head.output_shape for head in self.heads}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What each output is to solve."""
        return tuple(head.problem for head in self.heads)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in label order, of classes or of labels that may stand together; of the one output, else none."""
        return self.heads[0].classes if len(self.heads) == 1 else ()

    @property
    def streamed(self) -> bool:
        """Whether the examples exceed `data.memory_mib` and are read anew each epoch."""
        return not self.in_memory

    @property
    def ids(self) -> int:
        """How many ids an example's values are of, from 0, if these are the words of a text; else 0."""
        return sum(column.ids for column in self.encoding)  # a text's column is the only one

    def scaling(self, name: str = ONE) -> Scaling:
        """How a model's first layer treats an input's raw values: the config's answer, with `auto` resolved."""
        if self.config.scaling != "auto":
            return self.config.scaling
        dtype = next(each.dtype for each in self.inputs if each.name == name)
        return "unit" if dtype == np.uint8 else "standardize"

    def examples(self, split: Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A split's examples in their fixed order, as chunks.

        Yields:
            Raw inputs, uint8 or float32 `(n, …)`, and their targets as `arrays` gives them.

        """
        start = 0
        for x in self._chunks(split):
            yield x, self._targets(split, x, slice(start, start + len(x)))
            start += len(x)

    def arrays(self, split: Split) -> tuple[np.ndarray, np.ndarray]:
        """All of a split's examples in memory, in their fixed order.

        Returns:
            Inputs float32 `(n, …)`; targets whole numbers `(n, …)`, float32 `(n, …, targets)`, or for a reconstruction
            the inputs.

        """
        return self._rows(split, np.arange(self.counts[split]))

    def sample(self, split: Split, count: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """At most so many of a split's examples in memory (0: all), so ordered that the first n are a sample too.

        Returns:
            Inputs and targets as `arrays` gives them.

        """
        return self._rows(split, self.drawn(split, count))

    def groups_of(self, split: Split, count: int = 0) -> npt.NDArray[np.int64] | None:
        """The groups of what `sample` takes `(n,)`, equal where `data.group` is; none without it."""
        return self.groups[split][self.drawn(split, count)] if self.groups else None

    def slices_of(self, split: Split, count: int = 0) -> np.ndarray | None:
        """The slice of each of what `sample` takes `(n,)` texts, by `data.slice`; none without it."""
        return self.slices[split][self.drawn(split, count)] if self.slices else None

    def drawn(self, split: Split, count: int = 0) -> Rows:
        """Which rows `sample` takes, in its order: of each class its share, the same ones for the same content."""
        if split not in self._orders:
            by_head = [strata_of(head.of(self.targets[split]), head.problem) for head in self.heads]
            strata = next((strata for strata in by_head if strata.any()), by_head[0])
            self._orders[split] = drawn_order(self.contents[split], strata)
        return self._orders[split][: count or None]

    def _rows(self, split: Split, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of some rows, of which there is at least one, in their order."""
        if self.in_memory:
            inputs = each(self.in_memory[split][rows], lambda values: values.astype(np.float32, copy=False))
            return inputs, self._targets(split, inputs, rows)
        inputs = np.empty(len(rows), kind_of([(one.name, np.float32, one.shape) for one in self.inputs]))
        wanted = np.zeros(self.counts[split], bool)
        wanted[rows] = True
        places, start = np.argsort(rows), 0
        for x in self.stream(split, wanted):
            inputs[places[start : start + len(x)]] = x
            start += len(x)
        return inputs, self._targets(split, inputs, rows)

    def view(self, epoch: int) -> int | None:
        """Which of the fixed versions of the training examples an epoch (from 1) shows; None if it changes them anew.

        Without augmentation there is one version, which nothing was done to.
        """
        if not augments(self.config):
            return 0
        return (epoch - 1) % self.config.views if self.config.views else None

    def batches(
        self,
        split: Split,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: bool = False,
        view: int | None = None,
        weighted: bool = False,
        beside: np.ndarray | None = None,
    ) -> "tf.data.Dataset":
        """A split in batches, the last one smaller: float32 inputs, and targets as `arrays` gives them, or mixed.

        Of several inputs, targets or rows beside them, which are records in memory, each is a tuple of tensors here.

        With the same seed come the same batches in the same order with the same augmentation, whatever was drawn
        before. In memory the whole split is shuffled; a streamed one through a pool that takes a quarter of
        `data.memory_mib`.

        Args:
            split: which one.
            batch_size: examples in a batch.
            shuffle_seed: None keeps the fixed order.
            augment: change the images as the config asks.
            view: change them as in this one of the fixed versions, whatever the seed, order and batch size; None draws
                from the seed.
            weighted: each batch has what its examples count `(batch,)` as a third part.
            beside: float32 `(examples, …)` in the split's fixed order, may be mapped from a file: each batch has its
                examples' rows of it as its last part.

        """
        import tensorflow as tf

        make = self._streamed_batches if self.streamed else self._memory_batches
        batches, parts = make(split, batch_size, shuffle_seed)
        change = augment and augments(self.config)
        seed = (shuffle_seed or 0) % 2**63  # what TensorFlow takes
        fixed: dict[str, tf.Tensor] = {}
        if change and view is not None:
            fixed = self._drawn(self.counts[split], tf.constant([self.config.split_seed, view], tf.int64))

        def changed(x: "tf.Tensor", y: Any, number: "tf.Tensor", rows: "tf.Tensor") -> Any:
            draws = {name: tf.gather(values, rows) for name, values in fixed.items()}
            if view is None:
                draws = self._drawn(tf.shape(x)[0], tf.stack([tf.constant(seed, tf.int64), number]))
            x = augmented(x, draws, self.input.minimum, self.input.maximum)
            if self.config.mixes:
                drawn_from = tf.stack([tf.constant(seed, tf.int64), number])
                return mixed(x, y, len(self.head.classes), self.config, drawn_from)
            return x, y

        def finish(number: "tf.Tensor", batch: "tuple[Any, ...]") -> "tuple[Any, ...]":
            x, y, rows = parts(*batch)
            x = tf.nest.map_structure(lambda values: tf.cast(values, tf.float32), x)
            if change:
                x, y = changed(x, y, number, rows)
            y = x if self.config.problem == "reconstruction" else y
            more = (tf.gather(tf.constant(self.weights[split]), rows),) if weighted else ()
            return (x, y, *more) if beside is None else (x, y, *more, taken_rows(beside, rows))

        return batches.enumerate().map(finish, num_parallel_calls=2, deterministic=True).prefetch(2)

    def _drawn(self, count: "int | tf.Tensor", seed: "tf.Tensor") -> "dict[str, tf.Tensor]":
        return drawn(count, seed, self.config, self.input.minimum, self.input.maximum)

    def _chunks(self, split: Split) -> Iterator[np.ndarray]:
        """Raw inputs in their fixed order."""
        if self.streamed:
            yield from self.stream(split)
            return
        in_memory = self.in_memory[split]
        rows = rows_per_chunk(in_memory[0].nbytes)
        for start in range(0, len(in_memory), rows):
            yield in_memory[start : start + rows]

    def _targets(self, split: Split, inputs: np.ndarray, rows: slice | npt.NDArray[np.int64]) -> np.ndarray:
        """The targets of some rows, whose inputs are at hand."""
        return inputs if self.config.problem == "reconstruction" else self.targets[split][rows]

    def _memory_batches(self, split: Split, batch_size: int, shuffle_seed: int | None) -> Batches:
        """Batches gathered inside TensorFlow, from tensors that are made once."""
        import tensorflow as tf

        if split not in self._tensors:
            x, y = (as_tensors(values) for values in (self.in_memory[split], self.targets[split]))
            self._tensors[split] = (x, y)
            if len(self.inputs) == 1:
                self.in_memory[split] = x.numpy()  # the tensor's own memory, instead of a second copy
        x, y = self._tensors[split]
        order = np.arange(self.counts[split])
        if shuffle_seed is not None:
            np.random.default_rng(shuffle_seed).shuffle(order)
        rows = tf.data.Dataset.from_tensor_slices((order,)).batch(batch_size)

        def gathered(values: Any, taken: "tf.Tensor") -> Any:
            return tf.nest.map_structure(lambda each: tf.gather(each, taken), values)

        return rows, lambda taken: (gathered(x, taken), gathered(y, taken), taken)

    def _streamed_batches(self, split: Split, batch_size: int, shuffle_seed: int | None) -> Batches:
        """Batches from a new pass over the source."""
        import tensorflow as tf

        def batches() -> Iterator[tuple[Any, Any, np.ndarray]]:
            chunks = placed(self._chunks(split))
            if shuffle_seed is not None:
                row_bytes = sum(int(np.prod(each.shape)) * each.dtype.itemsize for each in self.inputs)
                pool = max((self.config.memory_mib << 18) // row_bytes, batch_size)
                chunks = shuffled(chunks, pool, np.random.default_rng(shuffle_seed))
            for x, rows in rebatched(chunks, batch_size):
                yield in_tuples(x), in_tuples(self.targets[split][rows]), rows

        def spec(values: np.ndarray) -> Any:
            return tf.nest.map_structure(
                lambda each: tf.TensorSpec((None, *each.shape[1:]), each.dtype), in_tuples(values)
            )

        x = np.empty(0, kind_of([(one.name, one.dtype, one.shape) for one in self.inputs]))
        signature = (spec(x), spec(self.targets[split]), tf.TensorSpec((None,), np.int64))
        return tf.data.Dataset.from_generator(batches, output_signature=signature), lambda *parts: parts


def in_tuples(values: np.ndarray) -> Any:
    """What records hold as a tuple in their order; a plain array as it is."""
    return tuple(fields(values).values()) if values.dtype.names else values


def as_tensors(values: np.ndarray) -> Any:
    """The same as tensors, one or a tuple."""
    import tensorflow as tf

    return tf.nest.map_structure(tf.constant, in_tuples(values))


def taken_rows(values: np.ndarray, rows: "tf.Tensor") -> Any:
    """Rows of float32 values, which may be mapped from a file, as tensors: one or a tuple."""
    import tensorflow as tf

    kinds = [(each.dtype, each.shape[1:]) for each in fields(values[:1]).values()]
    taken = tf.numpy_function(
        lambda rows: list(fields(np.asarray(values[rows])).values()),
        [rows],
        [kind for kind, _ in kinds],
        stateful=False,
    )
    shaped = tuple(tf.ensure_shape(each, (None, *shape)) for each, (_, shape) in zip(taken, kinds, strict=True))
    return shaped if values.dtype.names else shaped[0]
