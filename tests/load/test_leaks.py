"""Leaks: thousands of connections and rooms come and go, and neither memory, tasks, keys nor rows stay behind."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import aclosing

import pytest
from django.test import override_settings

from notifications.stream.history import History
from notifications.stream.publish import Publisher
from tests.load.soak import ROOMS_AT_ONCE, SETTINGS, Soak, seconds_since
from tests.load.world import World
from tests.waiting import eventually

pytestmark = pytest.mark.load

# `make load` asks for 100,000: four hours of a busy day.
CONNECTIONS = int(os.environ.get("SOAK_CONNECTIONS", "2500"))
WHOLE = 100_000
# Connections that stay open for the next who needs one: to Redis, and to DynamoDB for rows and mirror. They come only
# as they are needed, and what a client leaves behind would come by the thousand.
POOLED = 16 + 8 + 8
LOOKS = 5
# MiB between the second look and the last: an allocator's fragments, and room for what a process remembers of members
# (20,000 rows and verdicts at most here, some 0.4 KiB each). A connection that left a kilobyte behind would show.
MAY_GROW = 10.0
KEPT_SECONDS = 60  # at most, here
KEYS_GONE_SECONDS = 100.0
OWN_ROOMS = 2  # of a stage: its commands, and the one that the relay asks with
PARTITIONS = 64


def test_what_comes_and_goes_leaves_nothing_behind(
    make_world: Callable[..., World], report: Callable[..., None], run: Callable[..., None]
) -> None:
    world = make_world(**SETTINGS)
    # What this process appends is kept as long as what the server would append.
    with override_settings(**{name: int(value) for name, value in SETTINGS.items()}):
        run(soak(world, report))


async def soak(world: World, report: Callable[..., None]) -> None:
    seed = os.environ.get("SEED") or str(random.randrange(10**6))
    async with aclosing(History()) as history:
        await asyncio.to_thread(world.start_server)
        run = Soak(world, Publisher(history), CONNECTIONS, LOOKS, random.Random(seed))
        began = time.monotonic()
        looks = await run.run()
        report(f"soak of seed {seed}", seconds=seconds_since(began), connections=run.made, entries=run.entries)
        for look in looks:
            report("look", **vars(look))
        assert run.trouble == []
        first, last = looks[1], looks[-1]  # the first is of a process that is still getting warm
        assert last.tasks <= first.tasks
        assert last.open_files <= first.open_files + POOLED
        assert last.rooms <= 1
        assert last.memory - first.memory < MAY_GROW
        assert (last.open_rows, last.mirror_rows) == (0, 0)
        assert last.closed_rows == run.made, "each connection is known once, and closed"

        longest = await asyncio.to_thread(world.longest_lives)
        report("seconds that keys may still live", **longest)
        assert all(0 < longest.get(kind, 1) <= KEPT_SECONDS for kind in ("log", "once", "verdict")), (
            "each ends, and soon"
        )
        if CONNECTIONS < WHOLE:
            return  # a minute of waiting is for those who have asked for hours

        async def gone() -> bool:
            kinds = await asyncio.to_thread(world.keys)
            return not kinds["log"] + kinds["once"] + kinds["verdict"]

        await eventually(gone, KEYS_GONE_SECONDS, "the keys of entries, ids and verdicts are gone")
        kinds = await asyncio.to_thread(world.keys)
        report("keys", **kinds)
        assert kinds["head"] <= ROOMS_AT_ONCE * LOOKS + OWN_ROOMS, "a head for each room is kept for a month"
        assert kinds["activity"] <= PARTITIONS
        assert kinds.keys() <= {"head", "activity"}
