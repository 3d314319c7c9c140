"""Evidence as it is read: a page and a card that say what the figures say, and need nothing else."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_evidence import evidence_of, made

from tasks.data.artifact import DataArtifact
from tasks.data.heads import Head
from tasks.evidence.card import render_card
from tasks.evidence.evidence import Evidence, Tried, figures, open_evidence
from tasks.evidence.page import About, as_cell, figures_of, lay_out, lay_out_report, render_page, verdicts
from tasks.measuring.intervals import Interval, tango, wilson
from tasks.measuring.scores import Parity


@pytest.fixture
def evidence() -> Evidence:
    return evidence_of(
        made(integer=False), made("compressed", lost=3, gained=1, speed=(1.1, 1.2, 1.3), precision="int8", integer=True)
    )


class Reading(HTMLParser):
    """Collects what a browser would fetch, run or identify."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.fetched.append(value)
            if name == "id":
                self.ids.append(value)

    def handle_data(self, data):
        self.text += data


def test_the_page_of_a_compression_tells_the_whole_of_it(evidence, tmp_path):
    about = About(
        name="cats <b>",
        version="",
        date="2026-01-02 03:04 UTC",
        recipe="name: cats <b>\n",
        limits=[("budget.max_size_bytes", "10", "20", False), ("budget.min_speedup", "1", "1.1", True)],
        curves={"train-teacher": [{"loss": 1.0, "validation_score": 0.5}, {"loss": 0.5, "validation_score": 0.75}]},
        links={"Prefect": "http://127.0.0.1:4200/runs/1"},
    )
    lay_out(evidence, tmp_path)
    (tmp_path / "plots" / "pareto.png").write_bytes(b"as it was drawn")
    lay_out_report(evidence, about, tmp_path / "report", tmp_path)
    reading = Reading()
    reading.feed((tmp_path / "report" / "index.html").read_text())
    text = "".join(reading.text.split())
    there = {plot.name: plot.read_bytes() for plot in (tmp_path / "plots").iterdir()}
    told = {plot.name: plot.read_bytes() for plot in (tmp_path / "report" / "plots").iterdir()}
    assert told.pop("learning_curves_train-teacher.png").startswith(b"\x89PNG")
    assert told == there, "what was drawn for the evidence is not drawn again"
    assert reading.fetched == ["http://127.0.0.1:4200/runs/1"]
    assert "b" not in reading.tags
    for words in (
        "not registered",
        "2026-01-02",
        "budget.max_size_bytes 10 20 ! missed",
        "budget.min_speedup 1 1.1 ✓ kept",
        "name: cats <b>",
        "train-teacher, by epoch",
        "0.7500",
        "90.0% of 100 multiply-accumulates in integers, and 87.5% of the kernels' time",
        "3 conversions to integers or back",
    ):
        assert "".join(words.split()) in text, words
    registered = render_page(evidence, {}, replace(about, version="models:/cats/3"))
    assert "models:/cats/3" in registered
    assert "not registered" not in registered


def test_the_page_needs_nothing_else_and_trusts_no_name(evidence):
    page = render_page(evidence, figures_of(evidence))
    reading = Reading()
    reading.feed(page)
    assert reading.fetched == []
    assert not {"script", "link", "b", "processor", "input"} & set(reading.tags)
    assert "<b>dog" not in page
    assert len(reading.ids) == len(set(reading.ids)), "no id stands twice"
    assert reading.tags.count("h1") == 1
    for words in ("94.00%", "1.20x", "QLinearConv", "its <input> is float", "Test <Processor>", "avx512_vnni", "Tango"):
        assert words in reading.text
    assert "Test <Processor> (AVX-512 VNNI)" in reading.text
    for sentence in evidence.limits:
        assert sentence in reading.text
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(drawing.replace("xlink:", ""))
        assert "var(--ink)" in drawing


def test_the_page_is_the_same_twice(evidence):
    assert render_page(evidence, figures_of(evidence)) == render_page(evidence, figures_of(evidence))


def test_a_folder_holds_all_of_it(evidence, tmp_path):
    lay_out(evidence, tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    plots = {"confusion", "confusion_teacher", "drops", "pareto", "recall_by_class", "sizes_and_latencies"}
    assert files == {"evidence.json", "index.html", *(f"plots/{name}.png" for name in plots)}


def test_r2_is_told_in_its_own_words():
    plain = {"confusion": (), "further": {"rmse": 1.0, "mae": 0.5}}
    parity = Parity(max_absolute=0.01, mean_absolute=0.001, max_relative=0.01)
    drop = Interval(low=-0.01, estimate=0.02, high=0.05)
    files = made(**plain, parity=parity), made("compressed", **plain, parity=parity, drop=drop)
    evidence = evidence_of(*files, problem="regression", score="r2", classes=())
    page = render_page(evidence, figures_of(evidence))
    assert "R² 0.9500, 0.0200 below" in page
    assert "points" not in verdicts(evidence, files[1])[0].text
    assert "Same answer" not in page


def card(evidence: Evidence, **more) -> str:
    data = DataArtifact(
        stage="prepare",
        sha256="d" * 64,
        uri="runs:/1/profile",
        run="1",
        digest="d" * 64,
        input_shapes={"": (8, 8, 1)},
        heads=(Head(problem=evidence.problem, output_shape=(2,), classes=evidence.classes),),
        counts={"train": 1200, "validation": 100, "test": 200},
        duplicates=2,
    )
    settings = {
        "name": "digits",
        "description": "",
        "types": {"": "float32"},
        "data": data,
        "lineage": {"teacher": "a" * 64},
        "links": {},
    }
    return render_card(evidence=evidence, **{**settings, **more})


def test_the_card(evidence):
    text = card(evidence, description="Reads <i>digits</i>.", links={"teacher": "http://host/run"})
    assert text.startswith("# digits\n\nReads &lt;i&gt;digits&lt;/i&gt;.\n")
    assert "(batch, 8, 8, 1)" in text
    assert "| [teacher](http://host/run) |" in text
    assert "1: $x\\_1$ \\| y." in text
    assert 'load_model("models:/digits@candidate")' in text
    for sentence in evidence.limits:
        assert sentence in text
    table = [line for line in text.splitlines() if line.startswith("| ") and "| ONNX Runtime | " in line[2:]]
    assert len(table) == 2
    assert {line.count("|") for line in table} == {10}, "nine columns, as in the header"
    assert "1.20x (1.10 to 1.30)" in table[1]
    assert not re.search(r"\n{3,}", text)


@pytest.mark.parametrize("words", [0, 3, 400])
def test_the_brief_card_has_room_in_mlflows_database(evidence, words):
    many = evidence.model_copy(update={"limits": (*evidence.limits, "A limit that is long to tell, " * words)})
    lineage = dict.fromkeys(("data", "teacher", "student", "training", "evidence"), "a" * 64)
    links = dict.fromkeys(
        lineage, "https://mlflow.example.com/#/experiments/1/runs/" + "b" * 32 + "?workflowType=machine_learning"
    )
    text = card(many, brief=True, description="What it is for. " * 50, lineage=lineage, links=links)
    assert len(text) <= 5000
    assert "## What was measured" in text
    assert "README.md" in text
    assert ("long to tell" in text) == (words == 3)
    assert not re.search(r"\n{3,}", text)


def test_the_cards_code_compiles(evidence):
    blocks = re.findall(r"```python\n(.*?)```", card(evidence), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "card", "exec")
    vector = card(evidence).replace("(1, 8, 8, 1)", "(1, 5)")
    assert "np.zeros((1, 5), dtype=np.float32)" in vector
    whole = card(evidence, types={"": "int32"})
    assert "`(batch, 8, 8, 1)` as int32" in whole
    assert "np.zeros((1, 8, 8, 1), dtype=np.int32)" in whole


def test_times_of_a_runtime_that_is_not_here_are_not_shown(evidence, tmp_path):
    elsewhere = [
        made(role, target="tensorrt", ran=False, precision=numbers)
        for role, numbers in (("teacher", "float32"), ("compressed", "int8"))
    ]
    both = evidence_of(*evidence.files, *elsewhere)
    rows = [line for line in card(both).splitlines() if "| TensorRT |" in line]
    assert len(rows) == 2
    assert all("| not run |" in line and "100 µs" not in line for line in rows)
    assert "speedup" not in figures(both, elsewhere[1])
    assert "size_bytes" in figures(both, elsewhere[1])
    (sentence,) = [verdict.text for verdict in verdicts(both, elsewhere[1]) if "not measured" in verdict.text]
    assert "TensorRT" in sentence
    assert any("are predicted to run" in verdict.text for verdict in verdicts(both, elsewhere[1]))
    lay_out(both, tmp_path)
    assert (tmp_path / "index.html").read_text().count("not run") >= 4


def test_what_was_tried_stands_on_the_page_and_the_card(evidence, tmp_path):
    tried = tuple(
        Tried(
            route=route,
            target="onnxruntime",
            precision="int8",
            accuracy=wilson(190, 200),
            drop=tango(3, 1, 200),
            size_bytes=2048,
            latency_p50=1e-4,
            speedup=Interval(low=1, estimate=1.25, high=1.5),
            integer_share=1,
            inside=route != "mixed",
            chosen=route == "static",
        )
        for route in ("student", "static", "mixed")
    )
    chosen = evidence.model_copy(update={"tried": tried})
    lay_out(chosen, tmp_path)
    assert open_evidence(tmp_path).tried == tried
    page = (tmp_path / "index.html").read_text()
    section = page[page.index("What was tried") : page.index(">Plots<")]
    assert re.findall(r'<th scope="row">(\w+)', section) == ["student", "static", "mixed"]
    assert section.count("taken</span>") == 1
    assert section.count("not kept") == 1
    assert "What was tried" not in render_page(evidence, {})


@pytest.mark.parametrize(
    ("saturates", "cell", "limit"),
    [
        (False, ">yes<", "Integers are the same on x86 with VNNI and without"),
        (
            True,
            ">no: layers conv|&lt;1&gt; can saturate on x86 without VNNI<",
            "The compressed onnxruntime int8 file answers otherwise on other processors: layers conv",
        ),
        (None, ">not looked at<", "Whether the compressed onnxruntime file has the same integers"),
    ],
)
def test_whether_integers_are_the_same_everywhere_stands_on_page_and_card(saturates, cell, limit):
    evidence = evidence_of(made(integer=False), made("compressed", precision="int8", saturates=saturates))
    assert sum(limit in sentence for sentence in evidence.limits) == 1
    page, text = render_page(evidence, {}), card(evidence)
    assert page.count(cell) == 1
    assert page.count(">no integers<") == 1, "the teacher's file"
    (verdict,) = [
        one for one in verdicts(evidence, evidence.files[1]) if "VNNI" in one.text or "not looked at" in one.text
    ]
    assert as_cell(verdict.text).split(":")[0] in as_cell(text)
    assert "Test &lt;Processor&gt; (AVX-512 VNNI)" in text
