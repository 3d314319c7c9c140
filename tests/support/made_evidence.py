"""Evidence as validate would give it, with figures that a test chooses."""

import numpy as np

from tasks.evidence.disclosure import limits, methods
from tasks.evidence.evidence import Evidence, FileEvidence, Reference
from tasks.formats.audit import Audit, LayerAudit
from tasks.measuring.intervals import Interval, tango, wilson
from tasks.measuring.machine import Machine
from tasks.measuring.measure import measure_of
from tasks.measuring.scores import Parity
from tasks.measuring.timing import Latency, Throughput

MACHINE = Machine(
    processor="Test <Processor>",
    architecture="x86_64",
    instruction_sets=("avx2", "avx512_vnni"),
    cores=2,
    usable_cores=2,
    memory_bytes=2**33,
    virtual=True,
    governor="",
    operating_system="Linux 6",
    python="3.11.0",
    libraries={"onnxruntime": "1.0"},
    load_before=0.1,
    load_after=0.2,
)


def made(
    role="teacher",
    *,
    lost=0,
    gained=0,
    speed=(1.0, 1.0, 1.0),
    integer=True,
    precision="float32",
    agree=1.0,
    saturates=False,
    apart=(),
    **more,
):
    right = 190 - lost + gained
    audit = Audit(
        layers=(
            LayerAudit(name="conv|<1>", kernel="QLinearConv", macs=90, integer=integer, saturates=saturates),
            LayerAudit(
                name="dense",
                kernel="Gemm",
                macs=10,
                integer=False,
                why="its <input> is float",
                saturates=None if saturates is None else False,
            ),
        ),
        kernels={"QLinearConv": 1, "Gemm": 1, "QuantizeLinear": 1, "DequantizeLinear": 2},
        sums_apart=None if saturates is None else apart,
        integer_time=0.875 if integer else 0,
    )
    settings = {
        "role": role,
        "target": "onnxruntime",
        "format": "onnx",
        "precision": precision,
        "sha256": "a" * 64,
        "keras_sha256": "b" * 64,
        "shipped": role == "compressed",
        "accuracy": wilson(right, 200),
        "keras_accuracy": wilson(min(right + 1, 200), 200),
        "drop": tango(lost, gained, 200),
        "lost": lost,
        "gained": gained,
        "further": {"balanced_accuracy": 0.9, "worst_class_recall": 0.8, "log_loss": 0.1},
        "confusion": ((95, 5), (5 + lost - gained, 95 - lost + gained)),
        "parity": Parity(max_absolute=0.01, mean_absolute=0.001, max_relative=0.01, agreement=agree),
        "size_bytes": 40_000 if role == "teacher" else 10_000,
        "gzip_bytes": 9_000,
        "parameters": 1000,
        "nonzeros": 500,
        "macs": audit.macs,
        "latency": Latency(p50=1e-4, p95=2e-4, p99=3e-4, rounds=500),
        "speedup": Interval(low=speed[0], estimate=speed[1], high=speed[2]),
        "throughput": Throughput(examples_per_second=12345.678, batch=64, rounds=50),
        "integer_share": audit.integer_share,
        "audit": audit,
    }
    return FileEvidence(**{**settings, **more})


def measured(problem="classification", examples=200):
    """What measured so many test examples."""
    y = np.arange(examples) % 2 if problem == "classification" else np.zeros((examples, 1))
    return measure_of("auto", problem, y)


def evidence_of(*files: FileEvidence, **more) -> Evidence:
    settings = {
        "problem": "classification",
        "score": "accuracy",
        "data": "d" * 64,
        "examples": 200,
        "examples_held": 200,
        "duplicates": 2,
        "classes": ("cat & <b>dog</b>", "$x_1$ | y"),
        "confidence": 0.95,
        "seed": 0,
        "threads": 1,
        "machine": MACHINE,
        "methods": methods({"": measured()}, 1, 64, 20),
        "limits": limits(files, {"": measured()}, 200, MACHINE, 0.95, 500),
        "reference": Reference(keras="Keras 3.12.0", brought=True, accuracy=wilson(190, 200), guessing=0.5),
        "files": files,
    }
    return Evidence(**{**settings, **more})
