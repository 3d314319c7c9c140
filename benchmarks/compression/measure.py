"""Files beside each other: accuracy on the same images, bytes, work, and time in turn."""

import gzip
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel

from benchmarks.conversion.measure import answers_of, time_in_orders
from benchmarks.conversion.subjects import Subject
from benchmarks.say import say
from tasks.contract.artifact import Target
from tasks.formats import FORMATS
from tasks.measuring import intervals, timing
from tasks.measuring.intervals import Interval
from tasks.measuring.scores import example_scores

if TYPE_CHECKING:
    from tasks.measuring.arrays import Floats

THROUGHPUT_BATCH = 32
FLOAT = "onnxruntime: float teacher"  # what all others are compared with


class FileRow(BaseModel, frozen=True):
    """What was measured of one file; all ratios are against the float teacher in ONNX Runtime."""

    title: str
    target: Target
    ours: bool = False
    failure: str = ""
    work_seconds: float = 0.0  # to make it from the teacher, training included
    accuracy: Interval | None = None
    drop: Interval | None = None  # in pairs with the teacher, on the same images
    size_bytes: int = 0
    gzip_bytes: int = 0
    smaller: float = 0.0
    parameters: int = 0
    macs: int = 0
    integer_share: float = 0.0
    p50: float = 0.0  # seconds, batch 1, one thread
    p99: float = 0.0
    faster: Interval | None = None
    throughput: float = 0.0  # examples a second, batch 32, one thread


def figures(row: FileRow, folder: Path, subject: Subject, scores: dict[str, "Floats"]) -> FileRow:
    """A row with all but times; the file's scores `(images,)` are put beside those of the others.

    Args:
        row: with title and target; the float teacher's comes first.
        folder: where the file is.
        subject: the test images.
        scores: by title of row, each image's.

    """
    form = FORMATS[row.target]
    name = f"{row.target}: {row.title}"
    answers = answers_of(form.load(folder, threads=1), subject.x)
    scores[name] = example_scores("classification", subject.y, answers, 1.0)
    audit = form.audit(folder, subject.x[:1])
    content = (folder / form.FILE).read_bytes()
    return row.model_copy(
        update={
            "accuracy": intervals.mean_interval(scores[name], share=True),
            "drop": intervals.paired_interval(scores[FLOAT], scores[name], share=True),
            "size_bytes": len(content),
            "gzip_bytes": len(gzip.compress(content, compresslevel=6, mtime=0)),
            "macs": audit.macs,
            "integer_share": audit.integer_share,
        }
    )


def timed(
    rows: Mapping[str, FileRow], folders: Mapping[str, Path], x: np.ndarray, rounds: int, seed: int
) -> list[FileRow]:
    """The rows with their times, measured in turn in one process; those that failed as they are."""
    files = {name: partial(FORMATS[rows[name].target].load, folder, threads=1) for name, folder in folders.items()}
    say(f"timing {len(files)} files in turn")
    single = time_in_orders(files, x[:1], rounds, 240, seed)
    many = time_in_orders(files, x[:THROUGHPUT_BATCH], max(rounds // 10, 20), 120, seed)
    teacher = rows[FLOAT]
    done = []
    for name, row in rows.items():
        if name not in files:
            done.append(row)
            continue
        p50, p99 = (float(value) for value in np.quantile(single[name], [0.5, 0.99]))
        changes = {
            "p50": p50,
            "p99": p99,
            "smaller": teacher.size_bytes / row.size_bytes,
            "faster": timing.ratio_interval(single[FLOAT], single[name], seed=seed),
            "throughput": THROUGHPUT_BATCH / float(np.median(many[name])),
        }
        done.append(row.model_copy(update=changes))
    return done
