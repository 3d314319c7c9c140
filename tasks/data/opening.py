"""From a source to a data set: scan, split, check, and measure the train split."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import DataError
from tasks.contract.named import ONE, field, packed
from tasks.data.augment import check_augmentation
from tasks.data.beside import apart, groups_of, numbered_groups, slices_of, times_of, weights_of
from tasks.data.config import DataConfig
from tasks.data.dataset import Dataset
from tasks.data.heads import Input
from tasks.data.mixing import check_mixing
from tasks.data.scan import Scan, checked_inputs, digests, limited, scan
from tasks.data.source import Source, rows_per_chunk
from tasks.data.splits import SPLITS, Membership, RowMask, Split, assign, rows_of, strata_of
from tasks.data.statistics import statistics_of
from tasks.data.targets import Targets, check_splits, heads_of, targets_of


def read_dataset(source: Source, config: DataConfig) -> Dataset:
    """Reads a source once, and its train split a second time unless it fits into memory.

    Raises:
        DataError: the data cannot be trained on.

    """
    scanned = scan(source, config)
    asked = targets_of(source, config, scanned)
    several = scanned.dtype.names is not None
    places = max(each.places for each in asked)
    check_augmentation(config, scanned.input_shape, places, several=several)
    check_mixing(config, scanned.input_shape, places)
    keys = groups_of(source, config, scanned)
    times, moments = times_of(source, config, scanned)
    members, duplicates, kin = assign(
        {part: digests[:, 0] for part, digests in scanned.digests.items()},
        strata_by_part(asked),
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        groups=keys,
        times=times,
    )
    if source.learned_from and (learned := source.learned_from(*members["train"])):
        source = learned
        del scanned  # before its bytes are there twice
        scanned = scan(source, config)
        members, alike = without_alike(members, scanned)
        duplicates += alike
    by_split = {each.name: rows_of(members, each.parts) for each in asked}
    counts = {split: int(np.count_nonzero(rows)) for split, (_, rows) in members.items()}
    for split in SPLITS:
        if not counts[split]:
            raise empty(config, split)
    groups = rows_of(members, numbered_groups(keys)) if keys else {}
    named = slices_of(source, config, scanned)
    slices = rows_of(members, named) if named else {}
    weights = counted(weights_of(source, config, scanned), members, config)
    notes = tuple(note for each in asked for note in each.notes) + apart(config, members, groups, kin, moments)
    with splits_named(config):
        check_splits(asked, by_split)
    in_memory = splits_in_memory(scanned, members)
    # without the scan's bytes, which the stream would keep alive
    stream = partial(stream_split, source, config, replace(scanned, in_memory=None), members)
    inputs = inputs_of(scanned, (lambda: [in_memory["train"]]) if in_memory else partial(stream, "train"))
    targets = {split: packed({name: values[split] for name, values in by_split.items()}) for split in SPLITS}
    return Dataset(
        config=config,
        digest=digest_of(config, scanned, asked, members, targets, groups, slices, weights),
        inputs=inputs,
        heads=heads_of(config, asked, by_split, inputs),
        counts={split: counts[split] for split in SPLITS},
        duplicates=duplicates,
        targets=targets,
        contents=rows_of(members, {part: digests[:, 0] for part, digests in scanned.digests.items()}),
        stream=stream,
        in_memory=in_memory,
        columns=source.columns,
        encoding=source.encoding,
        notes=source.notes + notes,
        groups=groups,
        slices=slices,
        weights=weights,
    )


def counted(
    weights: Mapping[str, np.ndarray], members: Membership, config: DataConfig
) -> dict[Split, npt.NDArray[np.float32]]:
    """What each split's examples count in training `(n,)`, as multiples of what the train split's do in the mean.

    Raises:
        DataError: a split in which nothing counts, or examples that are mixed, of which two become one.

    """
    if not weights:
        return {}
    called = config.weight or "sample weights"
    if config.mixes:
        raise DataError("data.weight", called, "of two mixed examples one is made: leave mixup and cutmix out")
    by_split = rows_of(members, weights)
    if empty := [split for split in SPLITS if not by_split[split].any()]:
        raise DataError("data.weight", called, f"is 0 all through {', '.join(empty)}: nothing counts there")
    return {split: (each / by_split["train"].mean()).astype(np.float32) for split, each in by_split.items()}


def strata_by_part(asked: Sequence[Targets]) -> dict[str, npt.NDArray[np.int64]]:
    """What each split gets its share of, for each part: the classes of the first output that has one an example."""
    strata = [{part: strata_of(values, each.config.problem) for part, values in each.parts.items()} for each in asked]
    return next((each for each in strata if any(values.any() for values in each.values())), strata[0])


def inputs_of(scanned: Scan, train: Callable[[], Iterable[np.ndarray]]) -> tuple[Input, ...]:
    """Every input of an example, with what its values are like in the train split, which is read once for each."""
    inputs = []
    for name in scanned.dtype.names or (ONE,):
        shape, dtype = scanned.input_shape, scanned.dtype
        if name != ONE:
            shape, dtype = scanned.dtype[name].shape, scanned.dtype[name].base
        like = statistics_of(field(chunk, name) for chunk in train())
        inputs.append(
            Input(name, shape, dtype, like.mean, like.std, like.minimum, like.maximum, variance=like.variance)
        )
    return tuple(inputs)


def empty(config: DataConfig, split: Split) -> DataError:
    """A split without examples, and what would fill it."""
    for setting, what in (("group", "groups"), ("time", "moments")):
        if column := getattr(config, setting):
            remedy = f"leaves the {split} split empty: it has too few {what}; add some, or leave data.{setting} out"
            return DataError(f"data.{setting}", column, remedy)
    return DataError(
        "data.source",
        config.source,
        f"leaves the {split} split empty: too few examples differ in content; add some, or raise data.limit",
    )


def without_alike(members: Membership, scanned: Scan) -> tuple[Membership, int]:
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
def splits_named(config: DataConfig) -> Iterator[None]:
    """Errors about what a split lacks name what decided the splits, where the recipe did."""
    try:
        yield
    except DataError as error:
        fields = " and ".join(f"data.{field}" for field in ("group", "time") if getattr(config, field))
        if not fields:
            raise
        raise DataError(error.field, error.value, f"{error.remedy}; or leave {fields} out") from error


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
    asked: Sequence[Targets],
    members: Membership,
    targets: Mapping[Split, np.ndarray],
    groups: Mapping[Split, np.ndarray],
    slices: Mapping[Split, np.ndarray],
    weights: Mapping[Split, np.ndarray],
) -> str:
    """Sha256 of what is trained and measured on: problem, types, classes, each split's examples, targets, groups."""
    if config.heads or scanned.dtype.names:
        kind: list[object] = [str(scanned.dtype), *([each.name, each.config.problem, each.classes] for each in asked)]
    else:
        kind = [config.problem, list(scanned.input_shape), scanned.dtype.name, list(asked[0].classes)]
    digest = hashlib.sha256(json.dumps(kind).encode())
    for split in SPLITS:
        part, rows = members[split]
        digest.update(f"{split} {len(targets[split])} {targets[split].shape[1:]} ".encode())
        digest.update(np.ascontiguousarray(scanned.digests[part][rows]).data)
        digest.update(np.ascontiguousarray(targets[split]).view(np.uint8).data)
        if groups:
            digest.update(groups[split].data)
        if slices:
            digest.update("\0".join(slices[split]).encode())
        if weights:
            digest.update(weights[split].data)
    return digest.hexdigest()
