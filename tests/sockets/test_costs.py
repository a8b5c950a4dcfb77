"""What an entry, a delivery and an idle socket cost, counted in what does not depend on the machine.

A slow path that comes back shows here, on any machine: commands to Redis, writes, bytes, tasks, objects.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import prometheus_client
import pytest

from notifications.access import token_store
from notifications.sockets.connection import Connection
from notifications.sockets.outbound import RawOutbound
from notifications.sockets.server import WebSocket
from notifications.sockets.vitals import Tally
from notifications.sockets.wheel import SPOKES
from notifications.stream.message import Message
from tests.sockets.scene import Serving
from tests.waiting import eventually

REQUEST = (
    "GET /ws/development{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: hermes.v1, hermes.token.{token}\r\n\r\n"
)
ENTRIES = 50
JOINS = 15  # fewer than HERMES_CONNECTIONS_PER_USER allows
LOOKS = 4  # of the follower, in a second
# For one socket to which nothing is sent, with its client in the same process; what the kernel and an event
# loop in C keep comes on top. Measured: 31 objects and 9.2 kB.
OBJECTS, BYTES = 40, 12_000


class Page(asyncio.Protocol):
    """A client that counts what it is sent."""

    def __init__(self) -> None:
        self.received = 0
        self.is_greeted = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.is_greeted = self.is_greeted or b"hermes.hello" in data


class Room:
    """Pages in one room of a real server, in this loop."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.pages: list[Page] = []

    async def fill(self, count: int, *, user: str = "member") -> None:
        """Let so many more members come in."""
        loop = asyncio.get_running_loop()
        come: list[Page] = []
        for number in range(len(self.pages), len(self.pages) + count):
            token = await asyncio.to_thread(self.serving.token, f"{user}-{number}")
            _, page = await loop.create_connection(Page, *self.serving.address)
            page.transport.write(REQUEST.format(query="", token=token).encode())
            come.append(page)
        await eventually(lambda: all(page.is_greeted for page in come))
        await eventually(lambda: not tasks("hermes-application"))
        self.pages += come

    async def say(self, *numbers: int) -> None:
        """Publish, and wait until everybody has all of it."""
        hub = await self.serving.hubs.running()
        before = [page.received for page in self.pages]
        messages = [Message(f"m{number:06}", 42, "acme", '"' + "x" * 100 + '"') for number in numbers]
        for message in messages:
            await hub.publisher.publish("development", [message])
        least = 100 * len(numbers)
        await eventually(
            lambda: all(page.received >= start + least for page, start in zip(self.pages, before, strict=True))
        )


def tasks(name: str = "") -> int:
    """How many tasks there are whose name begins so."""
    return sum(task.get_name().startswith(name) for task in asyncio.all_tasks())


def kinds_of_tasks() -> Counter[str]:
    """How many tasks run each coroutine, by its qualified name."""
    return Counter(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())


@pytest.fixture
async def room(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    """A room with nobody in it, in which no ping disturbs a count."""
    monkeypatch.setattr((await serving.hubs.running()).wheel, "_ping", lambda connections: None)
    room = Room(serving)
    yield room
    for page in room.pages:
        page.transport.abort()


async def commands(serving: Serving, *names: str) -> Counter[str]:
    """Return how often Redis has obeyed commands."""
    hub = await serving.hubs.running()
    stats = await hub._history._redis.info("commandstats")
    return Counter({name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names})


@pytest.mark.parametrize("sockets", [1, 40])
async def test_an_entry_costs_one_append_and_one_hint_however_many_hear_it(
    serving: Serving, room: Room, sockets: int
) -> None:
    await room.fill(sockets)
    await room.say(0)
    names = ("evalsha", "publish", "xrange", "get", "hget", "hmget")
    before, begun = await commands(serving, *names), time.monotonic()
    await room.say(*range(1, ENTRIES + 1))
    spent = await commands(serving, *names) - before
    looks = LOOKS * math.ceil(time.monotonic() - begun)
    # Each sixteenth append looks for entries that are too old; by the clock the follower reads activity, and the heads
    # of histories that are new to it: not for each socket.
    assert spent.pop("xrange") <= ENTRIES // 16 + looks
    # An append runs HMGET and GET within its script.
    assert 0 <= spent.pop("hmget") - ENTRIES <= looks
    assert spent == {"evalsha": ENTRIES, "publish": ENTRIES, "get": ENTRIES}


async def test_entries_that_come_together_are_one_write_to_each_socket_and_no_byte_more_than_their_frames(
    serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.fill(20)
    hub = await serving.hubs.running()
    writes: list[int] = []
    real = WebSocket.write

    def write(self: WebSocket, data: bytes) -> int:
        writes.append(len(data))
        return real(self, data)

    monkeypatch.setattr(WebSocket, "write", write)
    before = [page.received for page in room.pages]
    results = await hub.publisher.publish(
        "development", [Message(f"m{number}", 42, "acme", '"' + "x" * 100 + '"') for number in range(10)]
    )
    frames = [result.entry.frame for result in results if not isinstance(result, Exception) and result.entry]
    size = sum(len(frame) + (2 if len(frame) < 126 else 4) for frame in frames)
    await eventually(lambda: len(writes) == 20)
    assert writes == [size] * 20
    await eventually(
        lambda: [page.received - start for page, start in zip(room.pages, before, strict=True)] == [size] * 20
    )


@pytest.mark.parametrize("sockets", [1, 40])
async def test_what_is_measured_costs_the_same_however_many_hear_it(
    serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch, sockets: int
) -> None:
    await room.fill(sockets)
    hub = await serving.hubs.running()
    calls: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments, **more: (calls.update([name]), real(*arguments, **more))[1])

    for owner, name in ((Tally, "written"), (Tally, "delivered"), (prometheus_client.Counter, "labels")):
        count(owner, name)
    count(prometheus_client.Counter, "inc")
    messages = [Message(f"m{number}", 42, "acme", '"' + "x" * 100 + '"') for number in range(10)]
    await hub.publisher.publish("development", messages)
    await eventually(lambda: all(page.received > 1_000 for page in room.pages))
    assert calls == {"written": 1, "delivered": 1}


async def test_what_is_addressed_to_one_member_is_written_to_that_member_only(
    serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.fill(20)
    hub = await serving.hubs.running()
    written: list[WebSocket] = []
    real = WebSocket.write
    monkeypatch.setattr(WebSocket, "write", lambda self, data: written.append(self) or real(self, data))
    await hub.publisher.publish("development", [Message("m1", 42, "acme", "1", to=("member-7",))])
    await eventually(lambda: written)
    await room.say(2)
    assert len(written) == 1 + 20


async def test_an_idle_socket_costs_no_task_and_few_objects(serving: Serving, room: Room) -> None:
    await room.fill(10)
    await serving_is_calm(serving)
    gc.collect()
    tracemalloc.start()
    try:
        tasks_before = kinds_of_tasks()
        objects_before, bytes_before = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        ours_before = client_objects(room)
        await room.fill(40)
        await serving_is_calm(serving)
        gc.collect()
        objects = len(gc.get_objects()) - objects_before - (client_objects(room) - ours_before)
        size = tracemalloc.get_traced_memory()[0] - bytes_before
    finally:
        tracemalloc.stop()
    # What the server does by the clock comes and goes as tasks of their own; a socket's would stay.
    await eventually(lambda: not kinds_of_tasks() - tasks_before)
    assert objects / 40 <= OBJECTS
    assert size / 40 <= BYTES


async def test_a_member_who_comes_back_to_a_new_process_costs_one_question_and_neither_a_row_nor_a_hash(
    serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.fill(1)
    await serving_is_calm(serving)
    another = Serving()
    await another.start()
    try:
        token = serving.token("member-0")
        dear: list[Any] = []
        for name in ("read_many", "matches"):
            monkeypatch.setattr(token_store, name, lambda *arguments: dear.append(arguments))
        page = await connect(another, token)  # which opens the room
        names = ("evalsha", "get", "xrange", "hmget")
        before, begun = await commands(another, *names), time.monotonic()
        others = [await connect(another, token) for _ in range(JOINS)]
        spent = await commands(another, *names) - before
        looks = LOOKS * math.ceil(time.monotonic() - begun)
        assert spent["evalsha"] == JOINS
        assert max(spent["xrange"], spent["hmget"]) <= looks, "what is asked by the clock is not asked for each"
        assert dear == []
        for each in (page, *others):
            each.transport.abort()
    finally:
        await another.stop()


async def connect(serving: Serving, token: str) -> Page:
    """Open one page, and wait until it is greeted."""
    _, page = await asyncio.get_running_loop().create_connection(Page, *serving.address)
    page.transport.write(REQUEST.format(query="", token=token).encode())
    await eventually(lambda: page.is_greeted)
    return page


async def test_nobody_looks_at_a_socket_that_is_idle(
    serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two turns of the wheel, in which it would be seen."""
    await room.fill(40)
    await room.say(0)
    hub = await serving.hubs.running()
    looked = Counter[str]()
    for kind, name in ((WebSocket, "buffered"), (RawOutbound, "check_progress"), (Connection, "keep_time")):
        monkeypatch.setattr(kind, name, lambda *_, name=name: looked.update([name]))
    turned = asyncio.Event()
    real, turns = hub.wheel._look, 0

    def look(*arguments: Any) -> Any:
        nonlocal turns
        turns += 1
        if turns > 2 * SPOKES:
            turned.set()
        return real(*arguments)

    monkeypatch.setattr(hub.wheel, "_look", look)
    async with asyncio.timeout(10):
        await turned.wait()
    assert not looked


async def serving_is_calm(serving: Serving) -> None:
    """Wait until everything that a join begins has ended."""
    hub = await serving.hubs.running()
    await eventually(
        lambda: not hub.registry.pending and not tasks("hermes-application") and not tasks("hermes-asking")
    )


def client_objects(room: Room) -> int:
    """How many objects the pages themselves are: a page, its dictionary and its transport's."""
    return 6 * len(room.pages)
