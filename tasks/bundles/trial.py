"""What every server's trial takes and returns: its settings, its result, a file opened, a call timed."""

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.errors import BundleMismatch, SlimlineError
from tasks.measuring.arrays import Figure

P = ParamSpec("P")
T = TypeVar("T")
WARM = 20  # requests before timing begins


class TrialConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, title="Trial"):
    """How a bundle's server is tried before the version counts as deployed."""

    requests: int = Field(
        300,
        ge=10,
        le=100_000,
        description="Requests that are timed, one after the other. More steadies the median.",
        json_schema_extra={"position": 0},
    )
    max_latency_ms: float = Field(
        0,
        ge=0,
        description="Longest median of a gRPC request with one example, in milliseconds; 0 sets no limit.",
        json_schema_extra={"position": 1},
    )
    http_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Where the server listens meanwhile; 0 takes a free one.",
        json_schema_extra={"position": 2},
    )
    grpc_port: int = Field(0, ge=0, le=65535, description="The same for gRPC.", json_schema_extra={"position": 3})


class TrialResult(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How a bundle answered."""

    server: str = Field(description="Which server the bundle is for.")
    server_run: bool = Field(description="Whether that server itself was run here.")
    ran: str = Field(description="What was run.")
    examples: int = Field(ge=1, description="Test examples that it was asked, by every way that was tried.")
    largest_difference: Figure = Field(ge=0, description="From the answers that were recorded when it was registered.")
    latency_p50_ms: dict[str, Figure] = Field(
        {}, description="Median milliseconds of a request with one example, by way; empty if no server was run."
    )
    measured_p50_ms: Figure | None = Field(None, description="The evidence's median of a call in process.")


def opened(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a runtime makes of a bundle's file.

    Raises:
        BundleMismatch: it cannot open or run it.

    """
    try:
        return function(*args, **kwargs)
    except SlimlineError:
        raise
    except Exception as error:  # every runtime has its own, and they share no class
        message = " ".join(str(error).split())[:300]
        raise BundleMismatch(
            f"the model in the bundle cannot be run: {type(error).__name__}: {message}. Its files are those of the "
            "manifest, so it does not fit the runtime installed here: compress again with this installation"
        ) from error


def timed(call: Callable[[], object], rounds: int) -> float:
    """The median milliseconds of a call, after some that are not counted."""
    for _ in range(WARM):
        call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times)) * 1000
