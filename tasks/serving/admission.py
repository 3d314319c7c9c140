"""How much is taken on: requests under way, the size of each, and the memory that all of them take."""

import asyncio
import contextlib
import zlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from prometheus_client import Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.serving.access import HEALTH
from tasks.serving.limits import ServeConfig

DRAINED = 4  # times the largest request, of a larger one, are read and dropped so that its sender hears the answer
# Memory that a request takes by the bytes that were sent: the body, what it is decoded to, and the tensor. A number of
# JSON is an object of 24 bytes in a list of 8 each, and may be sent in four.
JSON, BINARY = 10, 3
READING = 30  # seconds in which a message over gRPC has to arrive
REFUSED = Counter("slimline_refused_requests", "Requests that were sent away because too many were under way.")
TAKEN = Gauge("slimline_request_bytes", "Memory that requests under way take, by estimate.")
PACKED = (b"gzip", b"deflate")
EITHER = zlib.MAX_WBITS | 32  # zlib sees which of the two it is
SIZE_OF_JSON = b"inference-header-content-length"  # a header of REST requests whose tensors are binary


class Memory:
    """Memory for requests under way, in bytes: taken at once or not at all, or in turn when others give theirs back."""

    def __init__(self, most: int) -> None:
        self.most = self.left = most
        self.turns: deque[tuple[int, asyncio.Future[None]]] = deque()
        TAKEN.set_function(lambda: self.most - self.left)

    def take(self, amount: int) -> bool:
        """Whether there is so much; then it is taken. Who waits for a turn comes first."""
        if self.turns or amount > self.left:
            return False
        self.left -= amount
        return True

    async def wait(self, amount: int) -> None:
        """Take so much, in turn."""
        if not self.take(amount):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.turns.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                self.give(0 if turn.cancelled() else amount)  # it may have been its turn in the same moment
                raise

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self.left += amount
        while self.turns and (self.turns[0][1].cancelled() or self.turns[0][0] <= self.left):
            needed, turn = self.turns.popleft()
            if not turn.cancelled():
                self.left -= needed
                turn.set_result(None)


class Limit:
    """ASGI middleware: a body that is too large is answered with 413, and a request or a byte too many with 503.

    A body that is sent packed is unpacked as it arrives, and counts as what it becomes. Connections that ask nothing
    count for nothing, bytes count when they arrive, and whoever looks after the server is always answered.
    """

    def __init__(self, inner: ASGIApp, config: ServeConfig, memory: Memory) -> None:
        self.inner = inner
        self.memory = memory
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
        headers = dict(scope["headers"])
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.most:
            await self._drop(receive)
            refused = JSONResponse(
                {"error": f"the request is larger than {self.most:,} bytes: send fewer examples at a time"}, 413
            )
            await refused(scope, receive, send)
            return
        packing = headers.get(b"content-encoding", b"identity").strip().lower()
        if packing not in (*PACKED, b"identity"):
            await self._drop(receive)
            told = (
                f"content-encoding {packing[:20].decode(errors='replace')!r}: pack with gzip or deflate, or not at all"
            )
            await JSONResponse({"error": told}, 415)(scope, receive, send)
            return
        unpacking = Unpacking() if packing in PACKED else None
        seen, taken, weight = 0, 0, BINARY if SIZE_OF_JSON in headers else JSON

        async def counted() -> Message:
            nonlocal seen, taken
            message = await receive()
            if unpacking and message["type"] == "http.request":
                message = {**message, "body": unpacking.next(message, self.most - seen + 1)}
            size = len(message.get("body", b""))
            seen += size
            if seen > self.most:  # sent in pieces, without a length
                raise HTTPException(413, f"the request is larger than {self.most:,} bytes")
            more = min(weight * seen, self.memory.most) - taken  # one that takes all of it may, while it is alone
            if size and not self.memory.take(more):
                REFUSED.inc()
                raise HTTPException(
                    503, "the requests under way take all memory that they may: ask again later", {"retry-after": "1"}
                )
            taken += more if size else 0
            return message

        try:
            await self.inner(scope, counted, send)
        finally:
            self.memory.give(taken)

    async def _drop(self, receive: Receive) -> None:
        """A client that is still sending would not see the answer."""
        more, left = True, DRAINED * self.most
        while more and left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            more = message.get("more_body", False)


class Unpacking:
    """A body that is sent packed, piece by piece; no piece becomes larger than is asked for."""

    def __init__(self) -> None:
        self.stream = zlib.decompressobj(EITHER)

    def next(self, message: Message, most: int) -> bytes:
        """What a piece becomes, at most so many bytes of it.

        Raises:
            HTTPException: it is not packed so, or is cut off.

        """
        try:
            content = self.stream.decompress(message.get("body", b""), most)
        except zlib.error as error:
            raise HTTPException(400, f"the body is not packed as its content-encoding says ({error})") from error
        whole = self.stream.eof and not self.stream.unused_data
        if len(content) < most and not message.get("more_body", False) and not whole:
            raise HTTPException(400, "the packed body is cut off, or goes on behind its end")
        return content


class Turns(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # gRPC has no annotations
    """A message over gRPC is read when there is memory for the largest one; until then it waits outside, in turn.

    A handler of one message is called when the message has been read. One of a stream of messages reads itself, and the
    protocol between client and server is the same.
    """

    def __init__(self, config: ServeConfig, memory: Memory) -> None:
        self.memory = memory
        self.most = min(BINARY * config.max_request_bytes, memory.most)
        self.handlers: dict[str, Any] = {}  # by method: what stands behind it answers each of its calls

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The method's handler, as one that waits for its turn."""
        known = self.handlers.get(details.method)
        if known is not None:
            return known
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None or details.method == HEALTH:  # is answered at once
            return handler

        async def in_turn(messages: AsyncIterator[Any], context: Any) -> Any:
            async with self._turn() as resize:
                try:
                    async with asyncio.timeout(READING):
                        message = await anext(messages)
                except (StopAsyncIteration, TimeoutError):
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"no message came within {READING} s")
                resize(BINARY * message.ByteSize())
                return await handler.unary_unary(message, context)

        ours = grpc.stream_unary_rpc_method_handler(in_turn, handler.request_deserializer, handler.response_serializer)
        self.handlers[details.method] = ours
        return ours

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[Callable[[int], None]]:
        """Memory for the largest message while the block lasts; gives a function that makes it as much as it takes."""
        taken = self.most
        await self.memory.wait(taken)

        def resize(amount: int) -> None:
            nonlocal taken
            smaller = min(amount, taken)
            self.memory.give(taken - smaller)
            taken = smaller

        try:
            yield resize
        finally:
            self.memory.give(taken)
