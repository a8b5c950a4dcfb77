"""The wheel: every connection has its turn once a second, its ping once in an interval, and its token's end in time."""

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

    def watch(self, connection: Connection) -> None:
        """Count the looks at a connection."""
        outbound: Any = connection.outbound
        outbound.check_progress = lambda now: self.looks.update([connection])
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
