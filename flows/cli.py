"""The command line: reads what is given, calls the flow, shows the result."""

import argparse
import io
import json
import logging
import os
import shlex
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flows import embedded, interrupt
from tasks.contract.errors import SlimlineError
from tasks.contract.progress import listen, listener
from tasks.contract.state_folder import home

if TYPE_CHECKING:
    from subprocess import Popen

    from rich.console import Console

    from flows.promote import Promotion
    from flows.report import Compression


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 if all is well, 1 if a stage failed or the budget was not kept, 2 if input is wrong.

    130 says that Ctrl-C ended it.
    """
    typed = sys.argv[1:] if arguments is None else [*arguments]
    say_stopped = partial(_say_stopped, typed)
    try:
        options = _options(typed)
        embedded.settle()
        _hush()
        with interrupt.heeded(_give_up, say_stopped):
            return _ended(options, say_stopped)
    except KeyboardInterrupt:
        interrupt.once(say_stopped)
        return interrupt.EXIT_CODE


def _options(typed: Sequence[str]) -> argparse.Namespace:
    grammar = parser()
    options, more = grammar.parse_known_args(typed)  # overrides may stand before and after options
    if more and ("overrides" not in options or any(word.startswith("-") for word in more)):
        grammar.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        options.overrides += more
    return options


def _ended(options: argparse.Namespace, say_stopped: Callable[[], None]) -> int:
    """A command's exit code, after it was said what went wrong if something did."""
    try:
        return int(options.command(options))
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, KeyboardInterrupt) or interrupt.heard():  # libraries make other errors of it
            _give_up()
            interrupt.once(say_stopped)
            return interrupt.EXIT_CODE
        if isinstance(error, SlimlineError):
            _complain(str(error))
            return error.exit_code
        trace = home() / "traceback.txt"
        trace.write_text(traceback.format_exc())
        _complain(f"{type(error).__name__}: {error}")
        _complain(f"the traceback is in {trace}")
        return 1


def _complain(message: str) -> None:
    from flows.screen import say, screen

    say(screen(stderr=True), f"slimline: {message}")


def _give_up() -> None:
    """Write down what runs as stopped, if it came so far."""
    if "flows.record" in sys.modules:
        from flows.record import give_up

        give_up(interrupt.heard())


def _say_stopped(typed: Sequence[str]) -> None:
    """Say what Ctrl-C leaves, and how to go on."""
    from flows.display import Display
    from flows.screen import copyable, say, screen

    shown, kept = listener(), ""
    if isinstance(shown, Display):
        shown.stop()
        kept = shown.kept() if typed[0] == "run" else ""  # the others measure anew
    console = screen(stderr=True)
    say(console, f"slimline: stopped{f'; kept: {kept}' if kept else ''}")
    say(console, f"To {'go on from there' if kept else 'start again'}, type the same command:")
    copyable(console, shlex.join([*_program(), *typed]))


def _program() -> list[str]:
    """How this program was called, to be called so again."""
    called = sys.argv[0]
    if Path(called).name != "slimline":
        return [sys.executable, "-m", "flows.cli"]
    return ["slimline" if shutil.which("slimline") == called else called]


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    from tasks.serving.__main__ import add_options

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
    verify.add_argument("--processors", action="store_true", help="ask its files on other processors too, under QEMU")
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
    from flows.check import check, plan, try_models
    from flows.recipe_file import read_recipe
    from flows.screen import say, screen

    recipe = read_recipe(options.recipe, options.overrides)
    data = check(recipe)
    steps = plan(recipe, data)
    console = screen()
    try_models(recipe, data)
    say(console, f"{options.recipe}: this recipe can run. It would do:")
    for stage, what in steps:
        say(console, f"  {stage:<9} {what}", hang=12)
    return 0


def _run(options: argparse.Namespace) -> int:
    server = embedded.start_server() if options.recipe.is_file() else None
    from flows.check import check
    from flows.recipe_file import read_recipe
    from flows.screen import say, screen

    recipe = read_recipe(options.recipe, options.overrides)
    check(recipe)  # before Prefect and MLflow hear of it: a wrong recipe leaves no failed run behind
    console = screen(stderr=options.json)
    say(console, f"{recipe.name}  ({options.recipe})", style="bold")
    with _shown(console):
        from flows.compress import compress
        from flows.display import duration, show

        _await_servers(server)
        startup = time.time() - _process_began()
        result = compress(recipe)
    wall = time.time() - _process_began()
    show(console, result, next_steps(result, embedded_server=server is not None))
    in_all = f"{duration(wall)} in all, {duration(startup)} of it until the first stage could begin"
    say(console, in_all, style="dim", hang=0)
    if options.json:
        clock = {"wall_seconds": round(wall, 2), "startup_seconds": round(startup, 2)}
        print(json.dumps({**result.model_dump(mode="json"), **clock}, indent=2))
    return 0


def _promote(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    with _shown():
        from flows.promote import promote

        _await_servers(server)
        result = promote(options.name, options.candidate, options.approval)
    return _show(result, options)


def _rollback(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    with _shown():
        from flows.promote import rollback

        _await_servers(server)
        result = rollback(options.name)
    return _show(result, options)


def _monitor(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    from flows.monitor import Watch, monitor
    from flows.recipe_file import checked, with_overrides

    settings = checked(Watch, with_overrides({}, options.overrides))
    with _shown():
        _await_servers(server)
        result = monitor(options.name, settings.data, settings.config)
    if options.json:
        print(result.model_dump_json(indent=2))
    else:
        state = f"{result.uri}: {'degraded' if result.degraded else 'healthy'}, {result.examples:,} new examples"
        _print_lines([state, *result.reasons, result.mlflow_url])
    return int(result.degraded)


def _deploy(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    from flows.deploy import DeployConfig, as_markdown, deploy
    from flows.recipe_file import checked, with_overrides

    given = {"version": options.version, "to": options.to}
    settings = checked(DeployConfig, with_overrides(given, options.overrides))
    with _shown():
        _await_servers(server)
        result = deploy(settings.version, settings.to, settings.bundle, settings.trial, options.output)
    _print_page(options, result.model_dump_json(indent=2), as_markdown(result))
    return 0


def _verify(options: argparse.Namespace) -> int:
    server = embedded.start_server()
    with _shown():
        from flows.verify import verify

        _await_servers(server)
        result = verify(options.version, options.processors)
    _print_page(options, result.model_dump_json(indent=2), f"{result.page}\n{result.mlflow_url}")
    return 0 if result.holds else 1


def _serve(options: argparse.Namespace) -> int:
    sys.argv[1:] = []  # kserve reads them when it is imported, and has words of its own
    from tasks.serving.__main__ import serve_folder, serve_registered

    options.folder = Path(options.version)
    (serve_folder if options.folder.is_dir() else serve_registered)(options)
    return 0


@contextmanager
def _shown(console: "Console | None" = None) -> Iterator[None]:
    """Shows what goes on while the block lasts, on standard error if no console is named."""
    from flows.display import Display
    from flows.screen import screen

    display = Display(console or screen(stderr=True))
    listen(display)
    display.begin("starting")
    try:
        yield
    finally:
        display.stop()


def _await_servers(server: "Popen[bytes] | None") -> None:
    """Ready when both are. MLflow takes seconds to import and to open, and Prefect's server is coming up meanwhile."""
    from tasks.store import tracking

    tracking.experiment()
    embedded.await_server(server)


def _show(result: "Promotion", options: argparse.Namespace) -> int:
    if options.json:
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


def _print_page(options: argparse.Namespace, as_json: str, markdown: str) -> None:
    from flows.screen import page, screen

    if options.json:
        print(as_json)
    else:
        page(screen(), markdown)


def _process_began() -> float:
    import psutil

    return float(psutil.Process().create_time())


def next_steps(result: "Compression", *, embedded_server: bool) -> list[tuple[str, str]]:
    """What a person types to look at the run and to use the version."""
    from tasks.store.tracking import tracking_uri

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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a check mark is no reason to fail where the locale has none
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
