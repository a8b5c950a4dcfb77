"""Faults: everything that may go wrong, each a function that breaks one part and mends it. Called by run, on world.

Faults of one lane exclude each other, because they break the same part; lanes run beside each other. A fault that ends
has mended what it broke.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.aws import MODES
from tests.faults.chaos import ChaosProxy
from tests.faults.member import Member
from tests.faults.producer import Producer
from tests.faults.world import SERVERS, World


@dataclass
class Scene:
    """What a fault may touch.

    Args:
        world: the processes.
        members: the clients.
        producer: who sends.
        rng: its lane's.
    """

    world: World
    members: list[Member]
    producer: Producer
    rng: random.Random


Fault = Callable[[Scene], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """A kind of fault: its lane, what it does, and how often it is chosen against the others of its lane."""

    lane: str
    fault: Fault
    weight: int = 1


POINT_SECONDS = 6.0
# Where a relay may be killed between two steps: whose proxy sees it, the call, and whether it has been done by then.
POINTS: dict[str, tuple[str, Any, bool]] = {
    "after receiving": ("SQS", "ReceiveMessage", True),
    "before appending": ("Redis", b"EVALSHA", False),
    "after appending": ("Redis", b"EVALSHA", True),
    "at the hint": ("Redis", b"PUBLISH", False),
    "before deleting": ("SQS", "DeleteMessageBatch", False),
    "after deleting": ("SQS", "DeleteMessageBatch", True),
}


# ── Relay ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def kill_relay(scene: Scene) -> None:
    """At any moment of its work."""
    await scene.world.kill_part("relay")
    await asyncio.sleep(scene.rng.uniform(0, 0.5))
    await scene.world.start_part("relay", wait=scene.rng.random() < 0.8)


def _at(point: str) -> Fault:
    """Kill the relay at a point of its work that a proxy sees."""

    async def fault(scene: Scene) -> None:
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

    return fault


async def suspend_relay(scene: Scene) -> None:
    """For longer than the visibility of what it holds, now and then."""
    await _suspend(scene, "relay", scene.rng.choice((1, 3, 14)))


async def stop_relay(scene: Scene) -> None:
    """In order, as a deployment does."""
    await scene.world.until_ready("relay")  # before that, nothing is in hand and nobody listens to the signal
    await scene.world.stop_part("relay")
    await scene.world.start_part("relay")


# ── Servers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def kill_server(scene: Scene) -> None:
    """With live sockets; the other one goes on."""
    name = scene.rng.choice(SERVERS)
    await scene.world.kill_part(name)
    await asyncio.sleep(scene.rng.uniform(0, 1.0))
    await scene.world.start_part(name)


async def stop_server(scene: Scene) -> None:
    """In order, as a rolling restart does."""
    name = scene.rng.choice(SERVERS)
    await scene.world.stop_part(name)
    await scene.world.start_part(name)


async def suspend_server(scene: Scene) -> None:
    """For longer than its lease, now and then."""
    await _suspend(scene, scene.rng.choice(SERVERS), scene.rng.uniform(0.5, 7))


async def _suspend(scene: Scene, name: str, seconds: float) -> None:
    process = scene.world.processes[name]
    process.suspend()
    try:
        await asyncio.sleep(seconds)
    finally:
        process.resume()


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def restart_valkey(scene: Scene) -> None:
    """With its data."""
    await scene.world.restart_valkey("same")


async def empty_valkey(scene: Scene) -> None:
    """Without its data."""
    await scene.world.restart_valkey("none")


async def age_valkey(scene: Scene) -> None:
    """With the data of some seconds before."""
    await scene.world.restart_valkey("older")


async def suspend_valkey(scene: Scene) -> None:
    """It keeps its sockets and answers nobody."""
    scene.world.valkey.suspend()
    try:
        await asyncio.sleep(scene.rng.uniform(0.5, 8))
    finally:
        scene.world.valkey.resume()


def _of_a_redis_link(do: Callable[[ChaosProxy, random.Random], None]) -> Fault:
    async def fault(scene: Scene) -> None:
        proxy = scene.world.redis_of[scene.rng.choice((*SERVERS, "relay"))]
        await _disturb(proxy, do, scene.rng, scene.rng.uniform(0.2, 6))

    return fault


# ── Networks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _of_a_door(do: Callable[[ChaosProxy, random.Random], None]) -> Fault:
    async def fault(scene: Scene) -> None:
        await _disturb(scene.world.door_of[scene.rng.choice(SERVERS)], do, scene.rng, scene.rng.uniform(0.2, 12))

    return fault


async def _disturb(
    proxy: ChaosProxy, do: Callable[[ChaosProxy, random.Random], None], rng: random.Random, seconds: float
) -> None:
    do(proxy, rng)
    try:
        await asyncio.sleep(seconds)
    finally:
        if rng.random() < 0.3:
            proxy.cut(reset=rng.random() < 0.5)
        proxy.heal()


def _cut(proxy: ChaosProxy, rng: random.Random) -> None:
    proxy.refuses = rng.random() < 0.5
    proxy.cut()


def _reset(proxy: ChaosProxy, rng: random.Random) -> None:
    proxy.refuses = rng.random() < 0.5
    proxy.cut(reset=True)


def _delay(proxy: ChaosProxy, rng: random.Random) -> None:
    proxy.delay = rng.uniform(0.05, 1.0)


def _slow(proxy: ChaosProxy, rng: random.Random) -> None:
    proxy.bytes_a_second = rng.choice((2_000, 10_000, 50_000))


def _deaf(proxy: ChaosProxy, _: random.Random) -> None:
    proxy.is_deaf = True


def _hole(*directions: str) -> Callable[[ChaosProxy, random.Random], None]:
    return lambda proxy, _: proxy.hold(*directions)


# ── AWS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _of_aws(service: str, mode: str) -> Fault:
    async def fault(scene: Scene) -> None:
        scene.world.aws_proxy.fail(service, mode)
        try:
            await asyncio.sleep(scene.rng.uniform(0.5, 6))
        finally:
            scene.world.aws_proxy.heal(service)

    return fault


# ── Readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def half_open(scene: Scene) -> None:
    """A client's host is gone without a word; the member comes back by another connection."""
    scene.rng.choice([member for member in scene.members if member.is_direct]).vanish()
    await asyncio.sleep(scene.rng.uniform(0, 1))


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


LINKS: dict[str, Callable[[ChaosProxy, random.Random], None]] = {
    "cut": _cut,
    "reset": _reset,
    "delay": _delay,
    "slow": _slow,
    "black hole up": _hole("up"),
    "black hole down": _hole("down"),
    "black hole": _hole("up", "down"),
}
KINDS: dict[str, Kind] = {
    "relay kill -9": Kind("relay", kill_relay, 6),
    **{f"relay kill -9 {point}": Kind("relay", _at(point)) for point in POINTS},
    "relay SIGSTOP": Kind("relay", suspend_relay),
    "relay SIGTERM": Kind("relay", stop_relay),
    "server kill -9": Kind("server", kill_server, 5),
    "server SIGTERM": Kind("server", stop_server),
    "server SIGSTOP": Kind("server", suspend_server, 2),
    "Valkey restart, same data": Kind("redis", restart_valkey, 6),
    "Valkey restart, no data": Kind("redis", empty_valkey, 2),
    "Valkey restart, older data": Kind("redis", age_valkey, 2),
    "Valkey SIGSTOP": Kind("redis", suspend_valkey, 2),
    **{f"Redis link: {name}": Kind("redis", _of_a_redis_link(do), 2) for name, do in LINKS.items()},
    "Redis link: pub/sub deaf": Kind("redis", _of_a_redis_link(_deaf), 3),
    **{f"client link: {name}": Kind("door", _of_a_door(do)) for name, do in LINKS.items()},
    **{f"SQS {mode.replace('_', ' ')}": Kind("sqs", _of_aws("sqs", mode)) for mode in MODES["sqs"]},
    **{f"DynamoDB {mode.replace('_', ' ')}": Kind("dynamodb", _of_aws("dynamodb", mode)) for mode in MODES["dynamodb"]},
    "client half-open": Kind("readers", half_open),
    "reader stalled": Kind("readers", stall_reader),
    "reader slow": Kind("readers", slow_reader),
    "reader chattering": Kind("readers", chattering_reader),
    "reader away": Kind("readers", absent_reader, 2),
}
