"""`kill -9` at random moments of compress, promote, rollback, deploy, monitor and serve; and then the next command.

    python -m benchmarks.campaign [--moments 40] [--server embedded|up] [compress promote rollback deploy monitor serve]

In a state folder of its own with three versions of a tiny model, with the Prefect server that a command starts for
itself, or beside `slimline up`. Four of five moments are drawn over the command's own work, the fifth over what comes
before. All on loopback. A campaign that is stopped goes on where it was; `--place` holds its state folder, and a copy
of it as `broken-…` for each moment after which something did not hold.

Writes a table to `benchmarks/results/campaign.md` and the moments beside it as JSON, after each one.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
KINDS = ("compress", "promote", "rollback", "deploy", "monitor", "serve")
SERVERS = {"embedded": "its own", "up": "slimline up"}
POWER = 5  # each so many moments the servers of `slimline up` are killed too, and started again
STARTING = 0.2  # of the moments fall before the work
LIMIT = 300.0  # seconds for a command on a machine that does much else
SOON = 60.0  # seconds in which a promotion or a rollback has to be through after another was killed
GONE = 60.0  # seconds that what a command began has to end when it is gone: what answers one question ends by itself
SERVED = 3.0  # seconds that a server is asked
RECIPE = """\
name: tiny
data: {reader: digits, limit: 600, test: 0.25}
teacher: {model: cnn, width: 0.25, floor: -1, fit: {epochs: 4, batch_size: 64, learning_rate: 0.01}}
distill: {method: none}
prune: {method: none}
quantize: {method: none}
targets: [onnxruntime]
validate: {latency_rounds: 5}
budget: {max_accuracy_drop: 1.0, min_size_ratio: 0, min_integer_share: 0}
promote: {tolerance: 1.0}
"""


def arguments() -> argparse.Namespace:
    """What a person may choose."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kinds", nargs="*", metavar="command", help=f"of {', '.join(KINDS)}; all when left out")
    options.add_argument("--moments", type=int, default=40, help="of each command and kind of server")
    options.add_argument("--server", choices=SERVERS, action="append", help="both when left out")
    options.add_argument("--place", type=Path, default=ROOT / ".slimline" / "campaign", help="where its folders are")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the table is written")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    if unknown := set(chosen.kinds) - set(KINDS):
        options.error(f"no such command: {', '.join(unknown)}; these are: {', '.join(KINDS)}")
    return chosen


def main() -> None:
    """Moment after moment."""
    chosen = arguments()
    place = chosen.place.absolute()
    for server in chosen.server or SERVERS:
        folder = place / server
        if chosen.server and len(chosen.server) == 1:
            campaign(folder, server, chosen)
        else:  # each in a process of its own: a state folder is settled when libraries are imported
            words = [word for word in sys.argv[1:] if word not in ("--server", *SERVERS)]
            subprocess.run([sys.executable, "-m", "benchmarks.campaign", *words, "--server", server], check=True)


def campaign(folder: Path, server: str, chosen: argparse.Namespace) -> None:
    """All moments with one kind of server."""
    settle(folder)
    from benchmarks.campaign import warm
    from benchmarks.say import say

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    warm.warm_up()
    prepare(folder)
    with Up(folder) if server == "up" else contextlib.nullcontext() as servers:
        spans: dict[str, tuple[float, float]] = {}
        for number in range(1, chosen.moments + 1):
            for kind in chosen.kinds or KINDS:
                if any((row["kind"], row["number"]) == (kind, number) for row in kept(folder)):
                    continue
                if kind not in spans:
                    spans[kind] = undisturbed(folder, kind)
                    say(f"{server}: {kind} takes {spans[kind][0]:.1f} s to begin and {spans[kind][1]:.1f} s of work")
                row = {"server": SERVERS[server], **moment(folder, kind, number, chosen.seed, spans, servers)}
                broken = f": {'; '.join(row['broken'])}" if row["broken"] else ""
                say(f"{server}: {kind} {number}, {row['how']}, at {row['where']!r}{broken}")
                with (folder / "moments.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                write(folder.parent, chosen.results)


def settle(folder: Path) -> None:
    """The environment of all that is started here, before anything reads it."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "MLFLOW_"))]:
        del os.environ[name]
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    (folder / "said").mkdir(exist_ok=True)
    os.environ |= {"SLIMLINE_HOME": str(folder / "state"), "TMPDIR": str(folder / "tmp"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_LOGGING_LEVEL": "WARNING"}


def prepare(folder: Path) -> None:
    """Three versions, and new data to be monitored on; as they are if they are there."""
    import numpy as np
    from sklearn.datasets import load_digits

    from benchmarks.campaign import stores, warm

    (folder / "recipe.yaml").write_text(RECIPE)
    digits = load_digits()
    np.savez(folder / "new.npz", x=digits.images[:600, :, :, None].astype("float32"), y=digits.target[:600])
    there = len(stores.versions("tiny")) if (folder / "state" / "mlflow.db").is_file() else 0
    for seed in range(there + 1, 4):
        words = ["run", str(folder / "recipe.yaml"), f"seed={seed}"]
        with warm.begin(words, f"version-{seed}", folder / "said") as command:
            if command.wait(LIMIT) != 0:
                sys.exit(f"version {seed} could not be made:\n{command.said()}")


class Up:
    """Both servers and the workers, as `slimline up` starts them, while the block lasts."""

    def __init__(self, folder: Path) -> None:
        from benchmarks.serving import free_ports

        self.log = folder / "up.log"
        names = ("PREFECT_SERVER_API_PORT", "MLFLOW_PORT")
        self.ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))

    def __enter__(self) -> "Up":
        """Start it, and wait until it says how it is ended."""
        self.log.write_text("")
        words = [sys.executable, "-m", "flows.cli", "up"]
        # a nightly run that falls into a campaign would be killed too, and is none of its moments
        environment = {**os.environ, **self.ports, "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false"}
        with self.log.open("a") as out:
            self.process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out, stderr=out)
        deadline = time.monotonic() + LIMIT
        while "slimline down" not in self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                sys.exit(f"slimline up did not come up:\n{self.log.read_text()}")
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        """End it as a person would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT)

    def kill(self) -> None:
        """As when a machine loses its power."""
        import psutil

        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        for process in family:  # the supervisor first, as it starts again what dies
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=GONE)  # they have the ports that the next ones take
        self.process.wait()


def undisturbed(folder: Path, kind: str) -> tuple[float, float]:
    """Seconds until its work begins, and of its work."""
    from benchmarks.campaign import kinds, warm

    subject = kinds.KINDS[kind](folder / "state", 0, random.Random(0))
    with warm.begin(subject.words, f"{kind}-0-{time.time():.0f}", folder / "said") as command:
        if not command.await_line(subject.begins, LIMIT):
            sys.exit(f"{kind} does not begin:\n{command.said()}{command.printed()}")
        begins = command.seconds
        if subject.stays:
            os.kill(int(command.process.pid or 0), signal.SIGTERM)
        if command.wait(LIMIT) not in subject.exit_codes:
            sys.exit(f"{kind} does not end well:\n{command.said()}{command.printed()}")
        return begins, SERVED if subject.stays else command.seconds - begins


def moment(
    folder: Path, kind: str, number: int, seed: int, spans: dict[str, tuple[float, float]], servers: Up | None
) -> dict[str, Any]:
    """One command, killed; what is looked at; and the next command, to its end."""
    from benchmarks.campaign import kinds, stores, warm

    home, draw = folder / "state", random.Random(f"{seed} {kind} {number}")
    already = {*stores.after_a_kill(home), *stores.after_the_next(home)}  # broken by a moment before
    while True:
        subject = kinds.KINDS[kind](home, number, draw)
        how, in_work = draw.choice((warm.ALONE, warm.ALL)), draw.random() >= STARTING
        if servers and number % POWER == 0:
            how = warm.POWER
        after = draw.uniform(0, spans[kind][in_work])
        mark = f"{kind}-{number}-{time.time():.0f}"
        with warm.begin(subject.words, mark, folder / "said") as command:
            if in_work:
                command.await_line(subject.begins, LIMIT)
            if in_work and isinstance(subject, kinds.Serve):
                subject.disturb(after)
            elif command.wait(after) is not None:
                continue  # it was faster than the one before: drawn anew
            command.kill(how)
            if servers and how == warm.POWER:
                servers.kill()
                servers.__enter__()
            broken = list(gone(command))
        break
    where = (f"{command.said()}{command.printed()}".strip().splitlines() or ["nothing yet"])[-1].strip()
    broken += [*({*stores.after_a_kill(home)} - already), *subject.killed()]
    keep(folder, f"{mark}-killed", broken)
    seen = len(broken)
    with warm.begin(subject.again, f"{mark}-next", folder / "said") as following:
        if subject.stays and following.await_line(subject.begins, LIMIT):
            took = following.seconds
            broken += subject.ended("")
            os.kill(int(following.process.pid or 0), signal.SIGTERM)
            code = following.wait(LIMIT)
        else:
            code, took = following.wait(LIMIT), following.seconds
            broken += subject.ended(following.printed()) if code in subject.exit_codes else []
        if code not in subject.exit_codes:
            last = (following.said().strip().splitlines() or [""])[-1]
            broken.append(f"the next command works: {subject.again[0]} ended with {code}: {last}")
        elif kind in ("promote", "rollback") and took > max(SOON, 2 * sum(spans[kind])):
            broken.append(f"the next {subject.again[0]} works within a minute: it took {took:.0f} s")
        broken += gone(following) if code is not None else []
    broken += {*stores.after_a_kill(home), *stores.after_the_next(home)} - already - {*broken}
    keep(folder, f"{mark}-next", broken[seen:])
    return {
        "kind": kind,
        "number": number,
        "how": how,
        "in_work": in_work,
        "after_seconds": round(after, 3),
        "where": where,
        "next_seconds": round(took, 2),
        "broken": broken,
        "mark": mark,
    }


def gone(command: Any) -> Iterator[str]:
    """Processes that are left of a command, which are ended."""
    deadline = time.monotonic() + GONE
    while left := command.family():
        if time.monotonic() > deadline:
            for process in left:
                with contextlib.suppress(Exception):
                    yield f"no process is left: {' '.join(process.cmdline())[:120]}"
            command.end_family()
            return
        time.sleep(0.1)


def keep(folder: Path, name: str, broken: list[str]) -> None:
    """Copy the state folder as it is, where something is broken."""
    if broken:
        shutil.copytree(folder / "state", folder / f"broken-{name}", ignore=shutil.ignore_patterns("*.sock"))


def kept(folder: Path) -> list[dict[str, Any]]:
    """The moments so far."""
    file = folder / "moments.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def write(place: Path, results: Path) -> None:
    """The table, of all that this place has."""
    from benchmarks.campaign.page import page
    from tasks.measuring.machine import describe_machine, load_average

    rows = [row for server in SERVERS for row in kept(place / server)]
    rows.sort(key=lambda row: (row["server"] != SERVERS["embedded"], KINDS.index(row["kind"]), row["number"]))
    machine, date = describe_machine(load_average()), datetime.now(UTC).date().isoformat()
    results.mkdir(exist_ok=True)
    content = {"date": date, "machine": machine.model_dump(), "moments": rows}
    for ending, text in (("json", json.dumps(content, indent=1) + "\n"), ("md", page(rows, date, machine))):
        beside = results / f".campaign.{ending}"
        beside.write_text(text, encoding="utf-8")
        beside.replace(results / f"campaign.{ending}")


if __name__ == "__main__":
    main()
