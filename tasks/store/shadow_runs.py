"""What a server's shadow found, in MLflow: a run for each champion and candidate that were compared there."""

from collections.abc import Mapping

from pydantic import BaseModel

from tasks.store import tracking

ROLE = "shadow"
NAME, CHAMPION, CANDIDATE = "slimline.name", "slimline.champion", "slimline.candidate"  # tags: the model, and numbers


class Covered(BaseModel, frozen=True):
    """What servers compared of two versions, all of their runs together."""

    hours: float = 0
    requests: int = 0
    failed: int = 0
    agreement_low: float = 0


def begin(name: str, champion: str, candidate: str, settings: Mapping[str, object]) -> str:
    """Open the run; returns its id."""
    about = {tracking.ROLE: ROLE, NAME: name, CHAMPION: champion, CANDIDATE: candidate}
    return tracking.start_run(f"shadow-{name}-{champion}-{candidate}", about, tracking.flatten(settings))


def covered(name: str, champion: int, candidate: int) -> Covered:
    """How much was compared of two versions of a model.

    Hours that several servers compared in count once. The low end of the agreement is the mean of the runs', by their
    examples: that of all together would be no lower.
    """
    tags = {tracking.ROLE: ROLE, NAME: name, CHAMPION: str(champion), CANDIDATE: str(candidate)}
    asked = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    runs = tracking.client().search_runs([tracking.experiment()], asked, max_results=1000)
    found = [run for run in runs if run.data.metrics.get("examples")]
    examples = sum(run.data.metrics["examples"] for run in found)
    spans = sorted((run.data.metrics["first"], run.data.metrics["last"]) for run in found)
    hours, until = 0.0, 0.0
    for first, last in spans:
        hours += max(0.0, last - max(first, until))
        until = max(until, last)
    return Covered(
        hours=hours / 3600,
        requests=int(sum(run.data.metrics.get("requests", 0) for run in runs)),
        failed=int(sum(run.data.metrics.get("failed", 0) for run in runs)),
        agreement_low=sum(run.data.metrics["agreement_low"] * run.data.metrics["examples"] for run in found)
        / max(examples, 1),
    )
