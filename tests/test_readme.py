"""What README tells a person to do is done here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(starting: str) -> list[list[str]]:
    lines = "\n".join(blocks("bash")).splitlines()
    return [line.split("#")[0].split() for line in lines if line.startswith(starting)]


@pytest.fixture(scope="module")
def flowers(tmp_path_factory) -> Path:
    """The folder that README's recipe is written for: images by class and a teacher in a file."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("flowers")
    draws = np.random.default_rng(0)
    for name in ("daisy", "rose", "tulip"):
        place = folder / "data" / "flowers" / name
        place.mkdir(parents=True)
        for number in range(12):
            Image.fromarray(draws.integers(0, 256, (32, 32, 3), np.uint8)).save(place / f"{number}.png")
    layers = tf.keras.layers
    teacher = tf.keras.Sequential(
        [tf.keras.Input((32, 32, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax")]
    )
    (folder / "models").mkdir()
    teacher.save(folder / "models" / "teacher.h5")
    (folder / "recipe.yaml").write_text(blocks("yaml")[0])
    return folder


def slimline(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLIMLINE_HOME": str(folder / "state")}
    return subprocess.run(
        [BIN / "slimline", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_recipe_can_run(flowers):
    done = slimline(flowers, *commands("slimline check")[0][1:], "teacher.floor=-1")  # it has learned nothing
    assert done.returncode == 0, done.stderr
    assert "teacher.h5 taken as it is" in done.stdout
    assert "mobilenet by soft_targets" in done.stdout


def test_the_schema_is_printed(flowers):
    done = slimline(flowers, *commands("slimline schema")[0][1:])
    assert done.returncode == 0
    assert set(yaml.safe_load(done.stdout)["properties"]) >= set(yaml.safe_load(blocks("yaml")[0]))


def test_the_overrides_are_settings(flowers):
    from flows.recipe_file import read_recipe

    for command in commands("slimline run"):
        overrides = [word for word in command[3:] if not word.startswith("--")]
        read_recipe(flowers / command[2], overrides)


def test_it_is_short_and_every_file_that_it_links_to_is_there():
    assert len(README.splitlines()) <= 150
    links = re.findall(r"\]\(([^)\s#]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_reader_architecture_and_target_is_named():
    from tasks.contract.artifact import FORMAT_OF
    from tasks.data import READERS
    from tasks.zoo import ARCHITECTURES

    data, model = ((ROOT / "docs" / f"your-{page}.md").read_text() for page in ("data", "model"))
    for name in READERS:
        assert f"| `{name}` |" in data
        assert name in blocks("yaml")[0]
    for name in ARCHITECTURES:
        assert f"`{name}`" in model
        assert name in blocks("yaml")[0]
    for name in FORMAT_OF:
        assert name in blocks("yaml")[0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("data.source=nowhere", "data.source"),
        ("data.classes=[daisy, rose]", "data.classes"),
        ("student.model=resnet99", "student.model"),
        ("student.model=models/none.h5", "student.model"),
        ("teacher.model=mobilnet", "teacher.model"),
        ("data.image_size=16", "teacher.model"),  # the teacher's input is 32x32
        ("data.limit=4", "data"),  # too few for three splits
        ("seed=-1", "seed"),
    ],
)
def test_what_cannot_run_is_refused_with_its_field_and_no_traceback(flowers, change, field):
    done = slimline(flowers, "run", "recipe.yaml", change)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"slimline: {field}" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (flowers / "state" / "mlflow.db").exists(), "nothing ran"
