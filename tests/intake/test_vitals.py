"""What a relay counts: each message once, by what became of it; and what did not succeed, by its step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from notifications.exceptions import QueueUnavailable
from notifications.intake import relay as module
from notifications.intake.received import Received
from tests.asking import in_thread
from tests.intake.conftest import Scene
from tests.waiting import eventually

Rise = Callable[..., float]


@pytest.fixture
def rise() -> Rise:
    """Return a function that says by how much a number of the first stage has risen since the test began."""

    def now() -> dict[tuple[str, str], float]:
        samples = [each for family in REGISTRY.collect() for each in family.samples if "stage" in each.labels]
        mine = [each for each in samples if each.labels["stage"] == "development"]
        return {(each.name, ",".join(v for k, v in each.labels.items() if k != "stage")): each.value for each in mine}

    before = now()
    return lambda name, label="": (
        now().get((f"hermes_relay_{name}", label), 0) - before.get((f"hermes_relay_{name}", label), 0)
    )


async def test_a_message_counts_once_and_its_second_delivery_as_a_duplicate(scene: Scene, rise: Rise) -> None:
    for _ in range(2):
        scene.sqs.send(scene.stage, "acme", "hello", id="once")
        await scene.relay.turn()
    assert rise("messages_total", "appended") == rise("messages_total", "duplicate") == 1
    assert rise("batches_total") == 2
    assert rise("append_seconds_count") == 1
    assert 0 <= rise("append_seconds_sum") < 30


async def test_a_turn_without_a_message_is_an_answer_and_no_batch(scene: Scene, rise: Rise) -> None:
    begun = time.time()
    await scene.relay.turn()
    assert rise("batches_total") == 0
    (answered,) = [
        each.value
        for family in REGISTRY.collect()
        for each in family.samples
        if each.name == "hermes_relay_answered_timestamp_seconds" and each.labels["stage"] == "development"
    ]
    assert begun <= answered <= time.time()


async def test_a_dead_letter_counts_by_its_reason(scene: Scene, rise: Rise) -> None:
    scene.sqs.put(scene.stage.queue_name, "not json")
    await scene.relay.turn()
    assert rise("messages_total", "dead_letter") == rise("dead_letters_total", "not_json") == 1
    assert rise("messages_total", "refused") == 0


async def test_what_cannot_be_made_a_dead_letter_counts_as_refused(
    scene: Scene, rise: Rise, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.sqs.put(scene.stage.queue_name, "not json")
    monkeypatch.setattr(scene.queue, "dead_letter", lambda *_: False)
    await scene.relay.turn()
    assert rise("messages_total", "refused") == 1
    assert rise("messages_total", "dead_letter") == rise("dead_letters_total", "not_json") == 0


async def test_a_deletion_that_fails_is_a_retry(scene: Scene, rise: Rise, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.sqs.send(scene.stage, "acme", "hello")
    monkeypatch.setattr(scene.queue, "delete_here", in_thread(list))
    await scene.relay.turn()
    assert rise("retries_total", "delete") == module.DELETE_ATTEMPTS


async def test_while_redis_is_down_appends_are_retried_and_what_is_given_back_is_counted(
    scene: Scene, rise: Rise
) -> None:
    async with scene.running():
        scene.valkey.stop()
        scene.sqs.send(scene.stage, "acme", "hello")
        await eventually(lambda: rise("retries_total", "append") > 0, 30)
        assert rise("in_hand") == 1
    assert rise("messages_total", "given_back") >= 1, "it may have come again while the relay stopped"
    assert rise("messages_total", "appended") == rise("in_hand") == 0


async def test_while_redis_is_down_retries_rise_on_when_nothing_is_in_hand_any_more(
    make_scene: Callable[..., Scene], rise: Rise, settings: Any
) -> None:
    """An alert that watches them would fall silent in the first minutes of an outage."""
    settings.HERMES_VISIBILITY_SECONDS = 1
    scene = make_scene(pollers=1)
    async with scene.running():
        scene.valkey.stop()
        scene.sqs.send(scene.stage, "acme", "hello")
        await eventually(lambda: rise("messages_total", "given_back") > 0, 30)
        before = rise("retries_total", "append")
        await eventually(lambda: rise("retries_total", "append") > before, 30)


async def test_an_sqs_that_does_not_answer_is_a_retry(
    scene: Scene, rise: Rise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Any:
        raise QueueUnavailable("no")

    monkeypatch.setattr(scene.queue, "receive", in_thread(refuse))
    async with scene.running():
        await eventually(lambda: rise("retries_total", "receive") > 0)
    assert rise("batches_total") == 0


@pytest.mark.parametrize(
    ("system", "sent_at"),
    [({"SentTimestamp": "1700000000123"}, 1_700_000_000_123), ({}, 0), ({"SentTimestamp": "?"}, 0)],
)
def test_when_sqs_took_a_message_is_known_where_it_says_so(system: dict[str, str], sent_at: int) -> None:
    received = Received.of({"MessageId": "1", "ReceiptHandle": "r", "Body": "b", "Attributes": system})
    assert received.sent_at == sent_at
