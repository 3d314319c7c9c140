"""What a teacher says of the examples: asked once, kept by content, and read by every epoch and stage that has it.

A file holds the answers to one view of one split. Its name is the digest of all that shapes them, so nothing is ever
out of date, and a killed stage, the next stage and the next run all find it.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.named import kind_of, packed
from tasks.contract.progress import listener
from tasks.contract.state_folder import home
from tasks.data import Dataset, Split, augment
from tasks.keras_graph.output_meaning import as_learned
from tasks.training import losses as objectives
from tasks.training.hints import hinted
from tasks.training.losses import Kept, Objective, Teaching, all_targets, one_each, softened
from tasks.training.mistakes import label_loss

if TYPE_CHECKING:
    import tensorflow as tf

AT_ONCE = 256  # examples the teacher answers in one step: part of the digest, as rounding follows it
LIMIT = 4 << 30  # bytes that all files may take together
PATIENCE = 10  # seconds between two words on how far it is


def taught_by(
    data: Dataset, teacher: "tf.keras.Model", teaching: Teaching, *, stage: str, layers_may_go: bool = False
) -> Objective:
    """What a training under a teacher makes small, with the teacher's answers kept where they do not change.

    Args:
        data: what is learned.
        teacher: is asked at most once for each view of an example, if the examples' views are fixed.
        teaching: how it counts.
        stage: the name that notes bear.
        layers_may_go: whether a layer that the teaching names and the student no longer has is noted, and its hint left
            out; else it is an error.

    Raises:
        ModelError: when the objective gets its model: a layer that is not there, or does not correspond.

    """
    teacher = as_learned(teacher, data.problems)
    tell = partial(listener().note, stage)
    kept = keeper(teacher, data, tell) if teaching.mix else None
    objective = softened(data.heads, teacher, teaching, label_loss(data), kept)
    return hinted(objective, teacher, teaching, lost=tell if layers_may_go else None)


def keeper(teacher: "tf.keras.Model", data: Dataset, tell: Callable[[str], None]) -> Kept:
    """A function that gives what the teacher says of a split's view: float32 `(examples, …)`, mapped from its file.

    None if all views together would not fit beside each other, or if the disk is full: the teacher is then asked at
    each step, and `tell` is called with a note.
    """
    views = data.config.views if augment.augments(data.config) else 1
    kind = kind_of([(head.name, np.float32, head.output_shape) for head in data.heads])
    size = (data.counts["train"] * views + data.counts["validation"]) * kind.itemsize
    source = _digest(teacher)
    if size > LIMIT:
        tell(f"the teacher's answers would take {size / 2**30:.1f} GiB: it is asked anew each epoch")

    def kept(split: Split, view: int) -> np.ndarray | None:
        if size > LIMIT:
            return None
        folder = home() / "taught"
        folder.mkdir(exist_ok=True)
        file = folder / f"{_key(source, data, split, view)}.npy"
        answers = _opened(file, data.counts[split], kind)
        if answers is not None:
            return answers
        which = f", view {view + 1} of {views}," if split == "train" and views > 1 else ""
        tell(f"the teacher answers {data.counts[split]:,} {split} examples{which} once")
        try:
            _write(file, kind, teacher, data, split, view, tell)
            _make_room(folder, file)
        except OSError as error:
            tell(f"the teacher's answers cannot be kept ({error.strerror or error}): it is asked at each step")
            return None
        return _opened(file, data.counts[split], kind)

    return kept


def _digest(teacher: "tf.keras.Model") -> str:
    """A model by its architecture and weights."""
    digest = hashlib.sha256(teacher.to_json().encode())
    for variable in teacher.weights:
        digest.update(f"{variable.shape} {variable.dtype} ".encode() + np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def _key(teacher: str, data: Dataset, split: Split, view: int) -> str:
    """The digest of everything that shapes an answer: who, of what, changed how, and how it is computed."""
    import tensorflow as tf

    changes: list[object] = []
    if split == "train" and augment.augments(data.config):
        changes = [data.config.model_dump(mode="json", include={"flip", "shift", "brightness", "split_seed"}), view]
    code = [
        hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for file in (__file__, augment.__file__, objectives.__file__)
    ]
    rule = [teacher, data.digest, split, changes, data.problems, code, tf.version.VERSION]
    return hashlib.sha256(json.dumps(rule, sort_keys=True).encode()).hexdigest()


def _opened(file: Path, count: int, kind: np.dtype) -> np.ndarray | None:
    """The answers as they were kept, or nothing; the file counts as used now."""
    try:
        answers: np.ndarray = np.load(file, mmap_mode="r")
        os.utime(file)
    except (OSError, ValueError, EOFError):
        return None  # never made, cleared away, or cut off by a power failure
    return answers if answers.shape == (count, *kind.shape) and answers.dtype == kind.base else None


def _write(
    file: Path,
    kind: np.dtype,
    teacher: "tf.keras.Model",
    data: Dataset,
    split: Split,
    view: int,
    tell: Callable[[str], None],
) -> None:
    """Ask the teacher, batch by batch, into a file that is there as a whole or not at all."""
    import tensorflow as tf

    count = data.counts[split]
    ask = tf.function(lambda x: all_targets(data.heads, teacher(x, training=False)), reduce_retracing=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("wb") as kept:  # written, not mapped: a full disk is then an error and no signal
            header = {"descr": np.lib.format.dtype_to_descr(kind.base), "shape": (count, *kind.shape)}
            np.lib.format.write_array_header_1_0(kept, {**header, "fortran_order": False})
            start, noted = 0, time.monotonic()
            for x, *_ in data.batches(split, AT_ONCE, augment=split == "train", view=view):
                answers = [each.numpy() for each in one_each(ask(x))]
                named = zip(data.output_shapes, answers, strict=True)
                kept.write(np.ascontiguousarray(packed(dict(named)).astype(kind.base, copy=False)).view(np.uint8).data)
                start += len(answers[0])
                if time.monotonic() - noted > PATIENCE:
                    tell(f"the teacher has answered {start:,} of {count:,}")
                    noted = time.monotonic()
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def _make_room(folder: Path, newest: Path) -> None:
    """Clear away what was not used for longest, until all fits; whoever still reads such a file keeps it open."""
    files = []
    for file in folder.iterdir():
        try:
            state = file.stat()
        except FileNotFoundError:
            continue  # another process makes room too
        files.append((state.st_mtime, state.st_size, file))
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files):
        if total <= LIMIT:
            return
        if file != newest:
            file.unlink(missing_ok=True)
            total -= size
