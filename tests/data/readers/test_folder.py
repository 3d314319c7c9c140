"""Folders of images: class folders at any depth, a table of labels, and files that cannot be decoded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import pictures, png, write_folder
from PIL import Image

from tasks.contract.errors import DataError
from tasks.data import DataConfig, Dataset, describe, fingerprint, open_data


def test_folder_of_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"owl": 20, "bat": 30})
    (tmp_path / "bat" / "notes.txt").write_text("no image")
    data = open_data(DataConfig(reader="folder", source=str(tmp_path)))
    assert data.classes == ("bat", "owl")
    assert sum(data.counts.values()) == 50
    assert describe(data)["balance"]["train"] == {"bat": 20, "owl": 14}


def test_folder_of_splits(tmp_path: Path) -> None:
    for split, count in (("train", 9), ("val", 3), ("test", 4)):
        images = iter(pictures(2 * count, (count + 3, 5)))
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(images)).save(tmp_path / split / name / f"{number}.png")
    data = open_data(DataConfig(reader="folder", source=str(tmp_path), image_size=6))
    assert data.counts == {"train": 18, "validation": 6, "test": 8}
    assert data.input.shape == (6, 6, 1)
    with pytest.raises(DataError, match=r"image_size"):
        open_data(DataConfig(reader="folder", source=str(tmp_path)))


def test_folder_with_a_coloured_image_among_grey_ones(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 8, "b": 8}, (4, 4))
    (tmp_path / "a" / "3.png").write_bytes(png(pictures(1)[0]))
    with pytest.raises(DataError, match="color"):
        open_data(DataConfig(reader="folder", source=str(tmp_path)))
    assert open_data(DataConfig(reader="folder", source=str(tmp_path), color="rgb")).input.shape == (4, 4, 3)


def test_folder_with_an_empty_class_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class folders"):
        open_data(DataConfig(reader="folder", source=str(tmp_path)))
    write_folder(tmp_path, {"a": 4})
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        open_data(DataConfig(reader="folder", source=str(tmp_path)))


def test_folder_without_classes_for_a_reconstruction(tmp_path: Path) -> None:
    for number, image in enumerate(pictures(20)):
        (tmp_path / f"{number}.png").write_bytes(png(image))
    data = open_data(DataConfig(reader="folder", source=str(tmp_path), problem="reconstruction"))
    assert data.head.output_shape == (4, 4, 3)
    assert data.counts == {"train": 14, "validation": 3, "test": 3}


def opened(root: Path, **config: object) -> Dataset:
    return open_data(DataConfig(reader="folder", source=str(root), **config))


def labels_of(data: Dataset, images: np.ndarray) -> list[object]:
    """The target of each of these images, whichever split it is in."""
    known = {
        x.astype(np.uint8).tobytes(): y
        for split in ("train", "validation", "test")
        for x, y in zip(*data.arrays(split), strict=True)
    }
    return [known[image.tobytes()] for image in images]


def test_images_deep_below_a_class_folder_are_of_its_class_and_that_is_said(tmp_path: Path) -> None:
    write_folder(tmp_path, {"owl": 9, "bat/2026/may": 6, "bat/2025": 6})
    data = opened(tmp_path)
    assert data.classes == ("bat", "owl")
    assert sum(data.counts.values()) == 21
    assert data.notes[0].startswith("12 files lie deeper below ")
    moved = tmp_path / "bat" / "2025" / "0.png"
    before = fingerprint(data.config)
    moved.rename(tmp_path / "owl" / "new.png")
    assert fingerprint(data.config) != before


IMAGES = pictures(40)
KINDS = [("cat", "dog")[number % 2] for number in range(40)]


def listed(root: Path, lines: list[str], *, below: str = "", names: str = "{}.png", table: str = "labels.csv") -> Path:
    (root / below).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(IMAGES):
        (root / below / names.format(number)).write_bytes(png(image))
    (root / table).write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(
    ("names", "below", "written", "header"),
    [
        ("{}.png", "", "{}.png", "file,label"),
        ("{}.png", "images", "{}.png", "file_name,label"),  # above the images
        ("{}.png", "images", "images/{}.png", "image,label"),
        ("{}.png", "images", "{}", "id;label"),  # without an ending
    ],
)
def test_a_table_of_labels_beside_or_above_the_images(tmp_path: Path, names, below, written, header) -> None:
    separator = header.removesuffix("label")[-1]
    lines = [header, *(f"{written.format(number)}{separator}{kind}" for number, kind in enumerate(KINDS))]
    data = opened(listed(tmp_path, lines, below=below, names=names))
    assert data.classes == ("cat", "dog")
    assert [data.classes[label] for label in labels_of(data, IMAGES)] == KINDS
    assert opened(tmp_path / "labels.csv").digest == data.digest


def test_a_table_of_numbers_is_a_regression_with_as_many_targets_as_columns(tmp_path: Path) -> None:
    lines = ["age,photo,height", *(f"{number},{number}.png,{number / 4}" for number in range(40))]
    listed(tmp_path, lines)
    data = opened(tmp_path, problem="regression", input="photo", target="age, height")
    assert data.head.output_shape == (2,)
    np.testing.assert_allclose(labels_of(data, IMAGES), [(n, n / 4) for n in range(40)])
    with pytest.raises(DataError, match="are numbers, with a decimal point"):
        opened(tmp_path, problem="regression", input="age", target="photo")
    with pytest.raises(DataError, match=r"data.target: 'label'.*it has age, photo, height"):
        opened(tmp_path, problem="regression", input="photo")
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(DataError, match=r"root/labels\.csv"):
        opened(tmp_path, problem="regression")


def test_labels_that_are_whole_numbers_are_numbers(tmp_path: Path) -> None:
    lines = ["file,label", *(f"{number}.png,{number % 12}" for number in range(40))]
    data = opened(listed(tmp_path, lines))
    assert data.classes == tuple(map(str, range(12)))
    assert labels_of(data, IMAGES) == [number % 12 for number in range(40)]


def test_each_split_s_folder_has_its_own_table_and_groups_and_times_are_its_columns(tmp_path: Path) -> None:
    header = "file,label,patient,day"
    for split, rows in (("train", range(30)), ("test", range(30, 40))):
        lines = [header, *(f"{n}.png,{KINDS[n]},p{n // 4},2026-01-{n % 28 + 1:02}" for n in rows)]
        listed(tmp_path / split, lines)
    data = opened(tmp_path, group="patient", time="day")
    assert data.counts["test"] == 10
    assert "20 files that labels.csv does not list" not in data.notes  # but those of each split
    assert {
        "30 files that labels.csv does not list are left out.",
        "10 files that labels.csv does not list are left out.",
    } <= {*data.notes}
    assert sum(data.counts.values()) == 38, "of patient 7 two rows are in test"
    (tmp_path / "test" / "labels.csv").unlink()
    with pytest.raises(DataError, match="no class folders"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file,label", "0.png,a", "0.png,b"], "line 3.*lists 0.png again"),
        (["file,label", "0.png,a", "0,b"], "lists a file twice"),
        (["file,label", "0.png,"], "line 2.*has a gap"),
        (["file,label"], "lists no file"),
        (["file,label", "0.png,a", "gone.png,b"], r"1 of 2 listed files.*gone\.png.*data.corrupt: skip"),
        (["picture,label", "0.png,a"], "data.input: 'file'.*it has picture, label"),
        (["file,kind", "0.png,a"], "data.target: 'label'.*it has file, kind"),
        ([""], "data.input"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(listed(tmp_path, lines))


def test_a_name_that_fits_two_files_is_refused_with_both(tmp_path: Path) -> None:
    listed(tmp_path, ["file,label", "0.png,a"], below="one")
    listed(tmp_path, ["file,label", "0.png,a"], below="two")
    with pytest.raises(DataError, match=r"one/0\.png or .*two/0\.png"):
        opened(tmp_path)


def test_files_that_cannot_be_decoded_are_named_all_at_once_or_left_out_and_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20, "b": 20})
    for number in range(7):
        file = tmp_path / "a" / f"{number}.png"
        file.write_bytes(file.read_bytes()[: 0 if number == 3 else 50])
    with pytest.raises(DataError, match=r"7 of 40 files.*a/0\.png \(.*a/4\.png.*and 2 more; .*data.corrupt: skip"):
        opened(tmp_path)
    data = opened(tmp_path, corrupt="skip")
    assert sum(data.counts.values()) == 33
    assert data.notes[0].startswith("7 of 40 files cannot be decoded, and are left out: ")
    assert fingerprint(data.config) != fingerprint(DataConfig(reader="folder", source=str(tmp_path)))


def test_files_that_are_listed_and_not_there_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ["file,label", *(f"{number}.png,{number % 2}" for number in range(42))]
    data = opened(listed(tmp_path, lines), corrupt="skip")
    assert sum(data.counts.values()) == 40
    assert data.notes == ("2 of 42 listed files are not there, and left out: 40.png, 41.png.",)


def test_texts_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.txt").write_text("a text")
    with pytest.raises(DataError, match=r"holds texts.*token ids.*data.reader: function"):
        opened(tmp_path)


def test_what_class_folders_do_not_use(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 9, "b": 9})
    for field, value, message in (
        ("input", "x", "no columns"),
        ("target", "x", "no columns"),
        ("group", "x", r"class folders have no columns; list the files in root/labels\.csv"),
        ("mel", 40, "is of sounds, and the folder has images"),
        ("seconds", 1.0, "is of sounds"),
    ):
        with pytest.raises(DataError, match=f"data.{field}.*{message}"):
            opened(tmp_path, **{field: value})


def labelled(root: Path, mask: Callable[[int], np.ndarray], rows: range = range(24), *, below: str = "") -> Path:
    """Images, and for each a mask of its name."""
    for kind in ("images", "masks"):
        (root / kind / below).mkdir(parents=True, exist_ok=True)
    for row in rows:
        (root / "images" / below / f"{row}.png").write_bytes(png(IMAGES[row]))
        Image.fromarray(mask(row)).save(root / "masks" / below / f"{row}.png")
    return root


def classes_of(row: int) -> np.ndarray:
    return (IMAGES[row].sum(axis=2) // 256).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_beside_images_are_a_class_for_each_pixel(tmp_path: Path, mode: str) -> None:
    labelled(tmp_path, classes_of)
    if mode == "P":
        for row in range(24):
            colours = Image.fromarray(classes_of(row)).convert("P")
            colours.putdata(classes_of(row).ravel().tolist())
            colours.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
            colours.save(tmp_path / "masks" / f"{row}.png")
    data = opened(tmp_path)
    assert (data.classes, data.head.output_shape) == (("0", "1", "2"), (4, 4, 3))
    for label, row in zip(labels_of(data, IMAGES[:24]), range(24), strict=True):
        np.testing.assert_array_equal(label, classes_of(row))
    before = fingerprint(data.config)
    Image.fromarray(classes_of(0) * 0).save(tmp_path / "masks" / "0.png")
    assert fingerprint(data.config) != before
    assert opened(tmp_path).digest != data.digest
    assert opened(tmp_path, problem="reconstruction").head.output_shape == (4, 4, 3)


def test_masks_are_resized_to_the_class_of_the_nearest_pixel_and_images_smoothly(tmp_path: Path) -> None:
    data = opened(labelled(tmp_path, classes_of), image_size=8)
    assert data.classes == ("0", "1", "2")
    expected = {np.kron(classes_of(row), np.ones((2, 2), np.uint8)).tobytes() for row in range(24)}
    assert {y.astype(np.uint8).tobytes() for split in data.counts for y in data.arrays(split)[1]} == expected


@pytest.mark.parametrize("outer", [True, False])
def test_masks_in_splits(tmp_path: Path, outer: bool) -> None:
    for split, rows in (("train", range(16)), ("test", range(16, 24))):
        labelled(tmp_path / split if outer else tmp_path, classes_of, rows, below="" if outer else split)
    data = opened(tmp_path)
    assert (sum(data.counts.values()), data.counts["test"]) == (24, 8)
    assert {x.astype(np.uint8).tobytes() for x in data.arrays("test")[0]} == {
        image.tobytes() for image in IMAGES[16:24]
    }


def test_masks_of_two_numbers_are_two_classes_where_they_are_named(tmp_path: Path) -> None:
    labelled(tmp_path, lambda row: np.where(IMAGES[row][..., 0] > 127, 255, 0).astype(np.uint8))
    with pytest.raises(DataError, match=r"name them as they stand, data.classes: \['0', '255'\]"):
        opened(tmp_path)
    data = opened(tmp_path, classes=("0", "255"))
    assert data.head.output_shape == (4, 4, 2)
    np.testing.assert_array_equal(labels_of(data, IMAGES[:1])[0], IMAGES[0][..., 0] > 127)


def test_masks_that_a_table_lists_with_groups(tmp_path: Path) -> None:
    labelled(tmp_path, classes_of)
    lines = ["image,mask,patient", *(f"images/{row}.png,masks/{row}.png,p{row // 4}" for row in range(24))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    data = opened(tmp_path, target="mask", group="patient", test=0.2)
    for label, row in zip(labels_of(data, IMAGES[:24]), range(24), strict=True):
        np.testing.assert_array_equal(label, classes_of(row))
    assert len(data.notes) == 2, "of labels and of groups; nothing is left out"
    assert {len(np.unique(groups)) * 4 == len(groups) for groups in data.groups.values()} == {True}
    (tmp_path / "masks" / "7.png").unlink()
    with pytest.raises(DataError, match=r"1 of 24 listed files.*masks/7\.png"):
        opened(tmp_path, target="mask")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (lambda row: IMAGES[row], "has RGB pixels; a mask has the number of a class"),
        (lambda row: classes_of(row)[:3], "4x3, its image 4x4'.*has its image's size"),
        (lambda row: classes_of(row).astype(np.uint16) + 300, "number the classes of masks from 0 to 255"),
    ],
)
def test_masks_that_are_none(tmp_path: Path, mask: Callable[[int], np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(labelled(tmp_path, mask))


def test_what_has_no_mask_or_a_damaged_one_is_named_at_once_or_left_out(tmp_path: Path) -> None:
    labelled(tmp_path, classes_of)
    for row in (3, 4):
        (tmp_path / "masks" / f"{row}.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"2 of 24 files.*images/3\.png \(its mask: "):
        opened(tmp_path)
    (tmp_path / "masks" / "5.png").unlink()
    with pytest.raises(DataError, match=r"1 of 24 names.*not both in images and in masks.*: 5; .*data.corrupt: skip"):
        opened(tmp_path)
    data = opened(tmp_path, corrupt="skip")
    assert sum(data.counts.values()) == 21
    assert [note.split(" ", 1)[0] for note in data.notes[:2]] == ["1", "2"]


def test_what_would_move_an_image_away_from_its_mask_is_refused(tmp_path: Path) -> None:
    labelled(tmp_path, classes_of)
    for field, value in (("flip", True), ("shift", 1)):
        with pytest.raises(DataError, match=f"data.{field}.*not the targets of its pixels"):
            opened(tmp_path, **{field: value})
    assert opened(tmp_path, brightness=0.1).counts["train"]


def test_several_labels_of_each_file_are_columns(tmp_path: Path) -> None:
    lines = ["file,red,round", *(f"{number}.png,{number % 2},{number // 2 % 2}" for number in range(40))]
    data = opened(listed(tmp_path, lines), problem="multilabel", target="red,round")
    np.testing.assert_array_equal(labels_of(data, IMAGES), [(n % 2, n // 2 % 2) for n in range(40)])
