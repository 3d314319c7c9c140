"""Which runs stay, by rules alone."""

from datetime import UTC, datetime

import pytest

from tasks.store.needed import KeptRun, needed
from tasks.store.registry import ID, Registered

SINCE = 100.0
OLD, YOUNG = 50.0, 150.0


def run(name: str, parent: str = "", **settings) -> KeptRun:
    settings = {"role": "stage" if parent else "compression", "status": "FINISHED", "last": OLD, **settings}
    nothing = {"flow_run": "", "used": "", "moves": "", "reused": frozenset(), "places": {"": ""}, "deleted": False}
    return KeptRun(run=name, name=name, parent=parent, **{**nothing, **settings})


def version(of: str, name: str = "digits") -> Registered:
    return Registered(name=name, version=1, run=of, tags={}, aliases=(), registered_at=datetime.now(UTC))


A = [run("a"), run("a-train", "a"), run("a-register", "a")]
B = [run("b", reused=frozenset({"a-train"})), run("b-register", "b")]


@pytest.mark.parametrize(
    ("runs", "versions", "named", "stay"),
    [
        pytest.param([*A, *B], [], (), "", id="nobody needs any"),
        pytest.param(A, [version("a-register")], (), "a a-register a-train", id="a version: its whole compression"),
        pytest.param(
            [*A, *B],
            [version("b-register")],
            (),
            "a a-train b b-register",
            id="what its stages reused, and of that one's compression the name alone",
        ),
        pytest.param([*A, *B], [version("gone")], (), "", id="a version whose run is not here"),
        pytest.param([*A, run("c", last=YOUNG)], [], (), "c", id="a young one"),
        pytest.param([*A, run("c", last=SINCE)], [], (), "c", id="as young as the limit"),
        pytest.param(
            [*A, run("c", last=YOUNG, status="FAILED", reused=frozenset({"a-train"})), run("c-cut", "c")],
            [],
            (),
            "a a-train c c-cut",
            id="a young one that failed, with what it reused",
        ),
        pytest.param(
            [*A[:1], run("a-train", "a", last=YOUNG), A[2]], [], (), "a a-train", id="a stage that was reused since"
        ),
        pytest.param([*A, run("c", status="RUNNING"), run("c-cut", "c")], [], (), "c c-cut", id="one at work"),
        pytest.param([*A, run("c", status="SCHEDULED"), run("c-cut", "c")], [], (), "c c-cut", id="one that waits"),
        pytest.param([run("p", role="promotion", moves="digits")], [version("")], (), "p", id="what moved an alias"),
        pytest.param([run("p", role="promotion", moves="gone")], [version("")], (), "", id="of a model that is gone"),
        pytest.param([run("p", role="promotion"), run("q", "p")], [version("")], {"p"}, "p q", id="named by its id"),
        pytest.param([run("d", flow_run="f"), run("e", "d")], [], {"f"}, "d e", id="named by its flow run"),
        pytest.param([run("d", places={"m-1": "there"})], [], {"m-1"}, "d", id="named by its model"),
        pytest.param(A, [], {"a-train"}, "a a-train", id="a stage that a card names"),
        pytest.param(
            [*A[:2], run("a-register", "a", deleted=True)],
            [version("a-register")],
            (),
            "a a-register a-train",
            id="what a person deleted and a version needs",
        ),
        pytest.param([run("b-register", "b")], [], (), "", id="a stage whose compression is gone"),
        pytest.param([run("b-register", "b")], [version("b-register")], {"b-register"}, "b-register", id="but needed"),
    ],
)
def test_what_stays(runs, versions, named, stay):
    assert needed(runs, versions, named, SINCE) == set(stay.split())


def test_ids_are_those_of_mlflow_and_prefect_and_no_digests():
    run, flow, digest, commit = "0" * 31 + "a", "069a3f4c-1b2d-7c3e-8000-0123456789ab", "b" * 64, "c" * 40
    text = f"models:/m-{run} runs:/{run}/x http://127.0.0.1:4200/runs/flow-run/{flow} {digest} {commit}+"
    assert sorted(ID.findall(text)) == sorted([f"m-{run}", run, flow])
