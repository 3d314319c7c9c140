"""What each command does: calls the flow and shows the result. Each gives its exit code."""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows import setting_up
from flows.amounts import hours, share
from flows.shipped import recipe_named, space_named
from tasks.contract.errors import BudgetNotKept, ServerFailed

if TYPE_CHECKING:
    from flows.promote import Promotion
    from flows.report import Measured


def schema() -> int:
    """Print it."""
    from flows.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=2))
    return 0


def check(recipe: Path, overrides: Sequence[str]) -> int:
    """Say what a recipe would do."""
    from flows.check import check, plan, try_models
    from flows.recipe_file import read_recipe
    from flows.screen import say, screen

    read = read_recipe(recipe_named(recipe), overrides)
    data = check(read)
    steps = plan(read, data)
    console = screen()
    try_models(read, data)
    say(console, f"{recipe}: this recipe can run. It would do:")
    for stage, what in steps:
        say(console, f"  {stage:<9} {what}", hang=12)
    return 0


def run(recipe: Path, overrides: Sequence[str], *, as_json: bool) -> int:
    """Compress, measure, register."""
    file = recipe_named(recipe)
    starting = setting_up.start() if file.is_file() else setting_up.NOTHING
    from flows.screen import say, screen

    console = screen(stderr=as_json)
    with setting_up.shown(console) as display:
        from flows.check import check
        from flows.recipe_file import read_recipe

        display.preparing("reading the recipe")
        read = read_recipe(file, overrides)
        check(read)  # before Prefect and MLflow hear of it: a wrong recipe leaves no failed run behind
        say(console, f"{read.name}  ({recipe})", style="bold")
        from flows.compression import compress
        from flows.display import duration, show
        from flows.report import Measured

        setting_up.finish(starting, display)
        startup = time.time() - _process_began()
        try:
            result = compress(read)
        except BudgetNotKept as missed:
            if isinstance(missed.result, Measured):
                show(console, missed.result, next_steps(missed.result, embedded_server=starting.server is not None))
                if as_json:
                    print(missed.result.model_dump_json(indent=2))
            raise
    wall = time.time() - _process_began()
    show(console, result, next_steps(result, embedded_server=starting.server is not None))
    in_all = f"{duration(wall)} in all, {duration(startup)} of it until the first stage could begin"
    say(console, in_all, style="dim", hang=0)
    if as_json:
        clock = {"wall_seconds": round(wall, 2), "startup_seconds": round(startup, 2)}
        print(json.dumps({**result.model_dump(mode="json"), **clock}, indent=2))
    return 0


def search(recipe: Path, space: Path, trials: int, overrides: Sequence[str], *, as_json: bool) -> int:
    """Try the recipes of a space, and register the best one inside the budget."""
    starting = setting_up.start()
    from flows.screen import say, screen, tabulate

    console = screen(stderr=as_json)
    with setting_up.shown(console) as display:
        from flows.check import check
        from flows.recipe_file import read_recipe, read_space

        display.preparing("reading the recipe and the space")
        read, chosen = read_recipe(recipe_named(recipe), overrides), read_space(space_named(space))
        check(read)
        from flows.display import show
        from flows.search import of_trials, search

        setting_up.finish(starting, display)
        found = search(read, of_trials(chosen, trials))
    console.print()
    stopped = f", {found.search.stopped} stopped in training" if found.search.stopped else ""
    say(console, f"{found.search.trials} trials, {found.search.trained} trained{stopped}; * was taken", style="bold")
    tabulate(console, found.trials, ("trial",), right=("size", "p50", "speed-up"), strong="*")
    steps = [("The front, and every trial", found.mlflow_url)]
    show(console, found.compression, [*steps, *next_steps(found.compression, embedded_server=bool(starting.server))])
    if as_json:
        print(found.model_dump_json(indent=2))
    return 0


def sensitivity(recipe: Path, overrides: Sequence[str], *, as_json: bool) -> int:
    """Show what each layer of the student costs in fewer bits and with fewer channels."""
    starting = setting_up.start()
    from flows.screen import say, screen, tabulate

    console = screen(stderr=as_json)
    with setting_up.shown(console) as display:
        from flows.check import check
        from flows.recipe_file import read_recipe

        display.preparing("reading the recipe")
        read = read_recipe(recipe_named(recipe), overrides)
        check(read)
        from flows.sensitivity import SHOWN, headline, sensitivity

        setting_up.finish(starting, display)
        found = sensitivity(read)
    console.print()
    say(console, headline(found.sensitivity), style="bold")
    tabulate(console, found.rows[:SHOWN], ("layer", "change"), right=("outputs moved by",))
    for line in [*found.notes, f"All {len(found.rows)} rows, and the plot: {found.mlflow_url}"]:
        say(console, line)
    if as_json:
        print(found.model_dump_json(indent=2))
    return 0


def list_versions(name: str, *, as_json: bool) -> int:
    """Show which versions are registered."""
    from flows import versions
    from flows.screen import screen
    from flows.version_pages import list_page
    from tasks.store import registry

    found = versions.list_versions(name)
    if as_json:
        print(
            json.dumps(
                {"store": registry.place(), "versions": [each.model_dump(mode="json") for each in found]}, indent=2
            )
        )
    else:
        list_page(screen(), found, registry.place())
    return 0


def show_version(version: str, *, as_json: bool) -> int:
    """Show one; 1 if its evidence cannot be read."""
    from flows import versions
    from flows.screen import screen
    from flows.version_pages import show_page

    shown = versions.show_version(version)
    if as_json:
        print(shown.model_dump_json(indent=2))
    else:
        show_page(screen(), shown)
    return 1 if shown.problem else 0


def compare_versions(one: str, other: str, *, as_json: bool) -> int:
    """Show two side by side."""
    from flows import versions
    from flows.screen import screen
    from flows.version_pages import compare_page

    both = versions.compare_versions(one, other)
    if as_json:
        print(both.model_dump_json(indent=2))
    else:
        compare_page(screen(), both)
    return 0


def promote(name: str, candidate: str, approval: int, shadowed: str, agreement: str, *, as_json: bool) -> int:
    """Put a candidate in service."""
    settings = {"hours": hours("--shadowed", shadowed), "agreement": share("--agreement", agreement)}
    starting = setting_up.start()
    with setting_up.shown() as display:
        from flows.promote import Shadowed, promote

        setting_up.finish(starting, display)
        result = promote(name, candidate, approval, Shadowed(**settings))
    return _show(result, as_json=as_json)


def rollback(name: str, *, as_json: bool) -> int:
    """Put the previous champion back in service."""
    starting = setting_up.start()
    with setting_up.shown() as display:
        from flows.promote import rollback

        setting_up.finish(starting, display)
        result = rollback(name)
    return _show(result, as_json=as_json)


def monitor(name: str, overrides: Sequence[str], *, as_json: bool) -> int:
    """Measure the champion on new data; 1 if it is degraded."""
    starting = setting_up.start()
    from flows.monitor import Watch, monitor
    from flows.recipe_file import checked, with_overrides

    settings = checked(Watch, with_overrides({}, overrides))
    with setting_up.shown() as display:
        setting_up.finish(starting, display)
        result = monitor(name, settings.data, settings.config)
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        state = f"{result.uri}: {'degraded' if result.degraded else 'healthy'}, {result.examples:,} new examples"
        _print_lines([state, *result.reasons, result.mlflow_url])
    return int(result.degraded)


def deploy(version: str, to: str, overrides: Sequence[str], output: str, push: str, *, as_json: bool) -> int:
    """Lay a version out for a server, and try it there."""
    starting = setting_up.start()
    from flows.deploy import DeployConfig, as_markdown, deploy
    from flows.recipe_file import checked, with_overrides

    settings = checked(DeployConfig, with_overrides({"version": version, "to": to, "push": push}, overrides))
    with setting_up.shown() as display:
        setting_up.finish(starting, display)
        result = deploy(settings.version, settings.to, settings.bundle, settings.trial, output, settings.push)
    _print_page(result.model_dump_json(indent=2), as_markdown(result), as_json=as_json)
    return 0


def verify(version: str, processors: bool, *, as_json: bool) -> int:
    """Re-check a version against its own evidence; 1 if something is not as it was recorded."""
    starting = setting_up.start()
    with setting_up.shown() as display:
        from flows.verify import verify

        setting_up.finish(starting, display)
        result = verify(version, processors)
    _print_page(result.model_dump_json(indent=2), f"{result.page}\n{result.mlflow_url}", as_json=as_json)
    return 0 if result.holds else 1


def sign(version: str) -> int:
    """Put a signature beside its files."""
    from tasks.versions.registered import sign_version
    from tasks.versions.version import SIGNATURE

    _print_lines([f"{sign_version(version).uri}: {SIGNATURE} is beside its files"])
    return 0


def serve(versions: Sequence[str], watch: float, settings: Mapping[str, object]) -> int:
    """Answer over REST and gRPC, until SIGTERM.

    Raises:
        ServerFailed: the server's libraries are not installed.

    """
    sys.argv[1:] = []  # kserve reads them when it is imported, and has words of its own
    from tasks.serving.__main__ import serve

    try:
        serve(argparse.Namespace(versions=versions, watch=watch, **settings))
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed, and the server needs it: pip install 'slimline[serve]'"
        raise ServerFailed(message) from error
    return 0


def backup(place: Path) -> int:
    """Write one archive of all that this machine keeps."""
    from flows.backup import backup

    files = backup(place)
    _print_lines([f"{place}: {files:,} files, {place.stat().st_size / 1e6:,.1f} MB"])
    return 0


def restore(place: Path) -> int:
    """Lay one out."""
    from flows.backup import restore
    from tasks.contract.state_folder import home

    files = restore(place)
    _print_lines([f"{home()}: {files:,} files, as they were backed up"])
    return 0


def gc(delete: bool, keep_days: float | None, strays: bool, *, as_json: bool) -> int:
    """Show what nobody needs, or remove it."""
    starting = setting_up.start()
    with setting_up.shown() as display:
        from flows import gc
        from flows.gc_page import gc_page

        days = gc.keep_days(keep_days)
        setting_up.finish(starting, display, "looking for what nobody needs")
        found = gc.collect(days, delete=delete, strays=strays)
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        from flows.screen import screen

        gc_page(screen(), found)
    return 0


def servers(word: Literal["up", "down", "status"]) -> int:
    """Start both servers and a worker, end them, or say what is up."""
    from flows import up

    return {"up": up.up, "down": up.down, "status": up.status}[word]()


def _show(result: "Promotion", *, as_json: bool) -> int:
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        state = f"{result.name}: version {result.champion} is the champion, previous is {result.previous or 'none'}"
        _print_lines([state, result.mlflow_url or "nothing was moved"])
    return 0


def _print_lines(lines: Sequence[str]) -> None:
    from flows.screen import say, screen

    console = screen()
    for line in lines:
        say(console, line)


def _print_page(json_text: str, markdown: str, *, as_json: bool) -> None:
    from flows.screen import page, screen

    if as_json:
        print(json_text)
    else:
        page(screen(), markdown)


def _process_began() -> float:
    import psutil

    return float(psutil.Process().create_time())


def next_steps(result: "Measured", *, embedded_server: bool) -> list[tuple[str, str]]:
    """What a person types to look at the run and to use the version."""
    from flows.report import Compression
    from tasks.store.tracking import tracking_uri

    uri = tracking_uri()
    steps = []
    if embedded_server:
        folder = os.environ["PREFECT_HOME"]
        steps.append(("Prefect UI at http://127.0.0.1:4200", f"PREFECT_HOME={folder} prefect server start"))
    else:
        steps.append(("Prefect UI", result.flow_run_url))
    if uri.startswith("sqlite:"):
        steps.append(
            (
                f"MLflow UI at {result.mlflow_url}",
                f"MLFLOW_DISABLE_TELEMETRY=true mlflow server --backend-store-uri {uri} --port 5000",
            )
        )
    else:
        steps.append(("MLflow UI", result.mlflow_url))
    steps.append(("Evidence", result.evidence))
    if isinstance(result, Compression):
        load = f"import mlflow; mlflow.set_tracking_uri({uri!r}); model = mlflow.pyfunc.load_model({result.uri!r})"
        steps.append(("Load the model", f'python -c "{load}"'))
    return steps
