"""KServe's model server on one address, with limits, and an end that finishes what was begun.

Four things of KServe's own server do not fit a service that anyone may ask, and are changed here and nowhere else: it
listens on every address of the machine, lets clients unload models, answers a request that it cannot decode with 500,
and forgets its models before the last requests are answered.
"""

import asyncio
import contextlib
import logging
import signal
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
import grpc
from fastapi.exceptions import RequestValidationError
from kserve import ModelRepository, ModelServer
from kserve.errors import InvalidInput
from kserve.model_server import app
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer, metrics_handler
from kserve.protocol.rest.v2_endpoints import register_v2_endpoints
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.limits import ServeConfig, address, check_ports
from tasks.serving.model import REFUSED, ServedModel

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
            said = f"{type(error).__name__}: {str(error)[:200]}"
            raise InvalidInput(f"the request does not follow the Open Inference Protocol: {said}") from error


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
            said = f"{self.under_way} requests are under way already: ask again later, or start another server"
            await JSONResponse({"error": said}, 503, {"retry-after": "1"})(scope, receive, send)
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


class Rest(RESTServer):  # type: ignore[misc]
    """KServe's REST server with the second version of the protocol, metrics, and nothing else."""

    def _register_endpoints(self, app: fastapi.FastAPI) -> None:
        app.add_api_route("/metrics", metrics_handler, methods=["GET"], include_in_schema=False)
        register_v2_endpoints(app, self.dataplane, self.model_repository_extension)

    def _add_exception_handlers(self, app: fastapi.FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(RequestValidationError, no_request)
        app.add_exception_handler(NotImplementedError, no_versions)

    def _add_middlewares(self, app: fastapi.FastAPI) -> None:
        """Without KServe's timing of every request, which nobody reads here."""


class Server(ModelServer):  # type: ignore[misc]
    """One model over REST and gRPC."""

    def __init__(self, config: ServeConfig) -> None:
        quiet()
        super().__init__(
            http_port=config.http_port,
            grpc_port=config.grpc_port,
            registered_models=ModelRepository(),
            enable_latency_logging=False,
            grace_period=config.grace_seconds,
        )
        self.settings = config
        self.dataplane = Plane(model_registry=self.registered_models)
        self.model_repository_extension = NoRepository(model_registry=self.registered_models)

    async def run(self, model: ServedModel, beside: Callable[[], Awaitable[None]], ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT, then finish what was begun; `beside` runs meanwhile, `ready` is called once.

        Raises:
            OptionWrong: the host is no address of this machine.
            PortTaken: another program listens on one of the ports.

        """
        config = self.settings
        check_ports(config)
        self._register_and_check_atleast_one_model_is_ready([model])
        rest, rpc = self._rest(), self._rpc()
        await rpc.start()
        ended = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, ended.set)
        serving = asyncio.create_task(rest.start())
        watching = asyncio.ensure_future(beside())
        while not rest._server.started and not serving.done():
            await asyncio.sleep(0.01)
        ready()
        stopped = asyncio.create_task(ended.wait())
        await asyncio.wait({stopped, serving}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        rest._server.should_exit = True  # no new connections; what was begun is answered
        await asyncio.gather(serving, rpc.stop(grace=config.grace_seconds))
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    def _rest(self) -> Rest:
        config = self.settings
        rest = Rest(
            "kserve.model_server:app",
            self.dataplane,
            self.model_repository_extension,
            config.http_port,
            grace_period=config.grace_seconds,
        )
        rest.config.host = config.host
        rest.config.server_header = False
        rest._server.capture_signals = contextlib.nullcontext  # `run` listens to them, for both protocols at once
        app.add_middleware(Limit, config=config)
        return rest

    def _rpc(self) -> Any:
        """KServe's servicer behind a port of one address, without a log line for each request."""
        config = self.settings
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
        servicer = InferenceServicer(self.dataplane, self.model_repository_extension)
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
        server.add_insecure_port(address(config.host, config.grpc_port))
        return server


def quiet() -> None:
    """Without a line for each request, and without a traceback for each that is refused: metrics count both."""
    kserve = logging.getLogger("kserve")
    kserve.addHandler(logging.NullHandler())  # with a handler of its own KServe sets up no others
    kserve.setLevel(logging.CRITICAL)
    kserve.propagate = False
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # bytes that are no message
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")
