"""The evidence can be checked by its specification alone: its programs, on a version that was really registered."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import ROOT, blocks
from registered import RECIPE, versions

PAGE = ROOT / "docs" / "evidence.md"
PROGRAMS = {block.file: block.text for block in blocks(PAGE) if block.file}


@pytest.fixture(scope="module")
def version(tmp_path_factory, prefect_server, empty_store) -> tuple[Path, dict[str, str]]:
    """A version's folder and tags, taken from MLflow as the page says."""
    home = tmp_path_factory.mktemp("home")
    download = next(block.text for block in blocks(PAGE) if "download_artifacts" in block.text)
    download = download.replace("digits", "tiny").replace("champion", "candidate")
    taken: dict = {}
    made = {"quantize": {"method": "post_training", "calibration_examples": 64}, "targets": ["onnxruntime", "litert"]}
    with versions(home, empty_store, {**made, "budget": {"max_accuracy_drop": 1}}):
        from tasks.store import tracking

        tracking.client()  # which tells MLflow where the store is
        exec(download.replace('"version"', repr(str(home / "version"))), taken)
    return Path(taken["folder"]), taken["tags"]


def program(name: str) -> dict:
    names: dict = {}
    exec(PROGRAMS[name], names)
    return names


def recheck(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the program that the page has, given a version's folder."""
    monkeypatch.setattr(sys, "argv", ["recheck.py", str(folder)])
    with pytest.raises(SystemExit) as ended:
        exec(PROGRAMS["recheck.py"], {})
    return int(ended.value.code)


def test_the_digests_are_those_of_standard_tools(version):
    folder, tags = version
    done = subprocess.run(["bash", "-e", "-c", PROGRAMS["digests.sh"]], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    evidence = json.loads((folder / "evidence" / "evidence.json").read_text())
    files = {file["target"]: file["sha256"] for file in evidence["files"] if file["shipped"]}
    assert done.stdout.split() == [
        files["onnxruntime"],
        files["litert"],
        tags["slimline.evidence"],
        tags["slimline.recipe"],
    ]
    content = program("content_digest.py")["content_digest"]
    assert content(files, tags["slimline.recipe"], tags["slimline.data"]) == tags["slimline.content"]


@pytest.mark.parametrize(
    "changed", [{}, {"problem": "reconstruction"}, {"limit": 300, "split_seed": 7}], ids=["classes", "images", "drawn"]
)
def test_the_datas_digest_follows_from_the_data(changed):
    from tasks.data import SPLITS, DataConfig, open_data

    data = open_data(DataConfig(**{**RECIPE["data"], **changed}))
    splits = {split: (np.concatenate([x for x, _ in data.examples(split)]), data.targets[split]) for split in SPLITS}
    digest = program("data_digest.py")["data_digest"]
    assert digest(data.config.problem, data.classes, splits) == data.digest
    splits["test"] = splits["test"][0][::-1], splits["test"][1]
    assert digest(data.config.problem, data.classes, splits) != data.digest


def test_the_versions_data_have_that_digest(version):
    from tasks.data import DataConfig, open_data

    assert open_data(DataConfig(**RECIPE["data"])).digest == version[1]["slimline.data"]


def test_everything_is_as_recorded(version, tmp_path):
    (tmp_path / "recheck.py").write_text(PROGRAMS["recheck.py"])
    command = [sys.executable, "recheck.py", str(version[0])]  # where there is no Slimline
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything that was checked is as recorded" in done.stdout


def other(file: dict, what: str) -> None:
    """Change one figure of a file a little."""
    if what == "confusion":
        file["confusion"][0][0] -= 1
        file["confusion"][0][1] += 1
    elif what == "integer":
        layer = max(file["audit"]["layers"], key=lambda layer: layer["macs"])
        layer["integer"] = not layer["integer"]
    elif what.startswith("drop."):
        file["drop"][what.removeprefix("drop.")] *= 1.02
    else:
        file[what] += 1


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("confusion", "accuracy"),
        ("integer", "integer_share"),
        ("drop.high", "drop.high"),
        ("drop.low", "drop.low"),
        ("lost", "drop"),
        ("size_bytes", "size_bytes"),
        ("macs", "macs"),
    ],
)
def test_a_figure_that_was_changed_is_found(version, tmp_path, monkeypatch, capsys, what, named):
    folder = tmp_path / "version"
    shutil.copytree(version[0], folder)
    place = folder / "evidence" / "evidence.json"
    evidence = json.loads(place.read_text())
    other(next(file for file in evidence["files"] if file["shipped"]), what)
    place.write_text(json.dumps(evidence))
    assert recheck(folder, monkeypatch) == 1
    said = capsys.readouterr().out
    assert re.search(rf"^(compressed )?onnxruntime {named}", said, re.MULTILINE), said


def test_answers_that_were_changed_are_found(version, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "version"
    shutil.copytree(version[0], folder)
    with np.load(folder / "sample.npz") as sample:
        arrays = dict(sample)
    arrays["onnxruntime"][3] = arrays["onnxruntime"][3][::-1]
    np.savez_compressed(folder / "sample.npz", **arrays)
    assert recheck(folder, monkeypatch) == 1
    assert "answers to sample.npz" in capsys.readouterr().out


def test_the_schema_is_printed():
    command = next(block.text for block in blocks(PAGE) if "model_json_schema" in block.text)
    code = re.search(r'python -c "(.*)"', command).group(1)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert json.loads(done.stdout)["title"] == "Evidence", done.stderr
