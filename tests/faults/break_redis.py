"""Redis: Valkey is killed, emptied, set back, suspended, and its replica promoted. Called by kinds, on world's pair."""

from __future__ import annotations

import asyncio

from tests.faults.scene import Fault, Scene


def restart(how: str) -> Fault:
    """Kill Valkey and start it with the ``same`` data, with ``none``, or with ``older`` data."""

    async def fault(scene: Scene) -> None:
        await scene.world.redis_pair.restart(how)

    return fault


async def promote(scene: Scene) -> None:
    """A replica takes the place of the primary, in mid-stream; now and then it is behind by then."""
    rng = scene.rng
    await scene.world.redis_pair.promote(
        lag=rng.uniform(0.3, 3) if rng.random() < 0.5 else 0.0, is_old_kept=rng.random() < 0.5
    )


async def suspend(scene: Scene) -> None:
    """It keeps its sockets and answers nobody."""
    valkey = scene.world.redis_pair.primary
    valkey.suspend()
    try:
        await asyncio.sleep(scene.seconds(3, (5.5, 8)))
    finally:
        valkey.resume()
