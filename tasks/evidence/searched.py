"""What evidence says of the search that its recipe was found by."""

from pydantic import BaseModel, Field


class Searched(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The search that a version's recipe was found by."""

    study: str = Field(description="Which one: the digest of its recipe, space, data, machine and seed.")
    run: str = Field(description="Its run in MLflow.")
    trials: int = Field(ge=1, description="How many were tried.")
    trained: int = Field(ge=1, description="Of these, those that were trained and measured on the validation split.")
    stopped: int = Field(0, ge=0, description="Those that were trained in part, and stopped by successive halving.")
    inside: int = Field(
        ge=0, description="Of those trained, those inside the budget there, by the bad end of the interval."
    )
    seed: int = Field(ge=0, description="Of what was drawn.")

    def fingerprint(self) -> dict[str, object]:
        """What counts in a stage's key: all but the run, which is another one in another store."""
        return self.model_dump(exclude={"run"})

    @property
    def sentence(self) -> str:
        """What it says about the figures of the test split."""
        stopped = f"{self.stopped:,} were trained in part and stopped, " if self.stopped else ""
        return (
            f"One of {self.trials:,} recipes of a search (study {self.study}, seed {self.seed}): {self.trained:,} were "
            f"trained, {stopped}{self.inside:,} were inside the budget on the validation split, and by that split "
            "alone this one was taken. The test split was asked about no other one."
        )
