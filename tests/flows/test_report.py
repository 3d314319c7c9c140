"""The table of files: what became larger is not passed over."""

import pytest

from flows.report import Figures, as_rows
from tasks.evidence.page import times_smaller


def line(target, precision, size, role="student"):
    scores = dict.fromkeys(("score", "drop", "drop_low", "drop_high", "integer_share"), 0.5)
    return Figures(
        role=role,
        target=target,
        precision=precision,
        shipped=role == "student",
        size_bytes=size,
        latency_p50_ms=1.0,
        speedup=1.0,
        **scores,
    )


def test_a_file_that_is_larger_than_a_float_one_of_its_runtime_says_so():
    rows = as_rows(
        "accuracy",
        [
            line("onnxruntime", "float32", 2048, "teacher"),
            line("litert", "float32", 10240, "teacher"),
            line("litert", "float32", 4096),
            line("onnxruntime", "int8", 2048),
            line("litert", "int8", 4097),
        ],
    )
    assert [row["size"] for row in rows] == ["2.0 KiB", "10.0 KiB", "4.0 KiB", "2.0 KiB", "4.0 KiB (larger)"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [(300, 100, "3.0 times smaller"), (100, 100, "1.0 times smaller"), (100, 150, "1.5 times larger")],
)
def test_sizes_in_words(before, after, words):
    assert times_smaller(before, after) == words
