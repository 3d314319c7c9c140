"""What is done with requests beside answering them: they are handed to a thread, and nothing waits for it."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import Counter

from tasks.contract.named import Array
from tasks.serving.served import Served

log = logging.getLogger("slimline.serving")
MOST_BYTES = 64 << 20  # of requests that wait for a thread, with their answers; a small one counts as so many:
LEAST = 1024  # what Python takes around its arrays
PATIENCE = 30  # seconds that a thread may take to end
PAUSE = 0.05  # seconds that it sleeps when there is nothing: woken for each request it would be in the next one's way
LEFT_OUT = Counter("slimline_left_out_requests", "Requests that the thread beside was too busy to take.", ["by"])


class Answered(NamedTuple):
    """A request that was answered. served: by whom. x, answers: `(n, …)`, or records of several inputs or outputs."""

    served: Served
    x: Array
    answers: Array


class Beside:
    """A thread that takes what was answered, one after the other; what does not fit into its queue is left out.

    Args:
        name: of it, in metrics and the log.
        take: is called with each, in the thread.
        look: is called there too, about every `seconds`, and once at the end.
        seconds: how long to wait between looks.

    """

    def __init__(self, name: str, take: Callable[[Answered], None], look: Callable[[], None], seconds: float) -> None:
        self.name, self.take, self.look, self.seconds = name, take, look, seconds
        self.left_out = LEFT_OUT.labels(by=name)
        self.queue: queue.SimpleQueue[Answered | None] = queue.SimpleQueue()
        self.handed = self.taken = 0  # bytes: the first is counted by who hands, the second by the thread, and no lock
        self.logged = ""
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def hand(self, answered: Answered) -> None:
        """Hand one over, if there is room for it; returns at once."""
        size = _size(answered)
        if self.handed - self.taken + size > MOST_BYTES:
            self.left_out.inc()
            return
        self.handed += size
        self.queue.put(answered)

    def end(self) -> None:
        """Wait until what was handed over is done."""
        self.queue.put(None)
        self.thread.join(PATIENCE)

    def _work(self) -> None:
        next_look, going = time.monotonic() + self.seconds, True
        while going:
            if self.queue.empty():
                time.sleep(PAUSE)
            elif (answered := self.queue.get()) is None:
                going = False
            else:
                self._try(self.take, answered)
                self.taken += _size(answered)
            if not going or time.monotonic() >= next_look:
                began = time.thread_time()
                self._try(self.look)
                # what computes for long is done less often, so that most of the time is left for answers
                next_look = time.monotonic() + max(self.seconds, 10 * (time.thread_time() - began))

    def _try(self, do: Callable[..., None], *given: Answered) -> None:
        """A disk that is full, or a store that is away, is said once, and does not end the thread."""
        try:
            do(*given)
        except Exception as error:
            if str(error) != self.logged:
                log.error("%s: %s", self.name, error)
            self.logged = str(error)


def _size(answered: Answered) -> int:
    return LEAST + answered.x.nbytes + answered.answers.nbytes
