"""The pair rule beside full range and the other ways that are right on every processor, on four networks.

    python -m benchmarks.pairs [--data FOLDER] [--official FOLDER] [--timing-only] [resnet8 ds_cnn ...]

Makes the files of each network, asks them here and on emulated processors without VNNI, times them in turn, and writes
`benchmarks/results/pairs.md`, with all figures beside it as JSON. `--timing-only` times the same files again.
"""

import argparse
import json
import time
from pathlib import Path

import benchmarks.quiet  # noqa: F401  before what imports TensorFlow
from benchmarks.conversion.subjects import SHAPES
from benchmarks.pairs import files
from benchmarks.pairs.measure import NetworkResult, measure
from benchmarks.pairs.networks import CALIBRATION, network
from benchmarks.pairs.page import page
from benchmarks.pairs.timing import timed
from benchmarks.say import say
from tasks.contract.state_folder import home
from tasks.measuring.machine import Machine, describe_machine, load_average

RESULTS = Path(__file__).parent.parent / "results"


def arguments() -> argparse.Namespace:
    """What a person may choose."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("networks", nargs="*", metavar="network", help=f"of {', '.join(SHAPES)}; all when left out")
    options.add_argument(
        "--data", type=Path, help="a folder with CIFAR-10 as train.parquet and test.parquet; else it is downloaded"
    )
    options.add_argument("--official", type=Path, help="the official MLPerf Tiny models; they need --data too")
    options.add_argument("--timing-only", action="store_true", help="time the files of the last run again, no more")
    options.add_argument("--results", type=Path, default=RESULTS, help="where the figures are written")
    options.add_argument("--kept", type=Path, help="where models and files are kept; else in the state folder")
    options.add_argument("--images", type=int, default=30_000, help="of CIFAR-10 to train on, where one is trained")
    options.add_argument("--epochs", type=int, default=10, help="of training")
    options.add_argument("--emulated", type=int, default=2000, help="test examples asked on emulated processors")
    options.add_argument("--rounds", type=int, default=4000, help="how often each file is timed")
    options.add_argument("--seconds", type=float, default=120, help="longest timing of one network's files")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    if unknown := set(chosen.networks) - set(SHAPES):
        options.error(f"no such network: {', '.join(unknown)}; these are: {', '.join(SHAPES)}")
    return chosen


def main() -> None:
    """Measure and write, after each network, so that what is done is never lost."""
    chosen = arguments()
    kept = chosen.kept or home() / "benchmarks"
    file = chosen.results / "pairs.json"
    load = load_average()
    names = chosen.networks or list(SHAPES)
    before = json.loads(file.read_text()) if chosen.timing_only else {}
    results = {one["network"]: NetworkResult.model_validate(one) for one in before.get("networks", ())}

    def write() -> None:
        settings = {name: value for name, value in vars(chosen).items() if isinstance(value, int | float | list)}
        content = {
            "date": before.get("date", time.strftime("%Y-%m-%d")),
            "settings": before.get("settings", settings),
            "machine": before.get("machine", describe_machine(load).model_dump(mode="json")),
            "networks": [one.model_dump(mode="json") for one in results.values()],
        }
        note = f"{content['date']}, seed {content['settings']['seed']}; ranges by {CALIBRATION} train inputs, minmax."
        chosen.results.mkdir(exist_ok=True)
        file.write_text(json.dumps(content, indent=1) + "\n")
        text = page(list(results.values()), Machine.model_validate(content["machine"]), [note])
        file.with_suffix(".md").write_text(text)

    for name in names:
        folder = kept / "pairs" / name
        if not chosen.timing_only:
            training = {"images": chosen.images, "epochs": chosen.epochs, "seed": chosen.seed}
            kept.mkdir(parents=True, exist_ok=True)
            subject = network(name, chosen.data, chosen.official, kept, **training)
            say(f"{name}: making its files")
            files.write(subject, folder)
            results[name] = measure(subject, folder, chosen.emulated)
            write()
        elif name not in results or files.digest(folder) != results[name].digest:
            raise SystemExit(f"{name}: {folder} does not hold the files that {file} tells of: leave --timing-only out")
        timing = timed(name, folder, rounds=chosen.rounds, seconds=chosen.seconds, seed=chosen.seed)
        results[name] = results[name].model_copy(update={"timing": timing})
        write()
    say(f"written: {file.with_suffix('.md')}")
    print(file.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
