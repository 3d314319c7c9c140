"""The first pass over a source: checks every example, and keeps a digest and the target of each.

Memory: about 16 bytes and a target for each example, and the decoded examples themselves only within `data.memory_mib`.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.contract.errors import DataError
from tasks.contract.named import ONE, field, fields, packed
from tasks.data.config import DataConfig
from tasks.data.source import Chunk, Part, Source

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Scan:
    """What the first pass read.

    input_shape, dtype: of an example; of several inputs they are in the type of the records that these make.
    digests: `(rows, 2)` for each part: blake2b of the example's bytes.
    targets: for each output, and each part: labels `(rows, …)` or numbers `(rows, …, targets)`; `(rows, 0)` for a
        reconstruction.
    in_memory: each part's checked inputs as bytes, or None if they exceed the memory they may take.
    """

    input_shape: tuple[int, ...]
    dtype: np.dtype
    digests: dict[str, npt.NDArray[np.uint64]]
    targets: dict[str, dict[str, np.ndarray]]
    in_memory: dict[str, bytearray] | None


def scan(source: Source, config: DataConfig) -> Scan:
    """Reads every part once.

    Raises:
        DataError: inputs or targets that cannot be trained on, or an empty part.

    """
    shape: tuple[int, ...] | None = None
    dtype: np.dtype | None = None
    of_parts: dict[str, npt.NDArray[np.uint64]] = {}
    targets: dict[str, dict[str, np.ndarray]] = {head: {} for head in config.of_heads}
    # One block that grows in place: as many small ones, memory would stay in pieces that cannot be given back.
    in_memory: dict[str, bytearray] | None = {part: bytearray() for part in source.parts}
    spare = config.memory_mib << 20
    for part, stream in source.parts.items():
        part_digests = bytearray()
        part_targets: dict[str, list[np.ndarray]] = {head: [] for head in targets}
        for encoded, y in limited(stream, config.limit):
            x = checked_inputs(source.decode(encoded), part)
            shape, dtype = shape or x.shape[1:], dtype or x.dtype
            if (x.shape[1:], x.dtype) != (shape, dtype):
                value = f"{part}: {x.dtype} {x.shape[1:]} after {dtype} {shape}"
                raise DataError("data.source", value, "every example needs the same shape and type")
            part_digests += digests(x).tobytes()
            for head, of_head in config.of_heads.items():
                part_targets[head].append(checked_targets(target_of(y, head, of_head), len(x), part, of_head))
            spare -= x.nbytes
            if spare < 0:
                in_memory = None
            if in_memory is not None:
                in_memory[part] += x.view(np.uint8).data
        if not part_digests:
            raise DataError("data.source", config.source, f"the part {part!r} is empty; it needs examples")
        of_parts[part] = np.frombuffer(bytes(part_digests), "<u8").reshape(-1, 2)
        for head, chunks in part_targets.items():
            targets[head][part] = joined(chunks, part)
    assert shape is not None
    assert dtype is not None
    return Scan(shape, dtype, of_parts, targets, in_memory)


def digests(x: np.ndarray) -> npt.NDArray[np.uint64]:
    """Blake2b of each example's bytes: `(n, 2)`."""
    rows = x.view(np.uint8).reshape(len(x), -1)
    each = b"".join(hashlib.blake2b(row.data, digest_size=DIGEST_BYTES).digest() for row in rows)
    return np.frombuffer(each, "<u8").reshape(-1, 2)


def limited(part: Part, limit: int) -> Iterator[Chunk]:
    """A part's chunks that hold examples, up to so many examples (0: all)."""
    left = limit
    for x, y in part():
        taken = min(len(x), left) if limit else len(x)
        if taken:
            yield x[:taken], None if y is None else y[:taken]
        left -= taken
        if limit and not left:
            return


def checked_inputs(x: np.ndarray, where: str) -> np.ndarray:
    """Inputs `(n, …)` as uint8 if they are, else float32; of several each.

    Raises:
        DataError: no numbers, examples without an axis or without values, NaN, infinity (also in float32 only).

    """
    if x.dtype.names:
        return packed({name: checked_inputs(values, f"{where}: {name}") for name, values in fields(x).items()})
    if x.dtype.kind not in "biuf":
        raise DataError("data.input", f"{where}: {x.dtype} inputs", "inputs are numbers of at most 64 bits")
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise DataError(
            "data.input", f"{where}: shape {x.shape}", "inputs need an axis of values behind the axis of examples"
        )
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        numbers = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(numbers).all():
        raise DataError("data.input", f"{where}: NaN or infinite inputs", "replace or drop such examples")
    return numbers


def target_of(y: np.ndarray | None, head: str, config: DataConfig) -> np.ndarray | None:
    """One output's targets `(n, …)`, of those of all.

    Args:
        y: what a chunk has.
        head: the output's name.
        config: what is read for it.

    Raises:
        DataError: there are none of that name, or the output has none and they have.

    """
    if y is None or (head == ONE and not y.dtype.names):
        return y
    if head == ONE:
        heads = ", ".join(f"{{name: {name}, problem: …}}" for name in y.dtype.names or ())
        raise DataError("data.heads", "none", f"the targets have names: say what each is, data.heads: [{heads}]")
    if config.target not in (y.dtype.names or ()):
        remedy = f"the source has no such target; it has {', '.join(y.dtype.names or ()) or 'one, without a name'}"
        raise DataError("data.heads", config.target, remedy)
    return field(y, config.target)


def checked_targets(y: np.ndarray | None, rows: int, where: str, config: DataConfig) -> np.ndarray:
    """Targets of one chunk: labels as they are, numbers as float32 `(n, …, targets)`, nothing for a reconstruction.

    Raises:
        DataError: as many as the inputs there are not; for a regression also what is not finite.

    """
    if config.problem == "reconstruction":
        return np.zeros((rows, 0), np.float32)
    if y is None or y.ndim == 0 or len(y) != rows:
        raise DataError(
            "data.target",
            f"{where}: {0 if y is None or y.ndim == 0 else len(y)} for {rows} inputs",
            "give one for each input",
        )
    if config.problem == "classification":
        return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.dtype.kind not in "biuf" or 0 in y.shape:
        raise DataError(
            "data.target", f"{where}: {y.dtype} {y.shape}", f"targets of a {config.problem} are numbers (n, …)"
        )
    with np.errstate(over="ignore"):
        numbers = (y[:, None] if y.ndim == 1 else y).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DataError("data.target", f"{where}: NaN or infinite targets", "replace or drop such examples")
    return numbers


def joined(chunks: list[np.ndarray], part: str) -> np.ndarray:
    """A part's targets in one array."""
    if len({chunk.shape[1:] for chunk in chunks}) > 1 or len({chunk.dtype.kind for chunk in chunks}) > 1:
        raise DataError(
            "data.target",
            f"{part}: {chunks[0].shape[1:]} {chunks[0].dtype} and others",
            "every target needs the same shape and type",
        )
    return np.concatenate(chunks)
