"""An outage of Redis costs a message one receive at each relay, however many pollers it has, however long it lasts."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from notifications.intake.outage import AWAY_SECONDS, Outage
from notifications.intake.received import Received
from tests.asking import in_thread
from tests.intake.conftest import Scene
from tests.waiting import eventually

VISIBILITY = 3
RELAYS = 3


def count_receives(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Have a scene's queue count how often it hands each message over; return the count."""
    count, real = Counter[str](), scene.queue.receive

    async def receive(in_thread: Any) -> list[Received]:
        came = await real(in_thread)
        count.update(message.id for message in came)
        return came

    monkeypatch.setattr(scene.queue, "receive", receive)
    return count


@pytest.mark.parametrize("messages", [1, 24])
async def test_in_an_outage_each_relay_receives_a_message_once_and_goes_on_after_it(
    make_scene: Callable[..., Scene], settings: Any, monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    settings.HERMES_VISIBILITY_SECONDS = VISIBILITY
    scenes = [make_scene() for _ in range(RELAYS)]
    counts = [count_receives(scene, monkeypatch) for scene in scenes]
    first = scenes[0]
    async with AsyncExitStack() as stack:
        for scene in scenes:
            await stack.enter_async_context(scene.running())
        first.valkey.stop()
        for number in range(messages):
            first.sqs.send(first.stage, "acme", number)
        end = time.monotonic() + 5 * VISIBILITY
        while time.monotonic() < end:
            await asyncio.sleep(0.1)
            assert all(most <= 1 for count in counts for most in count.values()), counts
        assert sum(map(Counter.total, counts)) >= messages
        assert first.held() == messages
        first.valkey.start()
        await eventually(lambda: first.held() == 0, 40, "all of them go on without a restart")
    assert sorted(await first.data()) == list(range(messages))
    received = sum(counts, Counter[str]())
    assert max(received.values()) <= RELAYS + 1, "once at each relay, and once more to be delivered"


async def test_what_a_long_poll_brings_though_redis_is_away_is_given_back_for_a_while(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[tuple[list[str], int]] = []

    def hold(messages: list[Received], seconds: int) -> list[Received]:
        given_back.append(([message.id for message in messages], seconds))
        return []

    monkeypatch.setattr(scene.queue, "receive", in_thread(lambda: [Received("sqs-1", "receipt-1", "{}")]))
    monkeypatch.setattr(scene.queue, "hold", hold)
    scene.relay._outage.is_on = True
    assert await scene.relay.turn() == 1
    assert given_back == [(["sqs-1"], AWAY_SECONDS)]
    settings.HERMES_VISIBILITY_SECONDS = 12
    await scene.relay.turn()
    scene.relay.stop()
    await scene.relay.turn()
    assert given_back[1:] == [(["sqs-1"], 12), (["sqs-1"], 0)], "another relay may take over from who is stopped"


# ── What its pollers know ────────────────────────────────────────────────────────────────────────────────────────────
class Script:
    """A Redis that answers as it is told, and writes down how many ask it at once."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asking = self.most = self.lasted = 0

    async def ask(self) -> bool:
        self.asking += 1
        self.most = max(self.most, self.asking)
        await asyncio.sleep(0)
        self.asking -= 1
        return self.answers.pop(0)

    def last(self) -> None:
        self.lasted += 1


def make_outage(script: Script, stopping: asyncio.Event | None = None) -> Outage:
    async def pause(_: float) -> None:
        await asyncio.sleep(0)

    return Outage(script.ask, pause, stopping or asyncio.Event(), script.last)


async def test_of_many_who_wait_one_asks_and_all_go_on() -> None:
    script = Script(False, False, False, True)
    outage = make_outage(script)
    assert not await outage.has_ended()
    await asyncio.wait_for(asyncio.gather(*(outage.wait_out() for _ in range(8))), 5)
    assert (script.answers, script.most, script.lasted) == ([], 1, 2)


async def test_nobody_asks_where_redis_answers_or_has_taken_something() -> None:
    script = Script(False)
    outage = make_outage(script)
    await outage.wait_out()
    assert script.answers == [False]
    await outage.has_ended()
    outage.end()
    await outage.wait_out()
    assert not outage.is_on


async def test_who_is_stopped_waits_for_no_redis() -> None:
    stopping = asyncio.Event()
    outage = make_outage(Script(False), stopping)
    await outage.has_ended()
    stopping.set()
    await asyncio.wait_for(outage.wait_out(), 5)
    assert outage.is_on
