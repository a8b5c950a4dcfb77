"""The last step: bytes made once, and a reader that does not keep up costs bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from autobahn.exception import Disconnected

from notifications.registry.records import Traffic
from notifications.sockets.outbound import STALL_SECONDS, Batch, Outbound, QueuedOutbound, RawOutbound
from notifications.sockets.protocol import PING_FRAME, Close, text_frame


class Transport:
    """A raw side whose reader takes what ``read`` says."""

    def __init__(self) -> None:
        self.sent = b""
        self.waiting = 0
        self.aborted = False
        self.closed: tuple[int, str] | None = None

    def write(self, data: bytes) -> int:
        self.sent += data
        self.waiting += len(data)
        return self.waiting

    def read(self, count: int) -> None:
        self.waiting = max(0, self.waiting - count)

    def buffered(self) -> int:
        return self.waiting

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True


def raw() -> tuple[RawOutbound, Transport, list[int]]:
    cuts: list[int] = []
    transport = Transport()
    return RawOutbound(transport, cuts.append, set()), transport, cuts


def test_a_batch_is_framed_once_for_all_its_sockets() -> None:
    batch = Batch([b"one", b"two"])
    assert batch.wire == text_frame(b"one") + text_frame(b"two")
    assert batch.wire is batch.wire


def test_frames_are_written_to_the_transport_in_one_go() -> None:
    outbound, transport, cuts = raw()
    outbound.write(Batch([b"one", b"two"]))
    outbound.ping()
    outbound.close(4401, "expired")
    assert transport.sent == text_frame(b"one") + text_frame(b"two") + PING_FRAME
    assert transport.closed == (4401, "expired")
    assert cuts == []


def test_what_was_sent_is_counted_and_what_waits_is_what_was_seen_at_the_last_look() -> None:
    outbound, transport, _ = raw()
    outbound.write(Batch([b"one", b"two"]))
    outbound.ping()
    sent = len(transport.sent)
    assert outbound.traffic() == Traffic(frames=2, size=sent, waiting=0)
    outbound.check_progress(100.0)
    assert outbound.traffic() == Traffic(2, sent, sent)
    transport.read(sent)
    outbound.check_progress(101.0)
    assert outbound.traffic() == Traffic(2, sent, 0)


def test_who_takes_everything_at_once_is_no_laggard() -> None:
    laggards: set[Outbound] = set()
    transport = Transport()
    transport.write = lambda data: 0  # type: ignore[method-assign]
    outbound = RawOutbound(transport, [].append, laggards)
    outbound.write(Batch([b"x" * 300_000]))
    outbound.ping()
    assert not laggards


def test_who_leaves_something_is_a_laggard_until_a_look_finds_nothing() -> None:
    laggards: set[Outbound] = set()
    transport = Transport()
    outbound = RawOutbound(transport, [].append, laggards)
    outbound.ping()
    assert laggards == {outbound}
    assert outbound.check_progress(1.0)
    transport.read(len(PING_FRAME))
    assert not outbound.check_progress(2.0)


def test_a_reader_more_than_a_mebibyte_behind_is_cut(settings: Any) -> None:
    outbound, transport, cuts = raw()
    big = Batch([b"x" * 300_000])
    for _ in range(4):
        outbound.write(big)
    assert not transport.aborted, "what waited before the fourth was less than the cap"
    outbound.write(big)
    assert transport.aborted
    assert cuts == [Close.SLOW]


def test_a_reader_that_takes_nothing_for_ten_seconds_is_cut() -> None:
    outbound, transport, cuts = raw()
    outbound.write(Batch([b"x"]))
    outbound.check_progress(100.0)
    outbound.check_progress(100.0 + STALL_SECONDS - 0.1)
    assert not transport.aborted
    outbound.check_progress(100.0 + STALL_SECONDS)
    assert transport.aborted
    assert cuts == [Close.SLOW]


def test_a_slow_reader_that_takes_a_little_is_not_cut_by_time() -> None:
    outbound, transport, cuts = raw()
    outbound.write(Batch([b"x" * 1000]))
    for tick in range(60):
        transport.read(1)
        outbound.check_progress(float(tick))
    assert cuts == []
    transport.read(1000)
    outbound.check_progress(100.0)
    outbound.check_progress(200.0)
    assert cuts == [], "and an empty buffer is no stall"


class Server:
    """An ASGI server whose `send` can be held up."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def send(self, event: dict[str, Any]) -> None:
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.events.append(event)


Queued = tuple[QueuedOutbound, Server, list[int]]


@pytest.fixture
async def queued() -> AsyncIterator[Queued]:
    """A queued outbound, its server and its cuts."""
    server = Server()
    cuts: list[int] = []
    outbound = QueuedOutbound(server.send, cuts.append, set())
    yield outbound, server, cuts
    await outbound.aclose()


async def until(predicate: Callable[[], Any]) -> None:
    for _ in range(1000):
        if predicate():
            return
        await asyncio.sleep(0)
    pytest.fail("it did not come about")


async def test_texts_go_out_in_order_and_then_the_close(queued: Queued) -> None:
    outbound, server, cuts = queued
    outbound.write(Batch([b"one", b"two"]))
    outbound.write(Batch(["drei é".encode()]))
    outbound.ping()
    outbound.close(4401, "expired")
    outbound.close(4403, "the first reason counts")
    outbound.write(Batch([b"too late"]))
    await until(lambda: len(server.events) == 4)
    assert [event.get("text") for event in server.events[:3]] == ["one", "two", "drei é"]
    assert server.events[3] == {"type": "websocket.close", "code": 4401, "reason": "expired"}
    assert cuts == []


@pytest.mark.parametrize(("setting", "value"), [("HERMES_QUEUE_FRAMES", 16), ("HERMES_QUEUE_BYTES", 100)])
async def test_a_queue_that_is_full_cuts_its_reader(queued: Queued, settings: Any, setting: str, value: int) -> None:
    setattr(settings, setting, value)
    outbound, server, cuts = queued
    server.open.clear()
    for _ in range(30):
        outbound.write(Batch([b"0123456789"]))
    assert cuts == [Close.SLOW]
    server.open.set()
    await until(lambda: server.events and server.events[-1]["type"] == "websocket.close")
    assert server.events[-1]["code"] == Close.SLOW
    assert len(server.events) <= 3, "what waited was dropped"


async def test_a_send_that_hangs_cuts_its_reader(queued: Queued) -> None:
    outbound, server, cuts = queued
    loop = asyncio.get_running_loop()
    assert not outbound.check_progress(loop.time())
    server.open.clear()
    outbound.write(Batch([b"one"]))
    assert outbound.check_progress(loop.time()), "it waits for its turn"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert outbound.check_progress(loop.time()), "it is being sent"
    assert cuts == []
    outbound.check_progress(loop.time() + STALL_SECONDS)
    assert cuts == [Close.SLOW]
    server.open.set()


@pytest.mark.parametrize(
    ("error", "cut"),
    [(OSError("gone"), []), (Disconnected("gone, says Daphne"), []), (RuntimeError("a defect"), [Close.UNAVAILABLE])],
)
async def test_a_send_that_fails_ends_the_writer(
    queued: Queued, error: Exception, cut: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    outbound, server, cuts = queued
    server.error = error
    outbound.write(Batch([b"one"]))
    await until(lambda: outbound._writer.done())
    assert cuts == cut
    assert ("writer failed" in caplog.text) == bool(cut), "a client that went is no defect"
