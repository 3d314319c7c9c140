"""`python -m tasks.serving FOLDER`: serve a version that was laid out by `slimline deploy`."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tasks.contract.errors import OptionWrong, SlimlineError
from tasks.serving.limits import ServeConfig, address
from tasks.versions.address import parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tasks.serving.model import ServedModel
    from tasks.serving.served import Served

log = logging.getLogger("slimline.serving")


def main() -> int:
    """Serve until SIGTERM; 1 if the version cannot be served, 2 if an option is wrong."""
    grammar = argparse.ArgumentParser(prog="python -m tasks.serving", description="Serve a folder that was laid out.")
    grammar.add_argument("folder", type=Path)
    add_options(grammar)
    options = grammar.parse_args()
    sys.argv[1:] = []  # kserve reads them when it is imported, and has words of its own
    try:
        serve_folder(options)
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


def serve_folder(options: argparse.Namespace) -> None:
    """Serve the folder that the options name, until SIGTERM."""
    from tasks.serving.served import open_folder

    config_of(options)  # before anything is opened

    async def nothing() -> None:
        return None

    serve(open_folder(options.folder, options.threads), options, lambda _: nothing)


def serve_registered(options: argparse.Namespace) -> None:
    """Serve what an address in the registry leads to, and follow it if it is an alias, until SIGTERM."""
    from tasks.serving.watch import find, following

    config_of(options)
    parse(options.version, ", or a folder")
    served = find(options.version, options.threads)
    serve(served, options, lambda model: following(model, options.version, options.threads, options.watch))


def serve(
    served: "Served", options: argparse.Namespace, beside: "Callable[[ServedModel], Callable[[], Awaitable[None]]]"
) -> None:
    """Serve an opened version until SIGTERM, with something that runs beside the model."""
    import uvicorn

    from tasks.serving.access import open_to
    from tasks.serving.model import ServedModel
    from tasks.serving.server import run

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    config = config_of(options)
    model = ServedModel(served, config)

    def ready() -> None:
        scheme = "https" if config.tls_cert else "http"
        rest = f"{scheme}://{address(config.host, config.http_port)}/v2/models/{served.name}"
        rpc = address(config.host, config.grpc_port)
        print(f"{served.name} version {served.version}: REST {rest}, gRPC {rpc}\ncurl {rest}", flush=True)
        if sentence := open_to(config):
            log.warning(sentence)

    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:  # uvloop's, where it is
        runner.run(run(model, config, beside(model), ready))


if __name__ == "__main__":
    sys.exit(main())
