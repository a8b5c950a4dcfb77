"""Readers: clients that vanish, stall, dawdle, chatter or leave. Called by kinds, on members and the producer."""

from __future__ import annotations

import asyncio

from tests.faults.scene import Scene


async def half_open(scene: Scene) -> bool:
    """A client's host is gone without a word; the member comes back by another connection."""
    was_there = scene.rng.choice([member for member in scene.members if member.is_direct]).vanish()
    await asyncio.sleep(scene.rng.uniform(0, 1))
    return was_there


async def stall_reader(scene: Scene) -> None:
    """A member reads nothing while much is sent to its room, sometimes more than its server keeps for it."""
    member = scene.rng.choice(scene.members)
    seconds = scene.rng.uniform(2, 16)
    member.stall(seconds)
    key = (member.stage, member.room)
    await scene.producer.burst(key, scene.rng.randint(20, 150), scene.rng.randint(4_000, 14_000))
    await asyncio.sleep(seconds)


async def slow_reader(scene: Scene) -> None:
    """A member reads a few frames a second."""
    seconds = scene.rng.uniform(2, 8)
    scene.rng.choice(scene.members).slow(seconds)
    await asyncio.sleep(seconds)


async def chattering_reader(scene: Scene) -> None:
    """A member says far more than it may."""
    await scene.rng.choice(scene.members).chatter(scene.rng.randint(10, 400))


async def absent_reader(scene: Scene) -> None:
    """A member leaves without a closing handshake and comes back later."""
    seconds = scene.rng.uniform(0, 8)
    scene.rng.choice(scene.members).away(seconds)
    await asyncio.sleep(seconds)
