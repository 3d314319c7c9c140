"""A teacher compressed by us and by other tools, in one run, timed in turn.

    python -m benchmarks.compression --data FOLDER

Trains a ResNet-8 of double width on CIFAR-10, makes a smaller version by `slimline run`, takes the same teacher
through the other tools, and writes `benchmarks/results/compression.md`, `.csv`, `.json` and `.png`. What was trained
and made is kept, and a run that was killed goes on.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.compression.measure import FileRow, figures, timed
from benchmarks.compression.ours import registered
from benchmarks.compression.page import page, picture, table
from benchmarks.compression.ways import Way, ways
from benchmarks.conversion.subjects import Subject
from benchmarks.kept import trained
from benchmarks.say import say
from tasks.contract.state_folder import home
from tasks.data import DataConfig, open_data
from tasks.formats.keras import files as keras
from tasks.measuring.arrays import Floats
from tasks.measuring.machine import describe_machine, load_average
from tasks.training.loop import FitConfig
from tasks.zoo import ModelConfig

SEED = 1
RESULTS = Path(__file__).parent.parent / "results"
WORK = "work.json"


def arguments() -> argparse.Namespace:
    """What a person may choose."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="CIFAR-10 as train.parquet and test.parquet")
    options.add_argument("--kept", type=Path, help="where models and files are kept; else in the state folder")
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--peers", type=Path, default=Path(".slimline/peers/bin/python"), help="the others' Python")
    options.add_argument("--olive", type=Path, default=Path(".slimline/olive/bin/python"), help="Olive's Python")
    options.add_argument("--images", type=int, default=0, help="of each file; 0 takes all")
    options.add_argument("--teacher-epochs", type=int, default=16)
    options.add_argument("--cut-epochs", type=int, default=30, help="of the teacher whose channels were cut")
    options.add_argument("--student-epochs", type=int, default=100, help="of the smaller network that it teaches")
    options.add_argument("--tuning-epochs", type=int, default=1, help="of the others' quantization-aware training")
    options.add_argument("--calibration", type=int, default=256, help="train images that set ranges")
    options.add_argument("--rounds", type=int, default=1000, help="how often each file is timed")
    options.add_argument("--skip", default="", help="leave out the ways whose title holds this")
    return options.parse_args()


def main() -> None:
    """Train, make, measure, write."""
    chosen = arguments()
    load_before = load_average()
    kept: Path = (chosen.kept or home() / "benchmarks" / "compression").absolute()
    kept.mkdir(parents=True, exist_ok=True)
    images = chosen.data.absolute()
    places = {"source": f"{images}/train.parquet", "test_source": f"{images}/test.parquet"}
    data = open_data(
        DataConfig.model_validate({"reader": "parquet", **places, "flip": True, "shift": 4, "limit": chosen.images})
    )
    learning = FitConfig(
        epochs=chosen.teacher_epochs,
        batch_size=128,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=0.002,
    )
    teacher, came_from = trained("teacher", ModelConfig(model="resnet8", width=2.0), data, learning, SEED, kept)
    x, y = data.arrays("test")
    subject = Subject("resnet8", "", teacher, data, x, y, data.sample("train", chosen.calibration)[0])

    rows: dict[str, FileRow] = {}
    folders: dict[str, Path] = {}
    scores: dict[str, Floats] = {}

    def measure(row: FileRow, folder: Path) -> None:
        name = f"{row.target}: {row.title}"
        rows[name] = figures(row, folder, subject, scores)
        folders[name] = folder

    tuning = FitConfig(epochs=chosen.tuning_epochs, batch_size=128, learning_rate=1e-4)
    for way in ways(subject, chosen.peers.absolute(), chosen.olive.absolute(), tuning, SEED):
        row = FileRow(title=way.title, target=way.target, parameters=teacher.count_params())
        name = f"{row.target}: {row.title}"
        try:
            if chosen.skip and chosen.skip in way.title:
                raise RuntimeError(f"left out by --skip {chosen.skip!r}")
            folder, seconds = _made(way, kept / "files", f"{came_from.name} {chosen.calibration} {tuning}")
            measure(row.model_copy(update={"work_seconds": seconds}), folder)
        except Exception as error:  # a way that cannot be gone is a row that says why
            message = " ".join(str(error).split())[:300]
            rows[name] = row.model_copy(update={"failure": f"{type(error).__name__}: {message}"})
            say(f"{name}: {rows[name].failure}")
    common: dict[str, object] = {f"data.{name}": place for name, place in places.items()}
    common |= {"data.limit": chosen.images, "teacher.model": came_from / keras.FILE}
    minutes = {}
    for title, recipe, settings in (
        ("ours, the teacher's channels cut", "cut.yaml", {"prune.fit.epochs": chosen.cut_epochs}),
        ("ours, a ResNet-6 that it taught", "taught.yaml", {"distill.fit.epochs": chosen.student_epochs}),
    ):
        made = registered(Path(__file__).parent / recipe, {**common, **settings}, kept / "slimline")
        row = FileRow(
            title=title, target="onnxruntime", ours=True, work_seconds=made.seconds, parameters=made.parameters
        )
        measure(row, made.folder)
        measure(row.model_copy(update={"target": "litert"}), made.folder / "formats" / "litert")
        minutes[recipe] = f"`{recipe}`, {made.seconds / 60:.0f} minutes in all"
    done = timed(rows, folders, x, chosen.rounds, SEED)

    machine = describe_machine(load_before)
    lessons = json.loads((came_from / "training.json").read_text())
    notes = (
        f"{time.strftime('%Y-%m-%d')}, seed {SEED}: CIFAR-10, {data.counts['train']:,} training and {len(x):,} test "
        f"images. Teacher: ResNet-8 of double width, {chosen.teacher_epochs} epochs "
        f"({sum(epoch['seconds'] for epoch in lessons) / 60:.0f} minutes). Ours, both taught by it on eight fixed "
        f"views of each image: its channels cut to at most 30% of the multiply-accumulates, {chosen.cut_epochs} epochs "
        f"and one in integers ({minutes['cut.yaml']}); a ResNet-6, {chosen.student_epochs} epochs and three in "
        f"integers ({minutes['taught.yaml']}). The others' fine-tuning: {chosen.tuning_epochs} epoch(s); ranges by "
        f"{chosen.calibration} training images.",
    )
    chosen.results.mkdir(exist_ok=True)
    content = {
        "date": time.strftime("%Y-%m-%d"),
        "settings": {name: value for name, value in vars(chosen).items() if isinstance(value, int | float | str)},
        "machine": machine.model_dump(mode="json"),
        "rows": [row.model_dump(mode="json") for row in done],
    }
    (chosen.results / "compression.json").write_text(json.dumps(content, indent=1) + "\n")
    (chosen.results / "compression.md").write_text(page(done, machine, notes))
    (chosen.results / "compression.csv").write_text(table(done))
    picture(done).savefig(chosen.results / "compression.png", dpi=150, metadata={"Software": None})
    say(f"written: {chosen.results / 'compression.md'}")
    print((chosen.results / "compression.md").read_text())


def _made(way: Way, kept: Path, made_from: str) -> tuple[Path, float]:
    """The folder with a way's file, made now or when it was last made from the same things, and the seconds it took."""
    key = hashlib.sha256(f"{way.target} {way.title} {made_from}".encode()).hexdigest()[:12]
    folder = kept / key
    if (folder / WORK).exists():
        return folder, float(json.loads((folder / WORK).read_text())["seconds"])
    say(f"{way.target}: {way.title}")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    way.write(folder)
    seconds = time.monotonic() - began
    (folder / WORK).write_text(json.dumps({"seconds": seconds}))  # last: what is there is whole
    return folder, seconds


if __name__ == "__main__":
    main()
