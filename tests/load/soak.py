"""Soak: members come and go by the thousand, rooms with them, and nothing of it may stay behind. Used by test_leaks.

Hours of traffic in minutes: connections last fractions of a second, rooms are used for some seconds and then never
again, histories are kept for 30 s. What a server is like is looked at whenever nobody is connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import time
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings

from notifications.access import tokens
from notifications.stream.message import Message
from notifications.stream.publish import Publisher
from tests.load.swarm import Swarm
from tests.load.world import World
from tests.waiting import eventually

USERS = 1_000
ROOMS_AT_ONCE = 50
PAGES = 200  # that are open at once
KEPT_SECONDS = 30
SETTINGS = {
    "HERMES_HISTORY_SECONDS": str(KEPT_SECONDS),
    "HERMES_IDEMPOTENCY_SECONDS": "60",
    "HERMES_VISIBILITY_SECONDS": "12",
    "HERMES_WAIT_SECONDS": "1",
    "HERMES_MAX_RECEIVES": "2",
}
HELLO_SECONDS = 20.0
CALM_SECONDS = 60.0


@dataclass
class Look:
    """What a server is like while nobody is connected.

    Args:
        connections: how many it has had by then.
        memory: its resident MiB.
        tasks: of its event loop.
        rooms: that it follows.
        open_files: its descriptors.
        keys: in Redis.
        open_rows: connections that are open in SQL.
        mirror_rows: items of the connections table.
        closed_rows: connections that SQL knows as closed.
    """

    connections: int
    memory: float
    tasks: int
    rooms: int
    open_files: int
    keys: int
    open_rows: int
    mirror_rows: int
    closed_rows: int


@dataclass
class Soak:
    """One run.

    Args:
        world: whose server is started.
        publisher: on its histories.
        connections: how many there shall be in all.
        looks: how often to look, evenly; the first is the warm-up's.
        rng: of every choice.
    """

    world: World
    publisher: Publisher
    connections: int
    looks: int
    rng: random.Random
    made: int = 0
    entries: int = 0
    rooms: int = ROOMS_AT_ONCE
    trouble: list[str] = field(default_factory=list)

    async def run(self) -> list[Look]:
        """Do all of it.

        Returns:
            What each look saw.
        """
        seen: list[Look] = []
        swarm = Swarm(self.world.port, self.world.stage)
        for part in range(self.looks):
            await self._prepare(part)
            end = self.connections * (part + 1) // self.looks
            has_ended = asyncio.Event()
            sending = asyncio.create_task(self._send(part, has_ended))
            try:
                async with asyncio.TaskGroup() as pages:
                    for _ in range(PAGES):
                        pages.create_task(self._visit(swarm, part, end))
            finally:
                has_ended.set()
                await sending
            await eventually(self._is_calm, CALM_SECONDS, "nobody is connected, and that is written down")
            # What the registry has in hand while it writes is no longer counted as pending.
            look = await eventually(self._settled, CALM_SECONDS, "each connection is known once, and as closed")
            seen.append(look)
        return seen

    def _room_of(self, user: int, part: int) -> str:
        return f"soak-{part}-{user % ROOMS_AT_ONCE}"

    async def _prepare(self, part: int) -> None:
        """Make the members of a part's rooms, which nobody has used before and nobody will use again."""
        members = [(f"member-{user}", self._room_of(user, part)) for user in range(USERS)]
        await asyncio.to_thread(self.world.make_members, members)

    async def _send(self, part: int, has_ended: asyncio.Event) -> None:
        """Say something in one room after the other."""
        while not has_ended.is_set():
            room = f"soak-{part}-{self.rng.randrange(ROOMS_AT_ONCE)}"
            self.entries += 1
            message = Message(
                id=f"s{self.entries}", user_id=0, room_id=room, data=f'{{"type":"n","data":{self.entries}}}'
            )
            for result in await self.publisher.publish(self.world.stage, [message]):
                if isinstance(result, Exception):
                    raise result
            await asyncio.sleep(0.02)

    async def _visit(self, swarm: Swarm, part: int, end: int) -> None:
        """Open page after page: a fresh one, one that comes back with its position, one that breaks off."""
        stage = settings.HERMES_STAGES[self.world.stage]
        position: tuple[str, int, str] | None = None
        user = self.rng.randrange(USERS)
        while self.made < end:
            self.made += 1
            if position is None:
                user = self.rng.randrange(USERS)
            room = self._room_of(user, part)
            greeted: asyncio.Future[dict[str, Any]] = swarm.loop.create_future()
            ended: asyncio.Future[int] = swarm.loop.create_future()

            def hear(payload: bytes, greeted: asyncio.Future[dict[str, Any]] = greeted) -> None:
                frame = json.loads(payload)
                if not greeted.done() and frame["data"].get("type") == "hermes.hello":
                    greeted.set_result(frame["data"]["data"])

            def end_of(code: int, ended: asyncio.Future[int] = ended) -> None:
                ended.done() or ended.set_result(code)

            token = tokens.issue(stage, f"member-{user}", room, now=time.time(), ttl=KEPT_SECONDS)
            link = None
            try:
                async with asyncio.timeout(HELLO_SECONDS):
                    link = await swarm.link(token, position, hear, end_of)
                    await asyncio.wait([greeted, ended], return_when=asyncio.FIRST_COMPLETED)
                    if not greeted.done():
                        raise ConnectionError(f"closed with {ended.result()}")
                    hello = greeted.result()
                    await asyncio.sleep(self.rng.uniform(0, 0.1))
                    if self.rng.random() < 0.5:
                        link.close()
                    else:
                        link.abort()
                    await ended
                position = (hello["epoch"], hello["seq"], hello["id"]) if self.rng.random() < 0.5 else None
            except (TimeoutError, OSError) as error:
                self.trouble.append(f"{type(error).__name__}: {error}")
                if link is not None:
                    link.abort()
                position = None

    async def _is_calm(self) -> bool:
        metrics = await asyncio.to_thread(self.world.metrics)
        pending = sum(value for name, value in metrics.items() if name.startswith("hermes_registry_pending"))
        # One room stays open: the stage's commands.
        return metrics["hermes_connections"] == 0 and pending == 0 and metrics["hermes_rooms"] <= 1

    async def _settled(self) -> Look | None:
        look = await asyncio.to_thread(self._look)
        return look if (look.open_rows, look.mirror_rows, look.closed_rows) == (0, 0, self.made) else None

    def _look(self) -> Look:
        metrics = self.world.metrics()
        with contextlib.closing(
            sqlite3.connect(f"file:{self.world.database}?mode=ro", uri=True, timeout=10)
        ) as database:
            count = "SELECT count(*) FROM notifications_connection WHERE closed_at IS"
            (open_rows,), (closed_rows,) = (
                database.execute(f"{count} NULL").fetchone(),
                database.execute(f"{count} NOT NULL").fetchone(),
            )
        items = len(self.world.items("hermesConnections"))
        return Look(
            connections=self.made,
            memory=round(self.world.memory(), 1),
            tasks=int(metrics["hermes_tasks"]),
            rooms=int(metrics["hermes_rooms"]),
            open_files=int(metrics["process_open_fds"]),
            keys=self.world.keys().total(),
            open_rows=open_rows,
            mirror_rows=items,
            closed_rows=closed_rows,
        )


def seconds_since(began: float) -> float:
    """Return how long something took, for people."""
    return round(time.monotonic() - began, 1)
