"""`python -m tasks.serving FOLDER …`: serve versions that were laid out by `slimline deploy`."""

import argparse
import asyncio
import logging
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tasks.contract.errors import OptionWrong, SlimlineError
from tasks.serving.limits import ServeConfig, address
from tasks.versions.address import parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from tasks.serving.model import ServedModel
    from tasks.serving.served import Served
    from tasks.serving.watch import Follows

    Follow = Callable[[Follows], Callable[[], Awaitable[None]]]

log = logging.getLogger("slimline.serving")


def main() -> int:
    """Serve until SIGTERM; 1 if the version cannot be served, 2 if an option is wrong."""
    grammar = argparse.ArgumentParser(prog="python -m tasks.serving", description="Serve folders that were laid out.")
    grammar.add_argument("versions", nargs="+", metavar="folder")
    add_options(grammar)
    options = grammar.parse_args()
    sys.argv[1:] = []  # kserve reads them when it is imported, and has words of its own
    try:
        for name in options.versions:
            if not Path(name).is_dir():
                raise OptionWrong("folder", name, "is no folder; `slimline deploy` lays one out")
        serve(options)
    except SlimlineError as error:
        print(f"slimline: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def add_options(grammar: argparse.ArgumentParser) -> None:
    """Where a server listens, and how many threads a call may use."""
    grammar.add_argument("--host", default="127.0.0.1", help="0.0.0.0 listens on every address of this machine")
    grammar.add_argument("--http-port", type=int, default=8080)
    grammar.add_argument("--grpc-port", type=int, default=8081)
    grammar.add_argument("--threads", type=int, default=1, help="of ONNX Runtime, in one call")
    grammar.add_argument("--key-file", type=Path, help="keys, one a line: requests have to bring one")
    grammar.add_argument("--tls-cert", type=Path, help="the server's certificate, as PEM")
    grammar.add_argument("--tls-key", type=Path, help="its private key")
    grammar.add_argument("--tls-client-ca", type=Path, help="who signs the certificates that clients bring")
    grammar.add_argument("--record", default="0%", metavar="SHARE", help="keep so many of the examples, such as 1%%")
    grammar.add_argument("--record-rows", type=int, default=10_000, help="most that are kept; the oldest go")


def config_of(options: argparse.Namespace) -> ServeConfig:
    """What the options ask for, checked.

    Raises:
        OptionWrong: names the option, its value, and what it can be.

    """
    from tasks.serving.access import check_access

    values = {name: value for name, value in vars(options).items() if name in ServeConfig.model_fields}
    try:
        config = ServeConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise OptionWrong(f"--{name.replace('_', '-')}", values[name], first["msg"]) from error
    check_access(config)
    return config


def serve(options: argparse.Namespace) -> None:
    """Serve folders, and what addresses in the registry lead to, followed where they are aliases, until SIGTERM.

    Raises:
        OptionWrong, VersionError: an option or an address that cannot be.
        BundleDamaged, VersionDamaged, SmokeTestFailed: a version that is not what it was, or answers otherwise.

    """
    import uvicorn

    from tasks.serving.access import open_to
    from tasks.serving.model import ServedModel
    from tasks.serving.server import run

    config = config_of(options)  # before anything is opened
    for version in options.versions:
        if not Path(version).is_dir():
            parse(version, ", or a folder")
    opened = [open_one(version, options) for version in options.versions]
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    models = [ServedModel(served, config) for served, _ in opened]
    followed = [follow(model) for model, (_, follow) in zip(models, opened, strict=True) if follow]

    async def beside() -> None:
        await asyncio.gather(*(follow() for follow in followed))

    def ready() -> None:
        scheme = "https" if config.tls_cert else "http"
        rpc = address(config.host, config.grpc_port)
        for model in models:
            rest = f"{scheme}://{address(config.host, config.http_port)}/v2/models/{model.name}"
            print(f"{model.name} version {model.served.version}: REST {rest}, gRPC {rpc}\ncurl {rest}", flush=True)
        if sentence := open_to(config):
            log.warning(sentence)

    loop = uvicorn.Config("").get_loop_factory()  # uvloop's, where it is
    with besides(models, config, options) as more, asyncio.Runner(loop_factory=loop) as runner:
        followed += more
        runner.run(run(models, config, beside, ready))


@contextmanager
def besides(
    models: "Sequence[ServedModel]", config: ServeConfig, options: argparse.Namespace
) -> "Iterator[list[Callable[[], Awaitable[None]]]]":
    """While the block lasts, requests are recorded, and a candidate is asked beside; gives what follows its alias.

    Nothing of either is imported where it is not asked for.
    """
    following: list[Callable[[], Awaitable[None]]] = []
    with ExitStack() as ends:
        if config.record:
            from tasks.serving.record import recording

            ends.enter_context(recording(models, config))
        if config.shadow:
            from tasks.serving.shadow import shadowing

            parse(config.shadow)
            candidate, follow = open_one(config.shadow, options)
            shadow = ends.enter_context(shadowing(models, candidate, config))
            following += [follow(shadow)] if follow else []
        yield following


def open_one(version: str, options: argparse.Namespace) -> "tuple[Served, Follow | None]":
    """A version, opened and tried; and what follows it, if it is of the registry."""
    if Path(version).is_dir():
        from tasks.serving.served import open_folder

        return open_folder(Path(version), options.threads), None
    from tasks.serving.watch import find, following

    served = find(version, options.threads)
    return served, lambda model: following(model, version, options.threads, options.watch)


if __name__ == "__main__":
    sys.exit(main())
