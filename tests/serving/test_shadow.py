"""A candidate that is asked beside the champion: how far it agrees, in metrics, on the page and in MLflow."""

import subprocess
import sys

import httpx
import numpy as np
import pytest
from registered import version_folder, versions
from servers import until
from serving_process import ROOT, laid_out, question, serving

from tasks.contract.errors import NotPromoted
from tasks.measuring.intervals import wilson
from tasks.serving.shadow import agreement, compared


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_store):
    home = tmp_path_factory.mktemp("state")
    poor = {"teacher": {"model": "cnn", "width": 0.25, "fit": {"epochs": 1, "batch_size": 64}, "floor": -1}}
    with versions(home, empty_store, {"seed": 1}, {"seed": 2, **poor}):
        yield home


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_store):
    version = version_folder(tmp_path_factory, empty_store, {"seed": 1})
    return laid_out(version, tmp_path_factory.mktemp("served") / "one", 1)


@pytest.fixture(scope="module")
def calls(home):
    from tasks.formats.onnx.files import load
    from tasks.store import tracking

    return {number: load(tracking.download(f"models:/tiny/{number}"), 1) for number in (1, 2)}


def reset(**where: int | None) -> None:
    from tasks.store import registry

    for alias, number in where.items():
        registry.set_alias("tiny", alias, number)


def shadows() -> dict[tuple[str, str], object]:
    """The runs of shadows, by champion and candidate."""
    from tasks.store import shadow_runs, tracking

    runs = tracking.client().search_runs([tracking.experiment()], f"tags.`{tracking.ROLE}` = 'shadow'")
    return {(run.data.tags[shadow_runs.CHAMPION], run.data.tags[shadow_runs.CANDIDATE]): run for run in runs}


@pytest.mark.slow
def test_a_candidate_is_compared_and_followed(home, calls, tmp_path):
    from sklearn.datasets import load_digits

    from tasks.store import shadow_runs

    x = load_digits().images[..., None].astype(np.float32)[600:1000]
    alike = int((calls[1](x).argmax(1) == calls[2](x).argmax(1)).sum())
    assert 0 < alike < len(x), "else it says nothing"
    reset(champion=1, candidate=2)
    command = ["flows.cli", "serve", "models:/tiny@champion", "--watch", "0.2", "--shadow", "models:/tiny@candidate"]
    command += ["--shadow-share", "100%", "--shadow-rate", "100000"]
    with serving(tmp_path, command, SLIMLINE_HOME=str(home)) as server:
        url = f"{server.url}/v2/models/tiny"
        name = httpx.get(url).json()["inputs"][0]["name"]

        def ask() -> str:
            for start in range(0, len(x), 20):
                answer = httpx.post(f"{url}/infer", json=question(x[start : start + 20], name)).json()
                given = np.reshape(answer["outputs"][0]["data"], (20, 10))
                right = calls[int(answer["model_version"])](x[start : start + 20])
                np.testing.assert_allclose(given, right, atol=1e-6)
            return answer["model_version"]

        assert ask() == "1", "the champion answers"
        metric = 'slimline_shadow_requests_total{model="tiny",outcome="compared"} 20.0'
        until(lambda: metric in httpx.get(f"{server.url}/metrics").text, 60)
        until(lambda: "20 requests, 0 of them failed; agreement" in httpx.get(f"{server.url}/docs").text, 60)
        text = httpx.get(f"{server.url}/metrics").text
        (told,) = [line for line in text.splitlines() if 'shadow_agreement{figure="agreement",' in line]
        assert float(told.split()[-1]) == pytest.approx(alike / len(x), abs=1e-6)
        assert "shadow" not in httpx.get(url).json(), "the protocol has no place for it"
        reset(champion=2, candidate=1)
        until(lambda: server.log.read_text().count("takes the place of") == 2, 60)
        assert ask() == "2"
        assert server.end() == 0
    runs = shadows()
    assert set(runs) == {("1", "2"), ("2", "1")}
    for run in runs.values():
        figures = run.data.metrics
        assert run.info.status == "FINISHED"
        assert (figures["requests"], figures["failed"], figures["examples"]) == (20, 0, len(x))
        interval = wilson(alike, len(x))
        assert figures["agreement"] == pytest.approx(interval.estimate, abs=1e-6)
        assert figures["agreement_low"] == pytest.approx(interval.low, abs=1e-6)
        assert figures["agreement_high"] == pytest.approx(interval.high, abs=1e-6)
        assert 0 < figures["champion_p50_ms"] < 1000
        assert 0 < figures["candidate_p50_ms"] < 1000
    found = shadow_runs.covered("tiny", 1, 2)
    assert (found.requests, found.failed) == (20, 0)
    assert found.agreement_low == pytest.approx(interval.low, abs=1e-5)
    assert 0 < found.hours < 0.1
    assert shadow_runs.covered("tiny", 1, 3).requests == 0


# A process of its own: kserve's messages and tritonclient's have the same names, and no process takes both.
BROKEN = """
import asyncio, dataclasses, sys
from pathlib import Path
import numpy as np
from tasks.serving.limits import ServeConfig
from tasks.serving.model import ServedModel
from tasks.serving.protocol import Question, Tensor
from tasks.serving.served import open_folder
from tasks.serving.shadow import ASKED, shadowing
from tasks.store import shadow_runs

champion = open_folder(Path(sys.argv[1]), 1)
x = np.load(Path(sys.argv[1]) / "sample.npz")["examples"]
right = champion.call(x[:1])

def breaks(x):
    raise RuntimeError("no kernel")

async def ask(model, times):
    tensor = Tensor(champion.inputs[0].name, "FP32", [1, 8, 8, 1], None, x[:1].tobytes())
    for _ in range(times):
        answer = await model.answer(Question("", [tensor], {}, binary=True))
        assert answer.version == "1"
        np.testing.assert_array_equal(answer.outputs[0][1], right)

for number, call in enumerate((breaks, lambda x: champion.call(x) * np.nan, lambda x: champion.call(x)[:0])):
    config = ServeConfig(shadow="models:/tiny@candidate", shadow_share=1.0, shadow_rate=100_000)
    broken = dataclasses.replace(champion, version="9", call=call, problems={"": "classification"})
    model = ServedModel(champion, config)
    with shadowing([model], broken, config) as shadow:
        asyncio.run(ask(model, 20))
    assert ASKED.labels(model="tiny", outcome="failed")._value.get() == 20 * (number + 1)
    assert (shadow.pair.requests, shadow.pair.failed, shadow.pair.examples) == (20, 20, 0)
assert shadow_runs.covered("tiny", 1, 9).failed == 60

config = ServeConfig(shadow="models:/tiny@candidate", shadow_share=0.5, shadow_rate=2.0)
model, slow = ServedModel(champion, config), dataclasses.replace(broken, call=champion.call)
with shadowing([model], slow, config) as one:
    asyncio.run(ask(model, 50))
assert one.pair.requests < 10, "no more than so many a second"
"""


@pytest.mark.usefixtures("store")
def test_a_candidate_that_breaks_is_counted_and_harms_no_answer(folder):
    done = subprocess.run([sys.executable, "-c", BROKEN, folder], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


OTHER = """
import dataclasses, sys
from pathlib import Path
from tasks.contract.errors import OptionWrong
from tasks.serving.limits import ServeConfig
from tasks.serving.model import ServedModel
from tasks.serving.served import open_folder
from tasks.serving.shadow import shadowing

served, config = open_folder(Path(sys.argv[1]), 1), ServeConfig(shadow="models:/tiny/2")
(taken,), (given,) = served.inputs, served.outputs
for changed, words in (
    ({"name": "other"}, "is asked what other is; served is tiny"),
    ({"inputs": (dataclasses.replace(taken, shape=(8, 9, 1)),)}, "its inputs are"),
    ({"inputs": (dataclasses.replace(taken, dtype="int32"),)}, "its inputs are"),
    ({"outputs": (given, given)}, "its outputs are"),
    ({"labels": {"": ["a"] * 10}}, "its labels are"),
):
    try:
        with shadowing([ServedModel(served, config)], dataclasses.replace(served, version="2", **changed), config):
            raise AssertionError(words)
    except OptionWrong as error:
        assert "--shadow: 'models:/tiny/2': " in str(error), error
        assert words in str(error), error
"""


def test_one_that_takes_or_gives_something_else_is_refused(folder):
    done = subprocess.run([sys.executable, "-c", OTHER, folder], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


def test_agreement_of_each_problem():
    draw = np.random.default_rng(0)
    ours = draw.normal(size=(2000, 3))
    noise = draw.normal(size=ours.shape) * 0.1
    units = np.array([1, 10, 100])  # and only the smallest is off
    values = agreement("regression", compared("regression", ours * units, ours * units + 5 * noise * [1, 0, 0]))
    assert values.estimate == pytest.approx(1 - 0.25 / 3, abs=0.01), "the mean of each target's own R²"
    assert values.low < values.estimate < values.high
    one = agreement("regression", compared("regression", ours[:, 0], ours[:, 0]))
    assert (one.low, one.estimate, one.high) == (1, 1, 1)
    whole = agreement("reconstruction", compared("reconstruction", ours, ours + noise))
    assert whole.estimate == pytest.approx(0.99, abs=0.002)
    labels = agreement("multilabel", compared("multilabel", np.eye(4), 1 - np.eye(4)[[1, 0, 2, 3]]))
    assert labels.estimate == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    classes = agreement("classification", compared("classification", np.eye(3)[[0, 1, 2, 2]], np.eye(3)[[0, 1, 2, 0]]))
    assert classes == wilson(3, 4)


def kept(champion: int, candidate: int, **figures: float) -> None:
    """A shadow's run, as a server keeps it."""
    from tasks.store import shadow_runs, tracking

    run = shadow_runs.begin("tiny", str(champion), str(candidate), {"shadow": "models:/tiny@candidate"})
    tracking.log_metrics(run, figures)
    tracking.end_run(run, failed=False)


@pytest.mark.usefixtures("store")
def test_hours_of_several_servers_count_once_and_examples_together():
    from tasks.store import shadow_runs

    hour = 3600
    kept(2, 7, requests=100, failed=1, examples=300, first=0, last=10 * hour, agreement_low=0.9)
    kept(2, 7, requests=50, failed=0, examples=100, first=5 * hour, last=20 * hour, agreement_low=0.5)
    kept(2, 7, requests=9, failed=9, first=30 * hour, last=40 * hour)
    kept(2, 7, requests=50, failed=0, examples=100, first=30 * hour, last=31 * hour, agreement_low=0.5)
    found = shadow_runs.covered("tiny", 2, 7)
    assert (found.hours, found.requests, found.failed) == (pytest.approx(21), 209, 10)
    assert found.agreement_low == pytest.approx((0.9 * 300 + 0.5 * 200) / 500)


@pytest.mark.slow
def test_a_promotion_can_ask_for_it(home):
    from flows.promote import Shadowed, promote

    reset(champion=2, candidate=1)
    for asked, words in (
        (Shadowed(hours=1), "it was asked beside version 2 for .* hours, not 1\n"),
        (Shadowed(hours=1), "slimline serve models:/tiny@champion --shadow models:/tiny/1"),
    ):
        with pytest.raises(NotPromoted, match=words):
            promote("tiny", shadowed=asked)
    kept(2, 1, requests=1000, failed=0, examples=10**9, first=0, last=90_000, agreement_low=0.9)
    with pytest.raises(NotPromoted, match=r"2 is 90\.00% at the low end, not 95\.00%") as alike:
        promote("tiny", shadowed=Shadowed(hours=24))
    assert "hours, not" not in str(alike.value)
    reset(champion=None)
    with pytest.raises(NotPromoted, match="Leave --shadowed out"):
        promote("tiny", shadowed=Shadowed(hours=24))
    reset(champion=2)
    assert promote("tiny", shadowed=Shadowed(hours=24, agreement=0.89)).champion == 1
    reset(champion=2, previous=None)
    kept(2, 1, requests=3, failed=3, first=0, last=1)
    with pytest.raises(NotPromoted, match=r"it failed to answer 3 of 1,\d+ requests"):
        promote("tiny", shadowed=Shadowed(hours=24, agreement=0.89))
