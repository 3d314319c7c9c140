"""Evidence as it is kept: JSON that stays, and what its figures come to in words."""

import json

import pytest
from made_evidence import MACHINE, evidence_of, made, measured
from pydantic import ValidationError

from tasks.contract.errors import StoreError
from tasks.evidence.disclosure import limits
from tasks.evidence.evidence import Evidence, figures, headline, open_evidence, write_evidence
from tasks.evidence.page import as_cell, duration, size, verdicts
from tasks.measuring.intervals import Interval
from tasks.measuring.machine import describe_machine


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
    logged = figures(evidence, evidence.files[1])
    assert logged["accuracy"] == 0.94
    assert logged["drop_high"] == evidence.files[1].drop.high
    assert logged["latency_p50_ms"] == pytest.approx(0.1)
    assert all(isinstance(value, int | float) for value in logged.values())


def test_the_headline_is_that_of_what_ships():
    several = evidence_of(
        made(target="litert"),
        made("compressed", target="litert", size_bytes=5_000, lost=4),
        made(),
        made("compressed", lost=3, gained=1, speed=(1.1, 1.2, 1.3)),
        made(target="tensorrt", ran=False),
        made("compressed", target="tensorrt", ran=False),
    )
    shown = headline(several)
    names = {"accuracy", "drop", "drop_high", "size_bytes", "size_ratio", "latency_p50_ms", "speedup", "integer_share"}
    assert {name for name in shown if "/" not in name} == names
    assert {name: shown[name] for name in names} == {name: shown[f"onnxruntime/{name}"] for name in names}
    assert (shown["size_ratio"], shown["speedup"], shown["drop"]) == (4, 1.2, pytest.approx(0.01))
    assert (shown["litert/size_ratio"], shown["litert/drop"]) == (8, pytest.approx(0.02))
    assert {name for name in shown if name.startswith("tensorrt/")} == {
        f"tensorrt/{name}" for name in names - {"latency_p50_ms", "speedup"}
    }


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


def test_numbers_as_people_say_them():
    assert [size(count) for count in (512, 2048, 3 * 2**20)] == ["512 B", "2.0 KiB", "3.0 MiB"]
    assert [duration(seconds) for seconds in (2.5, 0.0123, 87e-6)] == ["2.5 s", "12.3 ms", "87 µs"]
    assert as_cell("a|b\n*c* <d>") == "a\\|b \\*c\\* &lt;d&gt;"


def test_limits_follow_from_what_was_measured():
    teacher, busy = (
        made(),
        MACHINE.model_copy(update={"load_after": 9.0, "virtual": False, "instruction_sets": ("avx2",)}),
    )
    text = " ".join(limits([teacher, made("compressed")], {"": measured("classification", 200)}, 900, busy, 0.95, 1000))
    for words in (
        "200 of 900 test examples, drawn",
        "are few",
        "was busy",
        "Only 500 of 1000",
        "instruction sets (AVX2, no VNNI)",
    ):
        assert words in text
    assert "virtual" not in text
    calm = " ".join(limits([teacher], {"": measured("regression", 5000)}, 5000, MACHINE, 0.95, 500))
    assert "virtual" in calm
    for words in ("first", "are few", "busy", "Only"):
        assert words not in calm


def test_a_file_for_tensorrt_is_said_not_to_have_run_there():
    elsewhere = [made(target="tensorrt"), made("compressed", target="tensorrt", precision="int8")]
    text = " ".join(limits(elsewhere, {"": measured("classification", 900)}, 900, MACHINE, 0.95, 500))
    for words in ("were not run in TensorRT", "ONNX Runtime on this machine's processor", "static check of the file"):
        assert words in text
    assert "TensorRT" not in " ".join(limits([made()], {"": measured("classification", 900)}, 900, MACHINE, 0.95, 500))
    assert "TensorRT's documented rules" in evidence_of(made()).methods["multiply-accumulates"]


def test_the_machine_is_described():
    machine = describe_machine(0.5)
    assert machine.processor
    assert machine.load_before == 0.5
    assert machine.memory_bytes > 2**28
    assert {"numpy", "onnxruntime", "tensorflow"} <= set(machine.libraries)


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
