"""Scene: what a fault may touch, and how long it lasts. Used by every module of faults; kinds puts them together.

A fault is a function that breaks one part and mends it. Faults of one lane exclude each other, because they break the
same part; lanes run beside each other. A fault that ends has mended what it broke.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.member import Member
from tests.faults.producer import Producer
from tests.faults.world import World

PATIENCE_SECONDS = 6.0  # that a fault waits at most for somebody to notice it


@dataclass
class Scene:
    """What a fault may touch.

    Args:
        world: the processes.
        members: the clients.
        producer: who sends.
        rng: its lane's.
        part: the part that its lane is about; empty where the lane is about one thing alone.
    """

    world: World
    members: list[Member]
    producer: Producer
    rng: random.Random
    part: str = ""

    def seconds(self, usual: float, long: tuple[float, float]) -> float:
        """Return how long a fault lasts: up to ``usual`` seconds, and now and then between the two of ``long``."""
        is_long = self.rng.random() < self.world.times.long_share
        return self.rng.uniform(*long) if is_long else self.rng.uniform(0.2, usual)


# What a fault returns: False if it disturbed nobody, and does not count; the name of another kind if it became one.
Fault = Callable[[Scene], Awaitable[bool | str | None]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Args:
        fault: what it does.
        lanes: in which lanes it may be chosen.
        want: how often it is wanted in half an hour.
        is_lossy: Redis may lose what it had confirmed in memory.
    """

    fault: Fault
    lanes: tuple[str, ...]
    want: int
    is_lossy: bool = False


async def until_noticed(seconds: float, bites: Callable[[], int], before: int) -> bool:
    """Let a fault last until it has disturbed somebody, and for so many seconds at least; whether it has.

    Args:
        seconds: at least.
        bites: returns how much has been disturbed by now.
        before: how much that was before the fault.
    """
    await asyncio.sleep(seconds)
    end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while bites() == before and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.05)
    return bites() > before
