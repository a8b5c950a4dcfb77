"""An application of its own on the server of `manage.py serve`: as ASGI says, and handing its client over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from notifications.sockets import server
from notifications.sockets.handshake import Handshake
from notifications.sockets.http import HermesHttpProtocol
from notifications.sockets.protocol import Close
from notifications.sockets.tcp import listening_socket
from tests.waiting import eventually

Application = Callable[[Any, Any, Any], Awaitable[None]]

ACCEPT = {"type": "websocket.accept"}
CLOSE_1000 = b"\x88\x02\x03\xe8"
REQUEST = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def text(said: str) -> bytes:
    return frame(Opcode.TEXT, said.encode())


class Raw:
    """A client that sends what it likes, and reads when it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *data: bytes) -> None:
        self._writer.write(b"".join(data))

    async def answered(self) -> bytes:
        """Return the status that its handshake is answered with."""
        async with asyncio.timeout(5):
            head = await self._reader.readuntil(b"\r\n\r\n")
        return head.split()[1]

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(5):
            return await self._reader.readexactly(count)

    async def rest(self) -> bytes:
        """Return what comes until the server ends the connection."""
        async with asyncio.timeout(5):
            return await self._reader.read()

    def leave(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        link = self._writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.close()


class Scene:
    """A real server in the test's own loop, whose application is the test's."""

    def __init__(self) -> None:
        self.application: Application = accepting
        self.heard: list[Any] = []
        self.returned = 0
        self.listener = listening_socket("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(
            self._application,
            http=HermesHttpProtocol,
            ws=Handshake,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=2,
        )
        config.load()
        self.server = uvicorn.Server(config)
        self.server.lifespan = config.lifespan_class(config)
        self._clients: list[Raw] = []

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        async def hear() -> Any:
            event = await receive()
            self.heard.append(event)
            return event

        try:
            await self.application(scope, hear, send)
        finally:
            self.returned += 1

    async def connect(self, **options: Any) -> Any:
        """Open a WebSocket as a browser does."""
        return await connect(f"ws://127.0.0.1:{self.port}/ws?a=%41", proxy=None, **options)

    async def raw(self, *, receive_buffer: int | None = None) -> Raw:
        """Ask for a WebSocket, and leave the rest to the test."""
        link = socket.socket()
        if receive_buffer is not None:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        link.setblocking(False)
        await asyncio.get_running_loop().sock_connect(link, ("127.0.0.1", self.port))
        raw = Raw(*await asyncio.open_connection(sock=link))
        self._clients.append(raw)
        raw.say(REQUEST)
        return raw

    async def opened(self, **options: Any) -> Raw:
        """Ask for a WebSocket, and be let in."""
        raw = await self.raw(**options)
        assert await raw.answered() == b"101"
        return raw

    @property
    def links(self) -> list[server.WebSocket]:
        """The server's side of what is connected."""
        return [each for each in self.server.server_state.connections if isinstance(each, server.WebSocket)]

    @property
    def said(self) -> list[Any]:
        """The texts and bytes that the application has heard."""
        return [each.get("text", each.get("bytes")) for each in self.heard if each["type"] == "websocket.receive"]

    async def code(self) -> int:
        """Return the code of which the application is told, once it has been."""
        await eventually(lambda: self.heard and self.heard[-1]["type"] == "websocket.disconnect")
        code: int = self.heard[-1]["code"]
        return code

    async def stop(self) -> None:
        for each in self._clients:
            each.leave()
        await self.server.shutdown(sockets=[self.listener])


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """The server."""
    made = Scene()
    await made.server.startup(sockets=[made.listener])
    yield made
    await made.stop()


async def accepting(scope: Any, receive: Any, send: Any) -> None:
    """Let the client in and hear it to its end."""
    await receive()
    await send(ACCEPT)
    await until_it_is_over(receive)


async def until_it_is_over(receive: Any) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Let the client in and say what it says."""
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


# ── As ASGI says ─────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_an_application_hears_and_says_texts_and_bytes(scene: Scene) -> None:
    scene.application = echo
    async with await scene.connect() as page:
        for said in ("ä", b"\xff", "", b"", "x" * (3 * server.SLICE), b"\0" * 60_000):
            await page.send(said)
            assert await page.recv() == said
    assert scene.heard[0] == {"type": "websocket.connect"}
    assert scene.heard[1:3] == [
        {"type": "websocket.receive", "text": "ä"},
        {"type": "websocket.receive", "bytes": b"\xff"},
    ]
    await eventually(lambda: scene.returned)
    assert not scene.server.server_state.tasks


async def test_many_messages_that_come_at_once_are_heard_one_after_the_other(scene: Scene) -> None:
    scene.application = echo
    page = await scene.opened()
    page.say(*(text(f"{number:04}") for number in range(2000)))
    answers = await page.read(2000 * 6)
    assert [answers[at + 2 : at + 6] for at in range(0, len(answers), 6)] == [b"%04d" % each for each in range(2000)]
    assert scene.said == [f"{number:04}" for number in range(2000)]


async def test_what_a_client_says_before_it_is_let_in_is_heard_after_that(scene: Scene) -> None:
    go = asyncio.Event()

    async def judging(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go.wait()
        await send(ACCEPT)
        await until_it_is_over(receive)

    scene.application = judging
    page = await scene.raw()
    await eventually(lambda: scene.heard)
    page.say(text("early"), text("x" * 2 * server.SLICE))
    await eventually(lambda: scene.links[0]._unparsed)
    assert len(scene.heard) == 1
    go.set()
    assert await page.answered() == b"101"
    page.say(text("late"))
    await eventually(lambda: len(scene.said) == 3)
    assert scene.said == ["early", "x" * 2 * server.SLICE, "late"]


async def test_it_lets_its_client_in_with_a_subprotocol_and_headers_of_its_own(scene: Scene) -> None:
    seen: list[Any] = []

    async def choosing(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await receive()
        await send({**ACCEPT, "subprotocol": scope["subprotocols"][1], "headers": [(b"x-who", b"me"), (b"x-a", b"b")]})
        await until_it_is_over(receive)

    scene.application = choosing
    async with await scene.connect(subprotocols=["one", "two"]) as page:
        assert page.subprotocol == "two"
        assert (page.response.headers["x-who"], page.response.headers["x-a"]) == ("me", "b")
    (scope,) = seen
    assert (scope["type"], scope["path"], scope["query_string"]) == ("websocket", "/ws", b"a=%41")


async def test_who_is_closed_before_it_is_let_in_gets_403(scene: Scene) -> None:
    refused: list[Exception] = []

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.close"})
        try:
            await send(ACCEPT)
        except OSError as error:
            refused.append(error)

    scene.application = refusing
    with pytest.raises(InvalidStatus, match="403"):
        await scene.connect()
    await eventually(lambda: scene.returned)
    assert len(refused) == 1, "there is nobody to let in any more"


async def test_an_application_that_fails_before_it_judges_is_a_500_and_logged(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("as it happens")

    scene.application = failing
    with pytest.raises(InvalidStatus, match="500"):
        await scene.connect()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("notifications.sockets.asgi", logging.ERROR)
    assert "as it happens" in caplog.text
    assert "Traceback" in caplog.text


async def test_an_application_that_fails_later_is_logged_and_its_client_let_go(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.send", "text": "until now"})
        await receive()
        raise ValueError("as it happens")

    scene.application = failing
    page = await scene.opened()
    page.say(text("go"))
    assert await page.rest() == b"\x81\x09until now"
    assert "as it happens" in caplog.text
    assert not scene.links


async def test_an_application_that_returns_without_an_answer_is_a_500_as_well(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    async def returning(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    scene.application = returning
    with pytest.raises(InvalidStatus, match="500"):
        await scene.connect()
    assert not caplog.records


async def test_an_application_that_returns_after_it_has_let_its_client_in_lets_it_go(scene: Scene) -> None:
    async def greeting(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.send", "bytes": b"hello"})

    scene.application = greeting
    page = await scene.opened()
    assert await page.rest() == b"\x82\x05hello"


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], {"type": "websocket.send", "text": "too early"}),
        ([], {"type": "http.response.start", "status": 200}),
        ([ACCEPT], ACCEPT),
        ([ACCEPT], {"type": "websocket.shout"}),
    ],
)
async def test_what_may_not_be_sent_now_is_the_applications_error(
    scene: Scene, before: list[Any], wrong: dict[str, Any]
) -> None:
    async def wrongly(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for each in before:
            await send(each)
        with pytest.raises(RuntimeError, match=wrong["type"]):
            await send(wrong)
        for each in () if before else (ACCEPT,):
            await send(each)
        await send({"type": "websocket.send", "text": "all is well"})
        await until_it_is_over(receive)

    scene.application = wrongly
    async with await scene.connect() as page:
        assert await page.recv() == "all is well"


async def test_to_send_to_a_client_that_is_gone_is_an_oserror_and_no_news(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[type[BaseException]] = []

    async def talking(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        try:
            while True:  # it never asks whether it is over
                await send({"type": "websocket.send", "text": "still there?"})
                await asyncio.sleep(0.01)
        except Exception as error:
            raised.append(type(error))
            raise

    scene.application = talking
    page = await scene.opened()
    page.leave()
    await eventually(lambda: scene.returned)
    (kind,) = raised
    assert issubclass(kind, OSError)
    assert not caplog.records


# ── How it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("code", [1000, 4001])
async def test_a_clients_close_code_reaches_the_application(scene: Scene, code: int) -> None:
    page = await scene.connect()
    await page.send("last")
    await page.close(code, "bye")
    assert page.close_code == code
    assert await scene.code() == code
    assert scene.said == ["last"]


async def test_a_client_that_closes_without_a_code_is_1005(scene: Scene) -> None:
    page = await scene.opened()
    page.say(frame(Opcode.CLOSE), text("too late"))
    assert await page.rest() == b"\x88\x00"
    assert await scene.code() == 1005
    assert not scene.said


@pytest.mark.parametrize("go", [Raw.leave, Raw.reset])
async def test_a_client_that_goes_without_a_word_is_1006(scene: Scene, go: Callable[[Raw], None]) -> None:
    page = await scene.opened()
    go(page)
    assert await scene.code() == 1006
    await eventually(lambda: scene.returned and not scene.links)


async def test_an_application_that_asks_late_is_told_how_it_ended(scene: Scene) -> None:
    asked = asyncio.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await asked.wait()
        await until_it_is_over(receive)

    scene.application = busy
    page = await scene.opened()
    page.leave()
    await eventually(lambda: not scene.links)
    asked.set()
    assert await scene.code() == 1006


async def test_a_text_that_is_no_utf8_is_1007_to_both(scene: Scene) -> None:
    page = await scene.opened()
    page.say(text("good"), frame(Opcode.TEXT, b"\xff"), text("too late"))
    assert (await page.rest())[2:4] == (1007).to_bytes(2, "big")
    assert await scene.code() == 1007
    assert scene.said == ["good"]


async def test_a_message_that_is_too_large_is_1009_to_both(scene: Scene, settings: Any) -> None:
    settings.HERMES_FRAME_MAX_BYTES = 1024
    async with await scene.connect() as page:
        await page.send("x" * 1024)
        await page.send("x" * 1025)
        with pytest.raises(ConnectionClosed):
            await page.recv()
        assert page.close_code == 1009
    assert await scene.code() == 1009
    assert scene.said == ["x" * 1024]


async def test_an_application_closes_with_its_code_and_hears_of_it(scene: Scene) -> None:
    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.close", "code": 4400, "reason": "enough"})
        await until_it_is_over(receive)
        with pytest.raises(OSError):  # noqa: PT011  the class is what counts
            await send({"type": "websocket.close"})

    scene.application = closing
    page = await scene.connect()
    await page.send("go")
    with pytest.raises(ConnectionClosed):
        await page.recv()
    assert (page.close_code, page.close_reason) == (4400, "enough")
    assert await scene.code() == 4400
    await eventually(lambda: scene.returned and not scene.links)


async def test_an_application_may_close_and_return_and_need_not_say_why(scene: Scene) -> None:
    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close"})

    scene.application = closing
    async with await scene.connect() as page:
        with pytest.raises(ConnectionClosed):
            await page.recv()
        assert page.close_code == 1000
    await eventually(lambda: not scene.links)


async def test_a_close_frame_that_nobody_answers_is_not_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CLOSE_SECONDS", 0.1)

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close"})

    scene.application = closing
    page = await scene.opened()
    page.say(text("not what you wait for"), frame(Opcode.PING))
    assert await page.read(4) == CLOSE_1000
    with pytest.raises(ConnectionResetError):
        await page.rest()
    assert not scene.links


async def test_who_is_closed_for_what_it_sends_is_not_read_any_more(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "RATE_GRACE", 0.1)

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await receive()
        await send({"type": "websocket.close", "code": int(Close.RATE)})
        await until_it_is_over(receive)

    scene.application = closing
    page = await scene.opened()
    page.say(text("x") * 5000)
    assert await page.read(4) == b"\x88\x02" + int(Close.RATE).to_bytes(2, "big")
    assert await scene.code() == Close.RATE
    page.say(frame(Opcode.CLOSE))
    with pytest.raises(ConnectionError):
        await page.rest()
    assert len(scene.said) < 5000


# ── Frames ───────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_messages_of_many_frames_are_one_and_pings_between_them_are_answered(scene: Scene) -> None:
    scene.application = echo
    page = await scene.opened()
    page.say(frame(Opcode.TEXT, b"a", fin=False), frame(Opcode.PING, b"1"))
    assert await page.read(3) == b"\x8a\x011"
    page.say(frame(Opcode.CONT, b"b", fin=False), frame(Opcode.PING, b"2"), frame(Opcode.PONG))
    assert await page.read(3) == b"\x8a\x012"
    page.say(frame(Opcode.CONT, b"c"))
    assert await page.read(5) == b"\x81\x03abc"
    assert scene.said == ["abc"]


async def test_a_receive_that_is_given_up_loses_nothing(scene: Scene) -> None:
    async def impatient(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await receive()
        await send({"type": "websocket.send", "text": "now"})
        await until_it_is_over(receive)

    scene.application = impatient
    async with await scene.connect() as page:
        assert await page.recv() == "now"
        await page.send("one")
        await page.send("two")
    assert await scene.code() == 1000
    assert scene.said == ["one", "two"]


async def test_a_client_that_does_not_read_is_waited_for_and_then_it_goes_on(scene: Scene) -> None:
    count, size = 40, 60_000
    sent = 0

    async def generous(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await receive()
        await send(ACCEPT)
        for _ in range(count):
            await send({"type": "websocket.send", "bytes": bytes(size)})
            sent += 1
        await send({"type": "websocket.close"})

    scene.application = generous
    page = await scene.opened(receive_buffer=4096)
    await eventually(lambda: scene.links[0].transport.get_write_buffer_size() > 0)
    held = sent
    await a_few_turns()
    assert sent == held < count
    await page.read((4 + size) * count)
    assert await page.read(4) == CLOSE_1000
    assert sent == count


async def test_who_waits_for_a_client_that_goes_waits_no_more(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def generous(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        while True:
            await send({"type": "websocket.send", "bytes": bytes(60_000)})

    scene.application = generous
    page = await scene.opened(receive_buffer=4096)
    await eventually(lambda: scene.links[0].transport.get_write_buffer_size() > 0)
    page.reset()
    await eventually(lambda: scene.returned)
    assert not caplog.records


# ── A process that stops ─────────────────────────────────────────────────────────────────────────────────────────────
async def test_who_is_being_judged_when_the_process_stops_is_let_in_and_told_to_come_back(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()

    async def judging(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await go.wait()
        await send(ACCEPT)

    scene.application = judging
    page = await scene.raw()
    await eventually(lambda: scene.heard)
    stopping = asyncio.create_task(scene.server.shutdown())
    await eventually(lambda: scene.links[0].is_stopping)
    assert not stopping.done(), "its application is waited for"
    go.set()
    assert await page.answered() == b"101"
    assert await page.read(4 + len("draining")) == b"\x88\x0a" + struct.pack("!H", 4112) + b"draining"
    page.say(frame(Opcode.CLOSE, struct.pack("!H", 4112)))
    await stopping
    assert not caplog.records


async def test_who_is_connected_when_the_process_stops_is_told_1012(scene: Scene) -> None:
    page = await scene.connect()
    await asyncio.gather(scene.server.shutdown(), page.wait_closed())
    assert page.close_code == 1012
    assert await scene.code() == 1012


async def test_who_is_being_closed_when_the_process_stops_is_dropped(scene: Scene) -> None:
    async def closing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close"})

    scene.application = closing
    page = await scene.opened()
    assert await page.read(4) == CLOSE_1000
    await scene.server.shutdown()
    with pytest.raises(ConnectionResetError):
        await page.rest()


# ── Handing over ─────────────────────────────────────────────────────────────────────────────────────────────────────
class Owner:
    """An `incoming.Owner` that writes down what it is told, and takes so many messages at once."""

    def __init__(self, at_once: int = 1_000_000) -> None:
        self.link: Any = None
        self.said: list[str | bytes] = []
        self.codes: list[int] = []
        self.borne = 0
        self.go = asyncio.Event()
        self._at_once = at_once

    def hear(self, said: str | bytes) -> bool:
        self.said.append(said)
        return len(self.said) < self._at_once

    def bear(self, frames: int) -> None:
        self.borne += frames

    def ended(self, code: int) -> None:
        self.codes.append(code)

    def go_on(self) -> None:
        self._at_once = 1_000_000
        self.link.go_on()

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """Let the client in, hand it over when told to, and return."""
        self.link = scope["extensions"]["hermes.raw"]
        await receive()
        await send(ACCEPT)
        await self.go.wait()
        self.link.hand_over(self)


@pytest.fixture
def owner(scene: Scene) -> Owner:
    """Whom the scene's clients are handed over to, at once."""
    made = Owner()
    made.go.set()
    scene.application = made.application
    return made


async def test_who_takes_a_client_over_hears_it_in_order_and_no_task_waits(scene: Scene, owner: Owner) -> None:
    async with await scene.connect() as page:
        await eventually(lambda: scene.returned and not scene.server.server_state.tasks)
        await page.send("one")
        await page.send(b"two")
        await page.send(["th", "r", "ee"])
        await eventually(lambda: len(owner.said) == 3)
        owner.link.write(b"\x81\x02hi")
        assert await page.recv() == "hi"
        await page.send("four")
        await page.close(4001)
    await eventually(lambda: owner.codes)
    assert owner.said == ["one", b"two", "three", "four"]
    await eventually(lambda: not scene.links)
    assert owner.codes == [4001]


async def test_what_was_said_before_there_was_an_owner_it_hears_as_well(scene: Scene, owner: Owner) -> None:
    owner.go.clear()
    page = await scene.opened()
    page.say(*(text(f"{number:04}") for number in range(2000)))
    await eventually(lambda: len(scene.links[0]._unparsed) == 2000 * 10)
    assert not owner.said
    owner.go.set()
    await eventually(lambda: len(owner.said) == 2000)
    page.say(text("late"))
    await eventually(lambda: len(owner.said) == 2001)
    assert owner.said == [f"{number:04}" for number in range(2000)] + ["late"]


async def test_an_owner_that_has_enough_is_told_no_more_until_it_goes_on(scene: Scene, owner: Owner) -> None:
    owner._at_once = 3
    page = await scene.opened()
    count, size = 200, 10_000
    page.say(*(frame(Opcode.BINARY, bytes(size)) for _ in range(count)))
    await eventually(lambda: len(owner.said) == 3)
    assert scene.links[0].is_paused
    page.say(frame(Opcode.CLOSE))
    owner.go_on()
    await eventually(lambda: owner.codes)
    assert len(owner.said) == count
    assert owner.codes == [1005]


async def test_an_owner_that_has_enough_hears_the_rest_of_a_slice_at_most(scene: Scene, owner: Owner) -> None:
    owner._at_once = 1
    page = await scene.opened()
    page.say(text("x") * 2000)
    await eventually(lambda: owner.said)
    heard = len(owner.said)
    await a_few_turns()
    assert len(owner.said) == heard <= server.SLICE // len(text("x")) + 1
    owner.go_on()
    await eventually(lambda: len(owner.said) == 2000)


async def a_few_turns() -> None:
    """Let the loop turn a few times: whatever was to happen at once has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("go", [Raw.leave, Raw.reset])
async def test_an_owner_is_told_once_that_its_client_went(
    scene: Scene, owner: Owner, go: Callable[[Raw], None]
) -> None:
    page = await scene.opened()
    await eventually(lambda: scene.returned)
    go(page)
    await eventually(lambda: owner.codes and not scene.links)
    await a_few_turns()
    assert owner.codes == [1006]
    owner.link.go_on()
    assert owner.link.write(b"\x81\x02hi") == 0


async def test_an_owner_that_comes_too_late_is_told_once_as_well(scene: Scene, owner: Owner) -> None:
    owner.go.clear()
    page = await scene.opened()
    page.say(text("is anybody there?"))
    page.leave()
    await eventually(lambda: not scene.links)
    owner.go.set()
    await eventually(lambda: owner.codes)
    await a_few_turns()
    assert (owner.codes, owner.said) == ([1006], [])


async def test_an_owner_of_a_client_that_says_goodbye_early_is_told_its_code(scene: Scene, owner: Owner) -> None:
    owner.go.clear()
    page = await scene.opened()
    page.say(text("last"), frame(Opcode.CLOSE, (4001).to_bytes(2, "big")))
    await eventually(lambda: scene.links[0]._unparsed)
    owner.go.set()
    assert await page.rest() == b"\x88\x02" + (4001).to_bytes(2, "big")
    await eventually(lambda: owner.codes)
    assert (owner.said, owner.codes) == (["last"], [4001])


async def test_an_owner_that_closes_is_told_its_own_code_once_and_hears_no_more(scene: Scene, owner: Owner) -> None:
    page = await scene.opened()
    await eventually(lambda: scene.returned)
    owner.link.close(4403, "")
    assert owner.codes == [], "it is told later: it may be in the middle of closing"
    assert await page.read(4) == b"\x88\x02" + (4403).to_bytes(2, "big")
    page.say(text("what?"), frame(Opcode.CLOSE, (4403).to_bytes(2, "big")))
    assert await page.rest() == b""
    assert (owner.codes, owner.said) == ([4403], [])


async def test_an_application_that_closes_before_it_hands_over_has_its_owner_told(scene: Scene, owner: Owner) -> None:
    owner.go.clear()
    async with await scene.connect() as page:
        owner.link.close(4400, "no such thing")
        owner.go.set()
        with pytest.raises(ConnectionClosed):
            await page.recv()
        assert page.close_code == 4400
    await eventually(lambda: owner.codes)
    assert owner.codes == [4400]


async def test_a_client_that_is_listened_to_by_nobody_is_read_no_further_than_so_much(
    scene: Scene, owner: Owner
) -> None:
    owner.go.clear()
    page = await scene.opened()
    texts = [str(number) * 100 for number in range(2_000)]
    page.say(*(text(each) for each in texts))
    await eventually(lambda: len(scene.links[0]._unparsed) > server.EARLY)
    await a_few_turns()
    assert scene.links[0].is_paused
    owner.go.set()
    await eventually(lambda: len(owner.said) == len(texts))
    assert owner.said == texts


async def test_a_client_that_pings_without_end_is_read_no_faster_than_it_is_parsed(scene: Scene, owner: Owner) -> None:
    page = await scene.opened()
    await eventually(lambda: scene.returned)
    for _ in range(40):
        page.say(frame(Opcode.PING, b"") * 2_000)
    longest = 0
    page.say(text("at last"))
    while not owner.said:
        longest = max(longest, len(scene.links[0]._unparsed))
        await asyncio.sleep(0)
    assert owner.said == ["at last"]
    assert longest <= 512 * 1024, "no more than one read of the kernel's buffer"


async def test_fragments_of_nothing_are_not_kept(scene: Scene, owner: Owner) -> None:
    page = await scene.opened()
    await eventually(lambda: scene.returned)
    page.say(frame(Opcode.TEXT, b"one", fin=False), *[frame(Opcode.CONT, b"", fin=False)] * 1_000)
    page.say(frame(Opcode.CONT, b" text"))
    await eventually(lambda: owner.said)
    assert owner.said == ["one text"]
