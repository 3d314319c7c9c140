"""Promotion and rollback of real versions, in a real registry, by real flow runs."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, kill_at, started
from registered import sealed_anew, versions
from rich.console import Console
from stores import run_at

from tasks.contract.errors import AliasesMoved, NotPromoted, SmokeTestFailed, VersionDamaged, VersionError

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
    reset(champion=GOOD, candidate=ALSO_GOOD)
    return reset


@contextlib.contextmanager
def watched():
    """What `slimline promote` prints into a file while it is at work."""
    from flows.display import Display
    from tasks.contract.progress import listen, listener

    before, file = listener(), io.StringIO()
    listen(Display(Console(file=file, width=200)))
    yield file
    listen(before)


@pytest.fixture
def terminal():
    with watched() as file:
        yield file


def reset(**where: int | None) -> None:
    from tasks.store import registry

    for alias in (registry.CHAMPION, registry.PREVIOUS, registry.CANDIDATE):
        registry.set_alias("tiny", alias, where.get(alias))


@pytest.fixture(scope="module")
def promoted(home):
    """A promotion that went well, and what it left: aliases, the version's tags, Prefect's page, and the terminal."""
    from flows.promote import promote
    from tasks.store import registry

    reset(champion=GOOD, candidate=ALSO_GOOD)
    with watched() as file:
        result = promote("tiny")
    return result, where(), registry.version_of("tiny", ALSO_GOOD).tags, page("comparison"), file.getvalue()


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


def test_a_candidate_that_is_not_worse_becomes_the_champion(promoted):
    from tasks.store import registry, tracking
    from tasks.store.stage_runs import stages_of

    result, aliases, tags, page, printed = promoted
    assert (result.champion, result.previous, result.moved) == (ALSO_GOOD, GOOD, True)
    assert aliases == {"champion": ALSO_GOOD, "previous": GOOD}
    assert "Not worse than the champion, and inside its budget." in page
    assert page in printed, "what a person sees at the terminal is the same page"
    assert f"| size | {result.comparison.pairs[0].champion.size_bytes / 1024:,.1f} KiB | " in printed
    assert tags["promoted_by"] == result.flow_run_url
    parent = tracking.client().get_run(tags["promoted_run"])
    assert (parent.info.status, parent.data.tags["slimline.role"]) == ("FINISHED", "promotion")
    assert [stage.stage for stage in stages_of(tags["promoted_run"])] == ["compare", "smoke"]
    assert registry.MOVING not in tracking.client().get_registered_model("tiny").tags


def test_the_comparison_holds_what_was_measured_on_the_same_examples(promoted):
    from tasks.evidence.comparison import open_comparison
    from tasks.store import tracking
    from tasks.store.stage_runs import stages_of

    run = run_at(promoted[0].mlflow_url)
    stage = stages_of(run)[0]
    comparison = open_comparison(tracking.download(f"runs:/{stage.run}/comparison"))
    (pair,) = comparison.pairs
    assert (comparison.champion, comparison.candidate, comparison.examples) == (GOOD, ALSO_GOOD, 150)
    measured = pair.champion.accuracy.estimate - pair.candidate.accuracy.estimate
    assert pair.drop.estimate == pytest.approx(measured, abs=1e-5)
    assert pair.drop.low < pair.drop.estimate < pair.drop.high
    assert pair.speedup.estimate == pytest.approx(pair.champion.latency.p50 / pair.candidate.latency.p50, rel=1e-4)
    for number, side in ((GOOD, pair.champion), (ALSO_GOOD, pair.candidate)):
        recorded = tracking.client().get_model_version("tiny", str(number)).tags
        assert f"{side.accuracy.estimate:.6g}" == recorded["accuracy"]  # the same files on the same data
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
    message = "Aliases of tiny: champion is 1" if field != "nobody" else "register one with `slimline run`"
    with pytest.raises(VersionError, match=message):
        call()


def damaged(home: Path, name: str) -> Path:
    """A file of the second version, in the store."""
    from tasks.store import tracking

    return tracking.download(f"models:/tiny/{ALSO_GOOD}") / name


def test_a_champion_that_answers_otherwise_does_not_stay(aliases, home):
    """Another's sample, with a manifest to it: only asking can tell."""
    from flows.promote import promote

    sample = damaged(home, "sample.npz")
    kept = sample.read_bytes()
    with np.load(sample) as arrays:
        changed = {**arrays, "onnxruntime": arrays["onnxruntime"][::-1]}
    np.savez_compressed(sample, **changed)
    try:
        with (
            sealed_anew(ALSO_GOOD),
            pytest.raises(SmokeTestFailed, match="examples otherwise than when the version was registered"),
        ):
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
        with pytest.raises(VersionDamaged, match=r"damaged model\.onnx"):
            promote("tiny")
    finally:
        model.write_bytes(kept)
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


KILLED_AT_EACH_LINE = """
import itertools, json, os, signal, sys
from mlflow.tracking._model_registry.utils import _get_store
from flows import promote, servers
from tasks.contract import state_folder
from tasks.store import registry

FILES = {module.__file__ for module in (promote, servers, state_folder, registry)}

def dies_at(line):
    lines = itertools.count(1)
    def trace(frame, event, _):
        if frame.f_code.co_filename in FILES:
            if event == "line" and next(lines) == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
    return trace

for line in itertools.count(1):
    for alias, version in {"champion": 1, "previous": 3}.items():
        registry.set_alias("tiny", alias, version)
    registry.tag_version("tiny", 2, {"promoted_by": "an earlier one", "promoted_note": None})
    _get_store().engine.dispose()  # a connection must not be used on both sides of a fork
    child = os.fork()
    if not child:
        sys.settrace(dies_at(line))
        aliases, told = {"previous": 1, "champion": 2}, {"promoted_by": "this one", "promoted_note": "why"}
        with promote._alone("tiny"), registry.moving("tiny", 1, aliases, "the late one", told):
            pass
        os._exit(0)
    if not os.waitpid(child, 0)[1]:
        break
    whose, tags = promote._put_back("tiny"), registry.version_of("tiny", 2).tags
    told = [tags["promoted_by"], tags.get("promoted_note")]
    print(whose, json.dumps(registry.aliases_of("tiny")), json.dumps(told), sep="|", flush=True)
"""


def test_killed_at_any_line_of_a_move_it_leaves_nothing_locked_and_nothing_half_moved(aliases, home):
    done = subprocess.run([sys.executable, "-c", KILLED_AT_EACH_LINE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split("|") for line in done.stdout.splitlines()]
    left = [(whose, json.loads(aliases)) for whose, aliases, _ in lines]
    before = {"candidate": ALSO_GOOD, "champion": GOOD, "previous": POOR}
    after = {**before, "champion": ALSO_GOOD, "previous": GOOD}
    assert {whose for whose, where in left if where == before} == {"", "the late one"}
    assert {whose for whose, where in left if where == after} == {""}
    assert all(where in (before, after) for _, where in left)
    assert {(told, json.loads(aliases) == after) for _, aliases, told in lines} == {
        ('["an earlier one", null]', False),
        ('["this one", "why"]', True),
    }, "a champion tells how it became one, and no other version does"
    assert not list((home / "locks").iterdir())


@pytest.mark.slow
def test_killed_with_its_server_while_it_holds_the_lock_it_locks_nobody_out(aliases, home):
    """The server that a command starts for itself dies with it, and what Prefect knew of locks in its memory."""
    environment = {**os.environ, "SLIMLINE_HOME": str(home)}
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "flows.cli", "promote", "tiny"]
    kill_at(started(command, environment), r"^  smoke ")  # between the move and its end
    assert where() == {"champion": ALSO_GOOD, "previous": GOOD}
    again = subprocess.run([*command, "--json"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    result = json.loads(again.stdout)
    assert result["put_back"].startswith("flow run tiny")
    assert (result["champion"], result["previous"], result["moved"]) == (ALSO_GOOD, GOOD, True)


def test_aliases_that_moved_since_are_not_moved(aliases):
    from tasks.store import registry

    aliases(champion=ALSO_GOOD)
    with (
        pytest.raises(AliasesMoved, match="no longer version 1 but version 2"),
        registry.moving("tiny", GOOD, {"champion": POOR}, by="a test"),
    ):
        raise AssertionError("the block must not begin")
    assert where() == {"champion": ALSO_GOOD}
