"""Storm: ten thousand members come back to a server that has just started, and are all served."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest

from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.position import Position
from notifications.stream.publish import Publisher
from tests.load.swarm import GAVE_UP, Client, Swarm
from tests.load.world import World
from tests.waiting import eventually

pytestmark = pytest.mark.load

ROOMS = 100
MISSED = 3  # entries that each member has missed
CLIENTS = int(os.environ.get("STORM_CLIENTS", "2000"))  # `make load` asks for 10,000
DEADLINE = 100.0


def message(room: str, number: int) -> Message:
    return Message(id=f"{room}-{number}", user_id=0, room_id=room, data=f'{{"type":"info","data":{number}}}')


def test_ten_thousand_members_come_back_to_a_new_server(
    make_world: Callable[..., World], report: Callable[..., None], run: Callable[..., None]
) -> None:
    run(storm(make_world(), report))


async def storm(world: World, report: Callable[..., None]) -> None:
    async with aclosing(History()) as history, aclosing(Swarm(world.port, world.stage)) as swarm:
        await come_back(world, Publisher(history), swarm, report)


async def come_back(world: World, publisher: Publisher, swarm: Swarm, report: Callable[..., None]) -> None:
    rooms = [f"room-{number}" for number in range(ROOMS)]
    members = [(f"member-{number}", rooms[number % ROOMS]) for number in range(CLIENTS)]
    begun = time.monotonic()
    await asyncio.to_thread(world.make_members, members)
    positions: dict[str, Position] = {}
    for room in rooms:
        seen, *_ = await publisher.publish(world.stage, [message(room, n) for n in range(MISSED + 1)])
        assert not isinstance(seen, Exception)
        positions[room] = Position(seen.entry.epoch, seen.seq, f"{room}-0")
    await asyncio.to_thread(world.start_server)
    clients = [
        Client(swarm, user, room, world.token(user, room), (positions[room].epoch, 1, f"{room}-0"))
        for user, room in members
    ]
    prepared = time.monotonic() - begun
    before, cpu = world.memory(), world.cpu_seconds()
    published = MISSED + 1

    began = time.monotonic()
    for client in clients:
        client.start()
    curve: list[tuple[float, int]] = []

    async def publish_meanwhile() -> None:
        nonlocal published
        while not all(client.is_open for client in clients):
            await publisher.publish(world.stage, [message(room, published) for room in rooms])
            published += 1
            curve.append((round(time.monotonic() - began, 1), sum(client.is_open for client in clients)))
            await asyncio.sleep(1.0)

    try:
        async with asyncio.timeout(DEADLINE):
            await publish_meanwhile()
    except TimeoutError:
        raise AssertionError(f"open after so many seconds: {curve}; ends {swarm.ends}") from None
    seconds = time.monotonic() - began
    everything = list(range(2, published + 1))
    await eventually(lambda: all(len(client.seqs) >= len(everything) for client in clients), 20.0, "all entries came")
    busy = world.cpu_seconds() - cpu
    await eventually(lambda: asyncio.to_thread(_quiet, world), 30.0, "the registry has written everybody")
    metrics = world.metrics()
    report(
        "storm",
        seconds=round(seconds, 1),
        prepared=round(prepared, 1),
        told_4113=swarm.ends[4113],
        gave_up_after_15_s=swarm.ends[GAVE_UP],
        handshakes=swarm.handshakes,
        requests_for_rows=world.calls["reads"],
        hashes=int(metrics["hermes_bcrypt_total"]),
        server_cpu=round(busy, 1),
        memory_before=round(before),
        memory_peak=round(world.memory("VmHWM")),
    )
    assert all(client.seqs == everything for client in clients)
    assert set(swarm.ends) <= {4113, GAVE_UP}, "who was refused was told to come back"
    assert set(swarm.hellos) == {"recovered"}
    assert not any(client.told or client.foreign for client in clients)


def _quiet(world: World) -> bool:
    return all(value == 0 for name, value in world.metrics().items() if name.startswith("hermes_registry_pending"))
