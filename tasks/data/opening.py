"""From a source to a data set: scan, split, check, and measure the train split."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.augment import check_augmentation
from tasks.data.config import DataConfig
from tasks.data.dataset import Dataset
from tasks.data.labels import check_classes, note_of, numbered
from tasks.data.scan import Scan, checked_inputs, digests, limited, scan
from tasks.data.source import Source, rows_per_chunk
from tasks.data.splits import SPLITS, Membership, RowMask, Split, assign
from tasks.data.statistics import Variance, statistics_of

NOTHING = "there is nothing to learn; the train split's must vary"


def read_dataset(source: Source, config: DataConfig) -> Dataset:
    """Reads a source once, and its train split a second time unless it fits into memory.

    Raises:
        DataError: the data cannot be trained on.

    """
    scanned = scan(source, config)
    check_augmentation(config, scanned.input_shape)
    targets: Mapping[str, np.ndarray] = scanned.targets
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if config.problem == "classification":
        with column_named(source.targets):
            targets, classes = numbered(scanned.targets, config, source.classes)
        if not (config.classes or source.classes):
            notes = note_of(classes)
    elif config.classes:
        raise DataError("data.classes", config.classes, f"a {config.problem} has no classes; leave this empty")
    shapes = {part: values.shape[1:] for part, values in targets.items()}
    if len(set(shapes.values())) > 1:
        raise DataError("data.target", shapes, "every part needs targets of the same shape")
    members, duplicates = assign(
        {part: digests[:, 0] for part, digests in scanned.digests.items()},
        targets if classes else {part: np.zeros(len(values), np.int64) for part, values in targets.items()},
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
    )
    if source.learned_from and (learned := source.learned_from(*members["train"])):
        source = learned
        del scanned  # before its bytes are there twice
        scanned = scan(source, config)
        members, alike = apart(members, scanned)
        duplicates += alike
    by_split = {split: targets[part][rows] for split, (part, rows) in members.items()}
    for split in SPLITS:
        if not len(by_split[split]):
            raise DataError(
                "data.source",
                config.source,
                f"leaves the {split} split empty: too few examples differ in content; add some, or raise data.limit",
            )
    if classes:
        with column_named(source.targets):
            check_classes(by_split, classes)
    in_memory = splits_in_memory(scanned, members)
    # without the scan's bytes, which the stream would keep alive
    stream = partial(stream_split, source, config, replace(scanned, in_memory=None), members)
    inputs = statistics_of([in_memory["train"]] if in_memory else stream("train"))
    variance: Variance = 1.0
    if config.problem == "regression":
        variance = variance_of(by_split["train"], source.targets)
    elif config.problem == "reconstruction":
        variance = inputs.variance
        if not variance > 0:
            raise DataError("data.input", "the same everywhere", NOTHING)
    return Dataset(
        config=config,
        digest=digest_of(config, scanned, classes, members, by_split),
        input_shape=scanned.input_shape,
        output_shape=output_shape(config, scanned, classes, by_split),
        classes=classes,
        counts={split: len(by_split[split]) for split in SPLITS},
        duplicates=duplicates,
        variance=variance,
        mean=inputs.mean,
        std=inputs.std,
        minimum=inputs.minimum,
        maximum=inputs.maximum,
        dtype=scanned.dtype,
        targets=by_split,
        contents={split: scanned.digests[part][rows, 0] for split, (part, rows) in members.items()},
        stream=stream,
        in_memory=in_memory,
        columns=source.columns,
        target_columns=source.targets,
        encoding=source.encoding,
        notes=source.notes + notes,
    )


def apart(members: Membership, scanned: Scan) -> tuple[Membership, int]:
    """Splits without the rows whose content, read another way now, stands in a stronger one; and how many these are."""
    kept: Membership = {}
    others = np.empty(0, np.uint64)
    for split in reversed(SPLITS):
        part, rows = members[split]
        digests = scanned.digests[part][:, 0]
        kept[split] = (part, rows & ~np.isin(digests, others))
        others = np.concatenate([others, digests[kept[split][1]]])
    return kept, sum(int(np.count_nonzero(members[split][1] & ~kept[split][1])) for split in SPLITS)


@contextmanager
def column_named(columns: Sequence[str]) -> Iterator[None]:
    """Errors about labels bear the name of their column, where it has one."""
    try:
        yield
    except DataError as error:
        if not columns:
            raise
        raise DataError(error.field, f"{', '.join(columns)}: {error.value}", error.remedy) from error


def variance_of(targets: np.ndarray, names: Sequence[str]) -> Variance:
    """Of targets `(n, targets)` over the examples: of each, so that none hides behind the scale of another.

    Raises:
        DataError: one is the same everywhere.

    """
    variances = tuple(float(value) for value in statistics_of([targets]).variances)
    if constant := [number for number, value in enumerate(variances) if not value > 0]:
        called = names or [f"target {number}" for number in range(len(variances))]
        constants = ", ".join(called[number] for number in constant)
        raise DataError("data.target", f"{constants}: the same everywhere", NOTHING)
    return variances if len(variances) > 1 else variances[0]


def output_shape(
    config: DataConfig, scanned: Scan, classes: tuple[str, ...], targets: Mapping[Split, np.ndarray]
) -> tuple[int, ...]:
    """One prediction's shape."""
    if config.problem == "reconstruction":
        return scanned.input_shape
    return (len(classes),) if classes else targets["train"].shape[1:]


def splits_in_memory(scanned: Scan, members: Membership) -> dict[Split, np.ndarray]:
    """Each split's inputs in one array, if the scan kept them; train stays in the memory that it was read into."""
    if scanned.in_memory is None:
        return {}
    splits: dict[Split, np.ndarray] = {}
    for split in reversed(SPLITS):  # train last: it overwrites the rows of the others
        part, rows = members[split]
        whole = np.frombuffer(scanned.in_memory[part], scanned.dtype).reshape(-1, *scanned.input_shape)
        if rows.all():
            splits[split] = whole
        else:
            splits[split] = moved_together(whole, rows) if split == "train" else whole[rows]
    return splits


def moved_together(whole: np.ndarray, rows: RowMask) -> np.ndarray:
    """Some rows of an array, moved to its beginning."""
    step = rows_per_chunk(whole[0].nbytes)
    filled = 0
    for start in range(0, len(whole), step):
        taken = whole[start : start + step][rows[start : start + step]]
        whole[filled : filled + len(taken)] = taken
        filled += len(taken)
    return whole[:filled]


def stream_split(
    source: Source,
    config: DataConfig,
    scanned: Scan,
    members: Membership,
    split: Split,
    wanted: RowMask | None = None,
) -> Iterator[np.ndarray]:
    """A split's inputs from a new pass over the source, in order; nothing else is decoded.

    `wanted` says of each of the split's examples `(examples,)` whether it is read; all are if it is left out.

    Raises:
        DataError: the source is no longer what it was in the first pass.

    """
    part, rows = members[split]
    if wanted is not None:
        of_part = np.zeros(len(rows), bool)
        of_part[np.flatnonzero(rows)[wanted]] = True
        rows = of_part
    start = 0
    for encoded, _ in limited(source.parts[part], config.limit):
        chosen = rows[start : start + len(encoded)]
        known = scanned.digests[part][start : start + len(encoded)]
        start += len(encoded)
        if start <= len(rows) and chosen.any():
            x = checked_inputs(source.decode(encoded[chosen]), split)
            # of one example in each chunk: in another order, targets and splits would be those of others
            if (x.shape[1:], x.dtype) == (scanned.input_shape, scanned.dtype) and (
                digests(x[:1]) == known[chosen.argmax()]
            ).all():
                yield x
                continue
            start = -1
            break
    if start != len(rows):
        raise DataError(
            "data.source",
            config.source,
            "the source changed while it was in use; run again, and leave it alone meanwhile. A function gives the "
            "same examples in the same order each time",
        )


def digest_of(
    config: DataConfig,
    scanned: Scan,
    classes: tuple[str, ...],
    members: Membership,
    targets: Mapping[Split, np.ndarray],
) -> str:
    """Sha256 of what trainings and evidence see: problem, types, class names, every split's examples and targets."""
    kind = [config.problem, list(scanned.input_shape), scanned.dtype.name, list(classes)]
    digest = hashlib.sha256(json.dumps(kind).encode())
    for split in SPLITS:
        part, rows = members[split]
        digest.update(f"{split} {len(targets[split])} {targets[split].shape[1:]} ".encode())
        digest.update(np.ascontiguousarray(scanned.digests[part][rows]).data)
        digest.update(np.ascontiguousarray(targets[split]).data)
    return digest.hexdigest()
