import subprocess
import sys
import threading

import pytest

from tasks.contract.state_folder import alone

COUNT = """
import sys
from pathlib import Path
from tasks.contract.state_folder import alone

folder = Path(sys.argv[1])
for _ in range(200):
    with alone(folder / "one.lock", lambda: None):
        count = folder / "count"
        count.write_text(str(int(count.read_text()) + 1))
"""

HOLD = """
import sys, time
from pathlib import Path
from tasks.contract.state_folder import alone

with alone(Path(sys.argv[1]) / "one.lock", lambda: None):
    print("held", flush=True)
    time.sleep(600)
"""


def test_one_at_a_time_though_the_file_comes_and_goes(tmp_path):
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "count").read_text() == "800"
    assert [file.name for file in tmp_path.iterdir()] == ["count"]


def test_whoever_waits_is_told_once_and_let_in_after_a_failure(tmp_path):
    waits, done = threading.Event(), threading.Event()

    def second():
        with alone(tmp_path / "deep" / "one.lock", waits.set):
            done.set()

    thread = threading.Thread(target=second)

    def first():
        with alone(tmp_path / "deep" / "one.lock", lambda: None):
            thread.start()
            assert waits.wait(60)
            assert not done.is_set()
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        first()
    assert done.wait(60)
    thread.join()


def test_a_killed_holder_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    assert (tmp_path / "one.lock").exists()
    with alone(tmp_path / "one.lock", lambda: None):
        pass
    assert not (tmp_path / "one.lock").exists()
