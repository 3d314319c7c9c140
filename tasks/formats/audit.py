"""What a runtime really executes: each layer's multiply-accumulates, by the kernel that they run in."""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, Field

CONVERTING = frozenset({"quantizelinear", "dequantizelinear", "quantize", "dequantize"})  # of any runtime


class LayerAudit(BaseModel, frozen=True, extra="forbid"):
    """One operator that multiplies and accumulates."""

    name: str = Field(description="The Keras layer that it comes from.")
    kernel: str = Field(description="What the runtime computes it with.")
    macs: int = Field(ge=0, description="Multiply-accumulates for one example.")
    integer: bool = Field(description="Whether 8-bit integers are multiplied.")
    why: str = Field("", description="Why it runs in float, if it does.")
    saturates: bool | None = Field(
        None,
        description="Whether its integer kernel can saturate on an x86 processor without VNNI, by its numbers alone; "
        "none where that was not looked at, as in evidence of before.",
    )


class Audit(BaseModel, frozen=True, extra="forbid"):
    """A file as its runtime runs it, on one example."""

    layers: tuple[LayerAudit, ...] = Field(description="The operators that multiply and accumulate, as they run.")
    kernels: dict[str, int] = Field(description="How many of each kernel run, those that do not multiply too.")
    sums_apart: tuple[str, ...] | None = Field(
        None,
        description="Sums of two tensors that integer kernels of other processors round to the other step, for some "
        "inputs; none where that was not looked at.",
    )
    integer_time: float | None = Field(
        None,
        ge=0,
        le=1,
        description="The share of all kernels' time, batch of one, in kernels that take 8-bit integers, those that "
        "multiply nothing too; none where the runtime does not tell, or nothing took time.",
    )

    @property
    def conversions(self) -> int:
        """How many kernels turn numbers into integers, or back."""
        return sum(times for kernel, times in self.kernels.items() if kernel.lower() in CONVERTING)

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

    @property
    def saturating(self) -> tuple[LayerAudit, ...]:
        """The layers that can answer otherwise on an x86 processor without VNNI."""
        return tuple(layer for layer in self.layers if layer.saturates)

    @property
    def everywhere(self) -> bool | None:
        """Whether the integers are the same on every processor; none where that was not looked at."""
        if self.saturating or self.sums_apart:
            return False
        unknown = self.sums_apart is None or any(layer.saturates is None for layer in self.layers)
        return None if unknown else True

    @property
    def everywhere_in_words(self) -> str:
        """The same for people, with the layers that stand in the way."""
        if self.layers and not self.integer_macs:
            return "no integers"
        if self.everywhere is None:
            return "not looked at"
        return "yes" if self.everywhere else f"no: {self.apart_in_words}"

    @property
    def apart_in_words(self) -> str:
        """What may give other integers on another processor, such as `layers l1, l2 can saturate`; empty if nothing."""
        reasons = []
        if self.saturating:
            reasons.append(
                f"layers {named([layer.name for layer in self.saturating])} can saturate on x86 without VNNI"
            )
        if self.sums_apart:
            reasons.append(f"sums {named(self.sums_apart)} are rounded to the other step for some inputs")
        return ", and ".join(reasons)


def named(layers: Sequence[str], most: int = 5) -> str:
    """Layers by name, the first of them if they are many."""
    more = f" and {len(layers) - most} more" if len(layers) > most else ""
    return ", ".join(layers[:most]) + more


def saturation_note(file: str, layers: Sequence[str], *, here: bool) -> str:
    """What people read of a file that can saturate; nothing where none of its layers can.

    Args:
        file: what it is called.
        layers: those that can saturate.
        here: whether this processor's kernels do.

    """
    if not layers:
        return ""
    there = (
        "this is one, where Slimline opens it with unsigned weights, which is right and slower"
        if here
        else "it answers right here, and would answer otherwise there, except where Slimline opens it, with unsigned "
        "weights"
    )
    return f"{file} can saturate on x86 processors without VNNI (layers {named(layers)}): {there}"


def counted(kernels: list[str]) -> dict[str, int]:
    """How often each stands in a list, the most frequent first, then by name."""
    return dict(sorted(Counter(kernels).items(), key=lambda item: (-item[1], item[0])))
