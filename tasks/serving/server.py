"""The Open Inference Protocol on one address, with limits, and an end that finishes what was begun.

KServe knows the protocol: its routes, its gRPC servicer, and the way from bytes to tensors and back. The server around
them is FastAPI's and gRPC's own, because four things of KServe's do not fit a service that anyone may ask: it listens
on every address of the machine, lets clients unload models, answers a request that it cannot decode with 500, and
forgets its models before the last requests are answered.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import grpc
import uvicorn
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from kserve import ModelRepository
from kserve.errors import (
    InvalidInput,
    ModelNotFound,
    ModelNotReady,
    generic_exception_handler,
    invalid_input_handler,
    model_not_found_handler,
    model_not_ready_handler,
)
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v2_datamodels import InferenceResponse
from kserve.protocol.rest.v2_endpoints import V2Endpoints, register_v2_endpoints
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.limits import ServeConfig, address, check_ports
from tasks.serving.model import REFUSED, ServedModel

KEPT_ALIVE = 65  # seconds that an idle connection is kept, KServe's choice: proxies that keep theirs for 60 close first
DRAINED = 4  # times the largest request, of a larger one, are read and dropped so that its sender hears the answer


class Plane(DataPlane):  # type: ignore[misc]
    """KServe's way from bytes to tensors and back; what it cannot decode is the client's doing, whatever it raises."""

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        """As KServe, but for what it raises."""
        try:
            return super().decode(*args, **kwargs)
        except InvalidInput:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error)[:200]}"
            raise InvalidInput(f"the request does not follow the Open Inference Protocol: {reason}") from error


class NoRepository(ModelRepositoryExtension):  # type: ignore[misc]
    """Clients ask; what is served is decided by the registry's alias alone."""

    async def load(self, model_name: str) -> None:
        """Refuse."""
        raise InvalidInput(f"{model_name}: models are not loaded by clients; move the alias in the registry")

    async def unload(self, model_name: str) -> None:
        """Refuse."""
        raise InvalidInput(f"{model_name}: models are not unloaded by clients; move the alias in the registry")


class Limit:
    """ASGI middleware: a body that is too large is answered with 413, and a request too many with 503.

    Connections that ask nothing count for nothing, and whoever looks after the server is always answered.
    """

    def __init__(self, inner: ASGIApp, config: ServeConfig) -> None:
        self.inner = inner
        self.most = config.max_request_bytes
        self.at_once = config.max_waiting
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, counting."""
        if scope["type"] != "http" or scope["method"] == "GET":  # health, metadata, metrics
            await self.inner(scope, receive, send)
            return
        if self.under_way >= self.at_once:
            REFUSED.inc()
            message = f"{self.under_way} requests are under way already: ask again later, or start another server"
            await JSONResponse({"error": message}, 503, {"retry-after": "1"})(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self._bounded(scope, receive, send)
        finally:
            self.under_way -= 1

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        refused = JSONResponse(
            {"error": f"the request is larger than {self.most:,} bytes: send fewer examples at a time"}, 413
        )
        if announced.isdigit() and int(announced) > self.most:
            left = DRAINED * self.most  # a client that is still sending would not see the answer
            more = True
            while more and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                more = message.get("more_body", False)
            await refused(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:  # sent in pieces, without a length
                raise HTTPException(413, f"the request is larger than {self.most:,} bytes")
            return message

        await self.inner(scope, counted, send)


async def no_request(_: fastapi.Request, error: Exception) -> JSONResponse:
    """What does not fit the protocol's schema: FastAPI would send it back, which fails when it holds NaN."""
    assert isinstance(error, RequestValidationError)
    where = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()[:5])
    return JSONResponse({"error": f"the request does not follow the Open Inference Protocol: {where[:1000]}"}, 400)


async def no_versions(_: fastapi.Request, __: Exception) -> JSONResponse:
    """What KServe has no code for."""
    return JSONResponse({"error": "versions are not asked for by number: the registry's alias decides"}, 404)


async def run(
    model: ServedModel, config: ServeConfig, beside: Callable[[], Awaitable[None]], ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what was begun; `beside` runs meanwhile, `ready` is called once.

    Raises:
        OptionWrong: the host is no address of this machine.
        PortTaken: another program listens on one of the ports.

    """
    check_ports(config)
    quiet()
    models = ModelRepository()
    models.update(model)
    plane, repository = Plane(models), NoRepository(models)
    rest, rpc = rest_server(plane, repository, config), rpc_server(plane, repository, config)
    await rpc.start()
    ended = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):  # uvicorn listens too, and sends them again: to us, not to the system
        asyncio.get_running_loop().add_signal_handler(sign, ended.set)
    serving = asyncio.create_task(rest.serve())
    watching = asyncio.ensure_future(beside())
    while not rest.started and not serving.done():
        await asyncio.sleep(0.01)
    ready()
    stopped = asyncio.create_task(ended.wait())
    await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
    watching.cancel()
    rest.should_exit = True  # no new connections; what was begun is answered
    await asyncio.gather(serving, rpc.stop(grace=config.grace_seconds))
    with contextlib.suppress(asyncio.CancelledError):
        await watching


def rest_server(plane: Plane, repository: NoRepository, config: ServeConfig) -> uvicorn.Server:
    """The second version of the protocol and metrics, and nothing else, behind a port of one address.

    KServe's own `ModelServer` opens more (the protocol's first version, OpenAI's, a timing of every request), and can
    be kept from it by overriding methods that are not for others alone (0.21).
    """
    app = fastapi.FastAPI(
        title="Slimline",
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            InvalidInput: invalid_input_handler,
            ModelNotFound: model_not_found_handler,
            ModelNotReady: model_not_ready_handler,
            NotImplementedError: no_versions,
            RequestValidationError: no_request,
            Exception: generic_exception_handler,
        },
    )
    app.add_api_route("/metrics", metrics_handler, methods=["GET"], include_in_schema=False)
    # KServe's own route of this path, which stands in the schema, knows no type of its answers: 640 examples of ten
    # classes were written in 11 ms that FastAPI writes in 2.5 when it knows it (FastAPI 0.150).
    answer = V2Endpoints(plane, repository).infer
    path = "/v2/models/{model_name}/infer"
    app.add_api_route(path, answer, methods=["POST"], response_model=InferenceResponse, include_in_schema=False)
    register_v2_endpoints(app, plane, repository)
    app.add_middleware(Limit, config=config)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=config.host,
            port=config.http_port,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEPT_ALIVE,
            timeout_graceful_shutdown=config.grace_seconds,
        )
    )


def rpc_server(plane: Plane, repository: NoRepository, config: ServeConfig) -> grpc.aio.Server:
    """KServe's servicer behind a port of one address, without a log line for each request."""
    options = [
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # else two servers would share a port, and each would answer some
    ]
    server = grpc.aio.server(
        interceptors=(ExceptionToStatusInterceptor(),),
        options=options,
        maximum_concurrent_rpcs=config.max_waiting,
    )
    add_GRPCInferenceServiceServicer_to_server(InferenceServicer(plane, repository), server)
    server.add_insecure_port(address(config.host, config.grpc_port))
    return server


def quiet() -> None:
    """Without a line for each request, and without a traceback for each that is refused: metrics count both."""
    logging.getLogger("kserve").setLevel(logging.CRITICAL)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # bytes that are no message
