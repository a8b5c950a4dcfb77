"""The channel layer's receiving side: hints that come in crowds, amid subscriptions, over connections that break."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import redis.asyncio
from channels.layers import get_channel_layer
from django.conf import settings

from hermes_site.engines import Valkey
from notifications.stream import hint_layer
from tests.waiting import eventually


@pytest.fixture
async def layer(valkey: Valkey) -> AsyncIterator[Any]:
    """The channel layer over an empty Valkey."""
    opened: Any = get_channel_layer()
    yield opened
    await opened.flush()


@pytest.fixture
async def outside() -> AsyncIterator[redis.asyncio.Redis]:
    """Another client of the same Redis."""
    client = redis.asyncio.Redis.from_url(settings.REDIS_URL)
    yield client
    await client.aclose()


def shard(layer: Any) -> Any:
    (only,) = layer._get_layer()._shards
    return only


async def crowd(layer: Any, count: int, group: str = "many") -> None:
    """Publish so many hints in one round trip to Redis, so that many of them come in one read."""
    commands = [
        ("PUBLISH", layer._get_layer()._get_group_channel_name(group), layer.serialize({"type": "hint", "n": number}))
        for number in range(count)
    ]
    await shard(layer).round_trips.make(commands)


async def test_a_crowd_of_hints_arrives_whole_and_in_order(layer: Any) -> None:
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    await crowd(layer, 2_000)
    assert [(await layer.receive(channel))["n"] for _ in range(2_000)] == list(range(2_000))


async def test_what_came_with_a_hint_needs_no_call_of_the_library(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    await crowd(layer, 1)
    await layer.receive(channel)
    calls = []
    real = shard(layer)._pubsub.get_message

    async def counted(**arguments: Any) -> Any:
        calls.append(1)
        return await real(**arguments)

    monkeypatch.setattr(shard(layer)._pubsub, "get_message", counted)
    await crowd(layer, 1_000)
    for _ in range(1_000):
        await layer.receive(channel)
    assert len(calls) < 50


async def test_groups_are_joined_and_left_amid_a_crowd_of_hints(layer: Any) -> None:
    channel, other = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("many", channel)

    async def join_and_leave() -> None:
        for number in range(50):
            await layer.group_add(f"group-{number}", other)
            await layer.group_send(f"group-{number}", {"type": "hint", "group": number})
            assert (await layer.receive(other))["group"] == number
            await layer.group_discard(f"group-{number}", other)

    joining = asyncio.create_task(join_and_leave())
    for _ in range(10):
        await crowd(layer, 500)
    await joining
    assert [(await layer.receive(channel))["n"] for _ in range(5_000)] == [*range(500)] * 10


async def test_a_receiver_whose_connection_is_ended_comes_back(layer: Any, outside: redis.asyncio.Redis) -> None:
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    receiver = shard(layer)._receive_task
    await outside.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    hint = asyncio.create_task(layer.receive(channel))

    async def heard() -> bool:
        await layer.group_send("many", {"type": "hint", "n": 7})
        await asyncio.wait([hint], timeout=0.05)
        return hint.done()

    await eventually(heard)
    assert hint.result()["n"] == 7
    assert shard(layer)._receive_task is receiver
    assert not receiver.done()


async def test_a_deadline_of_the_kernel_does_not_end_the_receiver(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ETIMEDOUT is Python's TimeoutError, for which the library's own receiver ends and is deaf for ever."""
    monkeypatch.setattr(hint_layer, "RESTART_SECONDS", 0.01)
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    real = shard(layer)._pubsub.get_message
    failures = iter([TimeoutError(110, "Connection timed out"), RuntimeError("a bug")])

    async def fail(**arguments: Any) -> Any:
        for failure in failures:
            raise failure
        return await real(**arguments)

    monkeypatch.setattr(shard(layer)._pubsub, "get_message", fail)
    await layer.group_send("many", {"type": "hint", "n": 1})
    async with asyncio.timeout(10):
        assert (await layer.receive(channel))["n"] == 1
    assert next(failures, None) is None


async def test_a_subscription_that_hears_nothing_is_made_anew(layer: Any) -> None:
    """Redis has lost what it was subscribed to, or the messages: nobody is told so, and PINGs are answered."""
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    await crowd(layer, 1)
    await layer.receive(channel)
    deafened = shard(layer)._pubsub.connection._reader
    await shard(layer)._pubsub.connection.send_command("UNSUBSCRIBE")
    hint = asyncio.create_task(layer.receive(channel))

    async def heard() -> bool:
        await crowd(layer, 1)
        await asyncio.wait([hint], timeout=0.05)
        return hint.done()

    for _ in range(10):
        assert not await heard()
    await layer.renew()
    await eventually(heard)
    assert shard(layer)._pubsub.connection._reader is not deafened


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_connection_that_the_kernel_gave_up_is_made_anew(layer: Any, is_busy: bool) -> None:
    """The library takes its error for a deadline of its own, at once and without end: the loop would stand still."""
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    await crowd(layer, 1)
    await layer.receive(channel)
    if not is_busy:  # the moment is over in which what comes after a hint is read
        await asyncio.sleep(2 * hint_layer.LOOK_SECONDS)
    gone = shard(layer)._pubsub.connection._reader
    gone.set_exception(TimeoutError(110, "Connection timed out"))
    hint = asyncio.create_task(layer.receive(channel))

    async def heard() -> bool:
        await crowd(layer, 1)
        await asyncio.wait([hint], timeout=0.05)
        return hint.done()

    await eventually(heard)
    assert shard(layer)._pubsub.connection._reader is not gone


async def test_messages_beyond_what_may_wait_are_dropped_and_that_is_said_once(
    layer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hint_layer, "WAITING", 100)
    slow, quick = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("many", slow)
    await layer.group_add("last", quick)
    await crowd(layer, 300)
    await crowd(layer, 1, "last")
    await layer.receive(quick)
    assert layer._get_layer().channels[slow].qsize() == 100
    assert [(await layer.receive(slow))["n"] for _ in range(100)] == list(range(100))
    assert [record.levelname for record in caplog.records if "messages wait" in record.message] == ["WARNING"]


async def test_no_payload_reaches_a_log_on_its_way_through_the_layer(
    layer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    channel = await layer.new_channel()
    await layer.group_add("many", channel)
    await layer.group_send("many", {"type": "hint", "text": "a-payload-like-no-other"})
    assert (await layer.receive(channel))["text"] == "a-payload-like-no-other"
    assert "a-payload-like-no-other" not in caplog.text


async def test_a_channel_that_could_not_be_made_leaves_nothing_behind(settings: Any) -> None:
    nowhere = {"hosts": ["redis://127.0.0.1:1/0"]}
    settings.CHANNEL_LAYERS = {"default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": nowhere}}
    lonely: Any = get_channel_layer()
    for _ in range(3):
        with pytest.raises(redis.ConnectionError):
            await lonely.new_channel()
    assert lonely._get_layer().channels == {}
    await lonely.flush()


async def test_who_listens_is_told_at_once_all_that_one_read_has_brought(layer: Any) -> None:
    channel, reads = await layer.new_channel(), []
    await layer.group_add("many", channel)
    layer.listen(channel, lambda published: reads.append([layer.deserialize(each)["n"] for each in published]))
    await crowd(layer, 2_000)
    await eventually(lambda: sum(map(len, reads)) == 2_000)
    assert [number for read in reads for number in read] == list(range(2_000))
    assert len(reads) < 100
    assert layer._get_layer().channels[channel].empty()


async def test_a_listener_that_fails_is_told_the_next(layer: Any, caplog: pytest.LogCaptureFixture) -> None:
    channel, heard = await layer.new_channel(), []

    def hear(published: Sequence[bytes]) -> None:
        heard.extend(published)
        if len(heard) == 1:
            raise ValueError("a bug")

    layer.listen(channel, hear)
    await layer.send(channel, {"type": "hint", "n": 1})
    await eventually(lambda: heard)
    await layer.send(channel, {"type": "hint", "n": 2})
    await eventually(lambda: len(heard) == 2)
    (record,) = caplog.records
    assert "could not be handled" in record.message
    caplog.clear()
