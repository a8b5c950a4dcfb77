"""What stands between a hint and a socket: no task, no queue, no thread and few calls, counted at two sizes of a room.

Counted exactly, by difference: what is the same in a room of 1 and one of 31 is not for each socket.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from notifications.sockets.feeds import WRITES_A_ROOM, Feeds
from notifications.stream.message import Message
from tests.sockets.pages import Room, serving_is_calm, stand_still
from tests.sockets.scene import Serving

SIZES = (1, WRITES_A_ROOM - 1)  # a larger one is written to in parts, each of which costs a little
ENTRIES = 20
# Python's calls for one delivery, down to the transport: `RawOutbound.write` and `WebSocket.write`.
CALLS = 2
HERMES = str(Path(sys.modules["notifications"].__path__[0]))
HOPS = ("call_soon", "call_soon_threadsafe", "call_at", "create_task", "run_in_executor")


class Arrival:
    """Waits for entries without a look at the clock, which would be counted."""

    def __init__(self, room: Room) -> None:
        self._missing = dict.fromkeys(room.pages, 1)
        self._arrived = asyncio.get_running_loop().create_future()
        for page in room.pages:
            page.on_data = self._hear

    def _hear(self, page: Any) -> None:
        self._missing.pop(page, None)
        if not self._missing and not self._arrived.done():
            self._arrived.set_result(None)

    async def wait(self) -> None:
        """Wait until each page has been sent something."""
        async with asyncio.timeout(10):
            await self._arrived


async def publish(room: Room, number: int) -> None:
    """Publish one entry, and wait until everybody has it."""
    hub = await room.serving.hubs.running()
    arrival = Arrival(room)
    await hub.publisher.publish("development", [Message(f"m{number:06}", 42, "acme", '"' + "x" * 100 + '"')])
    await arrival.wait()


async def have(room: Room, sockets: int) -> None:
    """Have so many pages in the room, and nothing else going on."""
    await room.fill(sockets - len(room.pages))
    await serving_is_calm(room.serving)
    await publish(room, 1_000 * sockets)


async def test_an_entry_is_no_task_no_queue_no_timer_and_no_thread_for_each_socket(
    serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least of some entries counts: what else the loop does meanwhile adds to one and not to all of them."""
    counts: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *arguments, **more: (counts.update([name]), real(*arguments, **more))[1]
        )

    await stand_still(await serving.hubs.running())
    for name in HOPS:
        count(asyncio.get_running_loop(), name)
    count(asyncio.Queue, "put_nowait")
    least: list[dict[str, int]] = []
    for sockets in SIZES:
        await have(room, sockets)
        spent: list[Counter[str]] = []
        for number in range(ENTRIES):
            counts.clear()
            await publish(room, 1_000 * sockets + 1 + number)
            spent.append(counts.copy())
        least.append({name: min(each[name] for each in spent) for name in (*HOPS, "put_nowait")})
    assert least[0] == least[1]
    assert least[0]["create_task"] == least[0]["run_in_executor"] == least[0]["call_soon_threadsafe"] == 0


async def test_a_delivery_is_a_few_calls(serving: Serving, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of Hermes's own functions while it writes; the transport's are the event loop's, which is another one."""
    calls = 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(HERMES)

    real = Feeds._write

    def write(self: Feeds) -> None:
        sys.setprofile(profile)
        try:
            real(self)
        finally:
            sys.setprofile(None)

    await stand_still(await serving.hubs.running())
    spent: list[int] = []
    for sockets in SIZES:
        await have(room, sockets)
        with monkeypatch.context() as patch:
            patch.setattr(Feeds, "_write", write)
            calls = 0
            for number in range(ENTRIES):
                await publish(room, 1_000 * sockets + 1 + number)
            spent.append(calls)
    assert (spent[1] - spent[0]) / ENTRIES / (SIZES[1] - SIZES[0]) == CALLS
