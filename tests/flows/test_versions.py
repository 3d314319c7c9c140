"""Registered versions looked at: all, one, and two side by side, with the figures of their own evidence."""

import io
import json
import re

import pytest
from made_evidence import MACHINE, evidence_of, made
from made_versions import register
from mlflow import MlflowClient
from registered import versions
from rich.console import Console
from stores import forget

from flows import commands
from flows.version_pages import compare_page, list_page, show_page
from flows.versions import SettingDifference, compare_versions, differences, list_versions, show_version
from tasks.contract.errors import StoreError, VersionError
from tasks.store import registry, tracking

OTHER_MACHINE = MACHINE.model_copy(update={"processor": "Another", "instruction_sets": ("asimd",)})
INT8 = {"precision": "int8", "sha256": "c" * 64}
FIRST = (made(), made("compressed", lost=2, gained=1, speed=(2.5, 3.0, 3.4), **INT8))
SECOND = (
    made(),
    made("student", speed=(1.5, 1.6, 1.7)),
    made("compressed", lost=5, gained=1, speed=(3.5, 4.0, 4.4), size_bytes=8000, precision="int8"),
    made(target="litert", format="tflite"),
    made("compressed", target="litert", format="tflite", **INT8),
)


@pytest.fixture(scope="module")
def home(tmp_path_factory, empty_store):
    """Versions 1 and 2 of `made`, where 1 is the champion; version 1 of `other`, which another machine measured."""
    home = tmp_path_factory.mktemp("state")
    with versions(home, empty_store):
        register(evidence_of(*FIRST), student={"model": "cnn", "width": 0.5})
        register(evidence_of(*SECOND), student={"model": "cnn", "width": 0.25}, seed=4)
        more = {"data": "e" * 64, "machine": OTHER_MACHINE}
        register(evidence_of(*FIRST, **more), name="other", teacher={"model": "mlp"})
        registry.set_alias("made", registry.CHAMPION, 1)
        registry.set_alias("made", registry.CANDIDATE, 2)
        registry.tag_version("made", 1, {"promoted_at": "2026-01-02T03:04:05+00:00", "promoted_by": "http://run/1"})
        registry.tag_version("made", 1, {"promoted_note": "", "approved_by": "Ada [bold]L.[/bold]"})
        registry.tag_version("made", 1, {"deployed.docker": "sha256 abc"})
        yield home


def printed(page, *parts, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    page(console, *parts)
    return console.file.getvalue()


def test_every_version_is_listed_the_newest_first_with_all_its_aliases(home):
    listed = list_versions()
    assert [version.uri for version in listed] == ["models:/made/2", "models:/made/1", "models:/other/1"]
    assert [version.aliases for version in listed] == [("candidate",), ("champion",), ("candidate",)]
    assert [version.uri for version in list_versions("other")] == ["models:/other/1"]


def test_figures_are_those_of_the_evidence(home):
    version = list_versions("made")[0]
    recorded = SECOND[2]
    assert [(file.role, file.target) for file in version.figures] == [(file.role, file.target) for file in SECOND]
    assert version.default == version.figures[2], "what MLflow asks: the file for ONNX Runtime that ships"
    assert (version.default.score, version.default.score_low) == (recorded.accuracy.estimate, recorded.accuracy.low)
    assert (version.default.drop_low, version.default.drop_high) == (recorded.drop.low, recorded.drop.high)
    assert (version.default.speedup_low, version.default.speedup_high) == (3.5, 4.4)
    assert (version.default.size_bytes, version.default.integer_share) == (8000, recorded.integer_share)


def test_more_versions_than_a_page_of_the_registry_are_all_listed(home, monkeypatch):
    search = MlflowClient.search_model_versions
    monkeypatch.setattr(
        MlflowClient, "search_model_versions", lambda *a, **more: search(*a, **{**more, "max_results": 1})
    )
    assert len(list_versions()) == 3


def test_one_is_shown_with_recipe_origin_and_evidence(home):
    shown = show_version("models:/made@champion")
    assert (shown.uri, shown.version, shown.aliases) == ("models:/made/1", 1, ("champion",))
    assert shown.settings == {"student.model": "cnn", "student.width": "0.5"}, "what nobody has set is not listed"
    assert set(shown.parents) == {"teacher"}
    assert shown.promoted == {"at": "2026-01-02T03:04:05+00:00", "by": "http://run/1"}
    assert shown.approved_by == "Ada [bold]L.[/bold]"
    assert shown.deployed == {"docker": "sha256 abc"}
    for place in (shown.evidence, shown.recipe):
        assert place.startswith(str(home))
        assert tracking.Path(place).is_file()


def test_two_differ_in_these_settings_and_nothing_else(home):
    both = compare_versions("models:/made@champion", "models:/made/2")
    assert [version.version for version in both.versions] == [1, 2]
    assert both.recipe == (
        SettingDifference(setting="seed", values=("0", "4")),
        SettingDifference(setting="student.width", values=("0.5", "0.25")),
    )
    notes = "\n".join(both.notes)
    assert "the same 200 test examples" in notes
    assert "not side by side" in notes
    assert "byte for byte" not in notes
    assert "Their teachers" not in notes


def test_what_cannot_be_compared_is_said(home):
    notes = "\n".join(compare_versions("models:/made/1", "models:/other/1").notes)
    assert "measured on other data" in notes
    assert "other processors, Test <Processor> (AVX-512 VNNI) and Another (NEON): their times cannot" in notes
    assert "Their teachers are not the same" in notes
    assert "Their onnxruntime files are the same, byte for byte." in notes


def test_settings_of_another_slimline_are_differences_too():
    one, other = {"a": {"b": 1, "c": [1, 2]}, "gone": True}, {"a": {"b": 2, "c": [1, 2]}, "new": {}}
    assert differences(one, other) == [
        SettingDifference(setting="a.b", values=("1", "2")),
        SettingDifference(setting="gone", values=("true", None)),
        SettingDifference(setting="new", values=(None, "{}")),
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: list_versions("maed"), "no such registered model. Did you mean made?.*: made, other"),
        (lambda: show_version("models:/maed@champion"), "no such version. Did you mean made?"),
        (lambda: show_version("models:/made@nobody"), "Aliases of made: candidate is 2, champion is 1"),
        (lambda: show_version("made"), "give it as models:/NAME@ALIAS or models:/NAME/3"),
        (lambda: compare_versions("models:/made/1", "models:/made@champion"), "leads to made version 1, as models"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(home, call, message):
    with pytest.raises(VersionError, match=message):
        call()


def test_a_store_that_is_not_there_is_not_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLIMLINE_HOME", str(tmp_path))
    forget()
    assert commands.list_versions("", as_json=False) == 0
    assert f"Nothing is registered in sqlite:///{tmp_path}/mlflow.db" in capsys.readouterr().out
    with pytest.raises(VersionError, match="Nothing is registered in sqlite:"):
        show_version("models:/made/1")
    assert list(tmp_path.iterdir()) == []
    forget()


@pytest.fixture
def damaged(tmp_path, empty_store, store):
    """Version 1, whose evidence was changed on the disk after it was registered; version 2 is another program's."""
    register(evidence_of(*FIRST))
    file = tracking.download("models:/made/1/evidence") / "evidence.json"
    file.write_text(file.read_text().replace('"size_bytes": 10000', '"size_bytes": 1000'))
    source = tracking.client().get_model_version("made", "1").source
    tracking.client().create_model_version("made", source)


def test_changed_evidence_gives_no_figures(damaged, capsys):
    foreign, changed = list_versions()
    assert changed.problem.startswith("its evidence is not what was registered: sha256 ")
    assert foreign.problem == "has no evidence: Slimline did not register it"
    assert (changed.figures, changed.default) == ((), None)
    assert commands.show_version("models:/made/1", as_json=False) == 1
    assert "its evidence is not what was registered" in capsys.readouterr().out
    with pytest.raises(StoreError, match="models:/made/1: its evidence is not"):
        compare_versions("models:/made/1", "models:/made/2")
    assert commands.list_versions("", as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("made version 1: its evidence is not what was registered") for line in lines)


def test_a_changed_recipe_is_no_recipe(store):
    register(evidence_of(*FIRST))
    file = tracking.download("models:/made/1/recipe.yaml")
    file.write_text(file.read_text().replace("seed: 0", "seed: 9"))
    shown = show_version("models:/made/1")
    assert shown.problem.startswith("its recipe is not what was registered")
    assert shown.settings == {}


def test_a_store_is_named_as_it_is_set_without_a_password(monkeypatch):
    for uri, named in (
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("https://user:secret@host:5000/at", "https://host:5000/at"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert registry.place() == named


def test_programs_get_one_json_object(home, capsys):
    commands.list_versions("made", as_json=True)
    listed = json.loads(capsys.readouterr().out)["versions"]
    assert [version["default"]["drop_high"] for version in listed] == [SECOND[2].drop.high, FIRST[1].drop.high]
    assert commands.show_version("models:/made/1", as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["student.width"] == "0.5"
    commands.compare_versions("models:/made/1", "models:/made/2", as_json=True)
    assert json.loads(capsys.readouterr().out)["recipe"][0] == {"setting": "seed", "values": ["0", "4"]}


@pytest.mark.parametrize("width", [40, 80, 200])
def test_pages_fit_and_no_figure_is_cut_off(home, width):
    list_text = printed(list_page, list_versions(), "the store", width=width)
    show_text = printed(show_page, show_version("models:/made/2"), width=width)
    both = compare_versions("models:/made/1", "models:/made/2")
    compare_text = printed(compare_page, both, width=width)
    for text in (list_text, show_text, compare_text):
        copied = re.compile(r"^  (/|http)")  # paths and addresses are one line each, to be copied
        assert [line for line in text.splitlines() if len(line.rstrip()) > width and not copied.match(line)] == []
    assert list_text.count("+0.020 (-0.006 to +0.053)") == 1
    for figure in ("made 1", "champion", "accuracy 0.9300", "7.8 KiB", "4.00x", "90.0%"):
        assert figure in list_text
    for figure in ("student", "litert", "1.60x", "+0.020 (-0.006 to +0.053)"):
        assert figure in " ".join(show_text.split())
    for figure in ("4.00x (3.50 to 4.40)", "3.00x (2.50 to 3.40)", "0.9300 (0.8859 to 0.9578)", "no file", "0.25"):
        assert figure in " ".join(compare_text.split())
