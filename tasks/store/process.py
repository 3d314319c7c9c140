"""The process that runs, by a name that no other one has had."""

import os
import socket
from datetime import UTC, datetime
from functools import cache

import psutil


@cache
def this_process() -> str:
    """Its machine's name, its number, and when it began: numbers are used again."""
    began = datetime.fromtimestamp(psutil.Process().create_time(), UTC)
    return f"{socket.gethostname()} {os.getpid()} {began.isoformat(timespec='milliseconds')}"
