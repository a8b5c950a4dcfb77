"""Neighbours: readers that stall, crawl or chatter cost what they may cost, are cut in time, and disturb nobody."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sqlite3
import statistics
from collections.abc import Callable
from contextlib import aclosing

import pytest

from notifications.stream.history import History
from notifications.stream.publish import Publisher
from tests.load.latency import Latencies, Talker, percentile
from tests.load.swarm import Client, Swarm, back_off
from tests.load.wire import client_frame, handshake
from tests.load.world import World
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.load

ROOM = 200
RATE = 200
ROUNDS = int(os.environ.get("NEIGHBOUR_ROUNDS", "1"))  # a fixed number: who stops when it looks good has proven nothing
ROUND_SECONDS = 4.0
QUEUE_BYTES = 1024 * 1024  # HERMES_QUEUE_BYTES
FRAME_BYTES = 395  # of an entry, at least
STALL_SECONDS = 10.0
FILL_SECONDS = 12.0  # until the kernel's buffers are full, and the hub has looked
LONGEST_CUT = 70.0
MAY_GROW = 2.0  # MiB, of an allocator's
KINDS = ("stalled", "slow", "chattering")
CHATTER = client_frame(b'{"action":"recent","limit":1}') * 200


class BadReader:
    """A member whose page does not read as it should.

    Args:
        world: where the server is.
        kind: one of `KINDS`: reads nothing after its greeting; reads 1 KB a second; sends without end, reads nothing.
        user: who it is.
    """

    def __init__(self, world: World, kind: str, user: str) -> None:
        self.kind = kind
        self.ended_after = 0.0
        self._world, self._user = world, user
        self._task: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the server has cut it."""
        return self._task is not None and self._task.done()

    def start(self, *, again: bool) -> None:
        """Connect; and come back as a page does when it is cut, if told to."""
        self._task = asyncio.create_task(self._run(again))

    async def stop(self) -> None:
        """Be gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, again: bool) -> None:
        for attempt in itertools.count():
            await self._live()
            if not again:
                return
            await asyncio.sleep(back_off(attempt))

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as page:
            page.setblocking(False)
            # Small, so that a reader which crawls is seen to crawl, and does not take a window's worth now and then.
            page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(page, ("127.0.0.1", self._world.port))
            token = self._world.token(self._user, "acme")
            await loop.sock_sendall(page, handshake("x", f"/ws/{self._world.stage}", token))
            greeting = b""
            while b"hermes.hello" not in greeting:
                piece = await loop.sock_recv(page, 1024)
                if not piece:
                    return
                greeting += piece
            began = loop.time()
            with contextlib.suppress(OSError):  # cut
                await self._misbehave(loop, page)
            self.ended_after = loop.time() - began

    async def _misbehave(self, loop: asyncio.AbstractEventLoop, page: socket.socket) -> None:
        if self.kind == "chattering":
            while True:
                await loop.sock_sendall(page, CHATTER)
        while True:
            await asyncio.sleep(1.0)
            if self.kind == "slow":
                piece = await loop.sock_recv(page, 1024)
                if not piece:
                    return
            elif page.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:  # no longer TCP_ESTABLISHED
                return


async def fill(world: World, swarm: Swarm, heard: Latencies) -> list[Client]:
    """Have a room's members connected."""
    members = [(f"member-{number}", "acme") for number in range(ROOM - len(KINDS))]
    bad = [(kind, "acme") for kind in KINDS]
    await asyncio.to_thread(world.make_members, [*members, *bad])
    await asyncio.to_thread(world.start_server)
    clients = [Client(swarm, user, room, world.token(user, room), on_entry=heard.hear) for user, room in members]
    for client in clients:
        client.start()
    await eventually(lambda: all(client.is_open for client in clients), 60.0, "all members are connected")
    return clients


def test_the_neighbours_of_bad_readers_notice_nothing(
    make_world: Callable[..., World], report: Callable[..., None], run: Callable[..., None]
) -> None:
    run(neighbours(make_world(HERMES_CONNECTIONS_PER_USER="1000"), report))


async def neighbours(world: World, report: Callable[..., None]) -> None:
    async with aclosing(History()) as history, aclosing(Swarm(world.port, world.stage)) as swarm:
        heard = Latencies()
        clients = await fill(world, swarm, heard)
        talker = Talker(Publisher(history), world.stage, "acme", RATE)
        await talker.talk(2.0)
        rounds: dict[str, list[float]] = {"without": [], "with": []}
        cpu: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(ROUNDS):
            for how in rounds:
                bad = [BadReader(world, kind, kind) for kind in KINDS] if how == "with" else []
                for reader in bad:
                    reader.start(again=True)
                heard.restart()
                busy = world.cpu_seconds()
                await talker.talk(ROUND_SECONDS)
                rounds[how].append(percentile(heard.restart(), 0.99))
                cpu[how].append(round((world.cpu_seconds() - busy) / ROUND_SECONDS, 2))
                for reader in bad:
                    await reader.stop()
        alone, beside = (statistics.median(rounds[how]) for how in ("without", "with"))
        report(
            "neighbours",
            p99_without=rounds["without"],
            p99_with=rounds["with"],
            cpu=cpu,
            ratio=round(beside / alone, 2),
        )
        assert not swarm.ends
        assert all(client.is_open for client in clients)
        if "NEIGHBOUR_ROUNDS" in os.environ:  # `make load`, on a machine that has nothing else to do
            assert beside <= 1.5 * alone


def test_bad_readers_are_cut_in_time_and_cost_no_more_than_their_caps(
    make_world: Callable[..., World], report: Callable[..., None], run: Callable[..., None]
) -> None:
    run(cut(make_world(), report))


async def cut(world: World, report: Callable[..., None]) -> None:
    async with aclosing(History()) as history, aclosing(Swarm(world.port, world.stage)) as swarm:
        heard = Latencies()
        clients = await fill(world, swarm, heard)
        talker = Talker(Publisher(history), world.stage, "acme", RATE)
        await talker.talk(5.0)
        before = world.memory()
        bad = [BadReader(world, kind, kind) for kind in KINDS]
        for reader in bad:
            reader.start(again=False)
        sent = talker.sent
        talking = asyncio.create_task(talker.talk(LONGEST_CUT))
        highest, sent_when = before, dict[str, int]()
        while not talking.done() and len(sent_when) < len(bad):
            highest = max(highest, world.memory())
            sent_when |= {each.kind: talker.sent - sent for each in bad if each.is_over and each.kind not in sent_when}
            await asyncio.sleep(0.1)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        ended = {reader.kind: round(reader.ended_after, 1) for reader in bad if reader.is_over}
        codes = await asyncio.to_thread(codes_of, world)
        report(
            "cut",
            seconds=ended,
            codes=codes,
            entries=sent_when,
            memory_before=round(before, 1),
            memory_highest=round(highest, 1),
            p99=percentile(heard.restart(), 0.99),
        )
        for reader in bad:
            await reader.stop()
        assert codes == {"stalled": 4108, "slow": 4108, "chattering": 4129}
        assert ended["chattering"] < STALL_SECONDS
        assert STALL_SECONDS <= ended["stalled"] < STALL_SECONDS + FILL_SECONDS
        # The slow one makes progress all the time, and is cut for what waits for it and not for the time it takes.
        assert ended["slow"] > ended["stalled"]
        assert sent_when["slow"] * FRAME_BYTES > QUEUE_BYTES
        assert highest - before < len(KINDS) * QUEUE_BYTES / 2**20 + MAY_GROW
        assert not swarm.ends
        assert all(client.is_open for client in clients)


def codes_of(world: World) -> dict[str, int]:
    """Return the close codes of the bad readers' connections, as the registry has them."""
    query = "SELECT user_id, close_code FROM notifications_connection WHERE closed_at IS NOT NULL"

    def closed() -> dict[str, int]:
        with contextlib.closing(sqlite3.connect(f"file:{world.database}?mode=ro", uri=True, timeout=10)) as database:
            codes = dict(database.execute(query).fetchall())
        return codes if len(codes) >= len(KINDS) else {}

    found: dict[str, int] = wait_until(closed, 10.0, "the registry has written how they ended")
    return found
