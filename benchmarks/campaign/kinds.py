"""Each command: what it begins from, what must hold once it was killed, and once the next one has ended."""

import json
import math
import random
import shutil
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.campaign import stores
from tasks.contract.errors import SlimlineError
from tasks.store import registry, tracking
from tasks.store.registry import CANDIDATE, CHAMPION, MOVING, PREVIOUS
from tasks.versions.manifest import read_manifest

NAME = "tiny"
TOLD = ("promoted_at", "promoted_by", "promoted_run", "promoted_note")  # a version's tags: how it became the champion


class Kind:
    """One command in a state folder that is as it was before it; `words` start it, and `again` are the next one's.

    begins: what it says when its own work begins. stays: whether it goes on until it is ended.
    """

    begins = "starting the flow"
    stays = False

    def __init__(self, home: Path, number: int, draw: random.Random) -> None:
        self.home, self.number, self.draw = home, number, draw
        self.words: list[str] = []
        self.again: list[str] = []
        self.exit_codes: tuple[int, ...] = (0,)

    def killed(self) -> Iterator[str]:
        """What is broken after the kill; settles `again`."""
        yield from ()

    def ended(self, printed: str) -> Iterator[str]:  # noqa: ARG002  most look at it
        """What is broken after the next command, which printed this."""
        yield from ()


class Compress(Kind):
    """A recipe that no run before had: the same command again ends with one version and the alias on it."""

    def __init__(self, home: Path, number: int, draw: random.Random) -> None:
        super().__init__(home, number, draw)
        seed = f"seed={time.time():.0f}"
        self.words = self.again = ["run", str(home.parent / "recipe.yaml"), seed, "--json"]
        self.versions, self.stages = stores.versions(NAME), stores.finished_stages(home)
        self.made: set[str] = set()

    def killed(self) -> Iterator[str]:
        """No version is lost, and at most one is new."""
        there = stores.versions(NAME)
        if set(self.versions) - set(there) or len(there) > len(self.versions) + 1:
            yield f"versions are neither lost nor doubled: {there} after {self.versions}"
        stages = stores.finished_stages(self.home)
        self.made = {name for run, name in stages.items() if run not in self.stages}

    def ended(self, printed: str) -> Iterator[str]:
        """Exactly one version more, with the alias; what was finished is not made again."""
        result = json.loads(printed)
        there = stores.versions(NAME)
        if there != [*self.versions, result["version"]]:
            yield f"a compression ends with one version: {there} after {self.versions}"
        if registry.aliases_of(NAME).get(CANDIDATE) != result["version"]:
            yield f"candidate is on the new version: it is on {registry.aliases_of(NAME).get(CANDIDATE)}"
        if again := self.made - set(result["reused"]):
            yield f"what was finished is not made again: {', '.join(sorted(again))}"


class Promote(Kind):
    """Two aliases that move as one, and a version that tells of it."""

    before: tuple[int, int] = (1, 3)  # champion, previous
    after: tuple[int, int] = (2, 1)

    def __init__(self, home: Path, number: int, draw: random.Random) -> None:
        super().__init__(home, number, draw)
        for alias, version in zip((CHAMPION, PREVIOUS, CANDIDATE), (*self.before, 2), strict=True):
            registry.set_alias(NAME, alias, version)
        for version in (1, 2, 3):
            for tag in TOLD:
                with tracking.unless(tracking.NOT_THERE):
                    tracking.client().delete_model_version_tag(NAME, str(version), tag)
        self.words = self.command()
        self.now: tuple[int | None, int | None] = self.before

    def command(self) -> list[str]:
        """What is killed."""
        return ["promote", NAME, "--json"]

    def killed(self) -> Iterator[str]:
        """The aliases are where they were, or where they were to go, or a note says where they were."""
        self.now = _aliases()
        moving = MOVING in tracking.client().get_registered_model(NAME).tags
        if moving:
            if self.now[0] not in (self.before[0], self.after[0]):
                yield f"the champion is the old one or the new one: it is {self.now[0]}"
            self.now = self.before
        elif self.now not in (self.before, self.after):
            yield f"aliases are moved as one: champion and previous are {self.now}"
        elif self.now == self.after and "promoted_run" not in _tags(self.now[0]):
            yield f"a champion tells how it became one: version {self.now[0]} does not"
        self.again = self.draw.choice((["promote", NAME, "--json"], ["rollback", NAME, "--json"]))

    def ended(self, printed: str) -> Iterator[str]:
        """The aliases are where the next command puts them, from where they were."""
        champion, previous = self.now
        expected = (previous, champion)
        if self.again[0] == "promote":
            expected = self.now if champion == 2 else (2, champion)
        if _aliases() != expected:
            yield f"the next {self.again[0]} goes on from {self.now}: champion and previous are {_aliases()}"
        if json.loads(printed)["champion"] != expected[0]:
            yield f"what is printed is what is: {printed}"
        if expected != self.now and "promoted_run" not in _tags(expected[0]):
            yield f"a champion tells how it became one: version {expected[0]} does not"


class Rollback(Promote):
    """The same, back."""

    before, after = (2, 1), (1, 2)

    def command(self) -> list[str]:
        """What is killed."""
        return ["rollback", NAME, "--json"]


class Deploy(Kind):
    """A folder or an archive, whole or not there."""

    def __init__(self, home: Path, number: int, draw: random.Random) -> None:
        super().__init__(home, number, draw)
        self.server = draw.choice(("docker", "docker", "kserve", "triton"))
        self.place = home.parent / "deployed" / f"{number}{draw.choice(('', '.tar.gz'))}"
        shutil.rmtree(self.place.parent, ignore_errors=True)
        self.place.parent.mkdir()
        few = "trial.requests=20"
        self.words = self.again = [
            *("deploy", f"models:/{NAME}/1", "--to", self.server, few, "--output", str(self.place), "--json")
        ]

    def killed(self) -> Iterator[str]:
        """What is there is whole."""
        if self.place.exists():
            yield from self._damages()
            shutil.rmtree(self.place) if self.place.is_dir() else self.place.unlink()

    def ended(self, printed: str) -> Iterator[str]:
        """It is there, and nothing beside it."""
        if not self.place.exists():
            yield f"a deployment writes its bundle: {self.place.name} is not there"
            return
        yield from self._damages()
        if beside := sorted(path.name for path in self.place.parent.iterdir() if path != self.place):
            yield f"nothing is left beside a bundle: {', '.join(beside)}"
        if json.loads(printed)["sha256"][:12] not in _tags(1).get(f"deployed.{self.server}", ""):
            yield f"a version tells where it is deployed: for {self.server} it does not"

    def _damages(self) -> Iterator[str]:
        folder = self.place
        try:
            if not folder.is_dir():
                with tarfile.open(self.place) as archive:
                    archive.extractall(self.home.parent / "unpacked", filter="data")
                (folder,) = (self.home.parent / "unpacked").iterdir()
            read_manifest(folder)
        except (SlimlineError, OSError, EOFError, tarfile.TarError, ValueError) as error:
            yield f"a bundle is whole or not there: {self.place.name}: {error}"
        finally:
            shutil.rmtree(self.home.parent / "unpacked", ignore_errors=True)


class Monitor(Kind):
    """A point in the history of a champion, once."""

    def __init__(self, home: Path, number: int, draw: random.Random) -> None:
        super().__init__(home, number, draw)
        registry.set_alias(NAME, CHAMPION, 1)
        self.words = self.again = ["monitor", NAME, f"data.source={home.parent / 'new.npz'}", "--json"]
        self.exit_codes = (0, 1)  # 1 says that it is degraded
        self.points = self._history()

    def _history(self) -> int:
        return len(stores.finished(self.home, f"monitor-{NAME}"))

    def killed(self) -> Iterator[str]:
        """No point is lost, and at most one is new."""
        now = self._history()
        if now not in (self.points, self.points + 1):
            yield f"a history has each point once: {now} after {self.points}"
        self.points = now

    def ended(self, printed: str) -> Iterator[str]:  # noqa: ARG002
        """One point more."""
        if self._history() != self.points + 1:
            yield f"a history has each point once: {self._history()} after {self.points} and one more"


class Serve(Kind):
    """A server that follows an alias, and is asked meanwhile."""

    begins = "curl http"
    stays = True

    def __init__(self, home: Path, number: int, draw: random.Random) -> None:
        super().__init__(home, number, draw)
        registry.set_alias(NAME, CHAMPION, 1)
        from benchmarks.serving import free_ports

        self.http, grpc = free_ports(2)
        ports = ["--http-port", str(self.http), "--grpc-port", str(grpc)]
        self.words = self.again = ["serve", f"models:/{NAME}@{CHAMPION}", "--watch", "0.2", *ports]

    def disturb(self, seconds: float) -> None:
        """Ask it for so long, and move the alias back and forth, so that it opens versions meanwhile."""
        deadline, count = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            count += 1
            if count % 5 == 0:
                registry.set_alias(NAME, CHAMPION, 1 + (count // 5) % 2)
            self._asked()
            time.sleep(min(0.05, max(deadline - time.monotonic(), 0)))

    def killed(self) -> Iterator[str]:
        """Nothing of the registry is its."""
        registry.set_alias(NAME, CHAMPION, 2)
        yield from ()

    def ended(self, printed: str) -> Iterator[str]:  # noqa: ARG002
        """On the same port it is the version that the alias is on, and answers."""
        if (version := self._asked()) != "2":
            yield f"started again on the same port it serves what the alias is on: {version or 'no answer'}"

    def _asked(self) -> str:
        """Which version answers; empty if none does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/models/{NAME}", timeout=5) as about:
                described = json.load(about)
            ends = described["inputs"][0]
            shape = [1, *ends["shape"][1:]]
            asked = {"inputs": [{**ends, "shape": shape, "data": [0.0] * math.prod(shape)}]}
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.http}/v2/models/{NAME}/infer",
                json.dumps(asked).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=5) as answer:
                return str(json.load(answer).get("model_version", ""))
        except OSError:
            return ""


KINDS: dict[str, type[Kind]] = {
    "compress": Compress,
    "promote": Promote,
    "rollback": Rollback,
    "deploy": Deploy,
    "monitor": Monitor,
    "serve": Serve,
}


def _aliases() -> tuple[int | None, int | None]:
    aliases = registry.aliases_of(NAME)
    return aliases.get(CHAMPION), aliases.get(PREVIOUS)


def _tags(version: int | None) -> dict[str, str]:
    found = registry.version_of(NAME, str(version))
    return found.tags if found else {}
