"""In which order a batch goes to the histories: groups of a FIFO queue in order, everything else at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from notifications.conf import Stage
from notifications.intake import queue
from notifications.intake import relay as module
from notifications.intake.lines import lines
from notifications.intake.received import Received
from notifications.stream import keys
from notifications.stream.message import Message
from tests.intake.conftest import Scene
from tests.waiting import eventually


def pair(number: int, group: str | None) -> tuple[Received, Message]:
    return Received(f"sqs-{number}", f"receipt-{number}", "", group), Message(f"m{number}", 1, "acme", "1")


batches = st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=10).map(
    lambda groups: [pair(number, group) for number, group in enumerate(groups)]
)


@given(batches)
def test_a_fifo_queues_groups_are_lines_in_the_order_received(batch: list[tuple[Received, Message]]) -> None:
    for line in lines(batch, is_fifo=True):
        group = line.received[0].group
        assert list(line.rest) == [each for each in batch if each[0].group == group]
    assert sorted(m.id for line in lines(batch, is_fifo=True) for m in line.received) == sorted(m.id for m, _ in batch)


@given(batches)
def test_on_a_standard_queue_each_message_stands_alone(batch: list[tuple[Received, Message]]) -> None:
    assert [list(line.rest) for line in lines(batch, is_fifo=False)] == [[each] for each in batch]


@pytest.fixture
def fifo(make_scene: Callable[..., Scene], stage: Stage) -> Scene:
    """A relay of a FIFO queue."""
    fifo = replace(stage, queue_name="hermes.fifo", dlq_name="hermes-dead.fifo")
    queue.provision(fifo)
    return make_scene(fifo)


def send(scene: Scene, group: str, room: str, *numbers: int) -> None:
    for number in numbers:
        options = {"MessageGroupId": group, "MessageDeduplicationId": f"{group}-{number}"}
        body = f'{{"user_id": 1, "room_id": "{room}", "data": {number}}}'
        scene.sqs.put(scene.stage.queue_name, body, **options)


def spoil(scene: Scene, room: str, *, heal: bool = False) -> None:
    """Have Redis refuse a room: its head is a string."""
    with redis.Redis.from_url(scene.valkey.url) as client:
        key = keys.head_key(scene.stage.name, room)
        if heal:
            client.delete(key)
        else:
            client.set(key, "a string")


@pytest.fixture
def waves(monkeypatch: pytest.MonkeyPatch) -> Callable[[Scene], list[list[str]]]:
    """Write down what is published together."""

    def watch(scene: Scene) -> list[list[str]]:
        seen: list[list[str]] = []
        real = scene.publisher.publish

        async def publish(stage: str, messages: Any) -> Any:
            if messages != [module.PROBE]:
                seen.append([f"{message.room_id} {message.data}" for message in messages])
            return await real(stage, messages)

        monkeypatch.setattr(scene.publisher, "publish", publish)
        return seen

    return watch


async def test_groups_go_wave_by_wave(fifo: Scene, waves: Callable[[Scene], list[list[str]]]) -> None:
    send(fifo, "a", "acme", 1, 2, 3)
    send(fifo, "b", "globex", 1, 2)
    seen = waves(fifo)
    while fifo.held():
        await fifo.relay.turn()
    assert await fifo.data("acme") == [1, 2, 3]
    assert await fifo.data("globex") == [1, 2]
    assert all(len({message.split()[0] for message in wave}) == len(wave) for wave in seen), "one of each group"


async def test_a_group_stops_at_its_first_failure_and_goes_on_there(
    fifo: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after it is neither published nor deleted, though Redis would take it; other groups go on."""
    monkeypatch.setattr(module, "STOPPED_GROUP_SECONDS", 1)
    spoil(fifo, "spoiled")
    send(fifo, "a", "acme", 1)
    send(fifo, "a", "spoiled", 2)
    send(fifo, "a", "acme", 3)
    send(fifo, "b", "globex", 1, 2)
    received = 0
    while received < 5:
        received += await fifo.relay.turn()
    assert await fifo.data("acme") == [1]
    assert await fifo.data("globex") == [1, 2]
    assert fifo.held() == 2
    spoil(fifo, "spoiled", heal=True)
    deadline = time.monotonic() + 20
    while fifo.held() and time.monotonic() < deadline:
        await fifo.relay.turn()
    assert await fifo.data("spoiled") == [2]
    assert await fifo.data("acme") == [1, 3]


async def test_a_refused_body_stops_no_group(fifo: Scene) -> None:
    send(fifo, "a", "acme", 1)
    fifo.sqs.put(fifo.stage.queue_name, "not json", MessageGroupId="a", MessageDeduplicationId="refused")
    send(fifo, "a", "acme", 2)
    while fifo.held():
        await fifo.relay.turn()
    assert await fifo.data("acme") == [1, 2]
    assert fifo.reasons() == ["not_json"]


async def test_several_pollers_keep_the_order_of_each_group(fifo: Scene) -> None:
    rooms = ("acme", "globex", "initech")
    for number in range(12):
        for room in rooms:
            send(fifo, room, room, number)
    async with fifo.running():
        await eventually(lambda: fifo.held() == 0, 40)
    for room in rooms:
        assert await fifo.data(room) == list(range(12))


async def test_an_outage_stops_no_group_and_keeps_its_order(fifo: Scene) -> None:
    async with fifo.running():
        fifo.valkey.stop()
        send(fifo, "a", "acme", 1, 2, 3)
        await eventually(lambda: "history" in fifo.relay.complaints)
        assert fifo.held() == 3
        fifo.valkey.start()
        await eventually(lambda: fifo.held() == 0, 30)
    assert await fifo.data() == [1, 2, 3]


async def test_on_a_standard_queue_a_group_means_fairness(
    scene: Scene, waves: Callable[[Scene], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scene.queue.receive

    async def receive(in_thread: Any) -> list[Received]:
        return [replace(message, group="a") for message in await real(in_thread)]

    monkeypatch.setattr(scene.queue, "receive", receive)
    spoil(scene, "spoiled")
    scene.sqs.send(scene.stage, "spoiled", 1)
    scene.sqs.send(scene.stage, "acme", 2)
    seen = waves(scene)
    received = 0
    while received < 2:
        received += await asyncio.wait_for(scene.relay.turn(), 30)
    assert await scene.data("acme") == [2]
    assert scene.held() == 1
    assert any("acme 2" in wave for wave in seen)
