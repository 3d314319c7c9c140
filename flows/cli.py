"""The command line: reads what is given, calls the flow, shows the result."""

import argparse
import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows import embedded
from tasks.errors import SlimlineError
from tasks.home import home
from tasks.serving.__main__ import add_options, serve_folder, serve_registered

if TYPE_CHECKING:
    from subprocess import Popen

    from flows.promote import Promotion
    from flows.report import Compression


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 if all is well, 1 if a stage failed or the budget was not kept, 2 if input is wrong."""
    grammar = parser()
    options, more = grammar.parse_known_args(arguments)  # overrides may stand before and after options
    if more and ("overrides" not in options or any(word.startswith("-") for word in more)):
        grammar.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        options.overrides += more
    embedded.settle()
    _hush()
    try:
        return int(options.command(options))
    except SlimlineError as error:
        print(f"slimline: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("slimline: stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        trace = home() / "traceback.txt"
        trace.write_text(traceback.format_exc())
        print(f"slimline: {type(error).__name__}: {error}\nslimline: the traceback is in {trace}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="slimline", description="From a Keras model and a data set to a small registered model version."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    recipe.add_argument(
        "overrides", nargs="*", metavar="field=value", help="settings in dotted form, such as student.width=0.5"
    )
    run = commands.add_parser("run", parents=[recipe], help="compress, measure, register")
    run.add_argument("--json", action="store_true", help="end with one JSON object on standard output")
    run.set_defaults(command=_run)
    check = commands.add_parser("check", parents=[recipe], help="say what is wrong with a recipe, or what it would do")
    check.set_defaults(command=_check)
    json_option = argparse.ArgumentParser(add_help=False)
    json_option.add_argument("--json", action="store_true", help="end with one JSON object on standard output")
    promote = commands.add_parser(
        "promote", parents=[json_option], help="put a candidate in service, if it is not worse than the champion"
    )
    promote.add_argument("name", metavar="NAME", help="the registered model")
    promote.add_argument("--candidate", default="candidate", metavar="WHICH", help="its alias or its number")
    promote.add_argument(
        "--approval",
        type=int,
        default=0,
        metavar="SECONDS",
        help="wait so long for a person to approve in Prefect's UI",
    )
    promote.set_defaults(command=_promote)
    rollback = commands.add_parser("rollback", parents=[json_option], help="put the previous champion back in service")
    rollback.add_argument("name", metavar="NAME", help="the registered model")
    rollback.set_defaults(command=_rollback)
    monitor = commands.add_parser("monitor", parents=[json_option], help="measure the champion on new data")
    monitor.add_argument("name", metavar="NAME", help="the registered model")
    monitor.add_argument(
        "overrides", nargs="+", metavar="field=value", help="such as data.reader=npz data.source=new.npz, and config.…"
    )
    monitor.set_defaults(command=_monitor)
    deploy = commands.add_parser(
        "deploy", parents=[json_option], help="lay a version out for a server, and try it there"
    )
    deploy.add_argument("version", metavar="models:/NAME@ALIAS", help="or models:/NAME/3")
    deploy.add_argument("--to", required=True, metavar="SERVER", help="tfserving, triton, kserve, docker or edge")
    deploy.add_argument("--output", default="", metavar="PLACE", help="a folder to make, or an archive.tar.gz")
    deploy.add_argument(
        "overrides", nargs="*", metavar="field=value", help="such as trial.max_latency_ms=5, and bundle.…"
    )
    deploy.set_defaults(command=_deploy)
    verify = commands.add_parser("verify", parents=[json_option], help="re-check a version against its own evidence")
    verify.add_argument("version", metavar="models:/NAME@ALIAS", help="or models:/NAME/3")
    verify.set_defaults(command=_verify)
    serve = commands.add_parser("serve", help="answer over REST and gRPC, and follow the alias")
    serve.add_argument("version", metavar="models:/NAME@ALIAS", help="or models:/NAME/3, or a folder that was laid out")
    serve.add_argument("--watch", type=float, default=10, metavar="SECONDS", help="how often to look where it leads")
    add_options(serve)
    serve.set_defaults(command=_serve)
    schema = commands.add_parser("schema", help="print the recipe's JSON schema")
    schema.set_defaults(command=_schema)
    return top


def _schema(_: argparse.Namespace) -> int:
    from flows.recipe import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=2))
    return 0


def _check(options: argparse.Namespace) -> int:
    from flows.check import check, plan
    from flows.recipe_file import read_recipe

    recipe = read_recipe(options.recipe, options.overrides)
    steps = plan(recipe, check(recipe))
    print(f"{options.recipe}: this recipe can run. It would do:")
    for stage, what in steps:
        print(f"  {stage:<9} {what}")
    return 0


def _run(options: argparse.Namespace) -> int:
    server = embedded.start_server() if options.recipe.is_file() else None
    from rich.console import Console

    from flows.check import check
    from flows.recipe_file import read_recipe

    recipe = read_recipe(options.recipe, options.overrides)
    check(recipe)  # before Prefect and MLflow hear of it: a wrong recipe leaves no failed run behind

    from flows.compress import compress
    from flows.display import Display, duration, show
    from tasks import tracking
    from tasks.progress import listen

    console = Console(stderr=options.json)
    display = Display(console)
    listen(display)
    console.print(f"[bold]{recipe.name}[/bold]  ({options.recipe})", highlight=False)
    tracking.experiment()  # MLflow takes seconds to import and to open, and the server is coming up meanwhile
    embedded.await_server(server)
    startup = time.time() - _process_began()
    try:
        result = compress(recipe)
    finally:
        display.stop()
    wall = time.time() - _process_began()
    show(console, result, next_steps(result, embedded_server=server is not None))
    console.print(f"{duration(wall)} in all, {duration(startup)} of it until the first stage could begin", style="dim")
    if options.json:
        clock = {"wall_seconds": round(wall, 2), "startup_seconds": round(startup, 2)}
        print(json.dumps({**result.model_dump(mode="json"), **clock}, indent=2))
    return 0


def _promote(options: argparse.Namespace) -> int:
    _begin(embedded.start_server())
    from flows.promote import promote

    return _show(promote(options.name, options.candidate, options.approval), options)


def _rollback(options: argparse.Namespace) -> int:
    _begin(embedded.start_server())
    from flows.promote import rollback

    return _show(rollback(options.name), options)


def _monitor(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    from flows.monitor import Watch, monitor
    from flows.recipe_file import checked, with_overrides

    settings = checked(Watch, with_overrides({}, options.overrides))
    _begin(server)
    result = monitor(options.name, settings.data, settings.config)
    if options.json:
        print(result.model_dump_json(indent=2))
    else:
        print(f"{result.uri}: {'degraded' if result.degraded else 'healthy'}, {result.examples:,} new examples")
        print("\n".join([*result.reasons, result.mlflow_url]))
    return int(result.degraded)


def _deploy(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    from flows.deploy import DeployConfig, as_markdown, deploy
    from flows.recipe_file import checked, with_overrides

    given = {"version": options.version, "to": options.to}
    settings = checked(DeployConfig, with_overrides(given, options.overrides))
    _begin(server)
    result = deploy(settings.version, settings.to, settings.bundle, settings.trial, options.output)
    print(result.model_dump_json(indent=2) if options.json else as_markdown(result))
    return 0


def _verify(options: argparse.Namespace) -> int:
    _begin(embedded.start_server())
    from flows.verify import verify

    result = verify(options.version)
    print(result.model_dump_json(indent=2) if options.json else f"{result.page}\n{result.mlflow_url}")
    return 0 if result.holds else 1


def _serve(options: argparse.Namespace) -> int:
    sys.argv[1:] = []  # kserve reads them when it is imported, and has words of its own
    options.folder = Path(options.version)
    (serve_folder if options.folder.is_dir() else serve_registered)(options)
    return 0


def _begin(server: "Popen[bytes] | None") -> None:
    """Show what the stages do from here on; ready when both servers are."""
    from rich.console import Console

    from flows.display import Display
    from tasks import tracking
    from tasks.progress import listen

    listen(Display(Console(stderr=True)))
    tracking.experiment()
    embedded.await_server(server)


def _show(result: "Promotion", options: argparse.Namespace) -> int:
    if options.json:
        print(result.model_dump_json(indent=2))
    else:
        print(f"{result.name}: version {result.champion} is the champion, previous is {result.previous or 'none'}")
        print(result.mlflow_url or "nothing was moved")
    return 0


def _process_began() -> float:
    import psutil

    return float(psutil.Process().create_time())


def next_steps(result: "Compression", *, embedded_server: bool) -> list[tuple[str, str]]:
    """What a person types to look at the run and to use the version."""
    from tasks.tracking import tracking_uri

    uri = tracking_uri()
    steps = []
    if embedded_server:
        folder = os.environ["PREFECT_HOME"]
        steps.append(("Prefect UI at http://127.0.0.1:4200", f"PREFECT_HOME={folder} prefect server start"))
    else:
        steps.append(("Prefect UI", result.flow_run_url))
    if uri.startswith("sqlite:"):
        steps.append((f"MLflow UI at {result.mlflow_url}", f"mlflow server --backend-store-uri {uri} --port 5000"))
    else:
        steps.append(("MLflow UI", result.mlflow_url))
    load = f"import mlflow; mlflow.set_tracking_uri({uri!r}); model = mlflow.pyfunc.load_model({result.uri!r})"
    steps.append(("Evidence", result.evidence))
    return [*steps, ("Load the model", f'python -c "{load}"')]


def _hush() -> None:
    """Keep libraries' chatter off the terminal: the display says what happens, and Prefect's API still gets the log.

    TensorFlow's native part writes to file descriptor 2 before any of its settings count, so that descriptor leads to a
    file from here on, and Python's own standard error to where the descriptor led before.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    log = os.open(home() / "native.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    warnings.simplefilter("ignore")
    for name in ("tensorflow", "absl", "tf2onnx", "h5py"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
