"""The Open Inference Protocol on one address, with limits, and an end that finishes what was begun.

KServe knows the protocol: its routes and its gRPC servicer. The server around them is FastAPI's and gRPC's own, because
three things of KServe's do not fit a service that anyone may ask: it listens on every address of the machine, lets
clients unload models, and forgets its models before the last requests are answered. Requests for answers do not pass
through it: see `inference`.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import fastapi
import grpc
import uvicorn
from fastapi.responses import HTMLResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from kserve import ModelRepository
from kserve.errors import (
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    ServerNotReady,
    generic_exception_handler,
    invalid_input_handler,
    model_not_found_handler,
    model_not_ready_handler,
    server_not_ready_handler,
)
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.access import Keys, RpcKeys, keys_of, open_port, rest_options
from tasks.serving.admission import Limit, Memory, Turns
from tasks.serving.health import Health
from tasks.serving.inference import Handlers, Inference, Servicer
from tasks.serving.limits import ServeConfig, address, check_ports
from tasks.serving.model import ServedModel, model_for
from tasks.serving.page import page

KEPT_ALIVE = 65  # seconds that an idle connection is kept, KServe's choice: proxies that keep theirs for 60 close first


class Plane(DataPlane):  # type: ignore[misc]
    """What KServe's routes ask about the models.

    leaving: whether the server is about to end. Probes are told so, and requests are still answered.
    """

    leaving = False

    async def ready(self) -> bool:
        """Whether more requests should come here."""
        return not self.leaving and await super().ready()

    async def model_ready(self, model_name: str, disable_predictor_health_check: bool = False) -> bool:
        """The same of one model; without the health check for the request that is to be answered."""
        ready: bool = await super().model_ready(model_name, disable_predictor_health_check)
        return ready and (disable_predictor_health_check or not self.leaving)


class NoRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """Clients ask; what is served is decided by the registry's alias alone."""

    async def load(self, model_name: str) -> None:
        """Refuse."""
        raise InvalidInput(f"{model_name}: models are not loaded by clients; move the alias in the registry")

    async def unload(self, model_name: str) -> None:
        """Refuse."""
        raise InvalidInput(f"{model_name}: models are not unloaded by clients; move the alias in the registry")


class Goodbye:
    """ASGI middleware: when the server is about to end, every answer asks its client to connect anew, elsewhere."""

    def __init__(self, inner: ASGIApp, plane: Plane) -> None:
        self.inner = inner
        self.plane = plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and close the connection behind the answer if it is time."""

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self.plane.leaving:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self.inner(scope, receive, closing)


class Rest(uvicorn.Server):
    """uvicorn's server, which leaves the signals to `run`: it would reset the connections that wait for a request."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


HANDLERS: Handlers = {
    InvalidInput: invalid_input_handler,
    ModelNotFound: model_not_found_handler,
    ModelNotReady: model_not_ready_handler,
    ServerNotReady: server_not_ready_handler,
    Exception: generic_exception_handler,
}


async def run(
    served: Sequence[ServedModel], config: ServeConfig, beside: Callable[[], Awaitable[None]], ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun; `beside` runs meanwhile, `ready` is called once.

    Raises:
        OptionWrong: the host is no address of this machine.
        PortTaken: another program listens on one of the ports.

    """
    check_ports(config)
    quiet()
    models = ModelRepository()
    for model in reversed(served):  # the first of a name is the one that is there for it
        models.update(model)
    plane, repository, memory = Plane(models), NoRepository(models), Memory(config.max_memory_bytes)
    rest = rest_server(served, plane, repository, config, memory)
    rpc = rpc_server(served, plane, repository, config, memory)
    await rpc.start()
    ended = asyncio.Event()

    def heard() -> None:
        rest.force_exit = ended.is_set()  # the second time nobody is waited for
        ended.set()

    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, heard)
    serving = asyncio.create_task(rest.serve())
    watching = asyncio.ensure_future(beside())
    while not rest.started and not serving.done():
        await asyncio.sleep(0.01)
    ready()
    stopped = asyncio.create_task(ended.wait())
    await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
    watching.cancel()
    plane.leaving = True
    await _said_goodbye(rest, config.goodbye_seconds)
    rest.should_exit = True  # no new connections; what was begun is answered
    await asyncio.gather(serving, rpc.stop(grace=0 if rest.force_exit else config.grace_seconds))
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def _said_goodbye(rest: Rest, seconds: float) -> None:
    """Wait until every client that keeps a connection has heard that it closes, or for so long."""
    until = time.monotonic() + seconds
    while rest.server_state.connections and time.monotonic() < until and not rest.force_exit:
        await asyncio.sleep(0.05)


def rest_server(
    served: Sequence[ServedModel], plane: Plane, repository: NoRepository, config: ServeConfig, memory: Memory
) -> Rest:
    """The second version of the protocol and metrics, and nothing else, behind a port of one address.

    KServe's own `ModelServer` opens more (the protocol's first version, OpenAI's, a timing of every request), and can
    be kept from it by overriding methods that are not for others alone (0.21).
    """
    app = fastapi.FastAPI(title="Slimline", docs_url=None, redoc_url=None, exception_handlers=dict(HANDLERS))
    app.add_api_route("/metrics", metrics_handler, methods=["GET"], include_in_schema=False)

    async def metadata(model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """What a model takes and gives, and what its answers are called."""
        about = model_for(served, model_name, model_version).about()
        every = [model.served.version for model in served if model.name == model_name]
        return about if model_version else {**about, "versions": list(dict.fromkeys(every))}

    async def is_ready(model_name: str, model_version: str | None = None) -> dict[str, Any]:
        """Whether a model is served, and the version if one is named."""
        model_for(served, model_name, model_version)
        if not await plane.model_ready(model_name):
            raise ModelNotReady(model_name)
        return {"name": model_name, "ready": True}

    async def about(request: fastapi.Request) -> HTMLResponse:
        """A page."""
        shown = [model.about() | ({"shadow": model.shadow.told} if model.shadow else {}) for model in served]
        return HTMLResponse(page(shown, str(request.base_url).rstrip("/")))

    # before KServe's own of these paths, which stand in the schema
    for path in ("", "/versions/{model_version}"):
        for last, answer in (("", metadata), ("/ready", is_ready)):
            app.add_api_route(
                f"/v2/models/{{model_name}}{path}{last}", answer, methods=["GET"], include_in_schema=False
            )
    app.add_api_route("/docs", about, methods=["GET"], include_in_schema=False)
    register_v2_endpoints(app, plane, repository)
    # around FastAPI, and not inside it: nothing of it is on the way of an answer
    outer: ASGIApp = Limit(Inference(app, served, HANDLERS), config, memory)
    if config.key_file is not None:
        outer = Keys(outer, keys_of(config.key_file))  # around the limit: who has no key is not read
    return Rest(
        uvicorn.Config(
            Goodbye(outer, plane),
            host=config.host,
            port=config.http_port,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEPT_ALIVE,
            timeout_graceful_shutdown=config.grace_seconds,
            **rest_options(config),
        )
    )


def rpc_server(
    served: Sequence[ServedModel], plane: Plane, repository: NoRepository, config: ServeConfig, memory: Memory
) -> grpc.aio.Server:
    """KServe's servicer behind a port of one address, without a log line for each request."""
    options = [
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # else two servers would share a port, and each would answer some
    ]
    keys = keys_of(config.key_file) if config.key_file is not None else ()
    server = grpc.aio.server(
        interceptors=(*([RpcKeys(keys)] if keys else ()), Turns(config, memory), ExceptionToStatusInterceptor()),
        options=options,
        maximum_concurrent_rpcs=config.max_waiting,
    )
    add_GRPCInferenceServiceServicer_to_server(Servicer(served, plane, repository), server)
    add_HealthServicer_to_server(Health(served, plane, keys), server)
    open_port(server, address(config.host, config.grpc_port), config)
    return server


def quiet() -> None:
    """Without a line for each request, and without a traceback for each that is refused: metrics count both."""
    logging.getLogger("kserve").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # bytes that are no message
