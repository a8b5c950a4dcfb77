"""Pages: clients in one room of a real server, in the test's own loop, and what they cost. Used by tests of costs.

They are no more than a counter each, because they live where the server does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from notifications.sockets.hub import Hub
from notifications.stream.message import Message
from tests.sockets.scene import Serving
from tests.waiting import eventually

REQUEST = (
    "GET /ws/development{query} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: hermes.v1, hermes.token.{token}\r\n\r\n"
)
# What a hub does by its clock. What hears the layer's hints is no such thing.
CLOCKS = {f"hermes-{name}" for name in ("follow", "ear", "time", "guard", "rooms")}


class Page(asyncio.Protocol):
    """A client that counts what it is sent, and tells whom it is told to."""

    def __init__(self) -> None:
        self.received = 0
        self.is_greeted = False
        self.transport: Any = None
        self.on_data: Callable[[Page], None] = lambda page: None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.is_greeted = self.is_greeted or b"hermes.hello" in data
        self.on_data(self)


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


async def connect(serving: Serving, token: str) -> Page:
    """Open one page, and wait until it is greeted."""
    _, page = await asyncio.get_running_loop().create_connection(Page, *serving.address)
    page.transport.write(REQUEST.format(query="", token=token).encode())
    await eventually(lambda: page.is_greeted)
    return page


async def serving_is_calm(serving: Serving) -> None:
    """Wait until everything that a join begins has ended."""
    hub = await serving.hubs.running()
    await eventually(
        lambda: not hub.registry.pending and not tasks("hermes-application") and not tasks("hermes-asking")
    )


async def stand_still(hub: Hub) -> None:
    """End what a hub does by its clock: what is counted from now on is what somebody has brought about, exactly."""
    clocks = [task for task in hub._tasks if task.get_name() in CLOCKS]
    assert len(clocks) == len(CLOCKS)
    for task in clocks:
        task.cancel()
    await asyncio.gather(*clocks, return_exceptions=True)


async def commands(hub: Hub) -> Counter[str]:
    """Return how often Redis has obeyed each command, for whomever; those within scripts count, too."""
    stats = await hub._history._redis.info("commandstats")
    counts = Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()})
    del counts["info"]
    return counts
