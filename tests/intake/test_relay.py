"""From SQS to the histories: everything arrives, nothing is deleted too early, and no outage stops the relay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from notifications.conf import Stage
from notifications.exceptions import HistoryUnavailable, QueueUnavailable
from notifications.intake import queue as queue_module
from notifications.intake import relay as module
from notifications.intake.heartbeat import Tally
from notifications.intake.received import ERROR_ATTRIBUTE, Received
from notifications.intake.relay import Relay
from notifications.stream import keys
from tests.asking import in_thread
from tests.intake.conftest import Scene
from tests.waiting import eventually


# ── One turn ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_turn_carries_what_came_and_deletes_it(scene: Scene) -> None:
    for number in range(3):
        scene.sqs.send(scene.stage, "acme", number)
    scene.sqs.send(scene.stage, "globex", "not acme's")
    carried = 0
    while carried < 4:
        carried += await scene.relay.turn()
    assert sorted(await scene.data("acme")) == [0, 1, 2]
    assert await scene.data("globex") == ["not acme's"]
    assert scene.held() == 0


async def test_a_relay_gives_way_to_who_has_just_been_told_before_it_deletes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = scene.queue.delete_here
    monkeypatch.setattr(module, "_give_way", lambda: done.append("gives way"))

    async def delete(messages: Any, in_thread: Any) -> Any:
        done.append(f"deletes {len(messages)}")
        return await real(messages, in_thread)

    monkeypatch.setattr(scene.queue, "delete_here", delete)
    scene.sqs.send(scene.stage, "acme", "hello")
    assert await scene.relay.turn() == 1
    assert done == ["gives way", "deletes 1"]
    assert await scene.relay.turn() == 0
    assert done[2:] == []


async def test_a_turn_without_messages_says_so(scene: Scene) -> None:
    assert scene.relay.hold.emptied is None
    assert await scene.relay.turn() == 0
    assert scene.relay.hold.emptied is not None


async def test_what_redis_takes_nothing_of_was_not_carried_and_still_waits(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `HERMES_DURABILITY=replica` while there is no replica: Redis answers, and nothing is confirmed."""
    settings.HERMES_VISIBILITY_SECONDS = 2
    real = scene.publisher.publish

    async def refuse(stage: str, messages: Any) -> Any:
        return [HistoryUnavailable("no replica has it")] * len(messages)

    monkeypatch.setattr(scene.publisher, "publish", refuse)
    scene.sqs.send(scene.stage, "acme", "hello")
    turn = asyncio.create_task(scene.relay.turn())
    await eventually(lambda: len(scene.relay.hold))
    oldest = scene.relay.hold.oldest
    await eventually(lambda: not len(scene.relay.hold))  # given back
    assert scene.relay.hold.oldest == oldest is not None
    assert not turn.done()
    assert scene.relay.tally == Tally()
    monkeypatch.setattr(scene.publisher, "publish", real)
    await asyncio.wait_for(turn, 10)
    assert scene.relay.hold.oldest is None
    assert scene.relay.tally == Tally(), "a batch that was given back was not carried"
    while scene.held():
        await scene.relay.turn()
    assert (scene.relay.tally.batches, scene.relay.tally.messages) == (1, 1)


async def test_a_message_is_deleted_only_when_it_is_in_the_history(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Any]] = []
    real = scene.queue.delete_here

    async def delete(messages: Any, in_thread: Any) -> Any:
        seen.append(await scene.data())
        return await real(messages, in_thread)

    monkeypatch.setattr(scene.queue, "delete_here", delete)
    scene.sqs.send(scene.stage, "acme", "hello")
    await scene.relay.turn()
    assert seen == [["hello"]]


async def test_what_is_delivered_twice_gets_one_place(scene: Scene) -> None:
    scene.sqs.send(scene.stage, "acme", "hello", id="key")
    scene.sqs.send(scene.stage, "acme", "hello again", id="key")
    while scene.held():
        await scene.relay.turn()
    assert len(await scene.data()) == 1


REFUSED = {
    "hello": "not_json",
    "[]": "not_an_object",
    '{"room_id": 1, "room_id": 2}': "duplicate_key",
    '{"user_id": 1, "room_id": 1, "data": NaN}': "not_finite",
    '{"user_id": 1, "room_id": 1, "data": "\\ud800"}': "lone_surrogate",
    "[" * 100_000: "too_large",
    '{"data":' * 5_000: "too_deep",
    "x" * (300 * 1024): "too_large",
    '{"user_id": 1, "room_id": 1, "data": {"type": "hermes.hello"}}': "reserved_type",
}


async def test_what_is_refused_is_buried_with_its_reason_and_holds_nobody_up(scene: Scene) -> None:
    for body in REFUSED:
        scene.sqs.put(scene.stage.queue_name, body)
    scene.sqs.send(scene.stage, "acme", "the last")
    while scene.held():
        await scene.relay.turn()
    assert await scene.data() == ["the last"]
    dead = {letter["Body"]: letter["MessageAttributes"][ERROR_ATTRIBUTE]["StringValue"] for letter in scene.dead()}
    assert {body: reason.split(":")[0] for body, reason in dead.items()} == REFUSED


async def test_without_a_dead_letter_queue_what_is_refused_is_left(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.sqs.client.delete_queue(QueueUrl=scene.sqs.url(scene.stage.dlq_name))
    for _ in range(2):
        scene.sqs.put(scene.stage.queue_name, "a secret that is not json")
    received = 0
    while received < 2:
        received += await scene.relay.turn()
    assert scene.held() == 2
    assert caplog.text.count("There is no dead-letter queue") == 1
    assert "secret" not in caplog.text


async def test_a_dead_letter_queue_that_refuses_leaves_the_message_where_it_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.sqs.put(scene.stage.queue_name, "not json")
    with monkeypatch.context() as patch:

        def refuse(*_: Any) -> bool:
            raise QueueUnavailable("no")

        patch.setattr(scene.queue, "dead_letter", refuse)
        assert await scene.relay.turn() == 1
    assert scene.held() == 1
    assert scene.dead() == []


async def test_a_delete_that_fails_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["all fail", "unavailable", "done"]
    real = scene.queue.delete_here

    async def delete(messages: Any, in_thread: Any) -> Any:
        match answers.pop(0):
            case "all fail":
                return list(messages)
            case "unavailable":
                raise QueueUnavailable("no")
            case _:
                return await real(messages, in_thread)

    monkeypatch.setattr(scene.queue, "delete_here", delete)
    scene.sqs.send(scene.stage, "acme", "hello")
    await scene.relay.turn()
    assert answers == []
    assert scene.held() == 0


async def test_what_could_never_be_deleted_comes_again_and_is_recognised(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.sqs.send(scene.stage, "acme", "hello")
    handed: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(scene.queue, "delete_here", in_thread(lambda messages: handed.append(messages) or list(messages)))
        await scene.relay.turn()
    assert len(handed) == module.DELETE_ATTEMPTS
    scene.queue.hold(handed[0], 0)
    await scene.relay.turn()
    assert await scene.data() == ["hello"]
    assert scene.held() == 0


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_while_redis_is_down_nothing_is_deleted_and_all_of_it_arrives_after(scene: Scene) -> None:
    async with scene.running():
        scene.sqs.send(scene.stage, "acme", "before")
        await eventually(lambda: scene.held() == 0)
        scene.valkey.stop()
        for number in range(15):
            scene.sqs.send(scene.stage, "acme", number)
        scene.sqs.put(scene.stage.queue_name, "not json")
        await eventually(lambda: "history" in scene.relay.complaints, what="the relay notices")
        assert scene.held() == 16
        scene.valkey.start()
        await eventually(lambda: scene.held() == 0, 30)
    found = await scene.data()
    assert found[0] == "before"
    assert sorted(found[1:]) == list(range(15))
    assert scene.reasons() == ["not_json"]


async def test_who_is_stopped_while_redis_is_down_gives_everything_back(scene: Scene) -> None:
    scene.valkey.stop()
    scene.sqs.send(scene.stage, "acme", "hello")
    async with scene.running():
        await eventually(lambda: "history" in scene.relay.complaints)
    assert scene.held() == 1
    scene.valkey.start()
    another = Relay(scene.stage.name, scene.queue, scene.publisher)
    assert await another.turn() == 1  # at once: nobody waits for its visibility to end
    assert await scene.data() == ["hello"]


async def test_an_outage_longer_than_the_visibility_gives_back_once_and_waits(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.HERMES_VISIBILITY_SECONDS = 0
    given_back: list[Any] = []
    monkeypatch.setattr(scene.queue, "hold", lambda messages, _: given_back.append(messages) or [])
    scene.valkey.stop()
    monkeypatch.setattr(scene.queue, "receive", Once(scene))
    turn = asyncio.create_task(scene.relay.turn())
    await eventually(lambda: given_back)
    assert not turn.done()  # it receives nothing before Redis answers
    scene.valkey.start()
    assert await asyncio.wait_for(turn, 20) == 1
    assert len(given_back) == 1
    assert await scene.data() == []


async def test_what_cannot_be_given_back_comes_back_by_itself(
    scene: Scene, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise QueueUnavailable("no")

    settings.HERMES_VISIBILITY_SECONDS = 0
    monkeypatch.setattr(scene.queue, "hold", refuse)
    monkeypatch.setattr(scene.queue, "receive", Once(scene))
    scene.valkey.stop()
    turn = asyncio.create_task(scene.relay.turn())
    await eventually(lambda: "they come back when their visibility ends" in caplog.text)
    scene.relay.stop()
    await asyncio.wait_for(turn, 20)


class Once:
    """Receives one message that no visibility hides."""

    def __init__(self, scene: Scene) -> None:
        self.body = json.dumps({"user_id": 1, "room_id": "acme", "data": "hello"})

    async def __call__(self, in_thread: Any) -> list[Any]:
        return [queue_module.Received("sqs-1", "receipt", self.body)]


async def test_a_room_that_redis_refuses_holds_no_other_room_up(scene: Scene) -> None:
    """Somebody has put a string where a room's head should be; the rest of the batch is delivered and deleted."""
    with redis.Redis.from_url(scene.valkey.url) as client:
        client.set(keys.head_key(scene.stage.name, "spoiled"), "a string")
    async with scene.running():
        scene.sqs.send(scene.stage, "spoiled", "lost?")
        scene.sqs.send(scene.stage, "acme", "hello")
        await eventually(lambda: scene.held() == 1, 20)
        scene.sqs.send(scene.stage, "acme", "and on")
        await eventually(lambda: scene.held() == 1, 20)
    assert sorted(await scene.data()) == ["and on", "hello"]
    assert scene.held() == 1  # it is never dropped: its queue's redrive policy has it


async def test_a_redis_that_was_away_for_a_moment_is_asked_again_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scene.publisher.publish
    failures = [module.HistoryUnavailable("a moment")]

    async def publish(stage: str, messages: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(stage, messages)

    monkeypatch.setattr(scene.publisher, "publish", publish)
    scene.sqs.send(scene.stage, "acme", "hello")
    await scene.relay.turn()
    assert await scene.data() == ["hello"]
    assert scene.held() == 0


# ── SQS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_queue_that_is_made_later_is_found(
    make_scene: Callable[..., Scene], stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    late = make_scene(replace(stage, queue_name="late", dlq_name="late-dead"))
    async with late.running():
        await eventually(lambda: "Queue 'late': could not receive" in caplog.text)
        queue_module.provision(late.stage)
        late.sqs.send(late.stage, "acme", "hello")
        await eventually(late.data, 20)
    assert await late.data() == ["hello"]
    assert caplog.text.count("could not receive") == 1  # once a minute


async def test_an_sqs_that_went_away_is_found_again(scene: Scene) -> None:
    async with scene.running():
        scene.sqs.send(scene.stage, "acme", "before")
        await eventually(scene.data)
        scene.sqs.engine.stop()
        await eventually(lambda: "queue" in scene.relay.complaints, 20)
        scene.sqs.engine.start()
        queue_module.provision(scene.stage)
        scene.sqs.send(scene.stage, "acme", "after")
        await eventually(lambda: scene.held() == 0, 30)
    assert await scene.data() == ["before", "after"]


# ── Stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_stopping_ends_every_poller_and_loses_nothing(scene: Scene) -> None:
    for number in range(30):
        scene.sqs.send(scene.stage, "acme", number)
    async with scene.running() as task:
        await eventually(scene.data)
    assert task.done()
    assert task.exception() is None
    assert len(await scene.data()) + scene.held() >= 30
    another = Relay(scene.stage.name, scene.queue, scene.publisher, pollers=1)
    while scene.held():
        await another.turn()
    assert sorted(await scene.data()) == list(range(30))


async def test_a_stopped_relay_receives_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[None] = []
    monkeypatch.setattr(scene.queue, "receive", in_thread(lambda: received.append(None) or []))
    scene.relay.stop()
    await asyncio.wait_for(scene.relay.run(), 5)
    assert received == []


def test_no_module_but_the_relay_hands_queued_messages_on() -> None:
    root = Path(module.__file__).parent.parent
    users = [
        str(path.relative_to(root)) for path in root.rglob("*.py") if "envelope.decode(" in path.read_text("utf-8")
    ]
    # The other two judge what is to be sent, and send it to the queue.
    assert sorted(users) == ["hermes.py", "intake/letter.py", "intake/relay.py"]
    publishers = [path.name for path in (root / "intake").glob("*.py") if "stream.publish" in path.read_text("utf-8")]
    assert publishers == ["relay.py"]


async def test_a_deep_queue_has_more_pollers_than_one_that_is_empty(
    make_scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would be a request every few seconds to an empty one, for ever."""
    scene = make_scene(pollers=6)
    for number in range(60):
        scene.sqs.send(scene.stage, "acme", number)
    asking, most, real = 0, 0, scene.queue.receive

    async def receive(in_thread: Any) -> list[Received]:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        try:
            return await real(in_thread)
        finally:
            asking -= 1

    monkeypatch.setattr(scene.queue, "receive", receive)
    async with scene.running():
        await eventually(lambda: not scene.held())
        assert 2 < most <= 6
        await eventually(lambda: asking == 2 and not scene.relay._deep.is_set())
    assert sorted(await scene.data()) == list(range(60))
