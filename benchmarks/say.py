"""Progress, a line at a time, with the seconds since the start."""

import time

BEGAN = time.monotonic()


def say(line: str) -> None:
    """Print it at once, also into a file."""
    print(f"[{time.monotonic() - BEGAN:6.0f} s] {line}", flush=True)
