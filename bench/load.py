"""Load: the process that holds all sockets and checks all that arrives. Told what to do by run through its helper.

    python -m bench.load <control socket>

It is one thread on the core that the server does not have; what it does with each frame is in clients.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from picows import WSError, WSMsgType, ws_connect

from bench.clients import Client, Ear, LinesEar
from bench.dialects import DIALECTS, Dialect, Member
from bench.figures import spectrum
from bench.helper import Commands, obey
from bench.ledger import Ledger, Tally
from bench.pieces import Stream

# A client address has 28,000 ports to one server, and a closed connection may keep its own for a minute.
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 32)]
# As a page comes back: static/hermes/backoff.js and connection.js.
FLOOR_SECONDS, CEILING_SECONDS, HANDSHAKE_SECONDS = 0.5, 20.0, 15.0
FOR_GOOD = range(4400, 4500)
LATE_SECONDS = 0.2  # that are waited for what should not come any more, a double of the last message for one


class Crowd:
    """All clients of a run."""

    def __init__(self) -> None:
        self.dialect: Dialect = DIALECTS["nchan"]
        self.port = 0
        self.clients: list[Client] = []
        self.late = array("d")
        self.arrivals: list[tuple[int, int]] = []
        self.is_timing = False
        self.open_count = 0
        self.streams: dict[str, Stream] = {}  # by room
        self._goal = 0
        self.tries = 0
        self.refused = 0
        self.ends: Counter[int] = Counter()
        self._comes_back = False
        self._left = 0
        self._last_at = 0
        self._began = 0.0
        self._all_done = asyncio.Event()
        self._all_open = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(1)
        self._slots: dict[Client, asyncio.Future[None]] = {}

    # ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def gather(self, command: dict[str, Any]) -> dict[str, Any]:
        """Take members in from a file: a line each, user, room and token; the books are opened, the sockets not."""
        self.dialect, self.port = DIALECTS[command["dialect"]], command["port"]
        lines = (await asyncio.to_thread(Path(command["members"]).read_text)).splitlines()
        books: type[Ledger | Tally] = Tally if command["books"] == "tally" else Ledger
        for text in lines:
            user, room, token = text.split("\t")
            self.clients.append(Client(self, Member(user, room, token), books(self._done)))
        return {"clients": len(self.clients)}

    async def open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Open the sockets that are not, some at a time or all at once."""
        self.ends.clear()
        self.tries = self.refused = 0
        self._comes_back = command.get("comes_back", False)
        upto = command.get("upto", len(self.clients))
        waiting = [client for client in self.clients[:upto] if not client.is_open]
        self._gate = asyncio.Semaphore(command["at_once"])
        self._all_open.clear()
        self._began = time.monotonic()
        for client in waiting:
            client.remember()
            self.start(client)
        self._look_open(upto)
        try:
            async with asyncio.timeout(command["deadline"]):
                while self.open_count + self.refused < upto:
                    self._all_open.clear()
                    await self._all_open.wait()
        except TimeoutError:
            pass
        seconds, self._comes_back = time.monotonic() - self._began, False
        return {
            "open": self.open_count,
            "refused": self.refused,
            "tries": self.tries,
            "seconds": seconds,
            "ends": {str(code): count for code, count in self.ends.items()},
        }

    async def expect(self, command: dict[str, Any]) -> dict[str, Any]:
        """Expect messages up to a number in every room; take the latency of one client of so many."""
        self.late = array("d")
        self.arrivals.clear()
        self.is_timing = command.get("timed", True)
        self._all_done.clear()
        self._left = len(self.clients)
        self._goal = command["upto"]
        for stream in self.streams.values():
            stream.expect(self._goal)
        every = command.get("timed_every", 1)
        for at, client in enumerate(self.clients):
            client.is_timed = at % every == 0
            if client.ear is not None:
                client.ear.tune()
            client.books.expect(self._goal)
        return {}

    async def wait(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until everybody has got all, or something wrong, or the time is over."""
        try:
            async with asyncio.timeout(command["deadline"]):
                await self._all_done.wait()
        except TimeoutError:
            for client in self.clients:
                books = client.books
                client.catch_up()
                got = books.next - 1 if isinstance(books, Ledger) else len(books.seen)
                if got < books.goal:
                    books.complain(f"{got} of {books.goal} came in time")
        self.is_timing = False
        return {"last_ns": self._last_at}

    async def report(self, command: dict[str, Any]) -> dict[str, Any]:
        """Say what came of it, once what should not come any more has had its time to come."""
        await asyncio.sleep(LATE_SECONDS)
        wrong = Counter(client.books.wrong for client in self.clients if client.books.wrong)
        return {
            "wrong": [f"{text} ({count} sockets)" for text, count in wrong.most_common(3)],
            "bytes": self._frame_bytes(),
            "late_count": len(self.late),
            "spectrum": spectrum(self.late),
            "arrivals": self.arrivals if command.get("arrivals") else [],
        }

    async def say(self, command: dict[str, Any]) -> dict[str, Any]:
        """Let every client send the same frame."""
        for client in self.clients:
            if client.ear is not None and client.ear.transport is not None:
                client.ear.transport.send(WSMsgType.TEXT, command["text"].encode())
        return {}

    async def count(self, command: dict[str, Any]) -> dict[str, Any]:
        """Say how many are in."""
        return {"open": self.open_count}

    async def seen(self, command: dict[str, Any]) -> dict[str, Any]:
        """Return what tallies have seen in all, doubles included, and how many different ones."""
        await asyncio.sleep(LATE_SECONDS)
        tallies = [client.books for client in self.clients if isinstance(client.books, Tally)]
        different = {number for tally in tallies for number in tally.seen}
        return {"numbers": sum(tally.taken for tally in tallies), "different": len(different)}

    async def leave(self, command: dict[str, Any]) -> dict[str, Any]:
        """Close every socket, and forget everything unless the clients shall come back."""
        self._comes_back = False
        ears = [client.ear for client in self.clients if client.ear is not None]
        for ear in ears:
            if ear.transport is not None:
                ear.transport.send_close()
                ear.transport.disconnect()
        await self._settle(command["deadline"])
        for task in self._tasks:
            task.cancel()
        if command.get("forget", True):
            self.clients.clear()
            self.streams.clear()
            self.open_count = 0
        return {}

    async def stay_out(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until every socket has been closed by the server."""
        await self._settle(command["deadline"])
        return {"open": self.open_count}

    async def _settle(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.open_count and time.monotonic() < end:  # noqa: ASYNC110  ten thousand make this condition
            await asyncio.sleep(0.02)

    # ── What clients do ──────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, client: Client) -> None:
        """Let a client connect."""
        task = asyncio.create_task(self._connect(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, client: Client) -> None:
        dialect, member = self.dialect, client.member
        ear_class = LinesEar if dialect.has_many_in_a_frame else Ear
        async with self._gate:
            ear = client.ear = ear_class(client)
            client.ended_with = 1006
            self.tries += 1
            slot = self._slots[client] = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    await ws_connect(
                        lambda: ear,
                        f"ws://127.0.0.1:{self.port}{dialect.path(member, client.position)}",
                        extra_headers=dialect.headers(member),
                        websocket_handshake_timeout=None,
                        read_buffer_init_size=2048,
                        local_addr=(ADDRESSES[self.tries % len(ADDRESSES)], 0),
                    )
                    await slot  # so that those who come some at a time wait for the greeting too
            except (OSError, WSError, TimeoutError):
                if client.ear is ear and not client.is_open:
                    client.ear = None
                    if ear.transport is not None:
                        ear.transport.underlying_transport.abort()
                    self.has_ended(client)
            finally:
                self._slots.pop(client, None)

    def stream(self, client: Client) -> Stream:
        """Return what a client's room has got; it begins where the first that asks stands."""
        room = client.member.room
        if room not in self.streams:
            assert isinstance(client.books, Ledger)  # noqa: S101  a tally's messages come in any order
            self.streams[room] = Stream(client.books.next, self._goal)
        return self.streams[room]

    def has_opened(self, client: Client) -> None:
        """Count a client that is in."""
        self.open_count += 1
        if (slot := self._slots.get(client)) is not None and not slot.done():
            slot.set_result(None)
        self._all_open.set()

    def has_ended(self, client: Client) -> None:
        """Count a connection that has ended, and let the client come back as a page does."""
        self.ends[client.ended_with] += 1
        if (slot := self._slots.get(client)) is not None and not slot.done():
            slot.set_result(None)
        if client.ended_with in FOR_GOOD:
            self.refused += 1
            self._all_open.set()
        elif self._comes_back:
            ceiling = min(CEILING_SECONDS, FLOOR_SECONDS * 2 ** (client.failures + 1))
            client.failures += 1
            loop = asyncio.get_running_loop()
            loop.call_later(random.uniform(FLOOR_SECONDS, ceiling), self._come_back, client)

    def _come_back(self, client: Client) -> None:
        if self._comes_back and client.ear is None:
            client.remember()
            self.start(client)

    def _look_open(self, upto: int) -> None:
        if self.open_count >= upto:
            self._all_open.set()

    def _done(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._last_at = time.monotonic_ns()
            self._all_done.set()

    def _frame_bytes(self) -> int:
        for client in self.clients:
            if client.last is not None:
                return len(client.last)
        return 0


def main() -> None:
    """Obey until the conductor goes."""
    crowd = Crowd()
    commands: Commands = {
        "gather": crowd.gather,
        "open": crowd.open,
        "expect": crowd.expect,
        "wait": crowd.wait,
        "report": crowd.report,
        "count": crowd.count,
        "say": crowd.say,
        "seen": crowd.seen,
        "leave": crowd.leave,
        "stay_out": crowd.stay_out,
    }
    uvloop.run(obey(sys.argv[1], commands))


if __name__ == "__main__":
    main()
