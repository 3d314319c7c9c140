"""Promotions that wait for a person: at a terminal, and in a worker, which they do not keep."""

import contextvars
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from command_line import ROOT
from registered import versions
from servers import BIN, until

from tasks.contract.errors import NotPromoted

GOOD, ALSO_GOOD = 1, 2


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store, {"seed": 1}, {"seed": 2}):
        yield home


@pytest.fixture
def aliases(home):
    """The registry as it is before each test: the first version serves."""
    from tasks.store import registry

    for alias, version in {registry.CHAMPION: GOOD, registry.PREVIOUS: None, registry.CANDIDATE: ALSO_GOOD}.items():
        registry.set_alias("tiny", alias, version)


def where() -> dict[str, int]:
    from tasks.store import registry

    return {name: version for name, version in registry.aliases_of("tiny").items() if name != registry.CANDIDATE}


def waiting(count: int = 1) -> list:
    """The flow runs that wait for a person, as soon as there are so many."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType

    paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
    with get_client(sync_client=True) as client:
        for _ in range(900):
            runs = client.read_flow_runs(flow_run_filter=paused)
            if len(runs) == count:
                return runs
            time.sleep(0.1)
    raise AssertionError("nobody is asked")


def decide(run, **decision: object) -> str:
    """What a person does at the form; gives what it showed."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        shown = client.read_flow_run_input(run.id, run.state.state_details.run_input_keyset["description"])
        resumed = client.resume_flow_run(run.id, run_input=decision)
        assert resumed.status == "ACCEPT", resumed
    return json.loads(shown)


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(aliases):
    """Two processes, as two workers would be; both have compared with the first version when they go on."""
    program = (
        "import sys\n"
        "from flows.promote import promote\n"
        "from tasks.contract.errors import SlimlineError\n"
        "try:\n"
        "    print('won', promote('tiny', candidate=sys.argv[1], approval_seconds=120).champion)\n"
        "except SlimlineError as error:\n"
        "    print('lost', type(error).__name__, error)\n"
    )

    def run(version: int) -> str:
        command = [sys.executable, "-c", program, str(version)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True).stdout

    with ThreadPoolExecutor() as pool:
        results = [pool.submit(run, version) for version in (ALSO_GOOD, ALSO_GOOD)]
        for each in waiting(2):
            decide(each, approve=True)
        lost, won = sorted(result.result() for result in results)
    assert won.startswith("won"), (lost, won)
    assert lost.startswith("lost AliasesMoved tiny: the champion is no longer version 1 but version"), lost
    assert "moved meanwhile by flow run tiny@2 http" in lost
    assert where() == {"champion": ALSO_GOOD, "previous": GOOD}


@pytest.mark.parametrize("approve", [True, False])
def test_a_person_decides_with_the_comparison_on_the_form(aliases, approve):
    from flows.promote import promote
    from tasks.store import registry

    with ThreadPoolExecutor() as pool:
        here = contextvars.copy_context()  # Prefect's settings are in it
        person = pool.submit(here.run, lambda: decide(waiting()[0], approve=approve, approved_by="Ada ", note="seen"))
        if approve:
            result = promote("tiny", approval_seconds=120)
            assert (result.approved_by, result.note) == ("Ada", "seen")
            tags = registry.version_of("tiny", ALSO_GOOD).tags
            assert (tags["approved_by"], tags["promoted_note"]) == ("Ada", "seen")
        else:
            with pytest.raises(NotPromoted, match=r"not approved by Ada\. seen"):
                promote("tiny", approval_seconds=120)
    assert where() == ({"champion": ALSO_GOOD, "previous": GOOD} if approve else {"champion": GOOD})
    assert "tiny version 2** against version 1, the champion" in person.result()


@pytest.mark.slow
def test_who_approved_once_has_not_approved_the_next_time(aliases):
    from flows.promote import promote
    from tasks.store import registry

    registry.tag_version("tiny", ALSO_GOOD, {"approved_by": "Ada", "promoted_note": "seen"})
    assert promote("tiny").moved
    tags = registry.version_of("tiny", ALSO_GOOD).tags
    assert (tags["approved_by"], tags["promoted_note"]) == ("", "")


def test_a_name_is_one_line():
    from pydantic import ValidationError

    from flows.promote import Approval

    assert Approval(approved_by="Ada Łovelace <b>").approved_by == "Ada Łovelace <b>"
    for name in ("Ada\nApproved-By: Eve", "\x1b[31mAda", "A" * 201):
        with pytest.raises(ValidationError):
            Approval(approved_by=name)


def test_nobody_approves_in_time(aliases):
    from flows.promote import promote

    with pytest.raises(NotPromoted, match="nobody approved it within 2 s"):
        promote("tiny", approval_seconds=2)
    assert where() == {"champion": GOOD}


@pytest.mark.slow
def test_an_approval_that_comes_when_the_terminal_is_gone_moves_nothing_and_is_closed(aliases):
    """Nobody could go on with it: Prefect takes the answer, and would show the run as running for ever."""
    from prefect.client.orchestration import get_client

    from flows.orphans import close_dead
    from tasks.store import tracking

    program = "from flows.promote import promote; promote('tiny', approval_seconds=600)"
    died = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    [run] = waiting()
    with get_client(sync_client=True) as client:  # the form is written behind the state that waits for it
        until(lambda: client.read_flow_run_input(run.id, run.state.state_details.run_input_keyset["description"]), 60)
    died.kill()
    died.wait()
    assert f"at a terminal of {socket.gethostname()}: an answer counts as long as that is open" in decide(
        run, approve=True
    )
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run.id).state.name == "Running"
        close_dead()  # as every flow run's first step
        assert client.read_flow_run(run.id).state.name == "Crashed"
    assert tracking.client().get_run(tracking.run_of_flow(str(run.id))).info.status == "KILLED"
    assert where() == {"champion": GOOD}


@pytest.fixture(scope="module")
def installed(prefect_server):
    from flows.install import install

    install()


def scheduled(deployment: str, parameters: dict):
    """A flow run as the UI's button makes it."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        return client.create_flow_run_from_deployment(found.id, parameters=parameters)


def worked_off(run, home, machine) -> str:
    """The state of a flow run after a worker's process had it, on a machine whose own results nobody else sees."""
    from prefect.client.orchestration import get_client

    environment = {**os.environ, "SLIMLINE_HOME": str(home), "PREFECT_HOME": str(machine)}
    command = [str(BIN / "prefect"), "flow-run", "execute", str(run.id)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    return f"{state.name}\n{done.stdout}{done.stderr}"


def test_one_of_a_worker_is_suspended_and_another_machine_goes_on_when_a_person_has_answered(
    aliases, installed, home, tmp_path
):
    from prefect.client.orchestration import get_client

    from flows.orphans import close_dead, crash_orphans
    from tasks.store import registry, tracking
    from tasks.store.stage_runs import stages_of

    run = scheduled("promote/registered", {"name": "tiny", "approval_seconds": 600})
    assert worked_off(run, home, tmp_path / "one").startswith("Suspended")  # and its process is gone
    registry.set_alias("tiny", registry.CANDIDATE, GOOD)  # what was compared is what is approved, whatever came since
    assert run.id not in [orphan.id for orphan in crash_orphans()]
    close_dead()
    parent = tracking.run_of_flow(str(run.id))
    assert tracking.client().get_run(parent).info.status == "SCHEDULED"
    with get_client(sync_client=True) as client:
        decide(client.read_flow_run(run.id), approve=True, note="from another machine")
    ended = worked_off(run, home, tmp_path / "two")
    assert ended.startswith("Completed"), ended
    assert where() == {"champion": ALSO_GOOD, "previous": GOOD}
    assert registry.version_of("tiny", ALSO_GOOD).tags["promoted_note"] == "from another machine"
    assert tracking.client().get_run(parent).info.status == "FINISHED"
    assert [stage.stage for stage in stages_of(parent)] == ["compare", "smoke"], "measured once"


@pytest.mark.slow
def test_what_nobody_answered_in_time_is_closed_by_the_next_command(aliases, installed, home, tmp_path):
    from prefect.client.orchestration import get_client
    from prefect.states import Failed

    from flows.orphans import close_dead
    from tasks.store import registry, tracking

    registry.set_alias("tiny", registry.CHAMPION, None)  # the first promotion of all
    run = scheduled("promote/registered", {"name": "tiny", "approval_seconds": 600})
    assert worked_off(run, home, tmp_path).startswith("Suspended")
    with get_client(sync_client=True) as client:
        asked = client.read_flow_run(run.id).state.state_details.run_input_keyset
        assert "There is no champion" in client.read_flow_run_input(run.id, asked["description"])
        assert client.read_flow_run_input(run.id, asked["schema"])
        # as Prefect's server does when the time is over
        client.set_flow_run_state(run.id, Failed(message="The flow was paused and never resumed."), force=True)
    close_dead()
    assert tracking.client().get_run(tracking.run_of_flow(str(run.id))).info.status == "KILLED"
