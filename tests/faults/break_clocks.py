"""Clocks: a process's wall clock is put forward or back by an hour, and right again. Called by kinds, on world.

Only the wall clock: nothing puts a monotonic clock back. Valkey's and the AWS endpoint's clocks stay right.
"""

from __future__ import annotations

import asyncio

from tests.faults.scene import Fault, Scene
from tests.faults.world import SERVERS

CACHE_SECONDS = 1.0  # a process reads its false clock once a second


def step(offset: str) -> Fault:
    """Put the wall clock of a server or of the relay wrong by an offset, as ``+1h``."""

    async def fault(scene: Scene) -> bool:
        if not scene.world.has_false_clocks:
            return False
        scene.world.set_clock(scene.part, offset)
        try:
            await asyncio.sleep(scene.seconds(6, (12.5, 16)))
        finally:
            scene.world.set_clock(scene.part, "+0")
            await asyncio.sleep(CACHE_SECONDS)
        return True

    return fault


CLOCKS = tuple(f"clock/{name}" for name in (*SERVERS, "relay"))
