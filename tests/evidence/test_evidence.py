"""Evidence as it is kept and as it is read: JSON that stays, a page and a card that say what the figures say."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from made_evidence import MACHINE, evidence_of, made
from pydantic import ValidationError

from tasks.contract.errors import StoreError
from tasks.data.artifact import DataArtifact
from tasks.evidence.disclosure import limits, methods
from tasks.evidence.evidence import Evidence, Tried, figures, open_evidence, write_evidence
from tasks.evidence.page import as_cell, duration, figures_of, lay_out, render_card, render_page, size, verdicts
from tasks.measuring.intervals import Interval, tango, wilson
from tasks.measuring.machine import describe_machine
from tasks.measuring.scores import Parity


@pytest.fixture
def evidence() -> Evidence:
    return evidence_of(
        made(integer=False), made("compressed", lost=3, gained=1, speed=(1.1, 1.2, 1.3), precision="int8", integer=True)
    )


def test_it_comes_back_as_it_went(evidence, tmp_path):
    write_evidence(evidence, tmp_path)
    text = (tmp_path / "evidence.json").read_text()
    assert open_evidence(tmp_path) == evidence
    write_evidence(open_evidence(tmp_path), tmp_path)
    assert (tmp_path / "evidence.json").read_text() == text
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert content["schema_version"] == 1
    assert content["files"][1]["throughput"]["examples_per_second"] == 12345.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "no evidence can be read"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 9'), "schema version 9"),
        (lambda text: text.replace('"seed": 0', '"sed": 0'), "damaged"),
        (lambda text: text.replace('"seed": 0', '"seed": NaN'), "damaged"),
        (lambda text: "[]", "schema version None"),
    ],
)
def test_what_is_no_evidence_is_refused(evidence, tmp_path, change, message):
    write_evidence(evidence, tmp_path)
    file = tmp_path / "evidence.json"
    file.write_text(change(file.read_text()))
    with pytest.raises(StoreError, match=message):
        open_evidence(tmp_path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(StoreError, match=r"evidence\.json"):
        open_evidence(tmp_path)


def test_nan_never_gets_in():
    with pytest.raises(ValidationError):
        Interval(low=float("nan"), estimate=0, high=0)


def test_figures_for_the_store(evidence):
    logged = figures(evidence.files[1], "accuracy")
    assert logged["accuracy"] == 0.94
    assert logged["drop_worst"] == evidence.files[1].drop.high
    assert logged["latency_p50_ms"] == pytest.approx(0.1)
    assert all(isinstance(value, int | float) for value in logged.values())


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"lost": 3, "gained": 1}, "open", "1.00 points below the teacher's, which may be chance"),
        ({"lost": 20}, "bad", "10.00 points below"),
        ({"gained": 8}, "good", "4.00 points above"),
        ({}, "open", "the same as the teacher's"),
        ({"speed": (1.1, 1.2, 1.3)}, "good", "1.20 times as fast"),
        ({"speed": (0.7, 0.8, 0.9)}, "bad", "slower than the teacher"),
        ({"speed": (0.9, 1.0, 1.1)}, "open", "no difference is shown"),
        ({"size_bytes": 80_000}, "bad", "2.0 times larger"),
        ({"precision": "int8"}, "good", "90.0% of its multiply-accumulates"),
        ({"precision": "int8", "integer": False}, "bad", "int8 by name"),
        ({"precision": "int8"}, "good", "the same on x86 with VNNI and without, and on ARM64"),
        ({"precision": "int8", "saturates": True}, "bad", "layers conv|<1> can saturate on x86 without VNNI."),
        ({"precision": "int8", "apart": ("add",)}, "bad", "otherwise on other processors: sums add are rounded"),
        ({"precision": "int8", "saturates": None}, "open", "was not looked at"),
        ({"agree": 0.9}, "bad", "10.0% of the examples otherwise"),
        ({"lost": 20}, "bad", "fell most: 20.0 points of recall, which are 20 examples"),
    ],
)
def test_verdicts_say_what_the_figures_say(changes, kind, words):
    file = made("compressed", **changes)
    sentences = verdicts(evidence_of(made(), file), file)
    assert [one.kind for one in sentences if words in one.text] == [kind], [one.text for one in sentences]


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
    plots = {"confusion", "confusion_teacher", "drops", "sizes_and_latencies"}
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
        input_shape=(8, 8, 1),
        output_shape=(2,),
        classes=evidence.classes,
        counts={"train": 1200, "validation": 100, "test": 200},
        duplicates=2,
    )
    settings = {"name": "digits", "description": "", "data": data, "lineage": {"teacher": "a" * 64}, "links": {}}
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
    links = dict.fromkeys(lineage, "https://mlflow.example.com/#/experiments/1/runs/" + "b" * 32)
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
    assert "np.zeros((1, 5)" in vector


def test_numbers_as_people_say_them():
    assert [size(count) for count in (512, 2048, 3 * 2**20)] == ["512 B", "2.0 KiB", "3.0 MiB"]
    assert [duration(seconds) for seconds in (2.5, 0.0123, 87e-6)] == ["2.5 s", "12.3 ms", "87 µs"]
    assert as_cell("a|b\n*c* <d>") == "a\\|b \\*c\\* &lt;d&gt;"


def test_limits_follow_from_what_was_measured():
    teacher, busy = (
        made(),
        MACHINE.model_copy(update={"load_after": 9.0, "virtual": False, "instruction_sets": ("avx2",)}),
    )
    text = " ".join(limits([teacher, made("compressed")], "classification", 200, 900, busy, 0.95, 1000))
    for words in (
        "200 of 900 test examples, drawn",
        "are few",
        "was busy",
        "Only 500 of 1000",
        "instruction sets (AVX2, no VNNI)",
    ):
        assert words in text
    assert "virtual" not in text
    calm = " ".join(limits([teacher], "regression", 5000, 5000, MACHINE, 0.95, 500))
    assert "virtual" in calm
    for words in ("first", "are few", "busy", "Only"):
        assert words not in calm


def test_a_file_for_tensorrt_is_said_not_to_have_run_there():
    elsewhere = [made(target="tensorrt"), made("compressed", target="tensorrt", precision="int8")]
    text = " ".join(limits(elsewhere, "classification", 900, 900, MACHINE, 0.95, 500))
    for words in ("were not run in TensorRT", "ONNX Runtime on this machine's processor", "static check of the file"):
        assert words in text
    assert "TensorRT" not in " ".join(limits([made()], "classification", 900, 900, MACHINE, 0.95, 500))
    assert "TensorRT's documented rules" in methods("classification", 1, 64, 20)["multiply-accumulates"]


def test_the_machine_is_described():
    machine = describe_machine(0.5)
    assert machine.processor
    assert machine.load_before == 0.5
    assert machine.memory_bytes > 2**28
    assert {"numpy", "onnxruntime", "tensorflow"} <= set(machine.libraries)


def test_times_of_a_runtime_that_is_not_here_are_not_shown(evidence, tmp_path):
    elsewhere = [
        made(role, target="tensorrt", ran=False, precision=numbers)
        for role, numbers in (("teacher", "float32"), ("compressed", "int8"))
    ]
    both = evidence_of(*evidence.files, *elsewhere)
    data = DataArtifact(
        stage="prepare",
        sha256="c" * 64,
        uri="runs:/a/b",
        run="a",
        digest="d" * 64,
        input_shape=(8, 8, 1),
        output_shape=(2,),
        counts={"train": 1000, "validation": 100, "test": 200},
    )
    card = render_card(name="digits", description="", evidence=both, data=data, lineage={}, links={})
    rows = [line for line in card.splitlines() if "| TensorRT |" in line]
    assert len(rows) == 2
    assert all("| not run |" in line and "100 µs" not in line for line in rows)
    assert "speedup" not in figures(elsewhere[1], "accuracy")
    assert "size_bytes" in figures(elsewhere[1], "accuracy")
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


def test_evidence_of_before_is_read_as_not_looked_at(evidence, tmp_path):
    write_evidence(evidence, tmp_path)
    file = tmp_path / "evidence.json"
    before = json.loads(file.read_text())
    for each in before["files"]:
        for layer in each["audit"]["layers"]:
            del layer["saturates"]
        del each["audit"]["sums_apart"]
    file.write_text(json.dumps(before))
    assert {each.audit.everywhere for each in open_evidence(tmp_path).files} == {None}
