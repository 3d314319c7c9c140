"""Bytes of a model's files, as they are and compressed."""

import gzip
from pathlib import Path

from tasks.contract.artifact import Target
from tasks.formats import FORMATS


def sizes(folder: Path, target: Target) -> tuple[int, int]:
    """Bytes of the model's files on disk, and each compressed with gzip as a download would be."""
    single = FORMATS[target].FILE
    parts = [folder / single] if single else [part for part in folder.rglob("*") if part.is_file()]
    contents = [part.read_bytes() for part in parts]
    packed = [gzip.compress(content, compresslevel=6, mtime=0) for content in contents]
    return sum(map(len, contents)), sum(map(len, packed))
