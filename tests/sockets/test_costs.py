"""What an entry, a delivery and an idle socket cost, counted in what does not depend on the machine.

A slow path that comes back shows here, on any machine: commands to Redis, writes, bytes, tasks, objects.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections import Counter
from typing import Any

import prometheus_client
import pytest

from notifications.access import token_store
from notifications.sockets.connection import Connection
from notifications.sockets.feeds import WRITES_A_ROOM
from notifications.sockets.outbound import RawOutbound
from notifications.sockets.server import WebSocket
from notifications.sockets.vitals import Tally
from notifications.sockets.wheel import SPOKES
from notifications.stream.message import Message
from tests.sockets.pages import Room, commands, connect, kinds_of_tasks, serving_is_calm, stand_still
from tests.sockets.scene import Serving
from tests.waiting import eventually

ENTRIES = 48  # three times 16: each sixteenth append looks for entries that are too old
OF_THE_APPEND = {"get", "hmget", "hset", "pexpire", "set", "time", "xadd", "xrange"}  # append.lua's
JOINS = 15  # fewer than HERMES_CONNECTIONS_PER_USER allows
# For one socket to which nothing is sent, with its client in the same process; what the kernel and an event
# loop in C keep comes on top. Measured: 31 objects and 9.2 kB.
OBJECTS, BYTES = 40, 12_000


async def test_an_entry_costs_redis_the_same_however_many_hear_it(serving: Serving, room: Room) -> None:
    hub = await serving.hubs.running()
    await stand_still(hub)
    spent: list[Counter[str]] = []
    for sockets in (1, 40):
        await room.fill(sockets - len(room.pages))
        await serving_is_calm(serving)
        await room.say(sockets * 1_000)
        before = await commands(hub)
        await room.say(*range(sockets * 1_000 + 1, sockets * 1_000 + 1 + ENTRIES))
        spent.append(await commands(hub) - before)
    assert spent[0] == spent[1], "of every command there is"
    # One append and one hint; the others are the append's script's, and of its own number.
    assert {name: spent[0][name] for name in ("evalsha", "publish")} == {"evalsha": ENTRIES, "publish": ENTRIES}
    assert set(spent[0]) == {"evalsha", "publish", *OF_THE_APPEND}


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


@pytest.mark.parametrize("sockets", [1, WRITES_A_ROOM])
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
        for each in (serving, another):
            await serving_is_calm(each)
            await stand_still(await each.hubs.running())
        hub = await another.hubs.running()
        before = await commands(hub)
        others = [await connect(another, token) for _ in range(JOINS)]
        await serving_is_calm(another)
        spent = await commands(hub) - before
        # One question: a script that reads the row and the verdict on its digest, and for how long they are kept.
        assert spent == {"evalsha": JOINS, "get": 2 * JOINS, "pttl": 2 * JOINS}
        assert dear == []
        for each in (page, *others):
            each.transport.abort()
    finally:
        await another.stop()


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


def client_objects(room: Room) -> int:
    """How many objects the pages themselves are: a page, its dictionary and its transport's."""
    return 6 * len(room.pages)
