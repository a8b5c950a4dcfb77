"""Producer: puts messages of every kind on the queues, past every proxy, and writes each down. Made by run."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

from tests.faults.member import Member
from tests.faults.recorder import Recorder
from tests.faults.world import PRODUCERS, ROOMS, World

TICK_SECONDS = 0.2
# What must never get a place; each still carries its mark.
REFUSED = (
    '{{"room_id": "acme", "room_id": "acme", "user_id": 1, "data": {{"n": "{n}"}}}}',
    '{{"room_id": "acme", "user_id": 1, "data": {{"n": "{n}", "x": NaN}}}}',
    '{{"room_id": "acme", "data": {{"n": "{n}"}}}}',
    '{{"user_id": 1, "room_id": "acme", "data": {{"type": "hermes.hello", "data": {{"n": "{n}"}}}}}}',
    '["n", {{"n": "{n}"}}]',
)


class Producer:
    """Sends until stopped; may be paused.

    Args:
        world: whose queues.
        members: some of which send too, as browsers do.
        recorder: where it writes.
        rng: what it sends, and to whom.
    """

    def __init__(self, world: World, members: list[Member], recorder: Recorder, rng: random.Random) -> None:
        self.is_paused = False
        self._world, self._members, self._recorder, self._rng = world, members, recorder, rng
        self._count = 0
        self._busy = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Send until `stop`."""
        self._task = asyncio.create_task(self._run(), name="producer")

    async def pause(self) -> None:
        """Send nothing more until `resume`; what was begun is sent."""
        self.is_paused = True
        async with self._busy:
            pass

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False

    async def stop(self) -> None:
        """Send nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def burst(self, key: tuple[str, str], count: int, size: int) -> None:
        """Send many large messages to one room at once."""
        async with self._busy:
            for start in range(0, count, 10):
                some = [self._message(key, padding=size) for _ in range(min(10, count - start))]
                await self._send(key[0], some)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS * self._rng.uniform(0.5, 1.5))
            async with self._busy:
                if self.is_paused:
                    continue
                key = self._rng.choices(list(ROOMS), weights=(5, 2, 2))[0]
                await self._send(key[0], [self._message(key) for _ in range(self._rng.randint(1, 6))])
                if self._rng.random() < 0.2:
                    await self._say(self._rng.choice(self._members))

    async def _say(self, member: Member) -> None:
        n = self._next()
        about = {"stage": member.stage, "room": member.room, "to": None, "expires": None}
        self._recorder.write("produced", n=n, by="client", refused=False, **about)
        await member.say(n)

    def _next(self) -> str:
        self._count += 1
        return f"m{self._count}"

    def _message(self, key: tuple[str, str], padding: int = 0) -> tuple[dict[str, Any], str, int]:
        """Return what the record says of a new message, its body, and how often to send it."""
        stage, room = key
        n, chance = self._next(), self._rng.random()
        about = {"n": n, "stage": stage, "room": room, "to": None, "expires": None, "refused": False, "by": "sqs"}
        if stage in PRODUCERS:
            about["group"] = f"{room}-{self._rng.choice(PRODUCERS[stage])}"
        if padding:
            body = {"user_id": 7, "room_id": room, "data": {"type": "info", "data": {"n": n, "pad": "x" * padding}}}
            return about, json.dumps(body), 1
        if chance < 0.03:
            return {**about, "refused": True}, self._rng.choice(REFUSED).format(n=n), 1
        fields: dict[str, Any] = {"user_id": 7, "room_id": room, "data": {"type": "info", "data": {"n": n}}}
        if chance > 0.80:
            about["to"] = fields["to"] = ["alice"] if chance > 0.88 else ["bob", "nobody"]
        elif chance > 0.76:
            about["expires"] = fields["expires_at"] = int(time.time()) + self._rng.randint(1, 4)
        if self._rng.random() < 0.5:
            fields["id"] = f"key-{n}"
        twice = "id" in fields and self._rng.random() < 0.15
        return about, json.dumps(fields), 2 if twice else 1

    async def _send(self, stage: str, messages: list[tuple[dict[str, Any], str, int]]) -> None:
        bodies = [(about, body) for about, body, times in messages for _ in range(times)]
        mids: dict[str, list[str]] = {about["n"]: [] for about, _, _ in messages}
        for start in range(0, len(bodies), 10):
            some = bodies[start : start + 10]
            grouped = [(body, about.get("group", "")) for about, body in some]
            sent = await asyncio.to_thread(self._world.send_bodies, stage, grouped)
            for (about, _), mid in zip(some, sent, strict=True):
                mids[about["n"]].append(mid)
        for about, _, _ in messages:
            self._recorder.write("produced", mids=mids[about["n"]], **about)
