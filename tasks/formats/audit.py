"""What a runtime really executes: each layer's multiply-accumulates, by the kernel that they run in."""

from collections import Counter

from pydantic import BaseModel, Field


class LayerAudit(BaseModel, frozen=True, extra="forbid"):
    """One operator that multiplies and accumulates."""

    name: str = Field(description="The Keras layer that it comes from.")
    kernel: str = Field(description="What the runtime computes it with.")
    macs: int = Field(ge=0, description="Multiply-accumulates for one example.")
    integer: bool = Field(description="Whether 8-bit integers are multiplied.")
    why: str = Field("", description="Why it runs in float, if it does.")


class Audit(BaseModel, frozen=True, extra="forbid"):
    """A file as its runtime runs it, on one example."""

    layers: tuple[LayerAudit, ...] = Field(description="The operators that multiply and accumulate, as they run.")
    kernels: dict[str, int] = Field(description="How many of each kernel run, those that do not multiply too.")

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def integer_macs(self) -> int:
        """Those in integer kernels."""
        return sum(layer.macs for layer in self.layers if layer.integer)

    @property
    def integer_share(self) -> float:
        """The share of multiply-accumulates in integer kernels; 0 where nothing is multiplied."""
        return self.integer_macs / self.macs if self.macs else 0.0

    @property
    def in_float(self) -> tuple[LayerAudit, ...]:
        """The layers that run in float, the most work first."""
        return tuple(sorted((layer for layer in self.layers if not layer.integer), key=lambda layer: -layer.macs))


def counted(kernels: list[str]) -> dict[str, int]:
    """How often each stands in a list, the most frequent first, then by name."""
    return dict(sorted(Counter(kernels).items(), key=lambda item: (-item[1], item[0])))
