"""The seconds before a flow run begins: servers come up and stores are made, and a person reads which of it it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows import embedded
from tasks.contract.progress import listen
from tasks.contract.state_folder import home

if TYPE_CHECKING:
    from subprocess import Popen

    from rich.console import Console

    from flows.display import Display


@dataclass(frozen=True)
class Starting:
    """What comes up while this process imports its libraries.

    server: the embedded Prefect server; none where one is up already. new: it makes its database first.
    """

    server: "Popen[bytes] | None"
    new: bool


NOTHING = Starting(None, new=False)


def start() -> Starting:
    """Start a Prefect server unless one is up; `finish` waits for it."""
    server = embedded.start_server()
    database = embedded.own_database()
    return Starting(server, new=server is not None and database is not None and not database.is_file())


def finish(starting: Starting, display: "Display", then: str = "starting the flow") -> None:
    """Wait until both servers answer, and show for which, and what is done `then`.

    MLflow takes seconds to import and to open meanwhile.
    """
    from tasks.store import tracking

    new = tracking.is_local() and not (home() / "mlflow.db").is_file()
    display.preparing("making MLflow's database" if new else "opening MLflow")
    tracking.experiment()
    if starting.server is not None:
        what = "making Prefect's database" if starting.new else "waiting for Prefect's server"
        display.preparing(what)
        embedded.await_server(starting.server)
    display.preparing(then)


@contextmanager
def shown(console: "Console | None" = None) -> Iterator["Display"]:
    """Shows what goes on while the block lasts, on standard error if no console is named."""
    from flows.display import Display
    from flows.screen import screen

    display = Display(console or screen(stderr=True))
    listen(display)
    display.preparing("loading libraries")
    try:
        yield display
    finally:
        display.stop()
