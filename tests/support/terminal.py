"""A terminal: a program runs at a pseudo-terminal of the system, and an emulator shows what a person would see."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
import uuid
from pathlib import Path

import psutil
import pyte

MARK = "SLIMLINE_TEST_TERMINAL"  # in the environment of all that a program begins, in whichever session
CTRL_C = b"\x03"  # what the key sends; the system makes SIGINT to the foreground group of it
CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # ECMA-48's control sequences
UNSET = {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "CI"} | {
    "PREFECT_API_URL",
    "PREFECT_HOME",
    "MLFLOW_TRACKING_URI",
    "PYTHONWARNINGS",
}  # what the tests' own process has, and a person's terminal has not


class Terminal:
    """One program at a terminal of so many columns and lines.

    `stdout` is a file that its standard output is directed to; the rest stays at the terminal.
    """

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path,
        environment: dict[str, str],
        columns: int = 80,
        lines: int = 24,
        stdout: Path | None = None,
    ) -> None:
        self.columns, self.home, self.mark = columns, environment["SLIMLINE_HOME"], uuid.uuid4().hex
        self.screen = pyte.HistoryScreen(columns, lines, history=5000)
        self.raw = b""
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        out = stdout.open("wb") if stdout else None
        kept = {name: value for name, value in os.environ.items() if name not in UNSET}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment, MARK: self.mark},
            stdin=slave,
            stdout=out or slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # its session's terminal, as a shell's is
        )
        os.close(slave)
        if out:
            out.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever still runs goes, so that no test leaves anything to the next."""
        for process in self.left():
            process.kill()
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        os.close(self._master)

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def interrupt(self, limit: float = 15) -> tuple[int, float]:
        """Press Ctrl-C; the exit code, and after how many seconds it came."""
        began = time.monotonic()
        self.press(CTRL_C)
        return self.wait(limit), time.monotonic() - began

    def wait(self, limit: float) -> int:
        """The exit code, when all that was written is on the screen."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not over after {limit} s:\n{self.text()}") from None
        self._reader.join(10)  # its end is the end of the last process that has the terminal open
        return code

    def await_text(self, pattern: str, limit: float) -> re.Match[str]:
        """Wait until something stands anywhere on the screen, or above it."""
        deadline = time.monotonic() + limit
        while not (match := re.search(pattern, self.text(), re.MULTILINE)):
            ended = self.process.poll()
            if ended is not None:
                self._reader.join(10)
            if (ended is not None and not re.search(pattern, self.text(), re.MULTILINE)) or time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} was not shown within {limit} s (exit code {ended}):\n{self.text()}")
            time.sleep(0.02)
        return match

    def text(self) -> str:
        """What a person sees who scrolls up, without what was drawn over."""
        with self._lock:
            above = self.screen.history.top
            rows = ["".join(line[column].data for column in range(self.columns)) for line in above]
            rows += self.screen.display
        return "\n".join(row.rstrip() for row in rows).rstrip()

    def colours(self) -> set[str]:
        """The foreground colours of everything that is shown."""
        with self._lock:
            shown = [*self.screen.history.top, *self.screen.buffer.values()]
            return {char.fg for line in shown for char in line.values()} - {"default"}

    def written(self) -> list[str]:
        """Every line that was ever written, also what was drawn over, without control sequences.

        The program ended these; where one is longer than the terminal, the terminal has wrapped it.
        """
        return [line for line in re.split(r"[\r\n]+", CODES.sub("", self.raw.decode())) if line]

    def left(self) -> list[psutil.Process]:
        """Processes that the program has begun, in whichever session, and that still run."""
        running = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get(MARK) == self.mark
            except psutil.Error:
                continue
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
        return running

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other end open any more
                return
            if not data:
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)
