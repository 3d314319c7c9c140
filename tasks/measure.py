"""How files are measured: what stages that compare them share."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from tasks.artifact import Target
from tasks.errors import ConversionError
from tasks.evidence import Latency
from tasks.formats import FORMATS
from tasks.metrics import Floats
from tasks.problem import one_for_two

Outputs = npt.NDArray[np.float32]
Call = Callable[[Outputs], Outputs]


class ValidateConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How evidence is measured."""

    confidence: float = Field(
        0.95,
        ge=0.5,
        le=0.999,
        description="Of every interval. Higher widens them, and makes an accuracy budget harder to keep.",
        json_schema_extra={"position": 0},
    )
    max_examples: int = Field(
        0,
        ge=0,
        description="Test examples to measure on; 0 takes all. More narrows the intervals and takes longer.",
        json_schema_extra={"position": 1},
    )
    latency_rounds: int = Field(
        500,
        ge=5,
        le=100_000,
        description="How often each file is timed. More narrows the speed-up's interval and sharpens p99.",
        json_schema_extra={"position": 2},
    )
    warmup_rounds: int = Field(
        20,
        ge=1,
        le=10_000,
        description="Calls before timing begins. More lets caches, allocators and the processor's clock settle.",
        json_schema_extra={"position": 3},
    )
    latency_seconds: float = Field(
        20,
        gt=0,
        le=3600,
        description="Longest timing of one target's files at one batch size; when it is over, fewer rounds were made. "
        "More lets slow models have all their rounds.",
        json_schema_extra={"position": 4},
    )
    throughput_batch: int = Field(
        64,
        ge=1,
        le=8192,
        description="Examples in a call when throughput is measured. More uses the processor better and takes memory.",
        json_schema_extra={"position": 5},
    )
    threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Threads that a runtime may use. More is faster for large models, and noisier beside others.",
        json_schema_extra={"position": 6},
    )


def answers_fit(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a prediction's shape is the data's `output_shape`, or one sigmoid's.

    A model that gives one value where two are predicted, and is no such classifier, has been refused long before.
    """
    return given == wanted or one_for_two(given, wanted)


def answers_of(call: Call, x: Outputs, shape: tuple[int, ...], batch: int, title: str) -> Outputs:
    """A file's answers to all examples `(n, *shape)`, asked in batches; `title` is what a person calls it.

    Raises:
        ConversionError: they have another shape, or are not all finite.

    """
    outputs = np.concatenate([call(x[start : start + batch]) for start in range(0, len(x), batch)])
    if not answers_fit(outputs.shape[1:], shape):
        raise ConversionError(
            f"{title}: {len(x)} examples are answered in the shape {outputs.shape}, not {(len(x), *shape)}: "
            "the model that it was made from has another output than the data"
        )
    broken = int((~np.isfinite(outputs)).reshape(len(x), -1).any(axis=1).sum())
    if broken:
        raise ConversionError(
            f"{title}: {broken} of {len(x)} test examples are answered with NaN or infinity: "
            "float16 overflows at large values; scale the inputs (data.scaling) or take another quantize.precision"
        )
    return outputs


def latency_of(times: Floats) -> Latency:
    """Quantiles of the seconds that calls took, as `metrics.time_in_turn` gives them."""
    p50, p95, p99 = (float(value) for value in np.quantile(times, [0.5, 0.95, 0.99]))
    return Latency(p50=p50, p95=p95, p99=p99, rounds=times.size)


def sizes(folder: Path, target: Target) -> tuple[int, int]:
    """Bytes of the model's files on disk, and each compressed with gzip as a download would be."""
    single = FORMATS[target].FILE
    parts = [folder / single] if single else [part for part in folder.rglob("*") if part.is_file()]
    contents = [part.read_bytes() for part in parts]
    packed = [gzip.compress(content, compresslevel=6, mtime=0) for content in contents]
    return sum(map(len, contents)), sum(map(len, packed))
