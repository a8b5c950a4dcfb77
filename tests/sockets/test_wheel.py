"""The wheel: a ping once in an interval, a look at each turn for those who lag behind, and each token's end in time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from notifications.sockets import wheel as module
from notifications.sockets.connection import Connection
from notifications.sockets.wheel import Wheel
from tests.waiting import eventually

Connect = Callable[..., Connection]
MANY = 200


class Scene:
    """A wheel that turns fast, and whom it has pinged and looked at."""

    def __init__(self) -> None:
        self.pinged: Counter[Connection] = Counter()
        self.looks: Counter[Connection] = Counter()
        self.wheel = Wheel(self.ping)

    def ping(self, connections: Iterable[Connection]) -> None:
        self.pinged.update(connections)

    def watch(self, connection: Connection, looks: float = float("inf")) -> None:
        """Add a connection whose reader lags behind for so many looks, and count them."""

        def look(now: float) -> bool:
            self.looks.update([connection])
            return self.looks[connection] < looks

        outbound: Any = connection.outbound
        outbound.check_progress = look
        self.wheel.laggards(connection).add(outbound)
        self.wheel.add(connection)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch, settings: Any) -> AsyncIterator[Scene]:
    """A wheel whose turn takes a tenth of a second, and five of whose turns are a ping's interval."""
    monkeypatch.setattr(module, "TURN_SECONDS", 0.1)
    settings.HERMES_PING_SECONDS = 5
    scene = Scene()
    turning = asyncio.create_task(scene.wheel.run())
    yield scene
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def test_each_is_looked_at_once_a_turn_and_pinged_once_an_interval(scene: Scene, connect: Connect) -> None:
    connections = [connect(f"member-{number}") for number in range(MANY)]
    for connection in connections:
        scene.watch(connection)
    await eventually(lambda: len(scene.pinged) == MANY and min(scene.pinged.values()) >= 2)
    looks = [scene.looks[each] for each in connections]
    assert max(looks) - min(looks) <= 1
    assert max(scene.pinged.values()) - min(scene.pinged.values()) <= 1
    assert all(scene.looks[each] // 5 <= scene.pinged[each] <= scene.looks[each] // 5 + 1 for each in connections)


async def test_who_has_taken_everything_is_looked_at_no_more(scene: Scene, connect: Connect) -> None:
    alice, bob = connect("alice"), connect("bob")
    scene.watch(alice, 3)
    scene.watch(bob)
    await eventually(lambda: scene.looks[bob] >= 8)
    assert scene.looks[alice] == 3
    assert not scene.wheel.laggards(alice) - {bob.outbound}


async def test_who_has_left_is_looked_at_no_more(scene: Scene, connect: Connect) -> None:
    alice, bob = connect("alice"), connect("bob")
    scene.watch(alice)
    scene.watch(bob)
    await eventually(lambda: scene.looks[alice] and scene.looks[bob])
    scene.wheel.remove(alice)
    scene.wheel.remove(alice)
    looks = scene.looks[alice]
    await eventually(lambda: scene.looks[bob] >= 5)
    assert scene.looks[alice] <= looks + 1


async def test_looks_that_are_late_do_not_make_an_interval_longer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_sleep, real_look, looks = asyncio.sleep, Wheel._look, list[int]()

    async def oversleep(seconds: float) -> None:
        await real_sleep(seconds + 0.004)  # each look is due 5 ms after the one before

    def count(wheel: Wheel, number: int, last: set[Connection]) -> set[Connection]:
        looks.append(number)
        return real_look(wheel, number, last)

    monkeypatch.setattr(Wheel, "_look", count)
    monkeypatch.setattr(module.asyncio, "sleep", oversleep)
    begun = time.monotonic()
    await real_sleep(1)
    seconds = time.monotonic() - begun
    assert seconds * 200 * 0.85 < len(looks) < seconds * 200 * 1.15


async def test_a_token_s_end_is_kept_more_finely_than_a_turn(
    monkeypatch: pytest.MonkeyPatch, scene: Scene, connect: Connect
) -> None:
    monkeypatch.setattr(module, "TURN_SECONDS", 1.0)
    alice, bob = connect("alice"), connect("bob")
    alice.ends_at = bob.ends_at = time.time() + 1.5
    scene.wheel.add(alice)
    scene.wheel.add(bob)
    await eventually(lambda: alice.is_closing)
    late = time.time() - alice.ends_at
    assert 0 <= late < 0.5
    await eventually(lambda: bob.is_closing)
    assert bob.close_code == alice.close_code == 4401


async def test_who_refreshes_before_the_end_stays(scene: Scene, connect: Connect) -> None:
    alice = connect("alice")
    alice.ends_at = time.time() + 0.15
    scene.watch(alice)
    await eventually(lambda: scene.looks[alice])
    alice.ends_at = time.time() + 600
    looks = scene.looks[alice]
    await eventually(lambda: scene.looks[alice] >= looks + 4)
    assert not alice.is_closing


async def test_a_token_that_is_given_for_less_than_an_interval_ends_in_time(scene: Scene, connect: Connect) -> None:
    """Its slot may not come by before its end."""
    many = [connect(f"member-{number}") for number in range(MANY)]
    for number, each in enumerate(many):
        each.ends_at = time.time() + 0.05 + 0.4 * number / MANY
        scene.wheel.add(each)
    await eventually(lambda: all(each.is_closing for each in many))
    assert time.time() - many[-1].ends_at < 0.3


async def test_who_is_given_a_token_that_ends_sooner_is_closed_at_its_end(scene: Scene, connect: Connect) -> None:
    alice = connect("alice")
    alice.ends_at = time.time() + 600
    scene.wheel.add(alice)
    await eventually(lambda: scene.pinged[alice])
    alice.ends_at = time.time() + 0.1
    scene.wheel.add(alice)
    await eventually(lambda: alice.is_closing)
    assert 0 <= time.time() - alice.ends_at < 0.3


async def test_whose_token_ends_after_the_next_visits_is_told_in_time_all_the_same(
    scene: Scene, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who was far from the end at one visit is found near it at a later one."""
    monkeypatch.setattr(module, "EXPIRING_SECONDS", 0)
    monkeypatch.setattr(module, "END_JITTER", 0.0)
    many = [connect(f"member-{number}") for number in range(MANY)]
    for each in many:
        each.ends_at = time.time() + 1.5  # three intervals from now
        scene.wheel.add(each)
    await eventually(lambda: all(each.is_closing for each in many))
    assert 0 <= time.time() - many[0].ends_at < 0.3
    assert min(scene.pinged.values()) >= 2


async def test_a_clock_that_was_wrong_when_a_slot_came_by_lets_nobody_stay_on(
    monkeypatch: pytest.MonkeyPatch, settings: Any, connect: Connect
) -> None:
    """A machine's clock may be put right between two visits: who had an hour to go then is looked at at once."""
    monkeypatch.setattr(module, "TURN_SECONDS", 0.1)
    settings.HERMES_PING_SECONDS = 600  # a minute, in which each slot comes by once
    scene, wrong_by = Scene(), -3600.0
    real_time = time.time
    monkeypatch.setattr(module.time, "time", lambda: real_time() + wrong_by)
    many = [connect(f"member-{number}") for number in range(MANY)]
    for each in many:
        each.ends_at = real_time() + 0.5
        scene.wheel.add(each)
    turning = asyncio.create_task(scene.wheel.run())
    try:
        await eventually(lambda: real_time() > many[0].ends_at)
        assert not any(each.is_closing for each in many)
        wrong_by = 0.0
        await eventually(lambda: all(each.is_closing for each in many), 3)
    finally:
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)
