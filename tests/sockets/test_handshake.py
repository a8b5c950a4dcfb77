"""Handshake: in line at the gate before a protocol is made; sent away so that a browser reads why."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from notifications.access.refusals import REFUSALS
from notifications.sockets import gate, handshake
from notifications.sockets.handshake import Handshake
from notifications.sockets.http import HermesHttpProtocol
from notifications.sockets.server import WebSocket
from notifications.sockets.tcp import listening_socket
from tests.waiting import eventually

REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


class Server:
    """A real server whose application waits to be told how to judge."""

    def __init__(self) -> None:
        self.listener = listening_socket("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.go = asyncio.Event()
        self.seen = 0
        config = uvicorn.Config(
            self._application,
            http=HermesHttpProtocol,
            ws=Handshake,
            interface="asgi3",
            lifespan="off",
            log_config=None,
        )
        config.load()
        self.uvicorn = uvicorn.Server(config)
        self.uvicorn.lifespan = config.lifespan_class(config)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen += 1
        await receive()
        await self.go.wait()
        await send({"type": "websocket.accept"})
        scope["extensions"]["hermes.raw"].judged()
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async def connect(self, **options: Any) -> Any:
        """Open a WebSocket."""
        return await connect(f"ws://127.0.0.1:{self.port}/", proxy=None, **options)

    def in_line(self) -> int:
        """How many handshakes wait."""
        return sum(isinstance(each, Handshake) for each in self.uvicorn.server_state.connections)

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Have one handshake judged, and thus no place at the gate; let it in at the end."""
        first = asyncio.create_task(self.connect())
        await eventually(lambda: self.seen == 1)
        yield
        self.go.set()
        with contextlib.suppress(InvalidStatus):  # a server that stops refuses it
            await (await first).close()

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def make_server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts a server whose gate has ``inside`` places and so much patience."""
    servers: list[Server] = []

    async def make(inside: int, patience: float) -> Server:
        monkeypatch.setattr(handshake, "Gate", lambda: gate.Gate(inside, patience))
        servers.append(Server())
        await servers[-1].uvicorn.startup(sockets=[servers[-1].listener])
        return servers[-1]

    yield make
    for server in servers:
        server.go.set()
        await server.uvicorn.shutdown(sockets=[server.listener])


async def test_who_waits_costs_no_protocol_and_is_served_when_its_turn_comes(make_server: Callable[..., Any]) -> None:
    server = await make_server(1, 10.0)
    alice, bob = (asyncio.create_task(server.connect()) for _ in range(2))
    await eventually(lambda: server.seen == 1 and server.in_line())
    kinds = sorted(type(each).__name__ for each in server.uvicorn.server_state.connections)
    assert kinds == [Handshake.__name__, WebSocket.__name__]
    server.go.set()
    for page in (alice, bob):
        await (await page).close()
    assert server.seen == 2


async def test_who_waits_for_too_long_is_told_4113_in_its_own_protocol(make_server: Callable[..., Any]) -> None:
    server = await make_server(1, 0.1)
    before = REFUSALS.labels("busy")._value.get()
    async with server.full():
        for options in ({"subprotocols": ["hermes.v1", "hermes.token.abc"]}, {}):
            page = await server.connect(**options)
            assert page.subprotocol == ("hermes.v1" if options else None)
            with pytest.raises(ConnectionClosed):
                await page.recv()
            assert (page.close_code, page.close_reason) == (4113, "unavailable")
        assert server.seen == 1
    assert REFUSALS.labels("busy")._value.get() == before + 2


async def test_who_gives_up_while_it_waits_leaves_the_line(make_server: Callable[..., Any]) -> None:
    server = await make_server(1, 10.0)
    async with server.full():
        _, writer = await server.raw()
        writer.write(REQUEST + b"\r\n")
        await eventually(server.in_line)
        writer.close()
        await eventually(lambda: len(server.uvicorn.server_state.connections) == 1)
        assert server.seen == 1


async def test_who_sends_without_end_while_it_waits_is_dropped(make_server: Callable[..., Any]) -> None:
    server = await make_server(1, 10.0)
    async with server.full():
        reader, writer = await server.raw()
        writer.write(REQUEST + b"\r\n")
        await eventually(server.in_line)
        writer.write(b"x" * (handshake.EARLY + 1))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


async def test_a_server_that_stops_tells_those_who_wait_to_come_back(make_server: Callable[..., Any]) -> None:
    server = await make_server(1, 10.0)
    async with server.full():
        reader, writer = await server.raw()
        writer.write(REQUEST + b"\r\n")
        await eventually(server.in_line)
        for each in list(server.uvicorn.server_state.connections):
            each.shutdown()  # as uvicorn does
        answer = await reader.read(4096)
        head, _, frame = answer.partition(b"\r\n\r\n")
        assert b" 101 " in head.splitlines()[0]
        assert struct.unpack("!H", frame[2:4])[0] == 4112
        writer.close()


async def test_who_is_sent_away_before_its_turn_has_come_is_answered_once(make_server: Callable[..., Any]) -> None:
    server = await make_server(1, 10.0)
    reader, writer = await server.raw()
    writer.write(REQUEST + b"\r\n")
    async with asyncio.timeout(5):  # turn by turn: it has its turn at the gate in one of the next
        while not (links := [each for each in server.uvicorn.server_state.connections if type(each) is Handshake]):
            await asyncio.sleep(0)
    links[0].shutdown()
    answer = await reader.readuntil(b"draining")
    writer.write(b"our close frame")
    async with asyncio.timeout(5):
        assert (answer + await reader.read()).count(b"HTTP/1.1 101") == 1
    assert server.seen == 0
    writer.close()


async def test_who_has_been_sent_away_is_not_answered_once_more_when_the_server_stops(
    make_server: Callable[..., Any],
) -> None:
    server = await make_server(1, 0.1)
    before = REFUSALS.labels("draining")._value.get()
    async with server.full():
        reader, writer = await server.raw()
        writer.write(REQUEST + b"\r\n")
        answer = await reader.readuntil(b"unavailable")
        for each in [each for each in server.uvicorn.server_state.connections if type(each) is Handshake]:
            each.shutdown()
        writer.write(b"our close frame")
        async with asyncio.timeout(5):
            assert (answer + await reader.read()).count(b"HTTP/1.1 101") == 1
        assert REFUSALS.labels("draining")._value.get() == before
        writer.close()


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Sec-WebSocket-Key", b"X-No-Key", 400),
        (b"ZQ==", b"Z===", 400),  # no 16 bytes
        (b"Version: 13", b"Version: 12", 400),
        (b"Connection: Upgrade", b"Connection: close, Upgrade", 101),  # unusual, and all right
        (b"Upgrade: websocket", b"Upgrade: WebSocket", 101),
        (b"Key: dGhl", b"Key: dGhl\r\nSec-WebSocket-Key: dGhl", 400),
        (b"HTTP/1.1", b"HTTP/1.0", 400),
        (b"GET", b"POST", 405),
        (b"/ws", b"/ws\xff", 400),
    ],
)
async def test_a_handshake_is_answered_by_the_book(
    make_server: Callable[..., Any], old: bytes, new: bytes, status: int
) -> None:
    server = await make_server(1, 10.0)
    server.go.set()
    reader, writer = await server.raw()
    writer.write(REQUEST.replace(old, new) + b"\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).split()[1] == b"%d" % status
    writer.close()
