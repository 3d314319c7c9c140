"""The requests that are asked most, for answers, over REST and gRPC: read and answered here and handed on to nobody.

All else of the protocol goes KServe's way; what it would do around each of these takes forty times what a small model
does.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
)
from kserve.protocol.grpc.servicer import InferenceServicer
from starlette.requests import ClientDisconnect
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.serving.admission import SIZE_OF_JSON
from tasks.serving.model import ServedModel, model_for
from tasks.serving.protocol import from_grpc, from_rest, to_grpc, to_rest

# as FastAPI's routes match them, so that no request gets to KServe's own: one that ends in a line break too
PATHS = [compile_path(f"/v2/models/{{name}}{version}/infer")[0] for version in ("", "/versions/{version}")]
Handlers = Mapping[int | type[Exception], Callable[[Any, Any], Coroutine[Any, Any, Any]]]  # as Starlette has them


class Inference:
    """ASGI middleware: `POST …/infer` is answered, and all else is passed on."""

    def __init__(self, inner: ASGIApp, models: Sequence[ServedModel], handlers: Handlers) -> None:
        self.inner = inner
        self.models = models
        self.handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        asked = None
        if scope["type"] == "http" and scope["method"] == "POST":
            asked = next((found for path in PATHS if (found := path.match(scope["path"]))), None)
        if asked is None:
            await self.inner(scope, receive, send)
            return
        try:
            body = await body_of(receive)
            model = model_for(self.models, **asked.groupdict())
            size = next((value for name, value in scope["headers"] if name == SIZE_OF_JSON), None)
            content, length = to_rest(await model.answer(from_rest(body, size)))
        except ClientDisconnect:
            return
        except HTTPException as error:
            await JSONResponse({"error": error.detail}, error.status_code, error.headers)(scope, receive, send)
            return
        except Exception as error:
            handler = next(self.handlers[kind] for kind in type(error).__mro__ if kind in self.handlers)
            await (await handler(None, error))(scope, receive, send)
            return
        kind = b"application/json" if length is None else b"application/octet-stream"
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(content))]
        if length is not None:
            headers.append((SIZE_OF_JSON, b"%d" % length))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


class Servicer(InferenceServicer):  # type: ignore[misc]
    """KServe's, but for what is asked of a model: its versions are known here, and the answers made."""

    def __init__(self, models: Sequence[ServedModel], *args: Any) -> None:
        super().__init__(*args)
        self.models = models

    async def ModelReady(self, request: ModelReadyRequest, context: Any) -> ModelReadyResponse:  # noqa: N802
        """Whether a model is served, and the version if one is named."""
        model_for(self.models, request.name, request.version)
        return await super().ModelReady(request, context)

    async def ModelMetadata(  # noqa: N802
        self,
        request: ModelMetadataRequest,
        context: Any,  # noqa: ARG002
    ) -> ModelMetadataResponse:
        """What a model takes and gives; labels have no place in the message."""
        about = model_for(self.models, request.name, request.version).about()
        return ModelMetadataResponse(**{name: value for name, value in about.items() if name != "labels"})

    async def ModelInfer(self, request: ModelInferRequest, context: Any) -> ModelInferResponse:  # noqa: ARG002, N802
        """Answer one request."""
        model = model_for(self.models, request.model_name, request.model_version)
        return to_grpc(await model.answer(from_grpc(request)))


async def body_of(receive: Receive) -> bytes:
    """A request's body; without a copy where it comes in one piece.

    Raises:
        ClientDisconnect: the client went before its end.

    """
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
