"""One stage's queue on a real SQS: receive, delete, give back, bury, send; and what is said when it does not answer."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.intake import envelope
from notifications.intake.queue import Queue, attributes, date, provision, refused
from notifications.intake.received import (
    ERROR_ATTRIBUTE,
    MAX_ATTRIBUTES,
    MAX_BYTES,
    Received,
    dead_letter_attributes,
)
from tests.asking import receive
from tests.intake.conftest import Sqs
from tests.waiting import wait_until

REFUSAL = MessageRefused("not_json", "This is not JSON.")


def text(value: str) -> dict[str, Any]:
    """A message attribute."""
    return {"DataType": "String", "StringValue": value}


@pytest.fixture
def fifo(sqs: Sqs, stage: Stage) -> Stage:
    """A stage whose queues are FIFO, provisioned."""
    fifo = replace(stage, queue_name="hermes.fifo", dlq_name="hermes-dead.fifo")
    provision(fifo)
    return fifo


# ── Receive, delete, give back ───────────────────────────────────────────────────────────────────────────────────────
def test_what_is_sent_is_received(queues: Sqs, stage: Stage) -> None:
    sent = Queue(stage).send('{"room_id": "acme"}')
    (received,) = receive(Queue(stage))
    assert (received.id, received.body, received.group, received.attributes) == (sent, '{"room_id": "acme"}', None, {})
    assert "acme" not in repr(received)


def test_a_producers_attributes_come_with_it(queues: Sqs, stage: Stage) -> None:
    attributes = {"trace": text("abc"), "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"}}
    queues.put(stage.queue_name, "x", MessageAttributes=attributes)
    (received,) = receive(Queue(stage))
    assert {name: received.attributes[name]["DataType"] for name in received.attributes} == {
        "trace": "String",
        "raw": "Binary",
    }


def test_an_empty_queue_gives_nothing_after_a_poll(queues: Sqs, stage: Stage) -> None:
    assert receive(Queue(stage)) == []


def test_at_most_ten_come_at_once(queues: Sqs, stage: Stage) -> None:
    for number in range(12):
        queues.put(stage.queue_name, str(number))
    assert len(receive(Queue(stage))) == 10


def test_what_is_received_is_in_flight_until_it_is_deleted(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    queue.send("x")
    received = receive(queue)
    assert receive(queue) == []
    assert queues.held(stage.queue_name) == 1
    assert queue.delete(received) == []
    assert queues.held(stage.queue_name) == 0


def test_what_is_given_back_comes_again_at_once(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    queue.send("x")
    first = receive(queue)
    queue.hold(first, 0)
    assert [message.id for message in receive(queue)] == [first[0].id]


def test_what_is_held_longer_stays_in_flight(queues: Sqs, stage: Stage, settings: Any) -> None:
    queue = Queue(stage)
    for number in range(12):
        queue.send(str(number))
    settings.HERMES_VISIBILITY_SECONDS = 2
    received = [*receive(queue), *receive(queue)]
    began = time.monotonic()
    assert queue.hold(received, 60) == []
    wait_until(lambda: time.monotonic() > began + 2.5)
    assert receive(queue) == []
    assert queue.hold(received, 0) == []
    assert len(receive(queue)) == 10


def test_a_batch_that_is_held_fails_for_each_separately(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    queue.send("x")
    (good,) = receive(queue)
    spoiled = replace(good, receipt="no receipt")
    assert queue.hold([spoiled, good, spoiled], 0) == [spoiled, spoiled]
    assert [message.id for message in receive(queue)] == [good.id]


def test_nothing_to_delete_or_give_back_asks_nobody(queues: Sqs, stage: Stage) -> None:
    queues.client.delete_queue(QueueUrl=queues.url(stage.queue_name))
    assert Queue(stage).delete([]) == []
    assert Queue(stage).hold([], 0) == []


def test_a_batch_of_deletes_fails_for_each_separately(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    queue.send("x")
    (good,) = receive(queue)
    spoiled = replace(good, receipt="no receipt")
    assert queue.delete([spoiled, good, spoiled]) == [spoiled, spoiled]
    assert queues.held(stage.queue_name) == 0


# ── The dead-letter queue ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_dead_letter_has_its_body_its_attributes_and_the_reason(queues: Sqs, stage: Stage) -> None:
    queues.put(stage.queue_name, "not json", MessageAttributes={"trace": text("abc")})
    queue = Queue(stage)
    assert queue.dead_letter(receive(queue)[0], REFUSAL)
    (dead,) = queues.take(stage.dlq_name)
    assert dead["Body"] == "not json"
    assert {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()} == {
        "trace": "abc",
        ERROR_ATTRIBUTE: "not_json: This is not JSON.",
    }


def test_a_binary_attribute_survives(queues: Sqs, stage: Stage) -> None:
    raw = {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"}
    queues.put(stage.queue_name, "x", MessageAttributes={"raw": raw})
    queue = Queue(stage)
    queue.dead_letter(receive(queue)[0], REFUSAL)
    (dead,) = queues.take(stage.dlq_name)
    assert dead["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00\xff"


def test_a_stage_without_a_dead_letter_queue_says_so(queues: Sqs, stage: Stage) -> None:
    queues.client.delete_queue(QueueUrl=queues.url(stage.dlq_name))
    assert Queue(stage).dead_letter(Received("id", "receipt", "body"), REFUSAL) is False


def test_a_dead_letter_queue_that_goes_away_later_is_looked_up_again(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    message = Received("id", "receipt", "body")
    assert queue.dead_letter(message, REFUSAL)
    queues.client.delete_queue(QueueUrl=queues.url(stage.dlq_name))
    with pytest.raises(QueueUnavailable, match="could not send to the dead-letter queue"):
        queue.dead_letter(message, REFUSAL)
    assert queue.dead_letter(message, REFUSAL) is False


def test_ten_attributes_leave_a_place_for_the_reason(queues: Sqs, stage: Stage) -> None:
    ten = {f"name-{number}": text(str(number)) for number in range(MAX_ATTRIBUTES)}
    queues.put(stage.queue_name, "x", MessageAttributes=ten)
    queue = Queue(stage)
    queue.dead_letter(receive(queue)[0], REFUSAL)
    (dead,) = queues.take(stage.dlq_name)
    assert set(dead["MessageAttributes"]) == {*list(ten)[:-1], ERROR_ATTRIBUTE}
    assert dead["MessageAttributes"][ERROR_ATTRIBUTE]["StringValue"].endswith("Dropped attributes: name-9.")


def test_an_earlier_reason_gives_way_to_ours() -> None:
    message = Received("id", "receipt", "x", attributes={ERROR_ATTRIBUTE: text("old"), "a": text("1")})
    assert dead_letter_attributes(message, "new") == {"a": text("1"), ERROR_ATTRIBUTE: text("new")}


def size(body: str, attributes: dict[str, Any]) -> int:
    """The size of a message as SQS counts it."""
    values = sum(len(a.get("StringValue", "").encode()) + len(a.get("BinaryValue", b"")) for a in attributes.values())
    return len(body.encode()) + values + sum(len(name) + len(a["DataType"]) for name, a in attributes.items())


@pytest.mark.parametrize("spare", [0, 1, 500, 1023, 1024, 1100, 5000])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_dead_letter_never_outgrows_what_sqs_takes(spare: int, letter: str) -> None:
    attributes = {"a": text("v" * 200), "b": {"DataType": "Binary", "BinaryValue": b"v" * 200}}
    body = letter * ((MAX_BYTES - spare - 420) // len(letter.encode()))
    kept = dead_letter_attributes(Received("id", "receipt", body, attributes=attributes), "reason " * 200)
    assert size(body, kept) <= MAX_BYTES
    assert len(kept) <= MAX_ATTRIBUTES
    if spare > 1500:
        assert set(kept) == {"a", "b", ERROR_ATTRIBUTE}


def test_a_body_of_a_whole_mebibyte_is_kept_without_a_reason(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    assert dead_letter_attributes(Received("id", "receipt", "x" * MAX_BYTES), "reason") == {}
    assert queue.dead_letter(Received("id", "receipt", "x" * MAX_BYTES), REFUSAL)
    (dead,) = queues.take(stage.dlq_name)
    assert len(dead["Body"]) == MAX_BYTES
    assert "MessageAttributes" not in dead


def test_half_a_surrogate_pair_can_be_measured() -> None:
    assert ERROR_ATTRIBUTE in dead_letter_attributes(Received("id", "receipt", "\ud800"), "reason")


# ── FIFO ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_fifo_queue_takes_our_messages_in_order_of_their_room(sqs: Sqs, fifo: Stage) -> None:
    queue = Queue(fifo)
    for room, key in (("Größe 1", "a"), ("Größe 1", "b"), ("acme", "a")):
        queue.send(envelope.encode(1, room, "x", id=key))
    received = receive(queue)
    rooms = {message.body: message.group for message in received}
    assert len(received) == 3  # the same key in two rooms is two messages
    assert set(rooms.values()) == {hashlib.sha256(room.encode()).hexdigest() for room in ("Größe 1", "acme")}


def test_a_fifo_queue_drops_what_has_the_same_room_and_key(sqs: Sqs, fifo: Stage) -> None:
    for _ in range(2):
        Queue(fifo).send(envelope.encode(1, "acme", "x", id="a"))
    assert sqs.held(fifo.queue_name) == 1


def test_messages_without_a_key_are_never_the_same(sqs: Sqs, fifo: Stage) -> None:
    for _ in range(2):
        Queue(fifo).send(envelope.encode(1, "acme", "x"))
    assert sqs.held(fifo.queue_name) == 2


def test_a_fifo_dead_letter_keeps_its_group(sqs: Sqs, fifo: Stage) -> None:
    queue = Queue(fifo)
    sqs.put(fifo.queue_name, "not json", MessageGroupId="orders", MessageDeduplicationId="1")
    (message,) = receive(queue)
    assert message.group == "orders"
    for _ in range(2):  # burying it again after a lost answer makes no second one
        assert queue.dead_letter(message, REFUSAL)
    assert queue.dead_letter(replace(message, id="another", group=None), REFUSAL)
    groups = [dead["Attributes"]["MessageGroupId"] for dead in sqs.take(fifo.dlq_name)]
    assert sorted(groups) == ["hermes", "orders"]


# ── Provision ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_provisioning_makes_both_queues_with_redrive_and_may_be_repeated(sqs: Sqs, stage: Stage, settings: Any) -> None:
    for _ in range(2):
        provision(stage)
    assert sqs.names() == {stage.queue_name, stage.dlq_name}
    answer = sqs.client.get_queue_attributes(QueueUrl=sqs.url(stage.queue_name), AttributeNames=["All"])
    policy = json.loads(answer["Attributes"]["RedrivePolicy"])
    assert policy["deadLetterTargetArn"].endswith(f":{stage.dlq_name}")
    assert int(policy["maxReceiveCount"]) == settings.HERMES_MAX_RECEIVES
    assert int(answer["Attributes"]["VisibilityTimeout"]) == settings.HERMES_VISIBILITY_SECONDS
    assert attributes(stage, stage.queue_name) == answer["Attributes"]
    assert refused(stage) == []


def test_provisioning_leaves_messages_where_they_are(queues: Sqs, stage: Stage) -> None:
    queues.put(stage.queue_name, "x")
    provision(stage)
    assert queues.held(stage.queue_name) == 1


# ── What does not answer, or refuses ─────────────────────────────────────────────────────────────────────────────────
ASK: dict[str, Any] = {
    "receive": lambda stage: receive(Queue(stage)),
    "delete": lambda stage: Queue(stage).delete([Received("id", "receipt", "body")]),
    "hold": lambda stage: Queue(stage).hold([Received("id", "receipt", "body")], 60),
    "release": lambda stage: Queue(stage).hold([Received("id", "receipt", "body")], 0),
    "send": lambda stage: Queue(stage).send('{"room_id": "acme"}'),
}


@pytest.mark.parametrize("doing", ASK)
def test_a_queue_that_is_not_there_is_named(queues: Sqs, stage: Stage, doing: str) -> None:
    with pytest.raises(QueueUnavailable) as caught:
        ASK[doing](replace(stage, queue_name="notThere"))
    assert str(caught.value).startswith(f"Queue 'notThere': could not {doing}: SQS refused with ")
    assert "NonExistentQueue" in str(caught.value) or "QueueDoesNotExist" in str(caught.value)


@pytest.mark.parametrize(
    "doing",
    [
        *ASK,
        "be provisioned",
        "send to the dead-letter queue",
        "be asked for permissions",
        "be asked for the time",
        "describe its dead-letter queue",
    ],
)
def test_an_sqs_that_does_not_answer_is_unavailable(stage: Stage, settings: Any, nowhere: str, doing: str) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    asks = {
        **ASK,
        "be provisioned": provision,
        "be asked for permissions": refused,
        "be asked for the time": date,
        "describe its dead-letter queue": lambda s: attributes(s, s.dlq_name),
        "send to the dead-letter queue": lambda s: Queue(s).dead_letter(Received("id", "receipt", "body"), REFUSAL),
    }
    with pytest.raises(QueueUnavailable) as caught:
        asks[doing](stage)
    doing = doing.replace("its dead-letter queue", stage.dlq_name)
    assert str(caught.value) == f"Queue '{stage.queue_name}': could not {doing}: EndpointConnectionError"


def test_a_queue_made_anew_is_found_again(queues: Sqs, stage: Stage) -> None:
    queue = Queue(stage)
    queue.send("x")
    queues.client.delete_queue(QueueUrl=queues.url(stage.queue_name))
    with pytest.raises(QueueUnavailable):
        queue.send("y")
    provision(stage)
    assert queue.send("z")


def test_any_other_error_is_left_as_it_is(queues: Sqs, stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="ours"), Queue(stage)._errors("try"):
        raise RuntimeError("ours")
