"""The budget for integers that are the same on every processor, on figures that are made up."""

import pytest
from made_evidence import evidence_of, made

from flows.budget import breaches, hold, limits
from flows.report import Measured
from tasks.contract.budget import Budget
from tasks.contract.errors import BudgetNotKept
from tasks.formats.audit import Audit, LayerAudit, named, saturation_note

LOOSE = {"max_accuracy_drop": 1}


def evidence(*files):
    return evidence_of(made(integer=False), *(made("compressed", precision="int8", **each) for each in files))


def shown() -> Measured:
    nothing = dict.fromkeys(("name", "score", "flow_run", "flow_run_url", "mlflow_run", "mlflow_url"), "")
    return Measured(**nothing, evidence="/there/index.html", figures=[], limits=[])


def test_a_file_that_can_saturate_is_refused_by_default():
    with pytest.raises(
        BudgetNotKept, match=r"every_processor = true: the onnxruntime file .* layers conv\|<1> can saturate"
    ) as caught:
        hold(Budget(**LOOSE), 0, evidence({"saturates": True}), shown)
    for way_out in ("quantize.method", "budget.every_processor: false"):
        assert way_out in str(caught.value)
    assert str(caught.value).endswith("The evidence: /there/index.html")
    assert caught.value.result == shown()


def test_a_teacher_that_only_guesses_is_kept_up_with_by_anything():
    measured = evidence({})
    poor = measured.model_copy(update={"reference": measured.reference.model_copy(update={"guessing": 0.99})})
    with pytest.raises(BudgetNotKept, match=r"teacher\.floor: .* is 0\.9500 .* better than guessing, 0\.9900"):
        hold(Budget(**LOOSE), 0, poor, shown)
    with pytest.raises(BudgetNotKept, match=r"to be 0\.96"):
        hold(Budget(**LOOSE), 0.96, measured, shown)
    hold(Budget(**LOOSE), -1, poor, shown)
    hold(Budget(**LOOSE), 0.95, measured, shown)


def test_a_file_whose_sums_are_rounded_apart_is_refused_by_name():
    (breach,) = breaches(Budget(**LOOSE), evidence({"apart": ("add_1",)}))
    assert "sums add_1" in breach
    assert "unsigned" not in breach, "that is no way out of this"


@pytest.mark.parametrize("saturates", [False, None])
def test_what_cannot_or_was_not_looked_at_passes(saturates):
    assert breaches(Budget(**LOOSE), evidence({"saturates": saturates})) == []


def test_it_can_be_allowed():
    assert breaches(Budget(**LOOSE, every_processor=False), evidence({"saturates": True})) == []


def test_every_file_that_ships_is_held_to_it_and_no_other():
    several = evidence_of(
        made(integer=False),
        made("student", precision="int8", saturates=True),
        made("compressed", precision="int8"),
        made(integer=False, target="tensorrt"),
        made("compressed", precision="int8", saturates=True, target="tensorrt"),
    )
    (breach,) = breaches(Budget(**LOOSE), several)
    assert "the tensorrt file" in breach


def test_many_layers_are_named_by_the_first_five():
    assert named(list("abcde")) == "a, b, c, d, e"
    assert named(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_what_an_audit_says_of_processors():
    def audit(*saturates, apart=()):
        return Audit(
            layers=[
                LayerAudit(name=f"l{i}", kernel="k", macs=1, integer=True, saturates=s) for i, s in enumerate(saturates)
            ],
            kernels={},
            sums_apart=apart,
        )

    assert [audit(*each).everywhere for each in ((False, False), (False, None), (None, True))] == [True, None, False]
    assert audit(False, True, True).everywhere_in_words == "no: layers l1, l2 can saturate on x86 without VNNI"
    assert audit(False).everywhere_in_words == "yes"
    assert audit(None).everywhere_in_words == "not looked at"
    assert audit(False, apart=None).everywhere is None
    assert audit(False, apart=("add",)).everywhere is False
    assert "no: sums add are rounded" in audit(False, apart=("add",)).everywhere_in_words


def test_people_are_told_of_here_and_there():
    assert saturation_note("the file", (), here=True) == ""
    assert "answers right here" in saturation_note("the file", ("a",), here=False)
    assert "opens it with unsigned weights" in saturation_note("the file", ("a",), here=True)


def test_every_limit_that_is_set_is_shown_beside_what_was_measured():
    measured = evidence({"lost": 3, "gained": 1, "size_bytes": 10_000, "saturates": True})
    budget = Budget(max_accuracy_drop=0, min_size_ratio=4.0, max_size_bytes=9_999, min_speedup=0)
    lines = {line.field: line for line in limits(budget, 0.96, measured)}
    assert {field: line.kept for field, line in lines.items()} == {
        "teacher.floor": False,
        "budget.max_accuracy_drop": False,
        "budget.max_size_bytes": False,
        "budget.min_size_ratio": True,
        "budget.every_processor": False,
    }
    assert (lines["budget.max_size_bytes"].limit, lines["budget.max_size_bytes"].measured) == ("9,999", "10,000")
    assert lines["budget.min_size_ratio"].measured == "4.00"
    assert lines["budget.max_accuracy_drop"].measured == f"{measured.files[1].drop.high:.4f}"
    assert lines["budget.every_processor"].measured == "1 of 1 files differ"
    assert all(line.kept for line in limits(Budget(**LOOSE, every_processor=False), 0, measured))
