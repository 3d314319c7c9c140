"""Folders of images or sounds: a class a folder, a table of file names and labels, or for a reconstruction any below.

`root/class/…` at any depth, or `root/{train,val,test}/class/…`; with a table `root/labels.csv`, or one a split.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.contract.errors import DataError
from tasks.contract.named import ONE
from tasks.data.config import DataConfig
from tasks.data.folders import SPLITS, first, mixing, split_folders, with_test
from tasks.data.readers import images, masks, sounds
from tasks.data.readers.file_examples import Example, all_faults_at_once, numbers_in, without_faulty
from tasks.data.readers.file_labels import SUFFIXES as TABLES
from tasks.data.readers.file_labels import as_targets, rows_of, table_in
from tasks.data.readers.images import Encoded
from tasks.data.source import (
    OPTIONAL,
    Chunk,
    Decoder,
    Part,
    Reader,
    Source,
    as_they_are,
    chunk_of,
    decoding,
    existing,
    separated,
    split_name,
)

MEDIA = {"images": images, "sounds": sounds}
SUFFIXES = images.SUFFIXES + sounds.SUFFIXES
CHUNK_FILES = 64
TEXTS = (".txt", ".md", ".json", ".xml", ".html")
MASKS_AND_OTHERS = "has masks, which are the target of one output: for several write a function that returns all"
LAYOUT = "lay the files out as root/class/file, or list file names and labels in root/labels.csv"


@dataclass
class Listing:
    """The files of a root, and what a person should know of how they were listed; `tables` say what they are."""

    examples: list[Example]
    notes: tuple[str, ...] = ()
    table: Path | None = None


def read(config: DataConfig) -> Source:
    """Images uint8 `(n, height, width, channels)`, or sounds float32 `(n, samples, channels)`.

    Raises:
        DataError: no folder, nothing in it, files that cannot be decoded, or a table that does not fit.

    """
    listings = by_split(config)
    notes = tuple(note for listing in listings.values() for note in listing.notes)
    parts = {split: listing.examples for split, listing in listings.items()}
    medium = medium_of(config, parts)
    if config.corrupt == "skip":
        parts, left_out = without_faulty(parts, medium.fault)
        notes += left_out
    tried = partial(all_faults_at_once, medium.fault, parts)
    masks_of = partial(tried, partial(masks.decoded, config=config))
    file, *more = separated(config.input, ())
    decoders: dict[str, Decoder] = {file: partial(tried, medium.decoder(config)), **dict.fromkeys(more, as_they_are)}
    order = {split: mixed(examples) for split, examples in parts.items()}
    return Source(
        {split: file_part(examples, masks_of, config) for split, examples in order.items()},
        decode=decoding(decoders),
        notes=notes,
        beside=partial(column_beside, order),
    )


def mixed(examples: list[Example]) -> list[Example]:
    """Files in an order that mixes the classes."""
    return sorted(examples, key=lambda each: mixing(each.name))


def file_part(examples: list[Example], masks_of: Callable[[Any], np.ndarray], config: DataConfig) -> Part:
    """Streams encoded files, what stands beside them in a table, and their targets; masks are decoded."""
    file, *more = separated(config.input, ())

    def stream() -> Iterator[Chunk]:
        for start in range(0, len(examples), CHUNK_FILES):
            taken = examples[start : start + CHUNK_FILES]
            files = np.empty(len(taken), object)
            files[:] = [Encoded(str(each.path), each.path) for each in taken]
            x = {file: files, **{name: numbers_in(taken, name) for name in more}}
            if isinstance(taken[0].target, Path):
                y = {ONE: masks_of([(each.path, each.target) for each in taken])}
            elif isinstance(taken[0].target, dict):
                y = {name: np.array([each.target[name] for each in taken]) for name in taken[0].target}
            else:
                y = {ONE: np.array([each.target for each in taken])}
            yield chunk_of(x, y, config)

    return stream


def column_beside(order: dict[str, list[Example]], part: str, field: str, column: str) -> np.ndarray:
    """A column of the table `(rows,)`; numbers where all are."""
    if any(column not in each.beside for each in order[part]):
        raise DataError(
            field, column, "class folders have no columns; list the files in root/labels.csv, with this one"
        )
    values = np.array([each.beside[column] for each in order[part]])
    try:
        return values.astype(np.float64) if field in ("data.time", "data.weight") else values
    except ValueError:  # dates
        return values


def by_split(config: DataConfig) -> dict[str, Listing]:
    """The files of every part, with their targets."""
    parts = parts_of("data.source", config.source, config)
    if config.test_source:
        parts = with_test(parts, parts_of("data.test_source", config.test_source, config))
    listed = [split for split, listing in parts.items() if listing.table]
    if len(listed) not in (0, len(parts)):
        raise DataError("data.source", config.source, f"only {', '.join(listed)} has a table of labels; give each one")
    values = [each.target for listing in parts.values() for each in listing.examples]
    if any(isinstance(each, Path) for each in values):
        if config.heads:
            raise DataError("data.heads", config.source, f"{MASKS_AND_OTHERS}, and data.reader: function")
        if not all(isinstance(each, Path) for each in values):
            raise DataError("data.target", config.source, "some targets are masks, and some are none; keep one kind")
    elif listed and config.problem != "reconstruction":  # labels are whole numbers if they are so everywhere
        targets = iter(as_targets("data.target", config, values))
        parts = {
            split: Listing(
                [Example(each.name, each.path, next(targets), each.beside) for each in listing.examples],
                listing.notes,
                listing.table,
            )
            for split, listing in parts.items()
        }
    elif config.heads:
        raise DataError(
            "data.heads",
            config.source,
            "class folders name one class each; for several outputs list file names and a column for each in "
            "root/labels.csv",
        )
    elif config.problem in ("regression", "multilabel"):
        raise DataError(
            "data.source",
            config.source,
            f"class folders name one class each; for a {config.problem} list file names and numbers in root/labels.csv",
        )
    elif not listed:
        for field in ("input", "target"):
            if value := getattr(config, field):
                raise DataError(
                    f"data.{field}",
                    value,
                    "class folders have no columns; leave this out, or list the files and labels in root/labels.csv",
                )
    return parts


def parts_of(field: str, value: str, config: DataConfig) -> dict[str, Listing]:
    """The parts of one root: its split folders, if `train` is among them, or the whole."""
    root = existing(field, value)
    if not root.is_dir():
        if root.suffix.lower() not in TABLES:
            raise DataError(field, value, "is a file; this reader reads a folder, or a table of file names and labels")
        return {"all": files_listed(field, root, root.parent, config)}
    if table := table_in(root):
        return {"all": files_listed(field, table, root, config)}
    if masks.has_masks(root):
        return by_first_folder(field, value, with_masks(field, root, config))
    splits = split_folders(field, value, folders_in(root)) or {"all": root}
    return {split: files_in(field, folder, config) for split, folder in splits.items()}


def by_first_folder(field: str, value: str, listing: Listing) -> dict[str, Listing]:
    """The parts of `images/{train,val,test}/…`, or the whole."""
    parts: dict[str, list[Example]] = {}
    for each in listing.examples:
        first_folder, _, below = each.name.partition("/")
        parts.setdefault(split_name(first_folder) if below else "all", []).append(each)
    if "train" not in parts:
        return {"all": listing}
    if "all" in parts:
        raise DataError(
            field, value, "has images in train and elsewhere; keep them in train, validation (or val) and test only"
        )
    return {
        split: Listing(parts[split], listing.notes if split == "train" else ()) for split in SPLITS if split in parts
    }


def files_in(field: str, root: Path, config: DataConfig) -> Listing:
    """The files below a root: by its table, by its class folders, or for a reconstruction all."""
    if table := table_in(root):
        return files_listed(field, table, root, config)
    if masks.has_masks(root):
        return with_masks(field, root, config)
    if config.problem == "reconstruction":
        return Listing(without_class(field, root))
    return of_classes(field, root)


def with_masks(field: str, root: Path, config: DataConfig) -> Listing:
    """The images of `images/`, each with the mask of its name in `masks/`.

    Raises:
        DataError: some of one have none of the other, unless `data.corrupt` is `skip`.

    """
    folder = root / masks.IMAGES
    if config.problem == "reconstruction":
        return Listing(without_class(field, folder), (f"The masks beside {folder.name} are left out.",))
    found: dict[str, dict[str, Path]] = {}
    for kind, suffixes in ((masks.IMAGES, images.SUFFIXES), (masks.MASKS, masks.SUFFIXES)):
        of_kind = [path for path in files_below(root / kind) if path.suffix.lower() in suffixes]
        found[kind] = {path.relative_to(root / kind).with_suffix("").as_posix(): path for path in of_kind}
        if len(found[kind]) < len(of_kind):
            raise DataError(field, str(root / kind), "has files of one name that end differently; keep one of each")
    pictures, beside = found[masks.IMAGES], found[masks.MASKS]
    single = sorted(pictures.keys() ^ beside.keys())
    pairs = [Example(name, pictures[name], beside[name], {}) for name in sorted(pictures.keys() & beside.keys())]
    if single and (config.corrupt != "skip" or not pairs):
        raise DataError(
            field,
            f"{root}: {len(single):,} of {len(single) + len(pairs):,} names",
            f"are not both in {masks.IMAGES} and in {masks.MASKS} ({', '.join(masks.SUFFIXES)}): {first(single)}; add "
            "what is missing, or leave them out: data.corrupt: skip",
        )
    if not pairs:
        raise nothing_in(field, folder, "the folder")
    note = (
        f"{len(single):,} names that are not both in {masks.IMAGES} and in {masks.MASKS} are left out: {first(single)}."
    )
    return Listing(pairs, (note,) if single else ())


def of_classes(field: str, root: Path) -> Listing:
    """The files below each class folder of a root, at any depth."""
    examples: list[Example] = []
    deep = 0
    for folder in folders_in(root):
        files = files_below(folder)
        if not files:
            raise nothing_in(field, folder, "the class folder")
        deep += sum(path.parent != folder for path in files)
        examples += [Example(path.relative_to(root).as_posix(), path, folder.name, {}) for path in files]
    if not examples:
        raise DataError(field, str(root), f"the folder holds no class folders; {LAYOUT}")
    note = f"{deep:,} files lie deeper below {root.name}: their class is the folder directly below it, not their own."
    return Listing(examples, (note,) if deep else ())


def without_class(field: str, root: Path) -> list[Example]:
    """Every file below a root."""
    files = files_below(root)
    if not files:
        raise nothing_in(field, root, "the folder")
    return [Example(path.relative_to(root).as_posix(), path, "", {}) for path in files]


def files_listed(field: str, table: Path, root: Path, config: DataConfig) -> Listing:
    """The files that a table lists: by their names below the root, by their own names, or by these without an ending.

    Targets that are names of pictures are masks, found in the same way.

    Raises:
        DataError: files that are not there, unless `data.corrupt` is `skip`; or names that fit several files.

    """
    places: dict[str, list[Path]] = {}
    for path in files_below(root):
        below = path.relative_to(root)
        for name in {below.as_posix(), below.with_suffix("").as_posix(), path.name, path.stem}:
            places.setdefault(name, []).append(path)

    def place(name: str) -> Path | None:
        exact = root / name
        found = [exact] if exact in places.get(name, ()) else places.get(name.removeprefix("./"), [])
        if len(found) > 1:
            raise DataError(
                field, f"{table}: {name}", f"may be {' or '.join(map(str, found[:2]))}: write its path below {root}"
            )
        return found[0] if found else None

    examples, missing = [], []
    for name, targets, beside in rows_of(field, table, config):
        picture = place(name)
        target: dict[str, list[str]] | Path | None = targets
        cell = next((cells[0] for cells in targets.values()), "")
        if config.problem == "classification" and cell.lower().endswith(masks.SUFFIXES):  # a file of its own
            target = place(cell)
        if picture is None or target is None:
            missing.append(cell if picture else name)
            continue
        examples.append(Example(picture.relative_to(root).as_posix(), picture, target, beside))
    listed = {each.path for each in examples}
    if len(listed) < len(examples):
        raise DataError(field, str(table), "lists a file twice, under two names; keep one line of it")
    notes = []
    if missing:
        named = f"{len(missing):,} of {len(missing) + len(examples):,} listed files"
        if config.corrupt != "skip" or not examples:
            remedy = f"are not below {root}: {first(missing)}; correct the names, or leave them out: data.corrupt: skip"
            raise DataError(field, f"{table}: {named}", remedy)
        notes.append(f"{named} are not there, and left out: {first(missing)}.")
    listed |= {each.target for each in examples if isinstance(each.target, Path)}
    if others := len({path for paths in places.values() for path in paths} - listed):
        notes.append(f"{others:,} files that {table.name} does not list are left out.")
    return Listing(examples, tuple(notes), table)


def nothing_in(field: str, folder: Path, what: str) -> DataError:
    """A folder without a file of ours, and the way out."""
    if any(path.suffix.lower() in TEXTS for path in folder.rglob("*")):
        return DataError(
            field,
            str(folder),
            f"{what} holds texts: read .txt files with data.reader: table and data.table.texts: text, or write a "
            "function of your own that returns their token ids, `(n, length)`, and data.reader: function",
        )
    return DataError(field, str(folder), f"{what} holds no image or sound ({', '.join(SUFFIXES)}); fill or remove it")


def medium_of(config: DataConfig, parts: dict[str, list[Example]]) -> Any:
    """The module that decodes these files.

    Raises:
        DataError: they are of several kinds, or the config has a setting of the other kind.

    """
    seen = {each.path.suffix.lower() for examples in parts.values() for each in examples}
    kinds = [name for name, medium in MEDIA.items() if seen & set(medium.SUFFIXES)]
    if len(kinds) > 1:
        raise DataError(
            "data.source", config.source, f"has {' and '.join(kinds)}; keep one kind, or list it in a table"
        )
    for name, medium in MEDIA.items():
        for field in medium.FIELDS if name not in kinds else ():
            if (value := getattr(config, field)) != DataConfig.model_fields[field].default:
                raise DataError(f"data.{field}", value, f"is of {name}, and the folder has {kinds[0]}; leave it out")
    return MEDIA[kinds[0]]


def folders_in(root: Path) -> list[Path]:
    """The folders directly below a root that are not hidden, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def files_below(root: Path) -> list[Path]:
    """Every image and sound below a root that is not hidden, by name."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [os.path.join(folder, name) for name in names if name.lower().endswith(SUFFIXES) and name[0] != "."]
        found += [path for path in paths if os.path.isfile(path)]  # a link may lead nowhere
    return [Path(path) for path in sorted(found)]


def files(config: DataConfig) -> dict[str, Path]:
    """Every file, under its split and its name below the root: the class is part of that name; and the tables."""
    listings = by_split(config)
    tables = {f"{split} table": listing.table for split, listing in listings.items() if listing.table}
    every = [(split, each) for split, listing in listings.items() for each in listing.examples]
    beside = {f"{split} mask/{each.name}": each.target for split, each in every if isinstance(each.target, Path)}
    return tables | beside | {f"{split}/{each.name}": each.path for split, each in every}


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """What decodes the files decides their values."""
    return f"{images.identity()} {sounds.identity()}"


READER = Reader(read, identity, files, OPTIONAL)
