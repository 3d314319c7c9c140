"""A user's functions come from the user's files, whatever these are called; in processes of their own."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tasks.contract import own_function

ROOT = Path(__file__).parents[2]
ASK = """
import hashlib, json, sys
from tasks.contract import own_function
answers = {}
for name in sys.argv[1:]:
    function = own_function.load(name)
    answers[name] = [function(), str(own_function.source_of(name)), function.__module__]
import flows.servers, flows.check, statistics, tasks.zoo, tasks.data
ours = [flows.__file__, tasks.__file__, statistics.__file__]
print(json.dumps([answers, ours]))
"""


def ask(folder: Path, *names: str) -> tuple[dict, list[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", ASK, *names]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_files_with_our_names_are_the_users_and_ours_stay_ours(tmp_path):
    write(tmp_path / "tasks.py", "import helper\ndef build(): return helper.WHAT")
    write(tmp_path / "helper.py", "WHAT = 'theirs'")
    write(tmp_path / "flows" / "__init__.py", "from . import part\ndef build(): return part.WHAT")
    write(tmp_path / "flows" / "part.py", "WHAT = 'a part of theirs'")
    write(tmp_path / "flows" / "deep" / "er.py", "def build(): return 'deep'")
    write(tmp_path / "statistics.py", "def build(): return 'of no use to Python'")
    write(tmp_path / "shapes.py", "def build(): return 'plain'")
    names = ["tasks:build", "flows:build", "flows.deep.er:build", "statistics:build", "shapes:build"]
    answers, ours = ask(tmp_path, *names)
    assert [answers[name][0] for name in names] == [
        "theirs",
        "a part of theirs",
        "deep",
        "of no use to Python",
        "plain",
    ]
    assert all(Path(answers[name][1]).is_relative_to(tmp_path) for name in names)
    assert answers["shapes:build"][2] == "shapes", "where nothing stands in its way a module keeps its name"
    assert [Path(file).is_relative_to(tmp_path) for file in ours] == [False, False, False]
    assert Path(ours[1]) == ROOT / "tasks" / "__init__.py"


def test_an_installed_module_is_found_too(tmp_path):
    answers, _ = ask(tmp_path, "uuid:getnode")
    assert Path(answers["uuid:getnode"][1]) == Path(uuid.__file__)


def test_a_file_that_changed_is_run_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for value in ("one", "three"):
        write(tmp_path / "changes_while_we_run.py", f"def build(): return {value!r}")
        assert own_function.load("changes_while_we_run:build")() == value


def test_the_same_name_in_another_folder_is_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("a", "b"):
        write(tmp_path / name / "stands_in_two_folders.py", f"def build(): return {name!r}")
        monkeypatch.chdir(tmp_path / name)
        assert own_function.load("stands_in_two_folders:build")() == name
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not folder.startswith(str(tmp_path))])
    with pytest.raises(ModuleNotFoundError, match="no module stands_in_two_folders here"):
        own_function.load("stands_in_two_folders:build")


def test_a_package_that_cannot_import_itself_under_our_name_says_so(tmp_path, monkeypatch):
    write(tmp_path / "tasks" / "__init__.py", "from tasks.own_layers import build")
    write(tmp_path / "tasks" / "own_layers.py", "def build(): return 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ImportError, match=r"import its own parts relatively, such as `from \.layers import"):
        own_function.load("tasks:build")


def test_where_a_neighbour_stands_last_libraries_find_their_own(tmp_path, monkeypatch):
    write(tmp_path / "stands_beside.py", "def build(): return 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    own_function.load("stands_beside:build")
    assert sys.path[-1] == str(tmp_path)
    assert str(tmp_path) not in sys.path[:-1]
