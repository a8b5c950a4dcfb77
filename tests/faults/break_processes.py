"""Processes: relay and servers are killed, suspended and stopped. Called by kinds, on world."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Any

from tests.faults.scene import Fault, Scene

POINT_SECONDS = 6.0
KILLED_ANYWHERE = "relay kill -9"  # what a kill counts as whose point never came
# Where a relay may be killed between two steps: whose proxy sees it, the call, and whether it has been done by then.
POINTS: dict[str, tuple[str, Any, bool]] = {
    "after receiving": ("SQS", "ReceiveMessage", True),
    "before appending": ("Redis", b"EVALSHA", False),
    "after appending": ("Redis", b"EVALSHA", True),
    "at the hint": ("Redis", b"PUBLISH", False),
    "after burying": ("SQS", "SendMessage", True),
    "before deleting": ("SQS", "DeleteMessageBatch", False),
    "after deleting": ("SQS", "DeleteMessageBatch", True),
}


# ── Relay ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def kill_relay(scene: Scene) -> None:
    """At any moment of its work."""
    await scene.world.kill_part("relay")
    await asyncio.sleep(scene.rng.uniform(0, 0.5))
    await scene.world.start_part("relay", wait=scene.rng.random() < 0.8)


def kill_relay_at(point: str) -> Fault:
    """Kill the relay at a point of its work that a proxy sees."""

    async def fault(scene: Scene) -> str | None:
        world, sprung = scene.world, asyncio.Event()
        loop, process = asyncio.get_running_loop(), world.processes["relay"]

        def spring() -> None:
            world.expected_down.add("relay")
            process.signal_group(signal.SIGKILL)
            loop.call_soon_threadsafe(sprung.set)

        where, word, answered = POINTS[point]
        trap = world.aws_proxy if where == "SQS" else world.redis_of["relay"]
        trap.set_trap(word, spring, answered=answered)  # type: ignore[arg-type]
        try:
            with contextlib.suppress(TimeoutError):  # another fault keeps it from its work; then it is killed anywhere
                async with asyncio.timeout(POINT_SECONDS):
                    await sprung.wait()
        finally:
            trap.clear_trap()
        await world.kill_part("relay")
        await world.start_part("relay")
        return None if sprung.is_set() else KILLED_ANYWHERE

    return fault


async def suspend_relay(scene: Scene) -> None:
    """For longer than the visibility of what it holds, now and then."""
    await _suspend(scene, "relay", scene.seconds(3, _beyond(scene.world.times.visibility)))


async def stop_relay(scene: Scene) -> None:
    """In order, as a deployment does."""
    await scene.world.until_ready("relay")  # before that, nothing is in hand and nobody listens to the signal
    await scene.world.stop_part("relay")
    await scene.world.start_part("relay")


# ── Servers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def kill_server(scene: Scene) -> None:
    """With live sockets; the other one goes on."""
    name = scene.part
    await scene.world.kill_part(name)
    await asyncio.sleep(scene.rng.uniform(0, 1.0))
    await scene.world.start_part(name)


async def stop_server(scene: Scene) -> None:
    """In order, as a rolling restart does."""
    name = scene.part
    await scene.world.stop_part(name)
    await scene.world.start_part(name)


async def suspend_server(scene: Scene) -> None:
    """For longer than its lease, now and then."""
    await _suspend(scene, scene.part, scene.seconds(2.5, _beyond(scene.world.times.lease)))


def _beyond(deadline: float) -> tuple[float, float]:
    return deadline + 0.5, deadline + 3


async def _suspend(scene: Scene, name: str, seconds: float) -> None:
    process = scene.world.processes[name]
    process.suspend()
    try:
        await asyncio.sleep(seconds)
    finally:
        process.resume()
