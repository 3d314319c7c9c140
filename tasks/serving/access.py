"""Who may ask: those who have a key, or a certificate, by files; and a sentence where neither is asked for."""

import hmac
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.contract.errors import OptionWrong
from tasks.serving.limits import ServeConfig

RPC = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/Check"  # looks for a key itself where it is asked of a model
PROBES = ("/v2/health/live", "/v2/health/ready", f"{RPC}ServerLive", f"{RPC}ServerReady", HEALTH)  # these need no key
SHORTEST = 16  # characters of a key: fewer can be guessed
ASK = "send the header `Authorization: Bearer KEY` (over gRPC as metadata) with a key of the server's key file"


def check_access(config: ServeConfig) -> None:
    """Pass if keys and certificates can be read and belong together.

    Raises:
        OptionWrong: names the option, its file and what is wrong with it.

    """
    if config.key_file is not None:
        keys_of(config.key_file)
    files = {"--tls-cert": config.tls_cert, "--tls-key": config.tls_key, "--tls-client-ca": config.tls_client_ca}
    missing = [name for name in ("--tls-cert", "--tls-key") if files[name] is None]
    if missing and any(files.values()):
        raise OptionWrong(missing[0], None, "TLS takes a certificate and its key: name both files, as PEM")
    for name, file in files.items():
        try:
            if file is not None:
                file.read_bytes()
        except OSError as error:
            raise OptionWrong(name, str(file), f"cannot be read ({error.strerror})") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if config.tls_cert is not None:
            context.load_cert_chain(config.tls_cert, config.tls_key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        message = f"no certificate in PEM with its key in --tls-key ({reason})"
        raise OptionWrong("--tls-cert", str(config.tls_cert), message) from error
    try:
        if config.tls_client_ca is not None:
            context.load_verify_locations(config.tls_client_ca)
    except ssl.SSLError as error:
        message = f"no certificates in PEM ({error.reason})"
        raise OptionWrong("--tls-client-ca", str(config.tls_client_ca), message) from error


def keys_of(file: Path) -> tuple[bytes, ...]:
    """The keys of a key file: one a line, so that a new one can be there before the old one is taken away.

    Raises:
        OptionWrong: there are none, or one is too short or has a space in it.

    """
    try:
        keys = [line.strip() for line in file.read_text(encoding="ascii").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise OptionWrong("--key-file", str(file), f"cannot be read as plain text ({error})") from error
    if not keys or any(len(key) < SHORTEST or len(key.split()) > 1 for key in keys):
        raise OptionWrong(
            "--key-file",
            str(file),
            f"holds one key a line, each of {SHORTEST} characters or more without a space: `openssl rand -hex 32` "
            "makes one",
        )
    return tuple(key.encode() for key in keys)


def open_to(config: ServeConfig) -> str:
    """Who can ask without a key, or read one, in a sentence; empty where nobody can."""
    if _is_loopback(config.host):
        return ""
    if config.key_file is None and config.tls_client_ca is None:
        return (
            f"whoever reaches {config.host} can ask this model: --key-file asks for a key, --tls-client-ca for a "
            "certificate"
        )
    if config.tls_cert is None:
        return f"whoever listens on the way to {config.host} can read the key: --tls-cert and --tls-key encrypt it"
    return ""


def rest_options(config: ServeConfig) -> dict[str, Any]:
    """TLS as uvicorn takes it."""
    if config.tls_cert is None:
        return {}
    by_certificate = {"ssl_ca_certs": str(config.tls_client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return {
        "ssl_certfile": str(config.tls_cert),
        "ssl_keyfile": str(config.tls_key),
        **(by_certificate if config.tls_client_ca else {}),
    }


def open_port(server: grpc.aio.Server, address: str, config: ServeConfig) -> None:
    """A port of a gRPC server, with TLS if there is a certificate."""
    if config.tls_cert is None or config.tls_key is None:
        server.add_insecure_port(address)
        return
    authority = config.tls_client_ca.read_bytes() if config.tls_client_ca else None
    pair = (config.tls_key.read_bytes(), config.tls_cert.read_bytes())
    server.add_secure_port(address, grpc.ssl_server_credentials([pair], authority, authority is not None))


class Keys:
    """ASGI middleware: who has no key is answered with 401."""

    def __init__(self, inner: ASGIApp, keys: tuple[bytes, ...]) -> None:
        self.inner = inner
        self.keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what has a key."""
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or scope["path"] in PROBES or has_key(headers.get(b"authorization"), self.keys):
            await self.inner(scope, receive, send)
            return
        await JSONResponse({"error": ASK}, 401, {"www-authenticate": "Bearer"})(scope, receive, send)


class RpcKeys(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # gRPC has no annotations
    """Who has no key is answered with UNAUTHENTICATED, before the message is read."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self.keys = keys

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, ASK)

        self.refusal = grpc.stream_unary_rpc_method_handler(refuse)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's handler, or the refusal."""
        sent = dict(details.invocation_metadata or ()).get("authorization", "")
        sent = sent if isinstance(sent, bytes) else str(sent).encode()
        if details.method in PROBES or has_key(sent, self.keys):
            return await continuation(details)
        return self.refusal


def has_key(sent: bytes | None, keys: tuple[bytes, ...]) -> bool:
    """Whether a header has one of the keys; how long that takes says nothing of them."""
    scheme, _, key = (sent or b"").partition(b" ")
    same = [hmac.compare_digest(key.strip(), each) for each in keys]  # all of them, before it is decided
    return scheme.lower() == b"bearer" and any(same)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_password() -> str:
    raise ValueError("the key has a password, and nobody is asked for it")
