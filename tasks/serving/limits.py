"""Where a server listens, and how much it takes on."""

import socket
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

from tasks.contract.errors import OptionWrong, PortTaken


def _share(value: Any) -> Any:
    """`1%` as 0.01; all else as it is."""
    return float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else value


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]


class ServeConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Where a server listens, and how much it takes on."""

    host: str = Field("127.0.0.1", description="The address; 0.0.0.0 for every one of the machine.")
    http_port: int = Field(8080, ge=1, le=65535)
    grpc_port: int = Field(8081, ge=1, le=65535)
    threads: int = Field(1, ge=1, le=256, description="Of ONNX Runtime, in one call.")
    watch: float = Field(10, ge=0.1, le=86_400, description="Seconds between looks where an alias leads.")
    max_batch: int = Field(64, ge=1, le=8192, description="Most examples that share a call.")
    max_examples: int = Field(1024, ge=1, description="Most examples of one request.")
    max_waiting: int = Field(256, ge=1, description="Most requests under way; more are sent away with 503.")
    max_request_bytes: int = Field(16 << 20, ge=1024, description="Largest request; a larger one is refused unread.")
    max_memory_bytes: int = Field(
        512 << 20,
        ge=1 << 20,
        description="Most memory of requests under way, by estimate; more wait or get 503.",
    )
    goodbye_seconds: float = Field(
        5, ge=0, le=600, description="How long, when it is ended, clients that keep connections may take to hear of it."
    )
    key_file: Path | None = Field(None, description="Keys, one a line, of which a request has to bring one.")
    tls_cert: Path | None = Field(None, description="The server's certificate, as PEM.")
    tls_key: Path | None = Field(None, description="Its private key.")
    tls_client_ca: Path | None = Field(None, description="Who signs the certificates that clients have to bring.")
    record: Share = Field(0, description="Which share of the examples is kept with its answers, such as 1%.")
    record_rows: int = Field(10_000, ge=1, description="Most examples that are kept; the oldest go.")
    shadow: str = Field("", description="The address of a version that is asked beside, and compared.")
    shadow_share: Share = Field(0.1, gt=0, description="Which share of the requests it is asked, such as 10%.")
    shadow_rate: float = Field(50, gt=0, le=100_000, description="Most requests a second that it is asked.")
    grace_seconds: int = Field(30, ge=0, description="How long requests that were begun may take when it is ended.")


def address(host: str, port: int) -> str:
    """Host and port as addresses have them: those of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_ports(config: ServeConfig) -> None:
    """Pass if nobody listens where the server is to.

    Raises:
        OptionWrong: the host is no address of this machine.
        PortTaken: somebody listens on a port, or both protocols are to have the same one.

    """
    if config.http_port == config.grpc_port:
        raise PortTaken("--grpc-port", config.grpc_port, "is the REST port already: name another")
    for field, port in (("--http-port", config.http_port), ("--grpc-port", config.grpc_port)):
        _check_port(field, config.host, port)


def _check_port(field: str, host: str, port: int) -> None:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OptionWrong("--host", host, f"no address that can be listened on ({error.strerror})") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was just closed is free
        try:
            probe.bind((where[0], 0))
        except OSError as error:
            raise OptionWrong("--host", host, f"no address of this machine ({error.strerror})") from error
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            raise PortTaken(
                field, port, f"cannot be listened on at {host} ({error.strerror}): end what has it, or name another"
            ) from error
