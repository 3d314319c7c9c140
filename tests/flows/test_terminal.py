"""Every command at a terminal: wide, usual and tiny, with colours and without, on a dumb one, and into a file."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from command_line import ROOT
from mlflow import MlflowClient
from postgres import free_port
from registered import RECIPE
from terminal import Terminal

from flows.report import Figures, as_rows

SIZES = {"wide": (160, 45), "usual": (80, 24), "tiny": (40, 10)}
LIMIT = 300  # seconds for anything on a machine that does much else
SETTINGS = {  # nothing that noise could decide
    **RECIPE,
    "budget": {"max_accuracy_drop": 1.0, "min_size_ratio": 0, "min_integer_share": 0},
    "promote": {"tolerance": 1.0},
}
TOOK = r"(\d+ min )?[\d.]+ s"
HEAD = ["model", "target", "numbers", "accuracy", "drop (interval)", "size", "p50", "speed-up", "integers"]


class Place:
    """A state folder and a recipe that all terminals here share: what was made once is not made again."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self.server = folder, server
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(yaml.safe_dump(SETTINGS))

    def open(self, *words: str, size: str = "tiny", stdout: Path | None = None, **environment: str) -> Terminal:
        columns, lines = SIZES[size]
        mine = {"SLIMLINE_HOME": str(self.folder / "state"), **environment}
        command = [sys.executable, "-m", *words]
        return Terminal(command, cwd=ROOT, environment=mine, columns=columns, lines=lines, stdout=stdout)

    def slimline(self, *words: str, code: int = 0, alone: bool = False, **options: str) -> Terminal:
        """A command that is over; its screen is as it left it. `alone` it starts a Prefect server of its own."""
        server = {} if alone else {"PREFECT_API_URL": self.server}
        with self.open("flows.cli", *words, **server, **options) as terminal:
            assert terminal.wait(LIMIT) == code, terminal.text()
            assert not terminal.left()
        assert "Traceback" not in terminal.text()
        assert not terminal.screen.cursor.hidden, "the terminal has its cursor back"
        return terminal

    def run(self, *settings: str, **options: str | bool) -> Terminal:
        return self.slimline("run", str(self.recipe), *settings, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory, prefect_server):
    return Place(tmp_path_factory.mktemp("terminal"), os.environ["PREFECT_API_URL"])


@pytest.fixture(scope="module")
def wide(place):
    """Version 1: made live, on a wide terminal."""
    return place.run(size="wide", alone=True)


@pytest.fixture(scope="module")
def tiny(place, wide):
    """Version 2: another model, made live, on a tiny terminal."""
    return place.run("seed=4", size="tiny", alone=True)


@pytest.fixture(scope="module")
def result(place, wide, tmp_path_factory):
    """What a program gets of the same run, whose standard output is a file, while a person looks at the terminal."""
    file = tmp_path_factory.mktemp("json") / "result.json"
    terminal = place.slimline("run", str(place.recipe), "--json", size="usual", stdout=file)
    assert "✓ train-teacher: reused" in terminal.text()
    assert '"figures"' not in terminal.text()
    return json.loads(file.read_text())


def cells(result: dict) -> set[str]:
    """Every text of the closing table."""
    figures = [Figures(**each) for each in result["figures"]]
    return {text for row in as_rows(result["score"], figures) for text in row.values() if text}


def flat(text: str) -> str:
    """Words in their order, however lines were wrapped."""
    return " ".join(text.split())


def too_long(terminal: Terminal) -> list[str]:
    """Lines that the terminal has to wrap, but for what is to be copied: commands, and words wider than it."""
    lines = terminal.written()
    return [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if len(line) > terminal.columns
        and " " in line.strip()
        and not (line.startswith("  ") and before.rstrip().endswith(":"))
    ]


def test_a_wide_terminal_shows_the_table_as_one(wide, result):
    text = wide.text()
    for stage in ("prepare", "train-teacher", "convert-teacher-onnxruntime", "validate", "register"):
        assert re.search(rf"^✓ {stage}: {TOOK}$", text, re.MULTILINE), text
    (head,) = [line for line in text.splitlines() if line.startswith("model ")]
    assert re.split(r"   +", head) == HEAD
    rows = [line for line in text.splitlines() if re.match(r"(teacher|compressed \*) +onnxruntime ", line)]
    assert len(rows) == 2
    assert cells(result) == {text for row in rows for text in re.split(r"   +", row)}
    assert re.search(r"^  /\S+/report/index\.html$", text, re.MULTILINE)
    assert too_long(wide) == []
    assert "green" in wide.colours()


@pytest.mark.parametrize("which", ["wide", "tiny"])
def test_the_bar_pulses_until_it_is_known_how_much_there_is_to_do(which, request):
    terminal = request.getfixturevalue(which)
    drawn = [line for line in terminal.written() if line.startswith("  train-teacher") and "✓" not in line]
    unknown = [line for line in drawn if "/" not in line]
    counts = [match[1] for line in drawn if (match := re.search(r"\b(\d)/8\b", line))]
    assert unknown, "before the first epoch nobody knows"
    assert all(re.fullmatch(r"  train-teacher  ━+(  \d:\d\d)", line.rstrip()) for line in unknown), unknown
    assert counts, drawn
    assert counts == sorted(counts)
    assert all("━" in line or "╸" in line for line in drawn)
    assert not [line for line in terminal.written() if "None" in line]
    assert max(map(len, drawn)) <= terminal.columns - 3, "what the terminal writes of a key fits behind it"
    if which == "wide":
        assert any(
            re.search(r"\d/8  loss \d\.\d{4}, validation score \d\.\d{4}, at most .* left", line) for line in drawn
        )


def test_before_the_first_stage_it_says_what_it_does(wide):
    drawn = [re.sub(r" {2,}.*", "", line.strip()) for line in wide.written() if re.search(r"  \d:\d\d *$", line)]
    steps = list(dict.fromkeys(drawn[: drawn.index("prepare")]))
    taking_seconds = ["reading the recipe", "making MLflow's database"]
    assert [step for step in steps if step in taking_seconds] == taking_seconds
    assert set(steps) <= {"loading libraries", *taking_seconds, "waiting for Prefect's server", "starting the flow"}


def test_a_tiny_terminal_shows_every_figure_a_block_a_file(tiny):
    text = tiny.text()
    assert re.search(rf"^✓ train-teacher: {TOOK}$", text, re.MULTILINE), "made live"
    blocks = dict(re.findall(r"^(teacher|compressed \*), onnxruntime\n((?:  .+\n)+)", text, re.MULTILINE))
    assert set(blocks) == {"teacher", "compressed *"}
    for name, block in blocks.items():
        figures = dict(re.findall(r"^  (\S+(?: \S+)*?)  +(.+(?:\n    .+)?)$", block, re.MULTILINE))
        assert list(figures) == [column for column in HEAD if column in figures], "in their order"
        assert set(HEAD[2:]) - set(figures) == ({"drop (interval)"} if name == "teacher" else set())
        assert 0.2 < float(figures["accuracy"]) <= 1
        assert re.fullmatch(r"[\d.]+ ms", figures["p50"])
    assert re.fullmatch(r"[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)", flat(figures["drop (interval)"]))
    assert too_long(tiny) == []
    (evidence,) = [line.strip() for line in tiny.written() if line.endswith("index.html")]
    assert Path(evidence).is_file(), "written as one line, so that it can be copied"
    assert "starting" not in text, "what was drawn over is gone"
    assert "reading the recipe" not in text


def test_a_usual_terminal_without_colours_shares_the_table_out(place, result):
    terminal = place.run(size="usual", NO_COLOR="1")
    text = terminal.text()
    assert terminal.colours() == set()
    heads = [line.split() for line in text.splitlines() if line.startswith("model ")]
    assert len(heads) == 2
    assert all(head[:2] == ["model", "target"] for head in heads)
    assert not [cell for cell in cells(result) if cell not in text]
    assert too_long(terminal) == []
    assert f"✓ train-teacher: reused from run {result['runs']['train-teacher'][:8]}" in text


def test_a_dumb_terminal_gets_no_control_sequences(place, result):
    terminal = place.run(TERM="dumb")
    assert b"\x1b" not in terminal.raw
    assert "━" not in terminal.text(), "nothing moves there, so there is no bar"
    assert not [cell for cell in cells(result) if cell not in flat(terminal.text())]
    assert too_long(terminal) == []


def test_into_a_file_goes_everything_unwrapped(place, result, tmp_path):
    file = tmp_path / "output.txt"
    terminal = place.slimline("run", str(place.recipe), size="tiny", stdout=file)
    assert terminal.text() == ""
    text = file.read_text()
    assert "\x1b" not in text
    waited = [line for line in text.splitlines() if line.startswith("  ") and line.endswith(" …")]
    steps = ["loading libraries", "reading the recipe", "opening MLflow", "starting the flow"]
    assert waited[:4] == [f"  {step} …" for step in steps], "Prefect's server is up already"
    assert f"✓ validate: reused from run {result['runs']['validate'][:8]}\n" in text
    (head,) = [line for line in text.splitlines() if line.startswith("model ")]
    assert len(head) > 80, "no terminal's width"
    assert not [cell for cell in cells(result) if cell not in text]


def test_check_says_what_a_recipe_would_do(place):
    terminal = place.slimline("check", str(place.recipe))
    assert "this recipe can run" in flat(terminal.text())
    lines = terminal.text().splitlines()
    assert "  teacher   cnn, at most 8 epochs" in lines
    assert re.search(r"^  prepare   digits: 8x8x1, .+\n {12}\S", terminal.text(), re.MULTILINE), "wrapped and set in"
    assert too_long(terminal) == []


def test_a_wrong_recipe_is_refused_in_words(place):
    terminal = place.slimline("check", str(place.recipe), "student.width=-1", code=2)
    assert "student.width" in flat(terminal.text())
    assert too_long(terminal) == []


def newest_is_candidate(place) -> MlflowClient:
    """The first version's recipe was run again in between, and then it is the candidate."""
    client = MlflowClient(f"sqlite:///{place.folder / 'state' / 'mlflow.db'}")
    client.set_registered_model_alias("tiny", "candidate", "2")
    return client


def test_list_show_and_compare(place, wide, tiny):
    newest_is_candidate(place)
    listed = place.slimline("list", size="wide")
    (newest,) = [line for line in listed.text().splitlines() if line.startswith("tiny 2 ")]
    number, aliases, made, target, *_ = re.split(r"   +", newest)
    assert (number, aliases, target) == ("tiny 2", "candidate", "onnxruntime")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", made)
    shown = place.slimline("show", "models:/tiny@candidate")
    page = next(line.strip() for line in shown.written() if line.endswith("index.html"))
    assert Path(page).is_file()
    assert "teacher.fit.epochs" in shown.text()
    compared = place.slimline("compare", "models:/tiny/1", "models:/tiny/2")
    assert "tiny version 1 and tiny version 2" in flat(compared.text())
    assert re.search(r"^setting +version 1 +version 2\n─+\nseed +0 +4$", compared.text(), re.MULTILINE)
    for terminal in (listed, shown, compared):
        assert too_long(terminal) == []
        assert not (place.folder / "state" / "traceback.txt").exists()


def test_promote_and_rollback(place, tiny):
    client = newest_is_candidate(place)
    client.set_registered_model_alias("tiny", "champion", "1")
    terminal = place.slimline("promote", "tiny", size="usual")
    assert re.search(r"^✓ compare: .*\n(.+\n+)+✓ smoke: ", terminal.text(), re.MULTILINE)
    assert "tiny version 2 against version 1, the champion, on the same 150 test examples" in flat(terminal.text())
    assert re.search(r"^p50 +[\d.]+ ms +[\d.]+ ms +[\d.]+x as fast \(", terminal.text(), re.MULTILINE)
    assert "Not worse than the champion, and inside its budget." in terminal.text()
    assert "|" not in terminal.text(), "a page at a terminal is no Markdown"
    assert "tiny: version 2 is the champion, previous is 1" in terminal.text()
    assert any(re.match(r"  compare  ━+  0:\d\d", line) for line in terminal.written())
    assert too_long(terminal) == []
    terminal = place.slimline("rollback", "tiny")
    assert "tiny: version 1 is the champion, previous is 2" in flat(terminal.text())
    assert any(line.startswith("http://127.0.0.1:5000/#/experiments/1/runs/") for line in terminal.written()), "whole"


def test_monitor(place, wide):
    client = MlflowClient(f"sqlite:///{place.folder / 'state' / 'mlflow.db'}")
    client.set_registered_model_alias("tiny", "champion", "1")
    terminal = place.slimline("monitor", "tiny", "data.reader=digits", "config.max_decay=1", "config.max_slowdown=100")
    assert "models:/tiny/1: healthy, 1,797 new examples" in flat(terminal.text())
    assert too_long(terminal) == []


def test_verify(place, wide):
    terminal = place.slimline("verify", "models:/tiny/1")
    text = terminal.text()
    assert "models:/tiny/1: everything that was recorded is so" in flat(text)
    assert "|" not in text, "a page at a terminal is no Markdown"
    recorded, measured = re.search(
        r"^onnxruntime accuracy and interval\n  recorded +((?:.+\n)+?)  found +((?:.+\n)+)", text, re.MULTILINE
    ).groups()
    assert flat(recorded) == flat(measured)
    assert re.fullmatch(r"0\.\d+ \(0\.\d+ to [01]\.\d+\)", flat(measured))
    assert too_long(terminal) == []


def test_deploy(place, wide, tmp_path):
    terminal = place.slimline("deploy", "models:/tiny/1", "--to", "kserve", "--output", str(tmp_path / "bundle"))
    text = terminal.text()
    assert re.search(r"✓ bundle-kserve: .*\n✓ trial: ", text)
    assert "16 test examples were answered as when it was registered" in flat(text)
    assert any(line.startswith(str(tmp_path / "bundle")) for line in terminal.written()), "whole"
    assert any(re.match(r"  kubectl apply .* -f inference-service.yaml$", line) for line in terminal.written()), (
        "to copy"
    )
    assert "`" not in text


def test_up_and_status(place, wide):
    ports = {"PREFECT_SERVER_API_PORT": str(free_port()), "MLFLOW_PORT": str(free_port())}
    with place.open("flows.cli", "up", **ports) as up:
        up.await_text("Ctrl-C or `slimline down` ends it", LIMIT)
        lines = up.text().splitlines()
        assert f"Prefect  http://127.0.0.1:{ports['PREFECT_SERVER_API_PORT']}" in lines
        assert f"MLflow   http://127.0.0.1:{ports['MLFLOW_PORT']}" in lines
        assert len(up.left()) >= 4
        with place.open("flows.cli", "status") as status:
            assert status.wait(LIMIT) == 0
            for name in ("prefect", "mlflow", "worker"):
                assert re.search(
                    rf"^{name} +RUNNING  pid \d+,(?: uptime\n  |\n  uptime )[\d:]+$", status.text(), re.MULTILINE
                )
            assert f"http://127.0.0.1:{ports['MLFLOW_PORT']}" in status.text().split()
            assert too_long(status) == []
        code, _ = up.interrupt(60)
        assert code == 0, "that is how it is ended"
        assert "ending: first the worker, then the servers" in flat(up.text())
        assert up.left() == []
        assert "Traceback" not in up.text()
    with place.open("flows.cli", "status") as status:
        assert status.wait(LIMIT) == 3
        assert "nothing is up" in status.text()
