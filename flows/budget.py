"""The budget compared with the evidence: which limits are kept, by how much others are missed, and what to turn."""

from collections.abc import Callable
from typing import Protocol

from pydantic import BaseModel

from tasks.contract.budget import Budget
from tasks.contract.errors import BudgetNotKept
from tasks.evidence.evidence import Evidence, FileEvidence
from tasks.measuring.intervals import Interval
from tasks.measuring.scores import good_enough

WORSE = {False: "below", True: "above"}  # by whether less of a metric is better
SMALLER = "Narrow the student (student.width), remove channels (prune.method: channels)"


class Presented(Protocol):
    """What was shown to people of a compression."""

    @property
    def evidence(self) -> str:
        """Where the page about it is."""


def hold(budget: Budget, floor: float, evidence: Evidence, present: Callable[[], Presented]) -> None:
    """Pass if the budget is kept, and the teacher is worth keeping up with.

    Args:
        budget: the limits.
        floor: the teacher's own.
        evidence: what was measured.
        present: called where a limit is missed; shows all that was measured, as somebody will want to know.

    Raises:
        BudgetNotKept: with a line for each limit: by how much, and which knob to turn; and with what was presented.

    """
    broken = [*_floors(floor, evidence), *breaches(budget, evidence)]
    if broken:
        broken += _none_inside(evidence)
        lines = "".join(f"\n- {line}" for line in broken)
        shown = present()
        message = f"not registered, the budget is not kept:{lines}\nThe evidence: {shown.evidence}"
        raise BudgetNotKept(message, shown)


class LimitLine(BaseModel, frozen=True):
    """A limit that the recipe sets, beside what was measured."""

    field: str
    limit: str
    measured: str
    kept: bool


def limits(budget: Budget, floor: float, evidence: Evidence) -> list[LimitLine]:
    """Every limit that a version must keep, the teacher's floor among them."""
    broken = [*_floors(floor, evidence), *breaches(budget, evidence)]
    shipped = [file for file in evidence.files if file.shipped]
    first, teacher = shipped[0], evidence.teacher(shipped[0].target)
    apart = sum(file.audit.everywhere is False for file in shipped)
    rows = [
        ("max_size_bytes", f"{budget.max_size_bytes:,}", f"{first.size_bytes:,}"),
        ("min_size_ratio", f"{budget.min_size_ratio:g}", f"{teacher.size_bytes / first.size_bytes:.2f}"),
        ("max_latency_ms", f"{budget.max_latency_ms:g}", f"{first.latency.p50 * 1000:.4f}"),
        ("min_speedup", f"{budget.min_speedup:g}", f"{first.speedup.low:.2f}"),
        ("min_integer_share", f"{budget.min_integer_share:g}", f"{first.integer_share:.3f}"),
        ("every_processor", "true", f"{apart} of {len(shipped)} files differ" if apart else "the same"),
    ]
    table = [line for of_head in evidence.by_head.values() for line in _of_head(budget, floor, of_head)]
    # 0 sets no limit, but for a drop, where it allows none
    table += [(f"budget.{name}", limit, measured) for name, limit, measured in rows if getattr(budget, name)]
    return [
        LimitLine(field=field, limit=limit, measured=measured, kept=not any(line.startswith(field) for line in broken))
        for field, limit, measured in table
    ]


def _of_head(budget: Budget, floor: float, evidence: Evidence) -> list[tuple[str, str, str]]:
    """The limits of one output's metric, beside what was measured."""
    name, limit = budget.accuracy_of(evidence.name)
    worst = max(file.drop.high for file in evidence.files if file.shipped)
    line = (_called(f"budget.{name}", evidence), f"{limit:g}", f"{worst:.4f}")
    if evidence.reference is None:
        return [line]
    least = f"{floor:g}" if floor else f"{WORSE[not evidence.lower_is_better]} {evidence.reference.guessing:.4f}"
    return [(_called("teacher.floor", evidence), least, f"{_worst(evidence)[1].estimate:.4f}"), line]


def _called(setting: str, evidence: Evidence) -> str:
    """A setting that every output has to keep, with the output that it is asked of."""
    named = not evidence.name or setting.endswith(f".{evidence.name}")
    return setting if named else f"{setting} ({evidence.name})"


def breaches(budget: Budget, evidence: Evidence) -> list[str]:
    """Every limit that the evidence does not keep: which, by how much, and which knob to turn."""
    shipped = [file for file in evidence.files if file.shipped]
    first, teacher = shipped[0], evidence.teacher(shipped[0].target)
    breaches = [
        _accuracy(budget, file, of_head)
        for of_head in evidence.by_head.values()
        for file in of_head.files
        if file.shipped
    ]
    breaches += [_everywhere(budget, file) for file in shipped]
    breaches += [_size(budget, first, teacher), _latency(budget, first), _integers(budget, first)]
    return [breach for each in breaches for breach in each]


def _none_inside(evidence: Evidence) -> list[str]:
    """Of targets for which several ways were tried, those for which none is inside the budget."""
    return [
        f"none of the ways that were tried for {row.target} was inside the budget on the validation split: "
        f"{row.nearest}"
        for row in evidence.tried
        if row.chosen and not row.inside
    ]


def _floors(floor: float, evidence: Evidence) -> list[str]:
    """A teacher that only guesses is kept up with by anything; of several outputs the floor is the first one's."""
    heads = evidence.by_head.values()
    return [line for number, head in enumerate(heads) for line in _floor(min(floor, 0) if number else floor, head)]


def _floor(floor: float, evidence: Evidence) -> list[str]:
    reference = evidence.reference
    if reference is None:
        return []
    name, worst = _worst(evidence)
    score, of = worst.estimate, f" of {name}" if name else ""
    if good_enough(score, floor, reference.guessing, lower=evidence.lower_is_better):
        return []
    least = f"{floor:g}" if floor else f"better than guessing, {reference.guessing:.4f}"
    return [
        f"{_called('teacher.floor', evidence)}: the teacher's {evidence.score}{of} is {score:.4f} on the test split, "
        f"and is to be {least}. Train it longer (teacher.fit.epochs) or otherwise (teacher.fit.learning_rate), look at "
        "the data, or set teacher.floor to what is enough, or to -1"
    ]


def _worst(evidence: Evidence) -> tuple[str, Interval]:
    """The teacher's score; of several targets that of the worst, with its name."""
    reference = evidence.reference
    assert reference is not None
    worst = max if evidence.lower_is_better else min
    return worst([("", reference.accuracy), *reference.targets.items()], key=lambda each: each[1].estimate)


def _accuracy(budget: Budget, file: FileEvidence, evidence: Evidence) -> list[str]:
    drop, (field, limit) = file.drop, budget.accuracy_of(evidence.name)
    if drop.high <= limit:
        return []
    return [
        f"{_called(f'budget.{field}', evidence)} = {limit:g}: the {file.target} file's {evidence.score} may be "
        f"{drop.high:.4f} {WORSE[evidence.lower_is_better]} the teacher's (measured {drop.estimate:.4f}, interval "
        f"{drop.low:.4f} to {drop.high:.4f}). "
        "Train or distill longer (distill.fit.epochs), prune less (prune.sparsity), widen the student (student.width), "
        "or measure on more test examples (data.test)"
    ]


def _size(budget: Budget, file: FileEvidence, teacher: FileEvidence) -> list[str]:
    ratio = teacher.size_bytes / file.size_bytes
    way_out = f"{SMALLER} or quantize (quantize.method)"
    breaches = []
    if 0 < budget.max_size_bytes < file.size_bytes:
        breaches.append(
            f"budget.max_size_bytes = {budget.max_size_bytes}: the {file.target} file has "
            f"{file.size_bytes:,} bytes. {way_out}"
        )
    if ratio < budget.min_size_ratio:
        breaches.append(
            f"budget.min_size_ratio = {budget.min_size_ratio:g}: the {file.target} file ({file.size_bytes:,} bytes) is "
            f"{ratio:.2f} times smaller than the teacher's ({teacher.size_bytes:,}). {way_out}"
        )
    return breaches


def _latency(budget: Budget, file: FileEvidence) -> list[str]:
    way_out = f"{SMALLER} or try another quantize.method"
    milliseconds, speedup = file.latency.p50 * 1000, file.speedup
    breaches = []
    if 0 < budget.max_latency_ms < milliseconds:
        breaches.append(
            f"budget.max_latency_ms = {budget.max_latency_ms:g}: the {file.target} file's median is "
            f"{milliseconds:.4f} ms. {way_out}"
        )
    if speedup.low < budget.min_speedup:
        breaches.append(
            f"budget.min_speedup = {budget.min_speedup:g}: the {file.target} file may be only "
            f"{speedup.low:.2f} times as fast as the teacher's (measured {speedup.estimate:.2f}). {way_out}"
        )
    return breaches


def _integers(budget: Budget, file: FileEvidence) -> list[str]:
    if file.integer_share >= budget.min_integer_share:
        return []
    in_float = ", ".join(layer.name for layer in file.audit.in_float[:5])
    return [
        f"budget.min_integer_share = {budget.min_integer_share:g}: {file.integer_share:.3f} of the {file.target} "
        f"file's multiply-accumulates run in integer kernels; in float run {in_float}. Set quantize.method to training "
        "or post_training"
    ]


def _everywhere(budget: Budget, file: FileEvidence) -> list[str]:
    """What was not looked at, as in evidence of before, breaks nothing."""
    if not budget.every_processor or file.audit.everywhere is not False:
        return []
    return [
        f"budget.every_processor = true: the {file.target} file answers otherwise on other processors: "
        f"{file.audit.apart_in_words}. Quantize it again with this Slimline (quantize.method: training or "
        "post_training), whose files do not; or set budget.every_processor: false, and serve it on processors like "
        "this one"
        + (
            ", or with Slimline's server, which opens it with unsigned weights where it can saturate, right and slower"
            if file.audit.saturating
            else ""
        )
    ]
