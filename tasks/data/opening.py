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
from tasks.data.beside import apart, groups_of, numbered_groups, slices_of, times_of
from tasks.data.config import DataConfig
from tasks.data.dataset import Dataset
from tasks.data.labels import check_classes, check_labels, check_mistakes, note_of, note_of_places, numbered, several
from tasks.data.mixing import check_mixing
from tasks.data.scan import Scan, checked_inputs, digests, limited, scan
from tasks.data.source import Source, rows_per_chunk
from tasks.data.splits import SPLITS, Membership, RowMask, Split, assign, rows_of, strata_of
from tasks.data.statistics import Variance, statistics_of

NOTHING = "there is nothing to learn; the train split's must vary"


def read_dataset(source: Source, config: DataConfig) -> Dataset:
    """Reads a source once, and its train split a second time unless it fits into memory.

    Raises:
        DataError: the data cannot be trained on.

    """
    scanned = scan(source, config)
    targets: Mapping[str, np.ndarray] = scanned.targets
    classes: tuple[str, ...] = ()
    notes = source.notes
    if config.problem == "classification":
        with column_named(source.targets):
            targets, classes = numbered(scanned.targets, config, source.classes)
        if not (config.classes or source.classes):
            notes += note_of(classes)
        notes += note_of_places(next(iter(targets.values())))
    elif config.problem == "multilabel":
        classes = several(scanned.targets, config, source.classes or source.targets)
    elif config.classes:
        raise DataError("data.classes", config.classes, f"a {config.problem} has no classes; leave this empty")
    shapes = {part: values.shape[1:] for part, values in targets.items()}
    if len(set(shapes.values())) > 1:
        raise DataError("data.target", shapes, "every part needs targets of the same shape")
    behind = {"classification": 0, "multilabel": 1, "regression": 1}.get(config.problem, 0)  # axes that are no places
    places = 0 if config.problem == "reconstruction" else len(next(iter(shapes.values()))) - behind
    check_augmentation(config, scanned.input_shape, places)
    check_mixing(config, scanned.input_shape, places)
    check_mistakes(config, len(classes))
    keys = groups_of(source, config, scanned)
    times, moments = times_of(source, config, scanned)
    members, duplicates, kin = assign(
        {part: digests[:, 0] for part, digests in scanned.digests.items()},
        {part: strata_of(values, config.problem) for part, values in targets.items()},
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        groups=keys,
        times=times,
    )
    by_split = rows_of(members, targets)
    for split in SPLITS:
        if not len(by_split[split]):
            raise empty(config, split)
    groups = rows_of(members, numbered_groups(keys)) if keys else {}
    named = slices_of(source, config, scanned)
    slices = rows_of(members, named) if named else {}
    notes += apart(config, members, groups, kin, moments)
    if classes:
        with column_named(source.targets), splits_named(config):
            (check_labels if config.problem == "multilabel" else check_classes)(by_split, classes)
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
        digest=digest_of(config, scanned, classes, members, by_split, groups, slices),
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
        contents=rows_of(members, {part: digests[:, 0] for part, digests in scanned.digests.items()}),
        stream=stream,
        in_memory=in_memory,
        columns=source.columns,
        target_columns=source.targets,
        notes=notes,
        groups=groups,
        slices=slices,
    )


def empty(config: DataConfig, split: Split) -> DataError:
    """A split without examples, and what would fill it."""
    for field, what in (("group", "groups"), ("time", "moments")):
        if column := getattr(config, field):
            remedy = f"leaves the {split} split empty: it has too few {what}; add some, or leave data.{field} out"
            return DataError(f"data.{field}", column, remedy)
    return DataError(
        "data.source",
        config.source,
        f"leaves the {split} split empty: too few examples differ in content; add some, or raise data.limit",
    )


@contextmanager
def column_named(columns: Sequence[str]) -> Iterator[None]:
    """Errors about labels bear the name of their column, where it has one."""
    try:
        yield
    except DataError as error:
        if not columns:
            raise
        raise DataError(error.field, f"{', '.join(columns)}: {error.value}", error.remedy) from error


@contextmanager
def splits_named(config: DataConfig) -> Iterator[None]:
    """Errors about what a split lacks name what decided the splits, where the recipe did."""
    try:
        yield
    except DataError as error:
        fields = " and ".join(f"data.{field}" for field in ("group", "time") if getattr(config, field))
        if not fields:
            raise
        raise DataError(error.field, error.value, f"{error.remedy}; or leave {fields} out") from error


def variance_of(targets: np.ndarray, names: Sequence[str]) -> Variance:
    """Of targets `(n, …, targets)` over the examples: of each, so that none hides behind the scale of another.

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
    if config.problem == "classification":
        return (*targets["train"].shape[1:], len(classes))
    return targets["train"].shape[1:]


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
    groups: Mapping[Split, np.ndarray],
    slices: Mapping[Split, np.ndarray],
) -> str:
    """Sha256 of what is trained and measured on: problem, types, classes, each split's examples, targets, groups."""
    kind = [config.problem, list(scanned.input_shape), scanned.dtype.name, list(classes)]
    digest = hashlib.sha256(json.dumps(kind).encode())
    for split in SPLITS:
        part, rows = members[split]
        digest.update(f"{split} {len(targets[split])} {targets[split].shape[1:]} ".encode())
        digest.update(np.ascontiguousarray(scanned.digests[part][rows]).data)
        digest.update(np.ascontiguousarray(targets[split]).data)
        if groups:
            digest.update(groups[split].data)
        if slices:
            digest.update("\0".join(slices[split]).encode())
    return digest.hexdigest()
