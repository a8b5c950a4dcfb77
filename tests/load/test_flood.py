"""Flood: ten thousand forged tokens cost no bcrypt call and no read of a row, and members hardly notice."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest
from django.conf import settings

from notifications.access import tokens
from notifications.stream.history import History
from notifications.stream.publish import Publisher
from tests.load.latency import Latencies, Talker, percentile
from tests.load.swarm import Client, Swarm
from tests.load.world import World
from tests.waiting import eventually

pytestmark = pytest.mark.load

FORGED = int(os.environ.get("FLOOD_TOKENS", "10000"))
AT_ONCE = 500
MEMBERS = 50
RATE = 20
CALM_SECONDS = 5.0


def test_ten_thousand_forged_tokens_cost_no_hash_and_no_read(
    make_world: Callable[..., World], report: Callable[..., None], run: Callable[..., None]
) -> None:
    run(flood(make_world(), report))


async def flood(world: World, report: Callable[..., None]) -> None:
    async with aclosing(History()) as history, aclosing(Swarm(world.port, world.stage)) as swarm:
        await withstand(world, Publisher(history), swarm, report)


async def withstand(world: World, publisher: Publisher, swarm: Swarm, report: Callable[..., None]) -> None:
    members = [(f"member-{number}", "acme") for number in range(MEMBERS)]
    await asyncio.to_thread(world.make_members, members)
    await asyncio.to_thread(world.start_server)
    heard = Latencies()
    clients = [Client(swarm, user, room, world.token(user, room), on_entry=heard.hear) for user, room in members]
    for client in clients:
        client.start()
    await eventually(lambda: all(client.is_open for client in clients), 30.0, "all members are connected")
    talker = Talker(publisher, world.stage, "acme", RATE)
    await talker.talk(CALM_SECONDS)
    calm = heard.restart()

    before = await asyncio.to_thread(world.metrics)
    sent = talker.sent
    began, cpu = time.monotonic(), world.cpu_seconds()
    talking = asyncio.create_task(talker.talk(600.0))
    codes = await forge(world, swarm)
    talking.cancel()
    await asyncio.gather(talking, return_exceptions=True)
    seconds, busy = time.monotonic() - began, world.cpu_seconds() - cpu
    expected = (talker.sent - sent) * MEMBERS
    await eventually(lambda: len(heard._seconds) >= expected - MEMBERS, 10.0, "all entries have come")
    beside = heard.restart()
    after = await asyncio.to_thread(world.metrics)
    hashes = after["hermes_bcrypt_total"] - before["hermes_bcrypt_total"]
    read = [user for user in world.read if user.startswith("forged")]
    report(
        "flood",
        seconds=round(seconds, 1),
        codes=codes,
        server_cpu=round(busy, 1),
        hashes=hashes,
        rows_read=len(read),
        p99_calm=percentile(calm, 0.99),
        p50_calm=percentile(calm, 0.5),
        p99_beside=percentile(beside, 0.99),
        p50_beside=percentile(beside, 0.5),
        worst_beside=percentile(beside, 1),
        entries_beside=len(beside),
    )
    assert hashes == 0
    assert read == []
    assert set(codes) <= {4401, 4113}, "refused with a reason, each"
    assert sum(codes.values()) == FORGED
    assert all(client.is_open for client in clients)
    assert not swarm.ends, "no member lost a connection over it"
    assert len(beside) >= expected - MEMBERS  # the last one may have been cancelled in the middle


async def forge(world: World, swarm: Swarm) -> dict[int, int]:
    """Come with forged tokens, many at once; return how each connection ended."""
    stage = settings.HERMES_STAGES[world.stage]
    forger = dataclasses.replace(stage, jwt_secret="not the secret of this stage" * 3)
    numbers = iter(range(FORGED))
    codes: dict[int, int] = {}

    async def come() -> None:
        for number in numbers:
            token = tokens.issue(forger, f"forged-{number}", "acme", now=time.time(), ttl=600)
            ended: asyncio.Future[int] = swarm.loop.create_future()
            await swarm.link(token, None, lambda _: None, ended.set_result)
            code = await ended
            codes[code] = codes.get(code, 0) + 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(come())
    return codes
