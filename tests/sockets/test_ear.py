"""The ear: a hub that is told something over the channel layer hears it, or says that it does not."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from channels.layers import get_channel_layer

from hermes_site.engines import Valkey
from notifications.exceptions import HistoryUnavailable
from notifications.sockets import ear
from notifications.sockets.ear import Ear
from notifications.sockets.follower import Follower
from notifications.sockets.hub import Hub
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_hub_hears_itself_and_one_that_has_stopped_is_not_asked(valkey: Valkey, provisioned: Any) -> None:
    hub = Hub()
    await hub.start()

    def hears() -> bool:
        try:
            ear.probe()
        except HistoryUnavailable:
            return False
        return True

    try:
        await eventually(lambda: asyncio.to_thread(hears))
        assert hub._ear in ear._EARS
    finally:
        await hub.stop()
        await get_channel_layer().flush()
    assert hub._ear not in ear._EARS
    await asyncio.to_thread(ear.probe)


async def test_who_has_no_channel_yet_hears_nothing(valkey: Valkey) -> None:
    with pytest.raises(HistoryUnavailable, match="has not answered yet"):
        await Ear(get_channel_layer()).hear()


async def test_a_pulse_that_nobody_receives_is_not_heard(valkey: Valkey) -> None:
    layer = get_channel_layer()
    deaf = Ear(layer)
    deaf.listen_on(await layer.new_channel())
    begun = time.monotonic()
    with pytest.raises(HistoryUnavailable, match="deaf"):
        await deaf.hear(0.5)
    assert time.monotonic() - begun < 5
    assert not deaf._pulses
    await layer.flush()


async def test_a_pulse_that_is_late_is_no_deafness_while_another_was_heard_a_moment_ago(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = get_channel_layer()
    busy = Ear(layer)
    busy.listen_on(await layer.new_channel())
    monkeypatch.setattr(ear, "DEAF_SECONDS", 1.0)
    busy.heard("a pulse of before")
    await busy.hear(0.5)
    with pytest.raises(HistoryUnavailable, match="deaf"):
        await busy.hear(0.6)
    await layer.flush()


async def test_a_deaf_hub_mends_itself_and_compares_what_it_may_have_missed(
    valkey: Valkey, provisioned: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ear, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(ear, "DEAF_SECONDS", 0.1)
    compared: list[None] = []
    monkeypatch.setattr(Follower, "compare_soon", lambda _: compared.append(None))
    hub = Hub()
    await hub.start()
    try:
        await hub._ear.hear()
        begun = len(compared)
        (shard,) = get_channel_layer()._get_layer()._shards
        await shard._pubsub.connection.send_command("UNSUBSCRIBE")
        await eventually(lambda: "made anew" in caplog.text)
        await hub._ear.hear(5)
        assert len(compared) > begun
    finally:
        await hub.stop()
        await get_channel_layer().flush()


async def test_a_redis_that_does_not_answer_is_not_taken_for_deafness(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ear, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr(ear, "HEAR_SECONDS", 0.05)
    layer = get_channel_layer()
    waiting = Ear(layer)
    waiting.listen_on(await layer.new_channel())
    asked: list[None] = []

    async def hang(*arguments: Any) -> None:
        asked.append(None)
        await asyncio.sleep(60)

    monkeypatch.setattr(layer, "send", hang)
    mending = asyncio.create_task(waiting.mend(lambda: pytest.fail("nothing is to be mended")))
    await eventually(lambda: len(asked) >= 2 * ear.DEAF_PROBES + 1)
    assert not mending.done()
    mending.cancel()
    await layer.flush()


async def test_a_redis_that_is_away_is_told(settings: Any) -> None:
    layers = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": ["redis://127.0.0.1:1/0"]}}}
    settings.CHANNEL_LAYERS = layers
    lonely = Ear(get_channel_layer())
    lonely.listen_on("hermes.nowhere")
    with pytest.raises(HistoryUnavailable, match="does not answer: ConnectionError"):
        await lonely.hear()


async def test_an_event_loop_that_is_stuck_is_told_and_one_that_is_closed_is_not_asked(valkey: Valkey) -> None:
    loop, release, stuck = asyncio.new_event_loop(), threading.Event(), threading.Event()
    busy = Ear(get_channel_layer())

    def block() -> None:
        stuck.set()
        release.wait(30)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.call_soon(busy.open)
        loop.call_soon(block)
        loop.run_until_complete(asyncio.sleep(0.1))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        await asyncio.to_thread(stuck.wait, 10)
        with pytest.raises(HistoryUnavailable, match="event loop does not answer"):
            await asyncio.to_thread(ear.probe)
    finally:
        release.set()
        await asyncio.to_thread(thread.join)
        loop.close()
    await asyncio.to_thread(ear.probe)
    busy.close()
    busy.close()
