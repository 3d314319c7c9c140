"""What nobody needs any more, and its removal: old runs and their artifacts, answers, checkpoints, flow runs.

A run goes if no registered version, no promotion or rollback and no run that is young needs it: tasks/store/needed.py.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from pydantic import BaseModel, Field

from flows import embedded, servers
from tasks.contract.errors import OptionWrong
from tasks.contract.progress import listener
from tasks.contract.state_folder import alone, home
from tasks.store import database, left_files, registry, removal, tracking
from tasks.store.left_files import LeftFile
from tasks.store.needed import KeptRun, sorted_out

KEEP_DAYS = "SLIMLINE_GC_KEEP_DAYS"
DEFAULT_DAYS = 30.0
DAY = 24 * 60 * 60  # seconds
ENDED = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
PAGE = 200  # flow runs that Prefect gives at once, at most


class Unneeded(BaseModel, frozen=True):
    """One thing that may go."""

    kind: str = Field(description="What it is, in a word: compression, monitoring, stage, answers, checkpoint, …")
    name: str
    id: str = Field(description="Of the run or flow run; the file's path.")
    bytes: int = Field(description="Of its files; 0 for what is in a database.")
    last: datetime = Field(description="When it ended, or was used last.")
    why: str
    removed: bool = Field(description="Whether it is gone now.")


class Collected(BaseModel, frozen=True):
    """What `slimline gc` found, as `--json` prints it."""

    store: str
    keep_days: float
    deleted: bool = Field(description="Whether it was to be removed; else it was only looked at.")
    unneeded: list[Unneeded]
    kept: int = Field(description="Runs in MLflow that stay.")
    bytes: int = Field(description="Of all that may go, or of all that is gone.")
    notes: list[str]


@dataclass(frozen=True)
class _Item:
    """Something that may go, and how it goes: false if it is needed by now."""

    kind: str
    name: str
    id: str
    size: int
    last: float
    why: str
    remove: Callable[[], bool]


def keep_days(option: float | None) -> float:
    """How many days everything stays: as the option says, else the environment, else 30.

    Raises:
        OptionWrong: it is no number of days.

    """
    text = str(option) if option is not None else os.environ.get(KEEP_DAYS) or str(DEFAULT_DAYS)
    field = "--keep-days" if option is not None else KEEP_DAYS
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days <= 36_500:
        raise OptionWrong(field, text, "has to be a number of days from 0 to 36500, such as 30 or 0.5")
    return days


def collect(days: float, *, delete: bool, strays: bool = False) -> Collected:
    """Look for what nobody needs, and remove it if asked to.

    Args:
        days: what was made or used in so many days stays, whatever it is.
        delete: whether it goes; else nothing is changed.
        strays: whether files are among it that this database has no entry of.

    Raises:
        StoreError: the store does not let us remove something.

    """
    now = time.time()
    with get_client(sync_client=True) as client:
        if not delete:
            items, kept, notes = _looked_for(client, now, now - days * DAY, strays=strays)
            return _collected(days, items, kept, notes, gone=None)
        waits = partial(listener().note, "gc", "another one removes what is not needed, and this one waits for it")
        with alone(home() / "locks" / "gc.lock", waits):
            items, kept, notes = _looked_for(client, now, now - days * DAY, strays=strays)
            size = sum(item.size for item in items)
            listener().note("gc", f"removing {len(items):,} things of {size / 1e6:,.2f} MB")
            gone = [item.remove() for item in items]
            return _collected(days, items, kept, [*notes, *_give_back()], gone)


def _looked_for(
    client: SyncPrefectClient, now: float, since: float, *, strays: bool
) -> tuple[list[_Item], list[KeptRun], list[str]]:
    """What may go, the runs that stay, and what a person should know."""
    go, stay = sorted_out(since)
    items, notes = list(_runs(go, stay, now)), []
    named = registry.named_ids() | {run.flow_run for run in stay}
    items += [_flow_run(client, run, now) for run in _old_flow_runs(client, since) if str(run.id) not in named]
    unfinished = min([since, *_begun(client)])
    for kind, why, found in (
        ("answers", "no training has read them for {}", left_files.answers(since)),
        ("checkpoint", "nothing has gone on from it for {}", left_files.checkpoints(since)),
        ("result", "Prefect's, of a flow run that ended {} ago", left_files.results(_storage(), unfinished)),
    ):
        items += [_file(kind, why, left, now) for left in found]
    lost = left_files.strays(database.entries(home() / "mlflow.db"), since) if _is_ours() else []
    if strays:
        items += [_file("stray", "no run or model of this database has it, for {}", left, now) for left in lost]
    elif lost:
        size = sum(left.size for left in lost)
        notes.append(
            f"{len(lost)} folders among the artifacts ({size / 1e6:,.1f} MB) are of no run in {registry.place()}. "
            "Where no other database has its artifacts here, `slimline gc --strays` shows them, and --delete with it "
            "removes them"
        )
    return items, stay, notes


def _runs(go: Sequence[KeptRun], stay: Sequence[KeptRun], now: float) -> Iterator[_Item]:
    """The runs that go, each under the name of what it is a stage of."""
    flows = {run.run: run for run in (*go, *stay)}
    for run in sorted(go, key=lambda run: run.last):
        size = removal.size(run)
        if run.deleted and not size and not tracking.is_local():
            continue  # gone, but for an entry in a database that only its server opens
        flow = flows.get(run.parent, run)
        ended = {"FINISHED": "finished", "FAILED": "failed"}.get(run.status, "was stopped")
        why = f"{ended} {_days(now - run.last)} ago" if not run.used else f"was used last {_days(now - run.last)} ago"
        why += ", and was deleted in MLflow" if run.deleted else ""
        yield _Item(flow.role, flow.name, run.run, size, run.last, why, partial(removal.remove, run))


def _flow_run(client: SyncPrefectClient, run: FlowRun, now: float) -> _Item:
    last = run.end_time.timestamp() if run.end_time else 0

    def remove() -> bool:
        with contextlib.suppress(ObjectNotFound):
            if client.read_flow_run(run.id).end_time == run.end_time:  # else it was retried meanwhile
                client.delete_flow_run(run.id)
                return True
        return False

    return _Item("flow run", run.name, str(run.id), 0, last, f"ended {_days(now - last)} ago", remove)


def _file(kind: str, why: str, left: LeftFile, now: float) -> _Item:
    last = _days(now - left.last)
    remove = partial(left_files.remove, left)
    return _Item(kind, left.place.name[:12], str(left.place), left.size, left.last, why.format(last), remove)


def _old_flow_runs(client: SyncPrefectClient, since: float) -> list[FlowRun]:
    """The flow runs of ours that ended before that."""
    before = FlowRunFilterEndTime(before_=datetime.fromtimestamp(since, UTC))
    return _flow_runs(client, FlowRunFilter(end_time=before, state=_in(ENDED)))


def _begun(client: SyncPrefectClient) -> list[float]:
    """When each flow run began that is not over: it may still be retried from what it has written down."""
    others = [state for state in StateType if state not in ENDED]
    runs = _flow_runs(client, FlowRunFilter(state=_in(others)))
    return [run.start_time.timestamp() for run in runs if run.start_time]


def _flow_runs(client: SyncPrefectClient, which: FlowRunFilter) -> list[FlowRun]:
    ours = FlowFilter(name=FlowFilterName(any_=servers.FLOWS))
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(flow_filter=ours, flow_run_filter=which, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found


def _in(states: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=states))


def _storage() -> Path:
    return Path(PREFECT_LOCAL_STORAGE_PATH.value())


def _is_ours() -> bool:
    """Whether the store is the database in the state folder, whoever has it open."""
    return tracking.tracking_uri() == f"sqlite:///{home() / 'mlflow.db'}" or servers.keep_the_store()


def _give_back() -> list[str]:
    """Give the databases' free pages back to the disk, if nobody is at work: it locks them for a moment."""
    files = [home() / "mlflow.db"] if _is_ours() else []
    own = embedded.own_database()
    files += [own] if own is not None and own.is_file() else []
    note = "another run is at work: the databases' files become smaller when `slimline gc --delete` meets none"
    try:
        with alone(home() / "locks" / "machine.lock", lambda: None, patience=0):
            given = [database.give_back(file) for file in files]  # each of them: no `all` that stops at the first
            return [] if all(given) else [note]
    except TimeoutError:
        return [note]


def _collected(
    days: float, items: Sequence[_Item], kept: Sequence[KeptRun], notes: list[str], gone: list[bool] | None
) -> Collected:
    removed = gone or [False] * len(items)
    counted = [item.size for item, is_gone in zip(items, removed, strict=True) if is_gone or gone is None]
    return Collected(
        store=registry.place(),
        keep_days=days,
        deleted=gone is not None,
        unneeded=[
            Unneeded(
                kind=item.kind,
                name=item.name,
                id=item.id,
                bytes=item.size,
                last=datetime.fromtimestamp(item.last, UTC),
                why=item.why,
                removed=is_gone,
            )
            for item, is_gone in zip(items, removed, strict=True)
        ],
        kept=len(kept),
        bytes=sum(counted),
        notes=notes,
    )


def _days(seconds: float) -> str:
    days = int(seconds // DAY)
    return f"{days} day{'' if days == 1 else 's'}"
