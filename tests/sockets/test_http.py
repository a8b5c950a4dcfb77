"""What a request may cost: sizes and times of heads and bodies, on a real uvicorn with Hermes's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from notifications.sockets import http
from notifications.sockets.handshake import Handshake
from notifications.sockets.http import HermesHttpProtocol
from notifications.sockets.tcp import listening_socket
from tests.waiting import eventually

LATER = 1.0  # s, instead of ten


class Scene:
    """A server whose application answers every request with the size of its body."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.listener = listening_socket("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(
            self.application,
            http=HermesHttpProtocol,
            ws=Handshake,
            lifespan="off",
            log_config=None,
            interface="asgi3",
        )
        config.load()
        self.server = uvicorn.Server(config)
        self.server.lifespan = config.lifespan_class(config)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await asyncio.sleep(2 * LATER)
            await send({"type": "websocket.close", "code": 4400})
            return
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            size, more = size + len(event["body"]), event["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"%8d" % size})

    async def say(self, *parts: bytes | float, answers: int = 1) -> list[bytes]:
        """Send bytes, wait seconds in between, and return the first lines of the answers, empty for none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
        found = []
        async with asyncio.timeout(10):
            for _ in range(answers):
                head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                body = await reader.readexactly(length)
                found.append(head.partition(b"\r\n")[0].split(b" ", 1)[1] + (b" " + body.strip() if body else b""))
        writer.close()
        return found


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """The server."""
    made = Scene()
    await made.server.startup(sockets=[made.listener])
    yield made
    await made.server.shutdown(sockets=[made.listener])


@pytest.fixture
def impatient(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The server, whose patience is short."""
    monkeypatch.setattr(http, "HEAD_SECONDS", LATER)
    monkeypatch.setattr(http, "BODY_SECONDS", LATER)
    return scene


GET = b"GET /page HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /form HTTP/1.1\r\nHost: x\r\n"


async def test_a_request_within_its_limits_is_answered(scene: Scene) -> None:
    assert await scene.say(GET + b"\r\n") == [b"200 OK 0"]
    full = b"content-length: %d\r\n\r\n%s" % (http.BODY_BYTES, b"x" * http.BODY_BYTES)
    assert await scene.say(POST + full) == [b"200 OK %d" % http.BODY_BYTES]


async def test_a_head_that_is_too_large_is_refused(scene: Scene) -> None:
    assert await scene.say(GET + b"X-A: " + b"a" * 1_000_000) == [b"431 Request Header Fields Too Large"]
    assert await scene.say(b"GET /" + b"a" * 1_000_000) == [b"431 Request Header Fields Too Large"]
    assert scene.asked == []


async def test_a_body_that_is_announced_too_large_reaches_nobody(scene: Scene) -> None:
    assert await scene.say(POST + b"content-length: 10000000000\r\n\r\n") == [b"413 Content Too Large"]
    assert scene.asked == []


async def test_a_body_in_chunks_that_grows_too_large_is_cut(scene: Scene) -> None:
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
    assert await scene.say(POST + b"transfer-encoding: chunked\r\n\r\n", chunk * 4) == [b"413 Content Too Large"]


@pytest.mark.parametrize("begun", [b"G", GET, POST + b"content-length: 5\r\n\r\nabc"])
async def test_who_says_nothing_more_is_not_waited_for(impatient: Scene, begun: bytes) -> None:
    assert await impatient.say(begun) == [b"408 Request Timeout"]


async def test_who_says_nothing_at_all_is_told_nothing(impatient: Scene) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient.port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


async def test_a_head_that_trickles_is_not_waited_for(impatient: Scene) -> None:
    assert await impatient.say(GET, LATER / 2, b"X-A: a\r\n", LATER / 2, b"X-B: b\r\n") == [b"408 Request Timeout"]


async def test_a_connection_that_is_kept_has_its_limits_anew_for_each_request(impatient: Scene) -> None:
    large = GET + b"X-A: " + b"a" * (http.HEAD_BYTES - 100) + b"\r\n\r\n"
    assert await impatient.say(large, LATER / 2, large, LATER, large, answers=3) == [b"200 OK 0"] * 3


async def test_a_websocket_outlives_the_time_of_a_request(impatient: Scene) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", impatient.port)
    writer.write(GET + upgrade + key)
    async with asyncio.timeout(10):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await reader.readexactly(4) == b"\x88\x02" + (4400).to_bytes(2, "big")
    writer.close()


# ── A process that stops ─────────────────────────────────────────────────────────────────────────────────────────────
async def connected(scene: Scene) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.Task[None]]:
    """Return a connection on which nothing was asked when the server was told to stop, and the stop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
    await eventually(lambda: scene.server.server_state.connections)
    stopping = asyncio.create_task(scene.server.shutdown(sockets=[scene.listener]))
    await eventually(lambda: not scene.listener.fileno() > 0)
    return reader, writer, stopping


async def test_whose_request_is_on_its_way_when_the_process_stops_is_answered(scene: Scene) -> None:
    reader, writer, stopping = await connected(scene)
    writer.write(GET + b"\r\n")
    async with asyncio.timeout(4):  # less than uvicorn keeps a connection that is not told to close
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer.lower()
    await stopping
    writer.close()


async def test_whose_handshake_is_on_its_way_when_the_process_stops_is_told_to_come_back(scene: Scene) -> None:
    reader, writer, stopping = await connected(scene)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert await reader.readexactly(4) == b"\x88\x0a" + (4112).to_bytes(2)
    assert scene.asked == []
    writer.close()
    await stopping


async def test_who_asks_nothing_is_not_waited_for_when_the_process_stops(scene: Scene) -> None:
    reader, writer, stopping = await connected(scene)
    async with asyncio.timeout(http.HEAD_SECONDS / 2):
        assert await reader.read() == b"", "nothing was asked"
        await stopping
    writer.close()
