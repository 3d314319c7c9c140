"""A share of what is asked, kept with its answers in one file a model: new data for `slimline monitor`.

The file is an archive as the reader `npz` has them: `x`, or a key for each of several inputs by its name, and beside
them `answers.OUTPUT`, `answered.by`, the version, and `answered.at`, in seconds since 1970.
"""

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from prometheus_client import Gauge

from tasks.contract.errors import OptionWrong
from tasks.contract.named import Array, ordered, packed
from tasks.contract.state_folder import alone, home
from tasks.serving.beside import Answered, Beside
from tasks.serving.limits import ServeConfig
from tasks.serving.served import Served

if TYPE_CHECKING:
    from tasks.serving.model import ServedModel

log = logging.getLogger("slimline.serving")
SECONDS = 10.0  # between two looks whether there is something to write
MOST_BYTES = 256 << 20  # of a record, which is in memory too
RECORDED = Gauge("slimline_recorded_examples", "Examples that are kept with their answers.", ["model"])
BY, AT = "answered.by", "answered.at"  # no input or output has a dot in its name, where there are several


class Row(NamedTuple):
    """An example `(1, …)` with its answer; which version gave it, and when, in seconds since 1970."""

    x: Array
    answers: Array
    version: str
    at: float


def file_of(name: str) -> Path:
    """Where a model's record is."""
    return home() / "record" / f"{name}.npz"


@contextmanager
def recording(models: "Sequence[ServedModel]", config: ServeConfig) -> Iterator[None]:
    """While the block lasts, keep a share of what models are asked; of one name the first, where several are served.

    Raises:
        OptionWrong: a model takes what cannot be kept, so many examples are too large, or another server keeps them.

    """
    first = {model.name: model for model in reversed(models)}
    with ExitStack() as ends:
        for name, model in first.items():
            check_recordable(model.served, config)
            try:
                ends.enter_context(alone(home() / "locks" / f"record-{name}", lambda: None, patience=0))
                record = Record(file_of(name), model.served, config)
            except (TimeoutError, OSError) as error:
                why = "another server keeps it there" if isinstance(error, TimeoutError) else error
                remedy = f"what {name} is asked cannot be kept: {why}; SLIMLINE_HOME names another state folder"
                raise OptionWrong("--record", config.record, remedy) from error
            beside = Beside("record", record.take, record.write, SECONDS)
            ends.callback(beside.end)
            model.hears.append(beside.hand)
        yield


def check_recordable(served: Served, config: ServeConfig) -> None:
    """Pass if what a version is asked can be read as data later, and so many examples fit.

    Raises:
        OptionWrong: says which input, or how many would fit.

    """
    for tensor in served.inputs:
        if not tensor.shape or min(tensor.shape) < 1 or np.dtype(tensor.dtype).kind not in "biuf":
            told = f"{tensor.name} is {tensor.dtype} of shape {('n', *tensor.shape)}"
            remedy = f"{served.name} cannot be recorded: {told}, and data are numbers, with an axis of values"
            raise OptionWrong("--record", config.record, remedy)
    size = sum(np.dtype(end.dtype).itemsize * abs(int(np.prod(end.shape))) for end in (*served.inputs, *served.outputs))
    if config.record_rows * size > MOST_BYTES:
        remedy = f"an example of {served.name} takes {size:,} bytes with its answer: {MOST_BYTES // size:,} fit at most"
        raise OptionWrong("--record-rows", config.record_rows, remedy)


class Record:
    """The examples of one model that are kept, in memory and, whenever it is written, in its file.

    Which ones is decided by their content: the same ones by every server, and each of them once, as it was answered
    last. What was recorded before goes on, if it was asked of a model with the same inputs and outputs.
    """

    def __init__(self, file: Path, served: Served, config: ServeConfig) -> None:
        self.file = file
        self.limit = int(config.record * 2**64)
        self.most = config.record_rows
        self.rows: dict[bytes, Row] = {}  # the oldest first
        self.served = served
        self.changed = False
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._go_on()

    def take(self, answered: Answered) -> None:
        """Keep those of a request's examples that are of the share."""
        if answered.served is not self.served and _ends(answered.served) != _ends(self.served):
            log.warning("%s: version %s has other inputs or outputs", self.file, answered.served.version)
            self.rows.clear()
        self.served = answered.served
        now = time.time()
        for place in range(len(answered.x)):
            x = answered.x[place : place + 1]
            key = hashlib.blake2b(x.tobytes(), digest_size=8).digest()
            if int.from_bytes(key, "big") < self.limit:
                answer = answered.answers[place : place + 1].copy()
                self._keep(key, Row(x.copy(), answer, answered.served.version, now))
        self._told()

    def _keep(self, key: bytes, row: Row) -> None:
        self.rows.pop(key, None)  # the newest stand last
        self.rows[key] = row
        self.changed = True
        if len(self.rows) > self.most:
            del self.rows[next(iter(self.rows))]

    def write(self) -> None:
        """Put what is kept into the file, whole or not at all, for nobody but its owner."""
        if not self.changed or not self.rows:
            return
        rows = list(self.rows.values())
        x, answers = (np.concatenate(each) for each in zip(*((row.x, row.answers) for row in rows), strict=True))
        named = dict(zip(_keys(self.served), ordered(x, _keys(self.served)), strict=True))
        outputs = ordered(answers, [end.name for end in self.served.outputs])
        named |= dict(zip(_answer_keys(self.served), outputs, strict=True))
        named |= {BY: np.array([row.version for row in rows]), AT: np.array([row.at for row in rows])}
        beside = self.file.with_suffix(".partial")
        beside.unlink(missing_ok=True)
        with (
            os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            zipfile.ZipFile(file, "w") as archive,  # numpy.savez takes no key that is called `file`
        ):
            for key, values in named.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
        beside.replace(self.file)
        self.changed = False

    def _go_on(self) -> None:
        """Take up what the file has, if it is of a model with the same inputs and outputs."""
        if not self.file.exists():
            return
        keys, answers = _keys(self.served), _answer_keys(self.served)
        try:
            with np.load(self.file, allow_pickle=False) as archive:
                found = dict(archive)
            has = {key: (str(values.dtype), values.shape[1:]) for key, values in found.items() if key not in (BY, AT)}
            if has != _ends(self.served):
                raise ValueError("it is of a model with other inputs or outputs")
            x = packed({key: found[key] for key in keys})
            given = packed({end.name: found[key] for key, end in zip(answers, self.served.outputs, strict=True)})
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            log.warning("%s is begun anew: %s", self.file, error)
            return
        for place, (version, at) in enumerate(zip(found[BY], found[AT], strict=True)):
            key = hashlib.blake2b(x[place : place + 1].tobytes(), digest_size=8).digest()
            row = Row(x[place : place + 1].copy(), given[place : place + 1].copy(), str(version), float(at))
            self._keep(key, row)
        self._told()

    def _told(self) -> None:
        RECORDED.labels(model=self.served.name).set(len(self.rows))


def _ends(served: Served) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of each key that the archive has of such a version."""
    ends = zip((*_keys(served), *_answer_keys(served)), (*served.inputs, *served.outputs), strict=True)
    return {key: (end.dtype, end.shape) for key, end in ends}


def _keys(served: Served) -> list[str]:
    """What the reader looks for: inputs by their names, and the only one as `x`."""
    return ["x"] if len(served.inputs) == 1 else [end.name for end in served.inputs]


def _answer_keys(served: Served) -> list[str]:
    return [f"answers.{end.name}" for end in served.outputs]
