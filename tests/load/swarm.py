"""Swarm: ten thousand clients in one process that speak the toolkit's protocol. Made by the tests; rests on wire.

A client comes back as `static/hermes/connection.js` does: by the same back-off, with its position, never after a 44xx.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.load.wire import CLOSE, PING, TEXT, Frames, client_frame, close_frame, handshake

FLOOR, CEILING = 0.5, 20.0  # s; backoff.js
HANDSHAKE_SECONDS = 15.0  # connection.js
# A client address has 28,000 ports to one server, and a closed connection keeps its own for a minute.
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 32)]
# How a connection ended where no close code says it: the server accepted none (an HTTP status is its own, negative);
# the client itself had no greeting in time, and will come back.
NOT_OPENED, GAVE_UP, NO_CODE = -1, 0, 1006


def raise_open_files() -> int:
    """Let this process, and what it starts, have as many sockets as the system allows; return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def back_off(attempt: int) -> float:
    """Return how long a client stays away after so many failures, in seconds."""
    return FLOOR + random.random() * (min(CEILING, FLOOR * 2 ** (attempt + 1)) - FLOOR)


class Link(asyncio.Protocol):
    """One WebSocket, from the handshake on.

    Args:
        request: the handshake.
        on_frame: called with the payload of each text frame.
        on_end: called once with the close code; `NOT_OPENED` where the server accepted nothing.
    """

    __slots__ = ("_code", "_frames", "_head", "_on_end", "_on_frame", "_request", "transport")

    def __init__(self, request: bytes, on_frame: Callable[[bytes], None], on_end: Callable[[int], None]) -> None:
        self._request, self._on_frame, self._on_end = request, on_frame, on_end
        self._frames = Frames()
        self._head: bytes | None = b""
        self._code = NOT_OPENED
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask to be upgraded."""
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read the answer to the handshake, then frames."""
        if self._head is not None:
            head, end, data = (self._head + data).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            if b" 101 " not in head[:16]:
                self._code = -int(head[9:12])
                self.transport.abort()
                return
            self._head, self._code = None, NO_CODE
        for opcode, payload in self._frames.feed(data):
            if opcode == TEXT:
                self._on_frame(payload)
            elif opcode == CLOSE:
                self._code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                self.transport.write(close_frame(self._code if self._code != 1005 else 1000))
            elif opcode == PING:
                self.transport.write(client_frame(payload, 10))

    def connection_lost(self, exc: Exception | None) -> None:
        """Say how it ended."""
        self._on_end(self._code)

    def close(self) -> None:
        """Leave as a page does."""
        self.transport.write(close_frame(1000))

    def abort(self) -> None:
        """Be gone without a word."""
        self.transport.abort()


@dataclass
class Swarm:
    """What all clients of a test share, and what they saw.

    Args:
        port: the server's.
        stage: the stage's name.
    """

    port: int
    stage: str
    ends: Counter[int] = field(default_factory=Counter)
    hellos: Counter[str] = field(default_factory=Counter)
    handshakes: int = 0
    clients: list[Client] = field(default_factory=list)
    links: set[Link] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Be gone, all at once and without a word."""
        await asyncio.gather(*(client.stop() for client in self.clients), return_exceptions=True)
        for link in list(self.links):
            link.abort()
        self.clients.clear()

    async def link(self, token: str, position: Any, on_frame: Any, on_end: Any) -> Link:
        """Open a connection from one of many addresses.

        Raises:
            OSError: nobody accepts it.
        """

        def ended(code: int) -> None:
            self.links.discard(link)
            on_end(code)

        request = handshake(f"127.0.0.1:{self.port}", f"/ws/{self.stage}", token, position)
        self.handshakes += 1
        _, link = await self.loop.create_connection(
            lambda: Link(request, on_frame, ended),
            "127.0.0.1",
            self.port,
            local_addr=(ADDRESSES[self.handshakes % len(ADDRESSES)], 0),
        )
        self.links.add(link)
        return link


class Client:
    """One member's page.

    Args:
        swarm: where it belongs.
        user, room, token: who it is.
        position: what it resumes from.
        on_entry: called with each entry's payload; without it, the client parses and keeps them.
    """

    def __init__(
        self,
        swarm: Swarm,
        user: str,
        room: str,
        token: str,
        position: tuple[str, int, str] | None = None,
        on_entry: Callable[[bytes], None] | None = None,
    ) -> None:
        self.swarm, self.user, self.room, self.token, self.position = swarm, user, room, token, position
        self.seqs: list[int] = []
        self.foreign = 0
        self.told: list[str] = []
        self.greeting: dict[str, Any] = {}
        self.link: Link | None = None
        self.is_open = False
        self._attempt = 0
        self._opened_at = 0.0
        self._retry_at = 0.0
        self._ended: asyncio.Future[int] | None = None
        self._on_entry = on_entry
        self._stopped = False
        self._has_given_up = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Connect, and stay connected."""
        self.swarm.clients.append(self)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Be gone for good, without a word."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def leave(self) -> None:
        """Close as a page does, and stay away."""
        self._stopped = True
        if self.link is not None and self._task is not None:
            self.link.close()
            await self._task

    async def _run(self) -> None:
        loop = self.swarm.loop
        while not self._stopped:
            self._retry_at = 0.0
            code = await self._live()
            self.swarm.ends[code] += 1
            if self._stopped or 4400 <= code < 4500:
                return
            if self.is_open and loop.time() - self._opened_at > 30:
                self._attempt = 0
            self.is_open = False
            slot = self._retry_at - loop.time()
            await asyncio.sleep(slot if slot > 0 else back_off(self._attempt))
            self._attempt += 1

    async def _live(self) -> int:
        loop = self.swarm.loop
        ended = self._ended = loop.create_future()
        watch = loop.call_later(HANDSHAKE_SECONDS, self._give_up)
        self.is_open = self._has_given_up = False
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                self.link = await self.swarm.link(
                    self.token, self.position, self._arrived, lambda code: ended.done() or ended.set_result(code)
                )
            code = await ended
            return GAVE_UP if self._has_given_up else code
        except TimeoutError:
            return GAVE_UP
        except OSError:
            return NOT_OPENED
        finally:
            watch.cancel()
            if self.link is not None and not ended.done():
                self.link.abort()

    def _give_up(self) -> None:
        if not self.is_open and self.link is not None:
            self._has_given_up = True
            self.link.abort()

    def _arrived(self, payload: bytes) -> None:
        if self._on_entry is not None and payload.startswith(b'{"user_id"'):
            self._on_entry(payload)
            return
        frame = json.loads(payload)
        if "seq" in frame:
            self.seqs.append(frame["seq"])
            self.foreign += frame["room_id"] != self.room
            self.position = (frame["epoch"], frame["seq"], frame["id"])
            return
        kind, data = frame["data"]["type"], frame["data"]["data"]
        if kind == "hermes.hello":
            self.greeting, self.is_open, self._opened_at = data, True, self.swarm.loop.time()
            self.swarm.hellos[data["status"] + (f" {data['reason']}" if data.get("reason") else "")] += 1
        elif kind == "hermes.goodbye":
            self._retry_at = self.swarm.loop.time() + data["retry_after_ms"] / 1000
        elif kind in ("hermes.lost", "hermes.gap"):
            self.told.append(kind)
        if data and data.get("epoch"):
            self.position = (data["epoch"], data["seq"], data["id"])
