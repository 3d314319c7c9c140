"""The process that runs, by a name that no other one has had."""

import os
import socket
from datetime import UTC, datetime
from functools import cache

import psutil


@cache
def this_process() -> str:
    """Its machine's name, its number, and when it began: numbers are used again."""
    return f"{this_machine()} {os.getpid()} {_began(psutil.Process())}"


@cache
def this_machine() -> str:
    """The host, and which table of processes its numbers are from: containers may share a host's name."""
    namespace = os.stat("/proc/self/ns/pid").st_ino if os.path.exists("/proc/self/ns/pid") else 0
    return f"{socket.gethostname()}/{namespace}"


def is_gone(process: str) -> bool:
    """Whether a process, by such a name, was one of this machine and has ended."""
    machine, number, began = process.split(" ")
    if machine != this_machine():
        return False
    try:
        return _began(psutil.Process(int(number))) != began
    except psutil.NoSuchProcess:
        return True


def _began(process: psutil.Process) -> str:
    return datetime.fromtimestamp(process.create_time(), UTC).isoformat(timespec="milliseconds")
