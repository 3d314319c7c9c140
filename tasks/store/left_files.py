"""Files of the state folder that no run reads any more: a teacher's answers, checkpoints, results, and strays."""

import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from tasks.contract.state_folder import alone, home

RUN = re.compile(r"[0-9a-f]{32}")
MODEL = re.compile(r"m-[0-9a-f]{32}")


@dataclass(frozen=True)
class LeftFile:
    """A file or a folder, when something in it was written or used last (in seconds since 1970), and its bytes."""

    place: Path
    last: float
    size: int


def answers(before: float) -> list[LeftFile]:
    """A teacher's answers that no training has read since: who reads a file marks it as used."""
    return _unused((home() / "taught").glob("*"), before)


def checkpoints(before: float) -> list[LeftFile]:
    """Checkpoints of trainings that were killed, and that nobody has gone on with since."""
    return _unused((home() / "checkpoints").glob("*"), before)


def results(folder: Path, before: float) -> list[LeftFile]:
    """What Prefect has written down of tasks and flows for their retries; `folder` is its storage."""
    return _unused((each for each in folder.glob("*") if each.is_file()), before)


def strays(entries: Collection[str], before: float) -> list[LeftFile]:
    """Folders of runs and models among the artifacts that the database has no entry of.

    Args:
        entries: the ids of all runs and logged models of the database, of whatever experiment.
        before: a time before they were read: what was written since may have its entry by now.

    """
    root = home() / "artifacts"
    roots = [root, *(each for each in root.glob("*") if each.name.isdecimal())]  # a server adds the experiment's number
    folders = [each for above in roots for each in above.glob("*") if RUN.fullmatch(each.name)]
    folders += [each for above in roots for each in (above / "models").glob("*") if MODEL.fullmatch(each.name)]
    return [left for left in _unused(folders, before) if left.place.name not in entries]


def remove(left: LeftFile) -> bool:
    """Remove a file or a folder; false if it was used meanwhile, or a training is at it."""
    place = left.place
    if place.parent.name != "checkpoints":
        return _remove(left)
    key = place.with_suffix("") if place.suffix == ".lock" else place
    try:
        with alone(key.with_name(f"{key.name}.lock"), lambda: None, patience=0):  # takes a lock that was left with it
            return place.suffix == ".lock" or _remove(left)
    except TimeoutError:
        return False


def _remove(left: LeftFile) -> bool:
    now = _looked_at(left.place)
    if now is None or now.last > left.last:
        return False
    if left.place.is_dir():
        shutil.rmtree(left.place, ignore_errors=True)
    else:
        left.place.unlink(missing_ok=True)
    return not left.place.exists()


def _unused(places: Iterable[Path], before: float) -> list[LeftFile]:
    seen = [left for place in sorted(places) if (left := _looked_at(place)) is not None]
    return [left for left in seen if left.last < before]


def _looked_at(place: Path) -> LeftFile | None:
    """None if it, or something in it, is gone by now."""
    try:
        states = [each.lstat() for each in (place, *place.rglob("*"))]
    except FileNotFoundError:
        return None
    size = sum(each.st_size for each in states if S_ISREG(each.st_mode))
    return LeftFile(place, max(each.st_mtime for each in states), size)
