"""The memory that requests under way may take: counted, refused, and given back, whatever becomes of a request."""

import asyncio
import gzip
import zlib

import grpc
import pytest
from fastapi.exceptions import HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import free_port

from tasks.serving.admission import BINARY, JSON, SIZE_OF_JSON, Limit, Memory, Turns
from tasks.serving.limits import ServeConfig

MIB = 1 << 20


def test_who_waits_comes_first_and_who_goes_leaves_nothing_taken():
    async def story() -> None:
        memory = Memory(10)
        assert memory.take(6)
        assert not memory.take(5)
        large, small, late = (asyncio.ensure_future(memory.wait(amount)) for amount in (8, 3, 2))
        await asyncio.sleep(0)
        assert not memory.take(1), "others came before"
        large.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert small.done()
        assert not late.done()
        memory.give(6)
        memory.give(3)
        await late
        assert memory.left == 8
        memory.give(2)
        assert memory.left == memory.most

    asyncio.run(story())


def body(size: int, piece: int):
    """A request's body of a size, as it arrives piece by piece."""
    pieces = [b"0" * min(piece, size - start) for start in range(0, size, piece)]

    async def receive() -> dict:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    return receive


@pytest.mark.parametrize(("header", "weight"), [({}, JSON), ({SIZE_OF_JSON: b"20"}, BINARY)])
def test_a_body_takes_memory_as_it_arrives_until_it_is_answered(header, weight):
    memory, seen = Memory(64 * MIB), []
    limit = Limit(None, ServeConfig(max_request_bytes=16 * MIB), memory)

    async def story() -> None:
        go = asyncio.Event()

        async def inner(_, receive, __) -> None:
            more = True
            while more:
                more = (await receive())["more_body"]
                seen.append(memory.most - memory.left)
            await go.wait()

        limit.inner = inner
        scope = {"type": "http", "method": "POST", "headers": [*header.items()]}
        first = asyncio.ensure_future(limit(scope, body(4 * MIB, MIB), None))
        await asyncio.sleep(0)
        assert seen == [weight * MIB * piece for piece in (1, 2, 3, 4)]
        others = [asyncio.ensure_future(limit(scope, body(4 * MIB, MIB), None)) for _ in range(5)]
        await asyncio.sleep(0)
        refused = [each for each in others if each.done()]
        assert len(refused) == {JSON: 5, BINARY: 1}[weight]
        for each in refused:
            with pytest.raises(HTTPException, match="503: the requests under way take all memory"):
                await each
        go.set()
        await asyncio.gather(first, *(each for each in others if each not in refused))
        assert memory.left == memory.most
        assert limit.under_way == 0

    asyncio.run(story())


def test_a_request_that_takes_all_memory_is_answered_alone():
    memory = Memory(MIB)

    async def inner(_, receive, __) -> None:
        await receive()

    limit = Limit(inner, ServeConfig(), memory)
    asyncio.run(limit({"type": "http", "method": "POST", "headers": []}, body(4 * MIB, 4 * MIB), None))
    assert memory.left == MIB


def unpacked(packed: bytes, encoding: bytes, piece: int, most: int = MIB) -> bytes:
    """What comes through of a packed body."""
    came = []

    async def inner(_, receive, __) -> None:
        more = True
        while more:
            message = await receive()
            came.append(message["body"])
            more = message["more_body"]

    memory = Memory(64 * MIB)
    limit = Limit(inner, ServeConfig(max_request_bytes=most), memory)
    pieces = [packed[start : start + piece] for start in range(0, len(packed), piece)] or [b""]

    async def receive() -> dict:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-encoding", encoding)]}
    try:
        asyncio.run(limit(scope, receive, None))
    finally:
        assert memory.left == memory.most
        assert sum(map(len, came)) <= most
    return b"".join(came)


@pytest.mark.parametrize(("encoding", "pack"), [(b"gzip", gzip.compress), (b"Deflate", zlib.compress)])
@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=3000), piece=st.integers(1, 500))
def test_a_packed_body_comes_through_as_it_was(encoding, pack, content, piece):
    assert unpacked(pack(content), encoding, piece) == content


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda packed: packed[:-3], 400),
        (lambda packed: packed + b"more", 400),
        (lambda packed: b"no gzip", 400),
        (lambda packed: b"", 400),
        (lambda packed: gzip.compress(bytes(2 * MIB)), 413),
        (lambda packed: gzip.compress(bytes(MIB + 1)), 413),
    ],
)
@pytest.mark.parametrize("piece", [7, 10 * MIB])
def test_what_is_packed_wrongly_or_becomes_too_large_is_refused(spoil, status, piece):
    with pytest.raises(HTTPException) as refused:
        unpacked(spoil(gzip.compress(b"0" * 1000)), b"gzip", piece)
    assert refused.value.status_code == status
    assert len(unpacked(gzip.compress(bytes(MIB)), b"gzip", piece)) == MIB


class Bytes(bytes):
    """A message as gRPC's own have their size."""

    def ByteSize(self) -> int:  # noqa: N802
        return len(self)


def test_messages_over_grpc_are_read_when_there_is_memory_for_them():
    """Real gRPC: a call of one message is answered by the handler that reads it in its turn."""
    at_once, most = [], 4 * MIB
    config = ServeConfig(max_request_bytes=most)
    memory = Memory(2 * BINARY * most)

    async def story() -> None:
        port, under_way, go = free_port(), 0, asyncio.Event()

        async def answer(message: bytes, _) -> bytes:
            nonlocal under_way
            under_way += 1
            at_once.append((under_way, memory.most - memory.left))
            await go.wait()
            under_way -= 1
            return str(len(message)).encode()

        handler = grpc.unary_unary_rpc_method_handler(answer, Bytes)
        server = grpc.aio.server(
            interceptors=(Turns(config, memory),), options=[("grpc.max_receive_message_length", most)]
        )
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("it", {"ask": handler})])
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = channel.unary_unary("/it/ask")
            large = [asyncio.ensure_future(ask(b"0" * (3 * MIB))) for _ in range(6)]
            silent = [channel.stream_unary("/it/ask")() for _ in range(3)]  # they open a call, and send nothing
            await asyncio.sleep(1)
            assert [count for count, _ in at_once] == [1, 2], "for a third as large as may be there is too little left"
            for each in silent:
                each.cancel()
            go.set()
            assert await asyncio.gather(*large) == [str(3 * MIB).encode()] * 6
            assert await asyncio.gather(*(ask(b"0" * 100) for _ in range(50))) == [b"100"] * 50
        await server.stop(1)
        assert memory.left == memory.most
        assert max(taken for _, taken in at_once) <= memory.most

    asyncio.run(story())
