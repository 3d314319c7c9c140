"""One at a time on a machine: whatever computes at length, and whatever measures.

A latency that is measured beside a training is wrong, and so is one beside another measurement. So a compression has
the machine to itself from its beginning to its end, and promotion, monitoring, deployment and re-checking have it while
they measure; a rollback measures nothing and never waits. It is a locked file in the state folder: it counts for flow
runs of workers and of terminals alike, and the system unlocks it when their process ends, however it ends.

Workers in containers have a state folder each. `SLIMLINE_MACHINE` names a folder that those of one machine share.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tasks.contract.progress import listener
from tasks.contract.state_folder import alone, home


@contextmanager
def machine_alone(flow: str) -> Iterator[None]:
    """While the block lasts, no other flow run of this machine computes or measures."""
    note = "another run has this machine, and this one waits for it: they would disturb each other's latencies"
    folder = Path(os.environ.get("SLIMLINE_MACHINE") or home() / "locks")
    with alone(folder / "machine.lock", partial(listener().note, flow, note)):
        yield
