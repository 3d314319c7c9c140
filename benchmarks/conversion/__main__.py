"""Every way from a Keras model to integers that we know, ours among them, timed in turn in one run.

    python -m benchmarks.conversion [--data FOLDER] [--official FOLDER] [resnet8 ds_cnn mobilenet autoencoder]

Trains the reference architectures of MLPerf Tiny a little on CIFAR-10 (and keeps them), takes each through every route,
and writes `benchmarks/results/conversion.md`, with all figures beside it as JSON.
"""

import argparse
import json
import time
from pathlib import Path

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.conversion.measure import SubjectResult, measure
from benchmarks.conversion.official import OFFICIAL_MODELS, Official, measure_official
from benchmarks.conversion.page import page
from benchmarks.conversion.routes import routes
from benchmarks.conversion.subjects import SHAPES, cifar10, subject
from benchmarks.say import say
from tasks.contract.state_folder import home
from tasks.data import open_data
from tasks.measuring.machine import describe_machine, load_average
from tasks.training.loop import FitConfig

RESULTS = Path(__file__).parent.parent / "results"


def arguments() -> argparse.Namespace:
    """What a person may choose."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("subjects", nargs="*", metavar="subject", help=f"of {', '.join(SHAPES)}; all when left out")
    options.add_argument(
        "--data", type=Path, help="a folder with CIFAR-10 as train.parquet and test.parquet; else it is downloaded"
    )
    options.add_argument("--official", type=Path, help="the official MLPerf Tiny models; their table needs --data too")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the figures are written")
    options.add_argument("--kept", type=Path, help="where trained models are kept; else in the state folder")
    options.add_argument("--peers", type=Path, default=Path(".slimline/peers/bin/python"), help="NNCF's Python")
    options.add_argument("--images", type=int, default=5000, help="of CIFAR-10 to train on, and as many to test on")
    options.add_argument("--epochs", type=int, default=5, help="of training")
    options.add_argument("--tuning-epochs", type=int, default=1, help="of quantization-aware training")
    options.add_argument("--calibration", type=int, default=256, help="train inputs that set ranges, on every route")
    options.add_argument("--rounds", type=int, default=2000, help="how often each file is timed")
    options.add_argument("--seconds", type=float, default=120, help="longest timing of one model's files")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    if unknown := set(chosen.subjects) - set(SHAPES):
        options.error(f"no such subject: {', '.join(unknown)}; these are: {', '.join(SHAPES)}")
    return chosen


def main() -> None:
    """Train, convert, measure, write: after each subject, so that what is done is never lost."""
    chosen = arguments()
    load_before = load_average()
    kept = chosen.kept or home() / "benchmarks"
    kept.mkdir(parents=True, exist_ok=True)
    training = FitConfig(epochs=chosen.epochs, batch_size=64)
    tuning = FitConfig(epochs=chosen.tuning_epochs, batch_size=64, learning_rate=1e-4)
    results: list[SubjectResult] = []
    official: list[Official] = []

    def write() -> None:
        machine = describe_machine(load_before)
        settings = {name: value for name, value in vars(chosen).items() if isinstance(value, int | float | list)}
        content = {
            "date": time.strftime("%Y-%m-%d"),
            "settings": settings,
            "machine": machine.model_dump(mode="json"),
            "subjects": [one.model_dump(mode="json") for one in results],
            "official": [one.model_dump(mode="json") for one in official],
        }
        notes = (
            f"{content['date']}, seed {chosen.seed}: {chosen.images:,} images, {chosen.epochs} epochs; fine-tuning "
            f"{chosen.tuning_epochs} epoch(s); ranges by {chosen.calibration} train inputs on every route.",
        )
        chosen.results.mkdir(exist_ok=True)
        (chosen.results / "conversion.json").write_text(json.dumps(content, indent=1) + "\n")
        (chosen.results / "conversion.md").write_text(page(results, official, machine, notes))

    pace = {"seed": chosen.seed, "rounds": chosen.rounds, "seconds": chosen.seconds}
    for paths in OFFICIAL_MODELS if chosen.official and chosen.data else ():
        try:
            official.append(measure_official(paths, chosen.official, chosen.data, **pace))
        except Exception as error:  # the page says why, and the rest is measured all the same
            say(f"{paths.recipe} failed: {error}")
            official.append(Official(name=paths.recipe, says=f"Not measured: {type(error).__name__}: {error}", rows=()))
        write()
    ways = routes(chosen.peers.absolute())
    cifar = open_data(cifar10(chosen.data, chosen.images))
    for name in chosen.subjects or SHAPES:
        made = subject(name, cifar, kept, training, chosen.seed, chosen.calibration)
        results.append(measure(made, ways, tuning, **pace))
        write()
    say(f"written: {chosen.results / 'conversion.md'}")
    print((chosen.results / "conversion.md").read_text())


if __name__ == "__main__":
    main()
