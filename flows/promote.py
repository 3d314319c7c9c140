"""Candidate to champion: compared, held to its budget, approved if asked for, moved as one transaction; and back."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run
from pydantic import BaseModel, Field

from flows import servers
from flows.budget import breaches
from flows.orphans import close_dead, say_process
from flows.recipe import Recipe
from flows.recipe_file import recipe_of
from flows.record import recorded
from flows.turn import machine_alone
from tasks.compare import compare_versions
from tasks.contract.artifact import EvidenceArtifact
from tasks.contract.errors import AliasesMoved, NotPromoted, VersionError
from tasks.contract.progress import listener
from tasks.contract.state_folder import alone, home
from tasks.evidence.comparison import Comparison, as_markdown, brought_up_to_date, open_comparison, worse
from tasks.smoke_test import smoke_test
from tasks.store import pages, registry, shadow_runs, tracking
from tasks.store.registry import CANDIDATE, CHAMPION, PREVIOUS, Registered
from tasks.store.resumed import made_before
from tasks.versions.registered import ELSEWHERE, open_registered
from tasks.versions.version import OpenVersion

ModelName = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
LEASE = 60  # seconds after which a shared lock is free again whose machine died; Prefect renews it while it lives
PATIENCE = 180  # seconds to wait for the lock: longer than a lease, and than another's smoke test
ONE_LINE = r"^[^\x00-\x1f\x7f]*$"

# The form's switch lies below the table, and out of sight; its button is below all of it.
HOW_TO_APPROVE = "To put it in service, switch **Approve** on, at the end of this page, and then resume."
# Of a run at a terminal, which no worker can go on with.
ONLY_HERE = "It waits at a terminal of {host}: an answer counts as long as that is open, and changes nothing later."


class Promotion(BaseModel, frozen=True):
    """How a promotion or a rollback ended, as `slimline promote --json` prints it."""

    name: str
    champion: int
    previous: int | None
    moved: bool = Field(description="Whether the aliases were moved; they are not if it was the champion already.")
    put_back: str = Field("", description="Whose unfinished move of the aliases was undone first.")
    approved_by: str = Field("", description="Who approved, as they call themselves; empty if nobody was asked.")
    note: str = Field("", description="What the person who approved wrote.")
    comparison: Comparison | None = Field(None, description="What was measured; none if nothing was.")
    flow_run_url: str
    mlflow_url: str = ""


class Approval(RunInput):
    """What a person decides of a promotion, seeing the comparison."""

    approve: bool = Field(False, description="Put the candidate in service.")
    approved_by: str = Field(
        "",
        max_length=200,
        pattern=ONE_LINE,
        description="Who you are; kept with the version. Prefect's own server knows no users: it keeps what is typed.",
    )
    note: str = Field("", max_length=1000, description="Why; kept with the version.")


class Shadowed(BaseModel, frozen=True, extra="forbid"):
    """What a candidate has to have been beside the champion before, where a server asked both; 0 hours ask nothing."""

    hours: float = Field(
        0,
        ge=0,
        le=8760,
        description="For how long it was asked beside the champion (slimline serve --shadow); 0 for not at all.",
        json_schema_extra={"position": 0},
    )
    agreement: float = Field(
        0.95,
        ge=0,
        le=1,
        description="How far both agree at least, at the low end of the interval; of values it is an R².",
        json_schema_extra={"position": 1},
    )


@flow(
    name="promote",
    flow_run_name="{name}@{candidate}",
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def promote(
    name: ModelName,
    candidate: str = CANDIDATE,
    approval_seconds: Annotated[int, Field(ge=0, le=604800)] = 0,
    shadowed: Shadowed = Shadowed(),  # noqa: B008  frozen
) -> Promotion:
    """Put a candidate in the champion's place, if it is not worse than it and keeps its budget here and now.

    Args:
        name: The registered model.
        candidate: Which version: its alias or its number.
        approval_seconds: How long to wait for a person to approve in the UI; nobody is asked if it is 0.
        shadowed: What servers have to have seen of it beside the champion.

    """
    undone = _put_back(name)
    compared = _compared()  # by this flow run, before it was suspended: what was compared then is what is approved
    version = _needed(name, str(compared.candidate) if compared else candidate)
    champion = registry.version_of(name, CHAMPION)
    against = compared.champion if compared else champion.version if champion else None
    if champion and champion.version == version.version:
        listener().note("promote", f"{version.uri} is the champion already: nothing to do")
        return _result(name, moved=False, put_back=undone)
    opened = open_registered(version.uri)
    recipe = recipe_of(opened)
    settings = {"name": name, "candidate": version.version, "champion": against, **recipe.promotion.model_dump()}
    with recorded("promotion", f"promote-{name}", settings) as run:
        if shadowed.hours:
            _check_shadow(version, against, shadowed)  # before anything is measured
        comparison = compared or _compare(version, against, recipe)
        _gate(opened, comparison, recipe)
        approval = _approved(comparison, approval_seconds) if approval_seconds else Approval()
        moves = {PREVIOUS: against, CHAMPION: version.version} if against else {CHAMPION: version.version}
        by = f"flow run {flow_run.name} {flow_run.ui_url}"
        with _alone(name), registry.moving(name, against, moves, by, _tags(run, approval)):
            smoke_test(name, CHAMPION, version.version)
        return _result(name, moved=True, put_back=undone, approval=approval, comparison=comparison, run=run)


@flow(name="rollback", flow_run_name="{name}", persist_result=True, result_serializer="json", on_running=[say_process])
def rollback(name: ModelName) -> Promotion:
    """Put the version that was champion before back in its place, and the champion in that one's: twice is nothing.

    Args:
        name: The registered model.

    """
    undone = _put_back(name)
    previous, champion = _needed(name, PREVIOUS), _needed(name, CHAMPION)
    settings = {"name": name, "champion": champion.version, "previous": previous.version}
    with recorded("rollback", f"rollback-{name}", settings) as run:
        moves = {CHAMPION: previous.version, PREVIOUS: champion.version}
        by = f"flow run {flow_run.name} {flow_run.ui_url}"
        approval = Approval(note=f"rolled back from version {champion.version}")
        with _alone(name), registry.moving(name, champion.version, moves, by, _tags(run, approval)):
            smoke_test(name, CHAMPION, previous.version)
        return _result(name, moved=True, put_back=undone, run=run)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """While the block lasts, no other flow run moves the aliases of this registered model.

    On one machine a locked file sees to it, which the system unlocks when its process ends, however it ends. Where the
    store is shared with other machines Prefect's server does too.

    Raises:
        AliasesMoved: another one is at it for too long.

    """
    limit = f"slimline-aliases-{name}"
    waits = partial(listener().note, "promote", "another flow run is moving the aliases, and this one waits for it")
    with ExitStack() as locks:
        try:
            locks.enter_context(alone(home() / "locks" / limit, waits, PATIENCE))
            if not tracking.is_local() and not servers.keep_the_store():
                with get_client(sync_client=True) as client:
                    client.upsert_global_concurrency_limit_by_name(limit, 1)
                locks.enter_context(concurrency(limit, timeout_seconds=PATIENCE, strict=True, lease_duration=LEASE))
        except TimeoutError as error:
            raise AliasesMoved(
                f"{name}: another flow run has been moving the aliases for {PATIENCE} s; nothing was changed here. "
                "Look for it in Prefect's UI"
            ) from error
        yield


def _put_back(name: str) -> str:
    """Undo what a promotion that died in the middle has left, also where nothing else is to do; says whose it was."""
    close_dead()
    with _alone(name):
        whose = registry.put_back(name)
    if whose:
        listener().note("promote", f"the aliases were put back: a move by {whose} had not come to its end")
    return whose


def _needed(name: str, which: str) -> Registered:
    version = registry.version_of(name, which)
    if version is None:
        aliases = ", ".join(f"{alias} is {version}" for alias, version in registry.aliases_of(name).items())
        raise VersionError(
            "candidate" if which not in (CHAMPION, PREVIOUS) else which,
            f"models:/{name}@{which}",
            f"there is no such version in {registry.place()}"
            + (f". Aliases of {name}: {aliases}" if aliases else f": {ELSEWHERE}"),
        )
    return version


def _compare(version: Registered, against: int | None, recipe: Recipe) -> Comparison:
    name = version.name
    with machine_alone("promote"):
        measured = compare_versions(name, version.version, against, recipe.data, recipe.validation, recipe.seed)
    return open_comparison(tracking.fetch(measured))


def _compared() -> Comparison | None:
    """What this flow run compared already, wherever that was; nothing if it has only begun."""
    made = made_before(str(flow_run.id), "compare", EvidenceArtifact)
    return open_comparison(tracking.fetch(made)) if made else None


def _check_shadow(version: Registered, against: int | None, asked: Shadowed) -> None:
    """Pass if servers asked the candidate beside the champion for so long, and it answered alike.

    Raises:
        NotPromoted: with a line for each reason.

    """
    if against is None:
        raise NotPromoted(
            f"{version.uri} does not become the champion: there is none that it could be compared with in service. "
            "Leave --shadowed out"
        )
    found = shadow_runs.covered(version.name, against, version.version)
    reasons = []
    if found.hours < asked.hours:
        reasons.append(f"it was asked beside version {against} for {found.hours:.3g} hours, not {asked.hours:g}")
    if found.failed:
        reasons.append(f"it failed to answer {found.failed:,} of {found.requests:,} requests")
    if found.requests and found.agreement_low < asked.agreement:
        low = f"{found.agreement_low:.2%} at the low end"
        reasons.append(f"its agreement with version {against} is {low}, not {asked.agreement:.2%}")
    if reasons:
        lines = "".join(f"\n- {reason}" for reason in reasons)
        raise NotPromoted(
            f"{version.uri} does not become the champion:{lines}\nServe both for longer: `slimline serve "
            f"models:/{version.name}@{CHAMPION} --shadow {version.uri}`. Or ask for less: --shadowed, --agreement"
        )


def _gate(version: OpenVersion, comparison: Comparison, recipe: Recipe) -> None:
    """Pass if the candidate is not worse than the champion and keeps its budget; the table goes to Prefect's page.

    Raises:
        NotPromoted: with a line for each reason.

    """
    reasons = worse(comparison, recipe.promotion)
    reasons += breaches(recipe.budget, brought_up_to_date(version.evidence, comparison))
    page = as_markdown(comparison)
    verdict = "".join(f"- {reason}\n" for reason in reasons) or "Not worse than the champion, and inside its budget.\n"
    create_markdown_artifact(
        f"{page}\n{verdict}", key="comparison", description=f"{comparison.name} {comparison.candidate}"
    )
    listener().page("promote", page if reasons else f"{page}\n{verdict}")  # what is refused ends with its reasons
    if reasons:
        lines = "".join(f"\n- {reason}" for reason in reasons)
        raise NotPromoted(f"{version.uri} does not become the champion:{lines}")


def _approved(comparison: Comparison, seconds: int) -> Approval:
    """What the person who approves says; the comparison is on the form.

    A flow run of a deployment is suspended meanwhile: its process ends, and any worker goes on with it when somebody
    has answered. One of a terminal waits in its own process.

    Raises:
        NotPromoted: nobody approved in time, or somebody did not approve.

    """
    how = HOW_TO_APPROVE if deployment.id else f"{HOW_TO_APPROVE} {ONLY_HERE.format(host=socket.gethostname())}"
    form = Approval.with_initial_data(description=f"{how}\n\n{as_markdown(comparison)}")
    try:
        if deployment.id:
            pair = f"{comparison.candidate}-{comparison.champion or 0}"  # an answer counts for no other; Prefect takes
            # digits, dashes and lower-case letters alone, and says otherwise when the run is suspended already
            answer = suspend_flow_run(wait_for_input=form, timeout=seconds, key=pair)
        else:
            answer = pause_flow_run(wait_for_input=form, timeout=seconds, poll_interval=2)
    except FlowPauseTimeout as error:
        raise NotPromoted(
            f"version {comparison.candidate} does not become the champion: nobody approved it within {seconds} s"
        ) from error
    if not answer.approve:
        raise NotPromoted(
            f"version {comparison.candidate} does not become the champion: not approved"
            f"{f' by {who}' if (who := answer.approved_by.strip()) else ''}. {answer.note}".strip()
        )
    return answer


def _tags(run: str, approval: Approval) -> dict[str, str]:
    """What a version tells of how it became the champion; what is empty replaces what an earlier time said."""
    return {
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "promoted_by": str(flow_run.ui_url),
        "promoted_run": run,
        "promoted_note": approval.note,
        "approved_by": approval.approved_by.strip(),
    }


def _result(
    name: str,
    *,
    moved: bool,
    put_back: str,
    approval: Approval | None = None,
    comparison: Comparison | None = None,
    run: str = "",
) -> Promotion:
    aliases = registry.aliases_of(name)
    result = Promotion(
        name=name,
        champion=aliases[CHAMPION],
        previous=aliases.get(PREVIOUS),
        moved=moved,
        put_back=put_back,
        approved_by=approval.approved_by.strip() if approval else "",
        note=approval.note if approval else "",
        comparison=comparison,
        flow_run_url=str(flow_run.ui_url),
        mlflow_url=pages.ui_url(run) if run else "",
    )
    lines = [
        f"# {name}: version {result.champion} is the champion",
        f"It was {'put there now' if moved else 'the champion already'}; previous is {result.previous or 'none'}.",
        f"[The version]({pages.version_url(name, result.champion)})"
        + (f" · [MLflow run]({result.mlflow_url})" if run else ""),
    ]
    create_markdown_artifact("\n\n".join(lines), key="champion", description=f"models:/{name}@{CHAMPION}")
    return result
