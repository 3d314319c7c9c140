import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest

from tasks.contract.state_folder import alone

COUNT = """
import sys, threading
from pathlib import Path
from tasks.contract.state_folder import alone

folder = Path(sys.argv[1])

def count():
    for _ in range(100):
        with alone(folder / "one.lock", lambda: None):
            file = folder / "count"
            file.write_text(str(int(file.read_text()) + 1))

threads = [threading.Thread(target=count) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

LOCK = """
import os, sys, time
from pathlib import Path
from tasks.contract.state_folder import alone

with alone(Path(sys.argv[1]) / "one.lock", lambda: None):
    if not os.fork():  # it speaks itself: until it runs it holds what its parent had open
        print(os.getpid(), flush=True)
    time.sleep(600)
"""


def test_one_thread_of_one_process_at_a_time_though_the_file_comes_and_goes(tmp_path):
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


def test_what_a_killed_process_had_locked_is_free_though_its_child_lives(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", LOCK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert (tmp_path / "one.lock").exists()
    waited = threading.Event()
    with alone(tmp_path / "one.lock", waited.set):
        os.kill(child, signal.SIGKILL)  # which also says that it lived until now
    assert not waited.is_set()
    assert not (tmp_path / "one.lock").exists()


def test_a_thread_that_would_wait_for_itself_is_refused(tmp_path):
    file = tmp_path / "one.lock"
    with alone(file, lambda: None), pytest.raises(RuntimeError, match="this thread"), alone(file, lambda: None):
        pass
    assert not (tmp_path / "one.lock").exists()


def test_a_file_system_that_cannot_lock_is_refused(tmp_path, monkeypatch):
    """As some over the network are: a mark in a lock's place would outlive a process that was killed."""

    def unable(descriptor, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unable)
    with pytest.raises(OSError, match="not implemented"), alone(tmp_path / "one.lock", lambda: None):
        pass
