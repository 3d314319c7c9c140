"""A candidate that is asked, beside, what the champion answers: how far they agree, and how long each takes.

Of classes they agree where both say the same one, of labels by the share that both say alike, and of values by the
candidate's R² where the champion's answers are the truth: `example_scores`, with the champion in the data's place.
"""

import logging
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import Counter, Gauge

from tasks.contract.errors import OptionWrong
from tasks.contract.named import ONE, Array, fields
from tasks.contract.problem import Problem
from tasks.measuring.answers import are_answers
from tasks.measuring.intervals import Interval, mean_interval
from tasks.measuring.scores import by_class, example_scores, labels_of
from tasks.serving.beside import Answered, Beside
from tasks.serving.limits import ServeConfig
from tasks.serving.served import Served
from tasks.store import shadow_runs, tracking

if TYPE_CHECKING:
    from tasks.serving.model import ServedModel

log = logging.getLogger("slimline.serving")
SECONDS = 5.0  # between two looks at what was compared
LOGGED = 60.0  # seconds between two entries in MLflow
KEPT = 10_000  # examples, the newest, that an agreement is of; requests that a median is of
ASKED = Counter("slimline_shadow_requests", "Requests that the candidate was asked too.", ["model", "outcome"])
AGREEMENT = Gauge("slimline_shadow_agreement", "How far a candidate's answers are its champion's.", ["model", "figure"])
P50 = Gauge("slimline_shadow_p50_seconds", "Median time of a call, asked in turn in one thread.", ["model", "side"])


@contextmanager
def shadowing(models: "Sequence[ServedModel]", candidate: Served, config: ServeConfig) -> "Iterator[Shadow]":
    """While the block lasts, a candidate is asked beside the first model of its name.

    Raises:
        OptionWrong: none of that name is served, or it takes or gives something else.

    """
    model = next((model for model in models if model.name == candidate.name), None)
    if model is None:
        served = ", ".join(model.name for model in models)
        raise OptionWrong("--shadow", config.shadow, f"is asked what {candidate.name} is; served is {served}")
    if told := difference(model.served, candidate):
        remedy = f"version {candidate.version} cannot be compared with version {model.served.version}: {told}"
        raise OptionWrong("--shadow", config.shadow, remedy)
    shadow = Shadow(candidate, config)
    model.hears.append(shadow.hand)
    model.shadow = shadow
    try:
        yield shadow
    finally:
        shadow.end()


def difference(champion: Served, candidate: Served) -> str:
    """In what two versions differ that would have to be the same, in words; empty if in nothing."""
    for what, one, other in (
        ("inputs", _ends(champion.inputs), _ends(candidate.inputs)),
        ("outputs", _ends(champion.outputs), _ends(candidate.outputs)),
        ("labels", champion.labels, candidate.labels),
    ):
        if one != other:
            return f"its {what} are {other}, not {one}"
    return ""


def _ends(tensors: Sequence[Any]) -> list[tuple[str, str, tuple[int, ...]]]:
    """What they are called counts only where there are several."""
    return [(tensor.name if len(tensors) > 1 else ONE, tensor.dtype, tensor.shape) for tensor in tensors]


def _recent() -> "deque[Any]":
    return deque(maxlen=KEPT)


@dataclass(eq=False)
class Pair:
    """What was compared of two versions. first, last: when, in seconds since 1970. scores: by output, an example each.

    differ: in what they would have to be the same, in words; then nothing is compared. run: in MLflow; empty until
    something is logged, a minute after the first. logged: when, on the monotonic clock.
    """

    champion: str
    candidate: str
    problems: Mapping[str, Problem]
    differ: str = ""
    requests: int = 0
    failed: int = 0
    examples: int = 0
    first: float = 0.0
    last: float = 0.0
    scores: "dict[str, deque[Any]]" = field(default_factory=dict)
    times: "dict[str, deque[float]]" = field(default_factory=lambda: {"champion": _recent(), "candidate": _recent()})
    run: str = ""
    logged: float = field(default_factory=time.monotonic)


class Shadow:
    """A candidate, asked a share of what its champion answers, in a thread of its own.

    One that takes or gives something else than the champion, after an alias moved, is not asked, and neither is one
    that is the champion by now.
    """

    def __init__(self, served: Served, config: ServeConfig) -> None:
        self.served = served
        self.share, self.pause = config.shadow_share, 1 / config.shadow_rate
        self.settings = {"shadow": config.shadow, "share": config.shadow_share, "rate": config.shadow_rate}
        self.next = 0.0
        self.pair = Pair("", "", {})
        self.told = f"version {served.version}, nothing compared yet"  # on the server's page
        self.beside = Beside("shadow", self.compare, self.look, SECONDS)

    def take(self, served: Served) -> None:
        """Ask this version from the next request on."""
        self.served = served

    def hand(self, answered: Answered) -> None:
        """Hand over what was answered, if it is of the share and not too soon after the last one."""
        if random.random() < self.share and (now := time.monotonic()) >= self.next:  # noqa: S311  no secret
            self.next = now + self.pause
            self.beside.hand(answered)

    def compare(self, answered: Answered) -> None:
        """Ask the candidate, and time both in turn."""
        champion, candidate, x = answered.served, self.served, answered.x
        if champion.version == candidate.version:
            return
        if (self.pair.champion, self.pair.candidate) != (champion.version, candidate.version):
            differ = difference(champion, candidate)
            before, self.pair = self.pair, Pair(champion.version, candidate.version, candidate.problems, differ)
            if differ:
                log.warning("version %s is not asked beside version %s: %s", *self._versions(), differ)
            self._close(before)
        if self.pair.differ:
            return
        pair, shapes = self.pair, {name: values.shape[1:] for name, values in fields(answered.answers).items()}
        pair.last = time.time()
        pair.first = pair.first or pair.last
        pair.requests += 1
        try:
            began = time.perf_counter()
            answers = candidate.call(x)
            took = time.perf_counter() - began
            if len(answers) != len(x) or not are_answers(answers, shapes):
                raise ValueError("it answers with something other than finite numbers of the champion's shape")
        except Exception as error:  # whatever it fails of, the champion has answered
            pair.failed += 1
            ASKED.labels(model=champion.name, outcome="failed").inc()
            if pair.failed == 1:
                log.warning("version %s failed where version %s answered: %s", *self._versions(), error)
            return
        began = time.perf_counter()
        champion.call(x)
        pair.times["champion"].append(time.perf_counter() - began)
        pair.times["candidate"].append(took)
        theirs = fields(answers)
        for name, ours in fields(answered.answers).items():
            pair.scores.setdefault(name, _recent()).extend(compared(pair.problems[name], ours, theirs[name]))
        pair.examples += len(x)
        ASKED.labels(model=champion.name, outcome="compared").inc()

    def look(self) -> None:
        """Show how it is, and log it where the last entry is old."""
        name, pair = self.served.name, self.pair
        if not pair.requests:
            return
        figures = figures_of(pair)
        self.told = f"version {pair.candidate} beside version {pair.champion}: {_sentence(figures)}"
        if pair.examples:
            for end in ("agreement", "agreement_low", "agreement_high"):
                AGREEMENT.labels(model=name, figure=end).set(figures[end])
            for side in pair.times:
                P50.labels(model=name, side=side).set(figures[f"{side}_p50_ms"] / 1000)
        if time.monotonic() - pair.logged >= LOGGED:
            self._log(pair, figures)

    def end(self) -> None:
        """Compare what was handed over, and close the run."""
        self.beside.end()
        try:
            self._close(self.pair)
        except Exception as error:  # the store may be away: what was served has ended well all the same
            log.error("shadow: %s", error)

    def _versions(self) -> tuple[str, str]:
        return self.pair.candidate, self.pair.champion

    def _log(self, pair: Pair, figures: dict[str, float]) -> None:
        pair.logged = time.monotonic()  # also where it fails: a store that is away is not asked all the time
        pair.run = pair.run or shadow_runs.begin(self.served.name, pair.champion, pair.candidate, self.settings)
        tracking.log_metrics(pair.run, figures, step=int(pair.last - pair.first))

    def _close(self, pair: Pair) -> None:
        if pair.requests:
            self._log(pair, figures_of(pair))
            tracking.end_run(pair.run, failed=False)


def figures_of(pair: Pair) -> dict[str, float]:
    """What was compared, as MLflow keeps it; of several outputs the one that agrees least."""
    told = {"requests": pair.requests, "failed": pair.failed, "first": pair.first, "last": pair.last}
    if not pair.examples:
        return told
    each = {name: agreement(pair.problems[name], scores) for name, scores in pair.scores.items()}
    least = min(each.values(), key=lambda interval: interval.low)
    return {
        **told,
        "examples": pair.examples,
        "hours": (pair.last - pair.first) / 3600,
        "agreement": least.estimate,
        "agreement_low": least.low,
        "agreement_high": least.high,
        **({f"agreement/{name}": own.estimate for name, own in each.items()} if len(each) > 1 else {}),
        **{f"{side}_p50_ms": 1000 * float(np.median(times)) for side, times in pair.times.items()},
    }


def compared(problem: Problem, ours: Array, theirs: Array) -> Array:
    """How far two agree on each example: a score `(n,)`; of values error, mean and mean square `(n, 3, targets)`.

    Those make an R² when it is known how far the champion's values are apart: `agreement`.
    """
    if problem in ("classification", "multilabel"):
        said = labels_of(ours) if problem == "multilabel" else by_class(ours).argmax(axis=-1)
        return example_scores(problem, said, theirs)
    each = (np.square(theirs.astype(np.float64) - ours), ours.astype(np.float64), np.square(ours.astype(np.float64)))
    last = ours.shape[-1] if problem == "regression" and ours.ndim > 1 else 1
    return np.stack([values.reshape(len(ours), -1, last).mean(axis=1) for values in each], axis=1)


def agreement(problem: Problem, scores: "Sequence[Any]") -> Interval:
    """The mean of what `compared` gave, with its interval."""
    values = np.array(scores)
    if problem in ("classification", "multilabel"):
        return mean_interval(values, share=bool(np.isin(values, (0, 1)).all()))
    error, mean, square = values[:, 0], values[:, 1].mean(axis=0), values[:, 2].mean(axis=0)
    return mean_interval(1 - error / np.maximum(square - mean**2, np.finfo(np.float32).tiny))


def _sentence(figures: dict[str, float]) -> str:
    told = f"{figures['requests']:,.0f} requests, {figures['failed']:,.0f} of them failed"
    if "agreement" not in figures:
        return told
    return (
        f"{told}; agreement {figures['agreement']:.2%} ({figures['agreement_low']:.2%} to "
        f"{figures['agreement_high']:.2%}); p50 {figures['candidate_p50_ms']:.3f} ms, champion "
        f"{figures['champion_p50_ms']:.3f} ms"
    )
