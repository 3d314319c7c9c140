"""Folders of images: `root/class/*`, or `root/{train,val,test}/class/*`; for a reconstruction any below the root."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tasks.contract.errors import DataError
from tasks.data.config import DataConfig
from tasks.data.readers.images import Encoded, decoder
from tasks.data.source import Chunk, Part, Reader, Source, existing, split_name, version

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
CHUNK_IMAGES = 64
SPLITS = ("train", "validation", "test")

Labelled = tuple[str, Path, str]  # name below the root, file, class


def read(config: DataConfig) -> Source:
    """Images uint8 `(n, height, width, channels)`; labels are the class folders' names.

    Raises:
        DataError: no folder, no class folders, a class folder without images, or a regression.

    """
    parts = {split: image_part(images) for split, images in images_by_split(config).items()}
    return Source(parts, decode=decoder(config))


def image_part(labelled: list[Labelled]) -> Part:
    """Streams encoded images in an order that mixes the classes: the order of their names' digests."""
    mixed = sorted(labelled, key=lambda image: hashlib.blake2b(image[0].encode(), digest_size=8).digest())

    def stream() -> Iterator[Chunk]:
        for start in range(0, len(mixed), CHUNK_IMAGES):
            taken = mixed[start : start + CHUNK_IMAGES]
            images = np.empty(len(taken), object)
            images[:] = [Encoded(str(path), path) for _, path, _ in taken]
            yield images, np.array([label for _, _, label in taken])

    return stream


def images_by_split(config: DataConfig) -> dict[str, list[Labelled]]:
    """Every image of every part."""
    if config.problem == "regression":
        raise DataError(
            "data.reader",
            "folder",
            "folders name classes, not numbers; use Parquet, npz or a function for a regression",
        )
    listed = images_of if config.problem == "classification" else all_images
    parts = split_folders("data.source", config.source, listed)
    if config.test_source:
        test = split_folders("data.test_source", config.test_source, listed)
        parts = {"train" if split == "all" else split: images for split, images in parts.items()}
        parts["test"] = test.get("test") or test.get("all") or test["train"]
    return parts


def split_folders(field: str, value: str, listed: Callable[[str, Path], list[Labelled]]) -> dict[str, list[Labelled]]:
    """The parts of one root: its split folders, if `train` is among them, or the whole."""
    root = existing(field, value)
    if not root.is_dir():
        raise DataError(field, value, "is a file; this reader reads a folder of class folders")
    splits = {name: path for path in folders_in(root) if (name := split_name(path.name)) in SPLITS}
    if "train" not in splits:
        return {"all": listed(field, root)}
    if len(splits) < len(folders_in(root)):
        raise DataError(
            field, value, "has split folders and others side by side; keep train, validation (or val) and test only"
        )
    return {split: listed(field, splits[split]) for split in SPLITS if split in splits}


def images_of(field: str, root: Path) -> list[Labelled]:
    """The images below each class folder of a root."""
    labelled: list[Labelled] = []
    for folder in folders_in(root):
        images = [
            (f"{folder.name}/{path.name}", path, folder.name) for path in sorted(folder.iterdir()) if is_image(path)
        ]
        if not images:
            raise DataError(
                field, str(folder), f"the class folder holds no image ({', '.join(SUFFIXES)}); fill or remove it"
            )
        labelled += images
    if not labelled:
        raise DataError(
            field, str(root), "the folder holds no class folders; lay the images out as root/class/image.png"
        )
    return labelled


def all_images(field: str, root: Path) -> list[Labelled]:
    """Every image below a root, without a class."""
    images = [(path.relative_to(root).as_posix(), path, "") for path in sorted(root.rglob("*")) if is_image(path)]
    if not images:
        raise DataError(field, str(root), f"there is no image ({', '.join(SUFFIXES)}) below this folder")
    return images


def folders_in(root: Path) -> list[Path]:
    """The folders directly below a root that are not hidden, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def is_image(path: Path) -> bool:
    """Whether a path is a file that is named like an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def files(config: DataConfig) -> dict[str, Path]:
    """Every image, under its split and its name below the root: the class is part of that name."""
    return {f"{split}/{name}": path for split, images in images_by_split(config).items() for name, path, _ in images}


def identity(config: DataConfig) -> str:  # noqa: ARG001 - the signature of `Reader.identity`
    """Pillow decides the pixels."""
    return version("pillow")


READER = Reader(read, identity, files, fields=("source", "test_source", "image_size", "color"))
