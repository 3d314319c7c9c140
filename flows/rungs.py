"""A batch of a search's trials, rung by rung: all are trained a little, and those that are behind are stopped there."""

from collections.abc import Callable, Iterator, Sequence

from tasks.search.halving import going_on
from tasks.search.study import Asked, Outcome, Study, Trial
from tasks.store import tracking

# What comes of a trial whose training pauses at this share of its epochs; one that waits has what is known already.
Attempt = Callable[[Asked, float], Outcome]


def climbed(study: Study, batch: Sequence[Asked], attempt: Attempt) -> Iterator[Trial]:
    """Each trial as it is told to the study, and as it comes to a rung; those that go on from all rungs come last.

    What a rung has decided stays: wherever a search was killed, the same trials go on and the same ones are stopped.

    Args:
        study: whose space has the rungs; without any all trials are made to their end.
        batch: trials of it that were not told.
        attempt: makes one. It may also come to its end before its share, or at once, as where nothing is trained.

    """
    for rung, share in enumerate(study.space.rungs, 1):
        waiting: list[Trial] = []
        for asked in batch:
            outcome = study.paused(asked.number, rung)
            if outcome is None:
                outcome = attempt(asked, share)
                yield _told(study, asked, outcome, rung)
            if outcome.how == "paused":
                waiting.append(Trial(asked.number, asked.settings, outcome))
        stays = study.go_on(rung, waiting, lambda new: going_on(new, study.space.aims, study.space.reduction_factor))
        for trial in waiting:
            if trial.number not in stays:
                yield _told(study, trial, _stopped(trial.outcome), rung)
        batch = [trial for trial in waiting if trial.number in stays]
    for asked in batch:
        yield _told(study, asked, attempt(asked, 1.0), 0)


def _told(study: Study, asked: Asked, outcome: Outcome, rung: int) -> Trial:
    if outcome.how == "paused":
        study.pause(asked.number, rung, outcome)
    else:
        study.tell(asked.number, outcome)
    return Trial(asked.number, asked.settings, outcome)


def _stopped(outcome: Outcome) -> Outcome:
    """What waits and does not go on; its run in MLflow says so."""
    assert outcome.reached is not None
    why = f"stopped {outcome.reached.sentence}"
    if outcome.run:
        tracking.set_tags(outcome.run, {"slimline.stopped": why})
    return outcome.model_copy(update={"how": "stopped", "why": why})
