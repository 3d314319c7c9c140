"""Promotion and rollback of real versions, in a real registry, by real flow runs."""

import contextvars
import io
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT
from registered import versions
from rich.console import Console

from tasks.contract.errors import AliasesMoved, NotPromoted, SmokeTestFailed, VersionError

GOOD, ALSO_GOOD, POOR, OTHER_DATA = 1, 2, 3, 4


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    """Four registered versions: two that learned, one that hardly did, and one that learned other data."""
    home = tmp_path_factory.mktemp("state")
    poor = {"teacher": {"model": "cnn", "width": 0.25, "fit": {"epochs": 1, "batch_size": 256}, "floor": -1}}
    other = {"data": {"reader": "digits", "limit": 500, "test": 0.25}}
    with versions(home, empty_store, {"seed": 1}, {"seed": 2}, {"seed": 3, **poor}, {"seed": 4, **other}):
        yield home


@pytest.fixture
def aliases(home):
    """The registry as it is before each test: the first version serves."""
    from tasks.store import registry

    def reset(**where: int | None) -> None:
        for alias in (registry.CHAMPION, registry.PREVIOUS, registry.CANDIDATE):
            registry.set_alias("tiny", alias, where.get(alias))

    reset(champion=GOOD, candidate=ALSO_GOOD)
    return reset


@pytest.fixture
def terminal():
    """What `slimline promote` prints into a file while it is at work."""
    from flows.display import Display
    from tasks.contract.progress import listen, listener

    before, file = listener(), io.StringIO()
    listen(Display(Console(file=file, width=200)))
    yield file
    listen(before)


def where() -> dict[str, int]:
    from tasks.store import registry

    return {name: version for name, version in registry.aliases_of("tiny").items() if name != registry.CANDIDATE}


def page(key: str) -> str:
    """The newest of Prefect's artifacts with a key."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        pages = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
        )
    return str(pages[0].data)


def test_a_candidate_that_is_not_worse_becomes_the_champion(aliases, terminal):
    from flows.promote import promote
    from tasks.store import registry, tracking

    result = promote("tiny")
    assert (result.champion, result.previous, result.moved) == (ALSO_GOOD, GOOD, True)
    assert where() == {"champion": ALSO_GOOD, "previous": GOOD}
    assert "Not worse than the champion, and inside its budget." in page("comparison")
    assert page("comparison") in terminal.getvalue(), "what a person sees at the terminal is the same page"
    assert f"| size | {result.comparison.pairs[0].champion.size_bytes / 1024:,.1f} KiB | " in terminal.getvalue()
    tags = registry.version_of("tiny", ALSO_GOOD).tags
    assert tags["promoted_by"] == result.flow_run_url
    parent = tracking.client().get_run(tags["promoted_run"])
    assert (parent.info.status, parent.data.tags["slimline.role"]) == ("FINISHED", "promotion")
    assert [stage.stage for stage in tracking.stages_of(tags["promoted_run"])] == ["compare", "smoke"]
    assert registry.MOVING not in tracking.client().get_registered_model("tiny").tags


def test_the_comparison_holds_what_was_measured_on_the_same_examples(aliases):
    from flows.promote import promote
    from tasks.evidence.comparison import open_comparison
    from tasks.store import tracking

    run = promote("tiny").mlflow_url.rpartition("/")[2]
    stage = tracking.stages_of(run)[0]
    comparison = open_comparison(tracking.download(f"runs:/{stage.run}/comparison"))
    (pair,) = comparison.pairs
    assert (comparison.champion, comparison.candidate, comparison.examples) == (GOOD, ALSO_GOOD, 150)
    measured = pair.champion.accuracy.estimate - pair.candidate.accuracy.estimate
    assert pair.drop.estimate == pytest.approx(measured, abs=1e-5)
    assert pair.drop.low < pair.drop.estimate < pair.drop.high
    assert pair.speedup.estimate == pytest.approx(pair.champion.latency.p50 / pair.candidate.latency.p50, rel=1e-4)
    for number, side in ((GOOD, pair.champion), (ALSO_GOOD, pair.candidate)):
        recorded = tracking.client().get_model_version("tiny", str(number)).tags
        assert f"{side.accuracy.estimate:.4f}" == recorded["accuracy"]  # the same files on the same data
        assert str(side.size_bytes) == recorded["size_bytes"]


def test_a_worse_candidate_stays_one(aliases, terminal):
    from flows.promote import promote

    reason = r"promote\.tolerance = 0\.15: the onnxruntime file's accuracy may be"
    with pytest.raises(NotPromoted, match=reason):
        promote("tiny", candidate=str(POOR))
    assert "| onnxruntime | 1 (float32) | 3 (float32) | candidate's |" in terminal.getvalue(), "the figures, too"
    assert not re.search(reason, terminal.getvalue()), "the error says it, once"
    assert where() == {"champion": GOOD}
    assert "below the champion's" in page("comparison")


def test_without_a_champion_the_budget_alone_decides(aliases):
    from flows.promote import promote

    aliases(candidate=POOR)
    result = promote("tiny")
    assert (result.champion, result.previous) == (POOR, None)
    assert "There is no champion: the candidate has only its budget to keep." in page("comparison")


def test_the_champion_is_not_promoted_again(aliases):
    from flows.promote import promote

    assert not promote("tiny", candidate=str(GOOD)).moved
    assert where() == {"champion": GOOD}


def test_a_champion_of_other_data_is_compared_and_said_to_be_flattered(aliases):
    from flows.promote import promote

    aliases(champion=OTHER_DATA)
    assert promote("tiny", candidate=str(GOOD)).champion == GOOD
    assert "some of these test examples may have been among those that it was trained on" in page("comparison")


def test_rolling_back_twice_is_nothing(aliases):
    from flows.promote import rollback

    aliases(champion=ALSO_GOOD, previous=GOOD)
    assert rollback("tiny").champion == GOOD
    assert where() == {"champion": GOOD, "previous": ALSO_GOOD}
    assert rollback("tiny").champion == ALSO_GOOD
    assert where() == {"champion": ALSO_GOOD, "previous": GOOD}


@pytest.mark.parametrize("field", ["candidate", "previous", "nobody"])
def test_what_is_not_there_is_named(aliases, field):
    from flows.promote import promote, rollback

    aliases(champion=GOOD)
    call = {
        "candidate": lambda: promote("tiny"),
        "previous": lambda: rollback("tiny"),
        "nobody": lambda: promote("nobody"),
    }[field]
    with pytest.raises(VersionError, match="Aliases of tiny: champion is 1" if field != "nobody" else "Register one"):
        call()


def damaged(home: Path, name: str) -> Path:
    """A file of the second version, in the store."""
    from tasks.store import tracking

    return tracking.download(f"models:/tiny/{ALSO_GOOD}") / name


def test_a_champion_that_answers_otherwise_does_not_stay(aliases, home):
    """The file is whole, and what MLflow loads beside it is not: only asking it can tell."""
    from flows.promote import promote

    sample = damaged(home, "sample.npz")
    kept = sample.read_bytes()
    with np.load(sample) as arrays:
        changed = {**arrays, "onnxruntime": arrays["onnxruntime"][::-1]}
    np.savez_compressed(sample, **changed)
    try:
        with pytest.raises(SmokeTestFailed, match="examples otherwise than when the version was registered"):
            promote("tiny")
    finally:
        sample.write_bytes(kept)
    assert where() == {"champion": GOOD}
    promote("tiny")
    assert where() == {"champion": ALSO_GOOD, "previous": GOOD}


def test_a_damaged_file_is_found_before_anything_moves(aliases, home):
    from flows.promote import promote

    model = damaged(home, "model.onnx")
    kept = model.read_bytes()
    model.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    try:
        with pytest.raises(VersionError, match="its onnxruntime file is not the one that was measured"):
            promote("tiny")
    finally:
        model.write_bytes(kept)
    assert where() == {"champion": GOOD}


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
        client.resume_flow_run(run.id, run_input=decision)
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
        results = [pool.submit(run, version) for version in (ALSO_GOOD, OTHER_DATA)]
        for each in waiting(2):
            decide(each, approve=True)
        lost, won = sorted(result.result() for result in results)
    assert won.startswith("won"), (lost, won)
    assert lost.startswith("lost AliasesMoved tiny: the champion is no longer version 1 but version"), lost
    assert "moved meanwhile by flow run tiny http" in lost
    assert where() == {"champion": int(won.split()[1]), "previous": GOOD}


@pytest.mark.parametrize("approve", [True, False])
def test_a_person_decides_with_the_comparison_on_the_form(aliases, approve):
    from flows.promote import promote
    from tasks.store import registry

    with ThreadPoolExecutor() as pool:
        here = contextvars.copy_context()  # Prefect's settings are in it
        person = pool.submit(here.run, lambda: decide(waiting()[0], approve=approve, note="seen by Ada"))
        if approve:
            assert promote("tiny", approval_seconds=120).note == "seen by Ada"
            assert registry.version_of("tiny", ALSO_GOOD).tags["promoted_note"] == "seen by Ada"
        else:
            with pytest.raises(NotPromoted, match=r"not approved\. seen by Ada"):
                promote("tiny", approval_seconds=120)
    assert where() == ({"champion": ALSO_GOOD, "previous": GOOD} if approve else {"champion": GOOD})
    assert "tiny version 2** against version 1, the champion" in person.result()


def test_nobody_approves_in_time(aliases):
    from flows.promote import promote

    with pytest.raises(NotPromoted, match="nobody approved it within 2 s"):
        promote("tiny", approval_seconds=2)
    assert where() == {"champion": GOOD}


def test_what_a_killed_promotion_left_is_put_back_by_the_next(aliases, home):
    """Killed between the moves of the two aliases, and again after both: before the smoke test was passed."""
    from flows.promote import promote, rollback
    from tasks.store import registry

    program = (
        "import os, signal, sys\n"
        "from tasks.store import registry\n"
        "moved, move = [], registry.set_alias\n"
        "def dying(name, alias, version):\n"
        "    move(name, alias, version)\n"
        "    moved.append(alias)\n"
        "    if len(moved) == int(sys.argv[1]):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "registry.set_alias = dying\n"
        "with registry.moving('tiny', 1, {'previous': 1, 'champion': 2}, by='the late one'):\n"
        "    pass\n"
    )
    for moves, serving in ((1, GOOD), (2, ALSO_GOOD)):
        aliases(champion=GOOD, previous=OTHER_DATA, candidate=ALSO_GOOD)
        killed = subprocess.run([sys.executable, "-c", program, str(moves)], cwd=ROOT)
        assert killed.returncode == -9
        assert where() == {"champion": serving, "previous": GOOD}  # one or the other serves, never nothing
        result = rollback("tiny") if moves == 1 else promote("tiny")
        assert result.put_back == "the late one"
        after = {"champion": OTHER_DATA, "previous": GOOD} if moves == 1 else {"champion": ALSO_GOOD, "previous": GOOD}
        assert where() == after
    assert registry.put_back("tiny") == ""


def test_aliases_that_moved_since_are_not_moved(aliases):
    from tasks.store import registry

    aliases(champion=ALSO_GOOD)
    with (
        pytest.raises(AliasesMoved, match="no longer version 1 but version 2"),
        registry.moving("tiny", GOOD, {"champion": POOR}, by="a test"),
    ):
        raise AssertionError("the block must not begin")
    assert where() == {"champion": ALSO_GOOD}
