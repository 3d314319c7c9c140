"""A run leaves the store. Killed at any line, what is left of it is no hit for any stage, and goes the next time."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tasks.contract.errors import StoreError
from tasks.store import registry, tracking
from tasks.store.needed import OPEN, KeptRun


def size(run: KeptRun) -> int:
    """Bytes of its files, its models' too."""
    return sum(_bytes_at(place) for place in run.places.values())


def remove(run: KeptRun) -> bool:
    """Remove a run, its models and their files; false if somebody has taken it up again since it was looked at.

    It is marked as deleted first, and from then on no stage finds it. Whoever found it before that moment has left a
    tag by now, which puts it back. Files go before what names them. A store that only a server can open keeps the
    entry itself, as deleted, until `mlflow gc` runs there.

    Raises:
        StoreError: the store does not let us.

    """
    client: Any = tracking.client()
    entries = client._tracking_client.store
    own = hasattr(entries, "_hard_delete_run")  # what `mlflow gc` asks too: the database is opened here, by no server
    try:
        with tracking.unless(tracking.NOT_THERE):  # removed meanwhile, by another one
            client.delete_run(run.run)
            if _is_taken_up(run):
                if not run.deleted:
                    client.restore_run(run.run)
                return False
        for model, place in run.places.items():
            tracking.files_at(place).delete_artifacts()
            _remove_empty(place)
            if model:
                with tracking.unless(tracking.NOT_THERE):
                    (entries._hard_delete_logged_model if own else client.delete_logged_model)(model)
        if own:
            with tracking.unless(tracking.NOT_THERE):
                entries._hard_delete_run(run.run)
    except Exception as error:  # whatever a bucket's or a server's client makes of a refusal
        raise StoreError(
            f"{registry.place()}: {run.name} ({run.run}) cannot be removed: {error}. What was removed before it is "
            "gone, and nothing that is needed. Run this as a user who may delete runs and artifacts there"
        ) from error
    return True


def _is_taken_up(run: KeptRun) -> bool:
    """Whether it was used or opened again since it was looked at, or what it is a stage of is at work."""
    now = tracking.client().get_run(run.run)
    if now.data.tags.get(tracking.USED, "") != run.used or now.info.status != run.status:
        return True
    if run.parent:
        with tracking.unless(tracking.NOT_THERE):
            return tracking.client().get_run(run.parent).info.status in OPEN
    return False


def _bytes_at(place: str) -> int:
    files = tracking.files_at(place)
    total, folders = 0, [None]
    while folders:
        for entry in files.list_artifacts(folders.pop()):
            if entry.is_dir:
                folders.append(entry.path)
            else:
                total += entry.file_size or 0
    return total


def _remove_empty(place: str) -> None:
    """The folder that a run or a model has on this disk for its folder of files."""
    parts = urlsplit(place)
    above = Path(unquote(parts.path)).parent
    if parts.scheme in ("", "file") and above.is_dir() and not any(above.iterdir()):
        above.rmdir()
