"""The command line's grammar: each command, its words and what its help says. `flows/commands.py` does the work."""

import functools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ParamSpec, get_args

import typer
from typer.core import TyperGroup

from flows import commands
from flows.shipped import RECIPES

P = ParamSpec("P")
WIDEST = 100  # columns of help: longer lines are hard to read
EXIT_CODES = (
    ("0", "done, and all is well"),
    ("1", "a stage failed, a limit is not kept, or a check does not hold"),
    ("2", "what was typed, a recipe, data, a model or a version is wrong; nothing was changed"),
    ("3", "of `slimline status`: not all of it is up"),
    ("130", "ended by Ctrl-C"),
)
VARIABLES = (
    ("SLIMLINE_HOME", "the folder of all state; .slimline, where you are, if it is not set"),
    ("SLIMLINE_MACHINE", "a folder that workers of one machine share, to measure in turn; in that folder if not set"),
    ("SLIMLINE_GC_KEEP_DAYS", "of `slimline gc`: for how many days everything stays; 30 if it is not set"),
    ("SLIMLINE_RECIPES", "a folder of recipes that are called by their names, beside the shipped ones"),
    ("SLIMLINE_STUDIES", "the database of searches that machines share; studies.db in that folder if not set"),
    ("SLIMLINE_SIGNING_KEY", "the file of a private key that versions are signed with"),
    ("SLIMLINE_SIGNING_PASSWORD", "its password, if it has one"),
    ("SLIMLINE_PUBLIC_KEY", "the file of a public key: versions that it did not sign are not opened"),
    ("MLFLOW_TRACKING_URI", "the store: a server's address, or sqlite:///FILE; mlflow.db in that folder if not set"),
    ("MLFLOW_EXPERIMENT_NAME", "where runs are kept in it; slimline if not set"),
    ("SLIMLINE_MLFLOW_UI_URL", "what browsers call MLflow's server, for links"),
    ("PREFECT_API_URL", "a Prefect server; if not set, that of `slimline up`, or one for the command alone"),
    ("PREFECT_HOME", "Prefect's own state; prefect in that folder if not set"),
    ("PREFECT_SERVER_API_PORT", "of `slimline up`: 4200 if not set"),
    ("MLFLOW_PORT", "of `slimline up`: 5000 if not set"),
    ("NO_COLOR", "no colours"),
    ("MLFLOW_DISABLE_TELEMETRY", "false lets MLflow send what it is used for; it does not if this is not set"),
    ("ORT_DISABLE_TELEMETRY", "0 lets ONNX Runtime"),
)


def _recipes(incomplete: str) -> list[str]:
    """Shipped recipes, to complete a word with; a shell adds files itself."""
    return [name for name in RECIPES if name.startswith(incomplete)]


def _servers(incomplete: str) -> list[str]:
    from tasks.bundles.contents import ServerName  # imports what no other command's words need

    return [name for name in get_args(ServerName) if name.startswith(incomplete)]


Overrides = typer.Argument(
    metavar="field=value", help="settings in dotted form, such as student.width=0.5", show_default=False
)
RecipeWord = Annotated[
    Path,
    typer.Argument(
        metavar="RECIPE",
        help="a YAML file, or the name of a shipped recipe, such as digits",
        autocompletion=_recipes,
    ),
]
OverrideWords = Annotated[list[str] | None, Overrides]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="the registered model")]
Version = Annotated[str, typer.Argument(metavar="models:/NAME@ALIAS", help="or models:/NAME/3")]
Json = Annotated[bool, typer.Option("--json", help="end with one JSON object on standard output")]


@dataclass(frozen=True)
class Command:
    """What a person typed, understood.

    work: what is called to do it; gives an exit code.
    own_signals: it answers Ctrl-C itself, and what it starts speaks to the terminal.
    """

    work: partial[int]
    own_signals: bool = False


class Program(TyperGroup):
    """The program: its help ends with the exit codes and the variables that it heeds."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  Typer's own signature
        """Write both as lists, as commands are."""
        for heading, entries in (("Exit codes", EXIT_CODES), ("Environment", VARIABLES)):
            with formatter.section(heading):
                formatter.write_dl(entries, col_max=formatter.width // 3)


app = typer.Typer(
    cls=Program,
    help="From a Keras model and a data set to a small registered model version.",
    no_args_is_help=False,
    rich_markup_mode=None,  # plain text, at any width; and Rich is not imported to print it
)
_understood: list[Command] = []


def chosen(typed: Sequence[str]) -> Command:
    """The command that somebody typed.

    Raises:
        SystemExit: help was asked for and shown (0), or something that was typed is wrong, and was shown (2).

    """
    _understood.clear()
    try:
        app([*typed], prog_name="slimline", terminal_width=min(shutil.get_terminal_size().columns, WIDEST))
    except SystemExit:
        if not _understood:
            raise
    return _understood[0]


def command(function: Callable[P, Command]) -> Callable[P, Command]:
    """Make a function a command of its name: its docstring is the help, its parameters are the words."""

    @functools.wraps(function)
    def understand(*args: P.args, **kwargs: P.kwargs) -> None:
        _understood.append(function(*args, **kwargs))

    app.command(function.__name__.rstrip("_"), short_help=(function.__doc__ or "").partition("\n")[0])(understand)
    return function


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"slimline {version('slimline')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what stands before a command."""


@command
def run(recipe: RecipeWord, overrides: OverrideWords = None, json: Json = False) -> Command:
    """Compress, measure, register."""
    return Command(partial(commands.run, recipe, overrides or [], as_json=json))


@command
def search(
    recipe: RecipeWord,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPACE",
            help="a YAML file of what is tried, or a shipped one's name (default, if none); and field=value",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[int, typer.Option(metavar="NUMBER", help="how many are tried; the space's own if 0")] = 0,
    json: Json = False,
) -> Command:
    """Try recipes of a space, and register the best inside the budget."""
    spaces = [word for word in words or [] if "=" not in word]
    if len(spaces) > 1:
        raise typer.BadParameter(f"one space, and settings as field=value: {' '.join(spaces)}")
    overrides = [word for word in words or [] if "=" in word]
    space = Path(spaces[0] if spaces else "default")
    return Command(partial(commands.search, recipe, space, trials, overrides, as_json=json))


@command
def sensitivity(recipe: RecipeWord, overrides: OverrideWords = None, json: Json = False) -> Command:
    """Say what each layer costs in fewer bits, and with fewer channels."""
    return Command(partial(commands.sensitivity, recipe, overrides or [], as_json=json))


@command
def check(recipe: RecipeWord, overrides: OverrideWords = None) -> Command:
    """Say what is wrong with a recipe, or what it would do."""
    return Command(partial(commands.check, recipe, overrides or []))


@command
def list_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="one registered model; all if none is named")] = "",
    json: Json = False,
) -> Command:
    """Show which versions are registered."""
    return Command(partial(commands.list_versions, name, as_json=json))


@command
def show(version: Version, json: Json = False) -> Command:
    """Show a version: figures, recipe, origin, and where its evidence is."""
    return Command(partial(commands.show_version, version, as_json=json))


@command
def compare(
    one: Annotated[str, typer.Argument(metavar="models:/NAME@ALIAS", help="or models:/NAME/3")],
    other: Annotated[str, typer.Argument(metavar="models:/NAME@ALIAS", help="the other one")],
    json: Json = False,
) -> Command:
    """Show two versions side by side, and what their recipes differ in."""
    return Command(partial(commands.compare_versions, one, other, as_json=json))


@command
def promote(
    name: ModelName,
    candidate: Annotated[str, typer.Option(metavar="WHICH", help="its alias or its number")] = "candidate",
    approval: Annotated[
        int, typer.Option(metavar="SECONDS", help="wait so long for a person to approve in Prefect's UI")
    ] = 0,
    shadowed: Annotated[
        str, typer.Option(metavar="TIME", help="it has to have been beside the champion so long, such as 24h")
    ] = "0h",
    agreement: Annotated[str, typer.Option(metavar="SHARE", help="and to have agreed so far there")] = "95%",
    json: Json = False,
) -> Command:
    """Put a candidate in service, if it is not worse than the champion."""
    return Command(partial(commands.promote, name, candidate, approval, shadowed, agreement, as_json=json))


@command
def rollback(name: ModelName, json: Json = False) -> Command:
    """Put the previous champion back in service."""
    return Command(partial(commands.rollback, name, as_json=json))


@command
def monitor(
    name: ModelName,
    overrides: Annotated[
        list[str],
        typer.Argument(metavar="field=value", help="such as data.reader=npz data.source=new.npz, and config.…"),
    ],
    json: Json = False,
) -> Command:
    """Measure the champion on new data."""
    return Command(partial(commands.monitor, name, overrides, as_json=json))


@command
def deploy(
    version: Version,
    to: Annotated[
        str, typer.Option(metavar="SERVER", help="tfserving, triton, kserve, docker or edge", autocompletion=_servers)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="field=value", help="such as trial.max_latency_ms=5, and bundle.…"),
    ] = None,
    output: Annotated[str, typer.Option(metavar="PLACE", help="a folder to make, or an archive.tar.gz")] = "",
    push: Annotated[
        str, typer.Option(metavar="REGISTRY/NAME", help="build the image of a bundle for docker, and push it there")
    ] = "",
    json: Json = False,
) -> Command:
    """Lay a version out for a server, and try it there."""
    return Command(partial(commands.deploy, version, to, overrides or [], output, push, as_json=json))


@command
def verify(
    version: Version,
    processors: Annotated[
        bool, typer.Option("--processors", help="ask its files on other processors too, under QEMU")
    ] = False,
    json: Json = False,
) -> Command:
    """Re-check a version against its own evidence."""
    return Command(partial(commands.verify, version, processors, as_json=json))


@command
def sign(version: Version) -> Command:
    """Sign a version with the key in SLIMLINE_SIGNING_KEY, if its files are those that were registered."""
    return Command(partial(commands.sign, version))


@command
def serve(
    versions: Annotated[
        list[str],
        typer.Argument(metavar="VERSION", help="models:/NAME@ALIAS, models:/NAME/3, or a folder; or several of them"),
    ],
    watch: Annotated[float, typer.Option(metavar="SECONDS", help="how often to look where it leads")] = 10,
    host: Annotated[str, typer.Option(help="0.0.0.0 listens on every address of this machine")] = "127.0.0.1",
    http_port: int = 8080,
    grpc_port: int = 8081,
    threads: Annotated[int, typer.Option(help="of ONNX Runtime, in one call")] = 1,
    key_file: Annotated[Path | None, typer.Option(help="keys, one a line: requests have to bring one")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="the server's certificate, as PEM")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its private key")] = None,
    tls_client_ca: Annotated[Path | None, typer.Option(help="who signs the certificates that clients bring")] = None,
    record: Annotated[str, typer.Option(metavar="SHARE", help="keep so many of the examples, such as 1%")] = "0%",
    record_rows: Annotated[int, typer.Option(help="most that are kept; the oldest go")] = 10_000,
    shadow: Annotated[str, typer.Option(metavar="VERSION", help="asked beside, and compared")] = "",
    shadow_share: Annotated[str, typer.Option(metavar="SHARE", help="of the requests it is asked")] = "10%",
    shadow_rate: Annotated[float, typer.Option(help="most requests a second that it is asked")] = 50,
) -> Command:
    """Answer over REST and gRPC, and follow the alias."""
    words = {"host": host, "http_port": http_port, "grpc_port": grpc_port, "threads": threads, "key_file": key_file}
    words |= {"tls_cert": tls_cert, "tls_key": tls_key, "tls_client_ca": tls_client_ca}
    words |= {"record": record, "record_rows": record_rows}
    words |= {"shadow": shadow, "shadow_share": shadow_share, "shadow_rate": shadow_rate}
    return Command(partial(commands.serve, versions, watch, words))


@command
def backup(
    place: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="to be made: state.tar.gz, or state.tar")],
) -> Command:
    """Copy this machine's registry, artifacts and flow runs into one archive, while all of it is in use."""
    return Command(partial(commands.backup, place))


@command
def restore(place: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="of `slimline backup`")]) -> Command:
    """Lay a backup out as the state folder, which must have no registry yet: SLIMLINE_HOME names it."""
    return Command(partial(commands.restore, place))


@command
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="remove it; else it is only shown")] = False,
    keep_days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", help="what is younger stays; SLIMLINE_GC_KEEP_DAYS if it is not named, else 30"),
    ] = None,
    strays: Annotated[
        bool, typer.Option("--strays", help="files among the artifacts, too, that are of no run")
    ] = False,
    json: Json = False,
) -> Command:
    """Show what no version, alias or young run needs: runs, artifacts, answers, checkpoints; or remove it."""
    return Command(partial(commands.gc, delete, keep_days, strays, as_json=json))


@command
def schema() -> Command:
    """Print the recipe's JSON schema."""
    return Command(partial(commands.schema))


@command
def up() -> Command:
    """Start Prefect, MLflow and a worker on this machine, until Ctrl-C.

    PREFECT_SERVER_API_PORT and MLFLOW_PORT, in the environment, name other ports than 4200 and 5000.
    """
    return Command(partial(commands.servers, "up"), own_signals=True)


@command
def down() -> Command:
    """End what `slimline up` started."""
    return Command(partial(commands.servers, "down"), own_signals=True)


@command
def status() -> Command:
    """Say what is up, and where; exit code 3 if not all of it is."""
    return Command(partial(commands.servers, "status"), own_signals=True)
