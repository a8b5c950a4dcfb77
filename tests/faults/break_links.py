"""Links: the networks before Redis, servers and AWS fail in all their ways. Called by kinds, on world's proxies."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.faults.chaos import ChaosProxy
from tests.faults.scene import Fault, Scene, until_noticed

Disturbance = Callable[[ChaosProxy, random.Random], object]
# Beyond the five seconds that a Redis client of ours waits, and beyond the lease.
REDIS_LONG = (5.5, 8.0)
# Beyond two pings, after which a client gives up, and the ten seconds in which a reader must make progress.
CLIENT_LONG = (9.5, 13.0)
# Beyond the lease, and beyond the visibility of what was received (12 s).
AWS_LONG = {"sqs": (6.0, 13.0), "dynamodb": (3.5, 7.0)}


def of_redis(do: Disturbance) -> Fault:
    """Disturb the link between a part and Redis."""

    async def fault(scene: Scene) -> bool:
        return await _disturb(scene.world.redis_of[scene.part], do, scene.rng, scene.seconds(2.5, REDIS_LONG))

    return fault


def of_clients(do: Disturbance) -> Fault:
    """Disturb the link between clients and a server."""

    async def fault(scene: Scene) -> bool:
        return await _disturb(scene.world.door_of[scene.part], do, scene.rng, scene.seconds(3, CLIENT_LONG))

    return fault


def of_aws(service: str, mode: str) -> Fault:
    """Have SQS or DynamoDB fail in one way."""

    async def fault(scene: Scene) -> bool:
        proxy = scene.world.aws_proxy
        seconds = scene.seconds(2, AWS_LONG[service])
        before = proxy.bites[service, mode]
        proxy.fail(service, mode)
        try:
            return await until_noticed(seconds, lambda: proxy.bites[service, mode], before)
        finally:
            proxy.heal(service, mode)

    return fault


async def _disturb(proxy: ChaosProxy, do: Disturbance, rng: random.Random, seconds: float) -> bool:
    before = proxy.bites
    do(proxy, rng)
    try:
        return await until_noticed(seconds, lambda: proxy.bites, before)
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


def deaf(proxy: ChaosProxy, _: random.Random) -> None:
    """Let no published message through."""
    proxy.is_deaf = True


def _hole(*directions: str) -> Disturbance:
    return lambda proxy, _: proxy.hold(*directions)


LINKS: dict[str, Disturbance] = {
    "cut": _cut,
    "reset": _reset,
    "delay": _delay,
    "slow": _slow,
    "black hole up": _hole("up"),
    "black hole down": _hole("down"),
    "black hole": _hole("up", "down"),
}
