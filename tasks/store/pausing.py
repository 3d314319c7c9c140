"""A student's training that pauses: after a share of its epochs it waits, and may be gone on with or left."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pydantic import BaseModel, Field

_share: ContextVar[float] = ContextVar("share", default=1.0)


class Pause(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How far a training came."""

    stage: str = Field(description="Whose training it is.")
    epoch: int = Field(ge=1, description="The last one that was trained.")
    epochs: int = Field(ge=1, description="How many it may be at most.")
    score: float = Field(description="The best validation score so far; more is better.")

    @property
    def sentence(self) -> str:
        """How far, in words."""
        return f"after {self.epoch} of {self.epochs} epochs of {self.stage}, at a validation score of {self.score:.4f}"


class Paused(BaseException):
    """A training waits, its checkpoint saved. It is no error, so that nothing takes it for one."""

    def __init__(self, pause: Pause) -> None:
        super().__init__(pause.sentence)
        self.pause = pause


@contextmanager
def pausing(share: float) -> Iterator[None]:
    """While the block lasts, the first training of a student that has come to this share of its epochs raises `Paused`.

    One that is finished already does not pause, and the next one of the same student may. A share of 1 pauses none.
    """
    token = _share.set(share)
    try:
        yield
    finally:
        _share.reset(token)


def is_due(epoch: int, epochs: int) -> bool:
    """Whether a training pauses after an epoch, counted from 1; never after its last one."""
    return epoch == max(1, round(_share.get() * epochs)) < epochs
