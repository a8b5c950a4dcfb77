"""The dead-letter queue on a real SQS: looking takes nothing away, and nothing leaves before its successor is sent."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from hermes_site.engines import AwsEndpoint
from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.intake import dead_letters, queue
from notifications.intake.dead_letters import DeadLetters
from notifications.intake.letter import Done, Outcome
from notifications.intake.queue import Queue
from notifications.intake.received import ERROR_ATTRIBUTE, MAX_BYTES, Received
from tests.asking import receive
from tests.intake.conftest import Scene, Sqs
from tests.proxy import AwsProxy
from tests.waiting import wait_until

GOOD = {"user_id": 7, "room_id": "acme", "data": {"type": "info", "data": "hello"}}
BROKEN = '{"user_id": 7, "room_id": "acme", "data": oops}'
REASON = "not_json: This is not JSON: Expecting value at character 42."


def body(**fields: Any) -> str:
    """A body that the relay would take."""
    return json.dumps({**GOOD, **fields})


def bury(sqs: Sqs, stage: Stage, text: str, reason: str = "", **options: Any) -> str:
    """Put a letter into the dead-letter queue, as a relay does with a reason and as SQS does without."""
    if reason:
        attribute = {ERROR_ATTRIBUTE: {"DataType": "String", "StringValue": reason}}
        options["MessageAttributes"] = {**options.get("MessageAttributes", {}), **attribute}
    return sqs.put(stage.dlq_name, text, **options)


def outcomes(done: Iterator[Done]) -> dict[str, Outcome]:
    """What became of each letter."""
    return {each.id: each.outcome for each in done}


def visible(sqs: Sqs, name: str) -> int:
    """How many messages of a queue can be received now."""
    asked = ["ApproximateNumberOfMessages"]
    answer = sqs.client.get_queue_attributes(QueueUrl=sqs.url(name), AttributeNames=asked)
    return int(answer["Attributes"][asked[0]])


@pytest.fixture
def fifo(sqs: Sqs, stage: Stage) -> Stage:
    """A stage whose queues are FIFO, provisioned."""
    fifo = replace(stage, queue_name="hermes.fifo", dlq_name="hermes-dead.fifo")
    queue.provision(fifo)
    return fifo


class Watching(AwsProxy):
    """A proxy before SQS for the code and not for the test; it may watch each call."""

    def __init__(self) -> None:
        self.watcher: Callable[[str, bytes], None] | None = None
        super().__init__(lambda target, request: self.watcher(target, request) if self.watcher else None)


@pytest.fixture(scope="module")
def _proxy(_engine: AwsEndpoint) -> Iterator[Watching]:
    """One for all tests: boto3 takes long to make a client, and makes one for each address."""
    proxy = Watching()
    proxy.start(_engine.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def make_proxy(queues: Sqs, _proxy: Watching, settings: Any) -> Callable[..., AwsProxy]:
    """Return a function that puts the proxy before SQS, and a watcher into it."""
    _proxy.deny()
    _proxy.watcher = None

    def make(watch: Callable[[str, bytes], None] | None = None) -> AwsProxy:
        _proxy.watcher = watch
        settings.AWS_ENDPOINT_URL = _proxy.url
        return _proxy

    return make


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_look_shows_who_where_why_how_old_and_how_often(queues: Sqs, stage: Stage) -> None:
    refused = bury(queues, stage, BROKEN, REASON)
    given_up = bury(queues, stage, body(user_id="alice"))
    look = DeadLetters(stage).look()
    rows = {row.id: row for row in look.rows}
    assert (look.about, look.waiting, look.in_hand, look.not_given_back) == (2, 2, 0, 0)
    row = rows[refused]
    assert (row.reason, row.is_given_up, row.room, row.sender) == (REASON, False, "acme", "7")
    assert (row.gone_wrong.partition(":")[0], row.size, row.receives) == ("not_json", len(BROKEN), 1)
    assert row.sent_at is not None
    assert abs(time.time() - row.sent_at) < 60
    row = rows[given_up]
    assert (row.is_given_up, row.sender, row.gone_wrong) == (True, "alice", "")
    assert row.reason == "SQS gave it up: it was received too many times and never delivered."


def test_what_the_relay_buries_says_why(queues: Sqs, stage: Stage) -> None:
    refusal = MessageRefused("not_json", "This is not JSON.")
    Queue(stage).dead_letter(Received("id", "receipt", BROKEN), refusal)
    (row,) = DeadLetters(stage).look().rows
    assert (row.reason, row.is_given_up) == ("not_json: This is not JSON.", False)


def test_an_empty_queue_is_seen_empty_at_once(queues: Sqs, stage: Stage) -> None:
    began = time.monotonic()
    look = DeadLetters(stage).look()
    assert (look.rows, look.about) == ([], 0)
    assert time.monotonic() - began < 1


def test_looking_takes_nothing_away_and_only_counts(queues: Sqs, stage: Stage) -> None:
    for number in range(12):
        bury(queues, stage, body(data=number))
    first = DeadLetters(stage).look()
    assert visible(queues, stage.dlq_name) == 12
    second = DeadLetters(stage).look()
    assert {row.id for row in first.rows} == {row.id for row in second.rows}
    assert {row.receives for row in second.rows} == {2}


def test_of_many_letters_some_are_shown_and_the_rest_is_counted(queues: Sqs, stage: Stage) -> None:
    for number in range(53):
        bury(queues, stage, body(data=number))
    look = DeadLetters(stage).look()
    assert (len(look.rows), look.about) == (50, 53)
    assert visible(queues, stage.dlq_name) == 53


def test_of_two_operators_at_once_the_second_is_told_of_the_first(queues: Sqs, stage: Stage) -> None:
    letter = bury(queues, stage, body())
    first, second = DeadLetters(stage), DeadLetters(stage)
    (held,) = first._take([letter])
    look = second.look()
    assert (look.rows, look.in_hand, look.about) == ([], 1, 1)
    assert second.open(letter) is None
    assert outcomes(second.send_again([letter])) == {letter: Outcome.MISSING}
    assert outcomes(second.discard([letter])) == {letter: Outcome.MISSING}
    assert first._give_back([held.received]) == 0
    assert [row.id for row in second.look().rows] == [letter]


def test_a_letter_is_opened_with_its_body_and_given_back(queues: Sqs, stage: Stage) -> None:
    letters = [bury(queues, stage, body(data=number)) for number in range(25)]
    opened = DeadLetters(stage).open(letters[17])
    assert opened is not None
    assert (opened.id, json.loads(opened.received.body)["data"]) == (letters[17], 17)
    assert visible(queues, stage.dlq_name) == 25
    assert DeadLetters(stage).open("no such letter") is None
    assert visible(queues, stage.dlq_name) == 25
    assert "acme" not in repr(opened)


def test_a_body_that_leaves_no_room_for_a_reason_is_not_said_to_be_given_up(queues: Sqs, stage: Stage) -> None:
    bury(queues, stage, "x" * MAX_BYTES)
    (row,) = DeadLetters(stage).look().rows
    assert (row.is_given_up, row.reason.partition(":")[0]) == (False, "too_large")
    assert row.reason.endswith("Its body left no room for the reason.")


def test_operators_at_once_lose_nothing_and_send_each_letter_once(queues: Sqs, stage: Stage) -> None:
    letters = {bury(queues, stage, body(data=number)) for number in range(30)}
    with ThreadPoolExecutor(8) as operators:
        looks = [operators.submit(DeadLetters(stage).look) for _ in range(8)]
        for look in looks:
            assert {row.id for row in look.result().rows} <= letters
        assert visible(queues, stage.dlq_name) == 30
        sending = [operators.submit(lambda: outcomes(DeadLetters(stage).send_all())) for _ in range(3)]
        became = [result.result() for result in sending]
    assert sorted(letter for each in became for letter in each) == sorted(letters)
    assert {outcome for each in became for outcome in each.values()} == {Outcome.SENT}
    assert sorted(json.loads(sent["Body"])["id"] for sent in queues.take(stage.queue_name)) == sorted(letters)


@pytest.mark.parametrize(
    "text", ["x" * MAX_BYTES, "\\ud800 \u202e {", "[" * 100_000, '{"room_id": "acme"' + " " * 500_000, "\x7f"]
)
def test_a_body_of_any_size_and_kind_is_listed_and_opened(queues: Sqs, stage: Stage, text: str) -> None:
    letter = bury(queues, stage, text)
    (row,) = DeadLetters(stage).look().rows
    assert row.gone_wrong
    opened = DeadLetters(stage).open(letter)
    assert opened is not None
    assert len(opened.received.body) == len(text)
    assert outcomes(DeadLetters(stage).send_again([letter])) == {letter: Outcome.REFUSED}
    assert queues.held(stage.dlq_name) == 1


def test_a_queue_that_is_not_there_is_named_with_its_cure(queues: Sqs, stage: Stage) -> None:
    queues.client.delete_queue(QueueUrl=queues.url(stage.dlq_name))
    with pytest.raises(QueueUnavailable, match=r"There is no queue .*-dead.*manage.py provision"):
        DeadLetters(stage).look()


# ── Sending again ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_letter_that_is_sent_again_is_in_the_queue_and_not_here(queues: Sqs, stage: Stage) -> None:
    trace = {"trace": {"DataType": "String", "StringValue": "abc"}}
    letter = bury(queues, stage, body(), REASON, MessageAttributes=trace)
    other = bury(queues, stage, body())
    assert outcomes(DeadLetters(stage).send_again([letter])) == {letter: Outcome.SENT}
    (sent,) = queues.take(stage.queue_name)
    assert json.loads(sent["Body"]) == {"id": letter, **GOOD}
    assert {name: value["StringValue"] for name, value in sent["MessageAttributes"].items()} == {"trace": "abc"}
    assert [row.id for row in DeadLetters(stage).look().rows] == [other]


def test_a_letter_keeps_the_id_that_its_producer_gave_it(queues: Sqs, stage: Stage) -> None:
    letter = bury(queues, stage, body(id="order-7"))
    outcomes(DeadLetters(stage).send_again([letter]))
    assert [each["Body"] for each in queues.take(stage.queue_name)] == [body(id="order-7")]


def test_a_mended_letter_is_sent_as_it_was_mended(queues: Sqs, stage: Stage) -> None:
    letter = bury(queues, stage, BROKEN, REASON)
    (done,) = DeadLetters(stage).send_again([letter], BROKEN.replace("oops", '"mended"'))
    assert (done.outcome, done.is_mended) == (Outcome.SENT, True)
    (sent,) = queues.take(stage.queue_name)
    assert json.loads(sent["Body"]) == {"id": letter, "user_id": 7, "room_id": "acme", "data": "mended"}
    assert queues.held(stage.dlq_name) == 0


def test_a_letter_that_a_form_gives_back_unchanged_is_sent_as_it_was(queues: Sqs, stage: Stage) -> None:
    text = body(id="1").replace(", ", ",\r\n")
    letter = bury(queues, stage, text)
    (done,) = DeadLetters(stage).send_again([letter], text.replace("\r\n", "\n"))
    assert not done.is_mended
    assert queues.take(stage.queue_name)[0]["Body"] == text


@pytest.mark.parametrize("mended", [None, "", "{", body(room_id="")])
def test_what_the_relay_would_refuse_is_not_sent_and_stays(queues: Sqs, stage: Stage, mended: str | None) -> None:
    letter = bury(queues, stage, BROKEN, REASON)
    (done,) = DeadLetters(stage).send_again([letter], mended)
    assert (done.outcome, "acme" in done.why) == (Outcome.REFUSED, False)
    assert queues.held(stage.queue_name) == 0
    assert visible(queues, stage.dlq_name) == 1


def test_the_successor_is_sent_first_and_the_letter_deleted_then(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letter = bury(queues, stage, body())
    seen: list[tuple[str, int, int]] = []

    def watch(target: str, request: bytes) -> None:
        counts = queues.held(stage.queue_name), queues.held(stage.dlq_name)
        seen.append((target.partition(".")[2], *counts))

    make_proxy(watch)
    assert outcomes(DeadLetters(stage).send_again([letter])) == {letter: Outcome.SENT}
    order = [each for each in seen if each[0] in ("SendMessage", "DeleteMessageBatch")]
    assert order == [("SendMessage", 0, 1), ("DeleteMessageBatch", 1, 1)]
    assert (queues.held(stage.queue_name), queues.held(stage.dlq_name)) == (1, 0)


def test_a_letter_whose_successor_cannot_be_sent_stays(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letters = [bury(queues, stage, body(data=number)) for number in range(2)]
    make_proxy().deny("SendMessage")
    (done, missing) = list(DeadLetters(stage).send_again([letters[0], "gone"]))
    assert (done.outcome, missing.outcome) == (Outcome.FAILED, Outcome.MISSING)
    assert done.why.endswith(f"could not send again to {stage.queue_name}: SQS refused with AccessDeniedException")
    (done,) = list(DeadLetters(stage).send_all())
    assert done.outcome is Outcome.FAILED
    assert visible(queues, stage.dlq_name) == 2


def test_a_letter_that_cannot_be_deleted_is_said_to_be_in_both_queues_and_has_one_id_in_both(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letter = bury(queues, stage, body())
    proxy = make_proxy()
    proxy.deny("DeleteMessageBatch")
    (done,) = list(DeadLetters(stage).send_again([letter]))
    assert (done.outcome, "AccessDenied" in done.why) == (Outcome.LEFT, True)
    assert visible(queues, stage.dlq_name) == 1
    proxy.deny()
    assert outcomes(DeadLetters(stage).send_all()) == {letter: Outcome.SENT}
    assert [json.loads(sent["Body"])["id"] for sent in queues.take(stage.queue_name)] == [letter, letter]


async def test_a_letter_that_is_in_both_queues_is_in_the_history_once(
    scene: Scene, make_proxy: Callable[..., AwsProxy]
) -> None:
    letter = bury(scene.sqs, scene.stage, body(data="once"))
    letters = DeadLetters(scene.stage)
    make_proxy().deny("DeleteMessageBatch")
    denied = DeadLetters(scene.stage)
    assert await asyncio.to_thread(lambda: outcomes(denied.send_again([letter]))) == {letter: Outcome.LEFT}
    assert await asyncio.to_thread(lambda: outcomes(letters.send_again([letter]))) == {letter: Outcome.SENT}
    carried = 0
    while carried < 2:
        carried += await scene.relay.turn()
    assert await scene.data() == ["once"]
    assert (scene.held(), scene.sqs.held(scene.stage.dlq_name)) == (0, 0)


def test_a_letter_that_somebody_else_has_received_meanwhile_is_said_to_be_left(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letter = bury(queues, stage, body())

    def watch(target: str, request: bytes) -> None:
        if target.endswith(
            ".DeleteMessageBatch"
        ):  # the hold has run out, and another look has the letter's new receipt
            receipt = json.loads(request)["Entries"][0]["ReceiptHandle"]
            url = queues.url(stage.dlq_name)
            queues.client.change_message_visibility(QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0)
            assert DeadLetters(stage)._take([letter])

    make_proxy(watch)
    (done,) = list(DeadLetters(stage).send_again([letter]))
    assert (done.outcome, done.why) == (Outcome.LEFT, "SQS did not delete it")
    assert (queues.held(stage.queue_name), queues.held(stage.dlq_name)) == (1, 1)


def test_all_that_the_relay_would_take_is_sent_and_the_rest_stays(queues: Sqs, stage: Stage) -> None:
    good = [bury(queues, stage, body(data=number)) for number in range(23)]
    bad = [bury(queues, stage, BROKEN, REASON) for _ in range(3)]
    became = outcomes(DeadLetters(stage).send_all())
    assert became == dict.fromkeys(good, Outcome.SENT) | dict.fromkeys(bad, Outcome.REFUSED)
    assert queues.held(stage.queue_name) == 23
    assert visible(queues, stage.dlq_name) == 3


def test_sending_all_ends_when_its_time_is_over(queues: Sqs, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = [bury(queues, stage, body(data=number)) for number in range(3)]
    sending = DeadLetters(stage).send_all()
    assert next(sending).outcome is Outcome.SENT
    clock = time.monotonic
    monkeypatch.setattr(dead_letters.time, "monotonic", lambda: clock() + dead_letters.ACT_SECONDS)
    (late,) = sending
    assert (late.outcome, late.why) == (Outcome.FAILED, "10 s are over")
    assert visible(queues, stage.dlq_name) == len(letters) - 1


def test_whoever_stops_reading_stops_the_sending_and_the_rest_comes_back(queues: Sqs, stage: Stage) -> None:
    for number in range(3):
        bury(queues, stage, body(data=number))
    sending = DeadLetters(stage).send_all()
    next(sending)
    sending.close()  # type: ignore[attr-defined]
    assert (queues.held(stage.queue_name), visible(queues, stage.dlq_name)) == (1, 2)


# ── FIFO ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_fifo_letter_keeps_its_group_and_the_groups_their_order(sqs: Sqs, fifo: Stage) -> None:
    for number in range(4):
        group = f"group-{number % 2}"
        bury(sqs, fifo, body(data=number), MessageGroupId=group, MessageDeduplicationId=str(number))
    assert set(outcomes(DeadLetters(fifo).send_all()).values()) == {Outcome.SENT}
    sent = [
        (each["Attributes"]["MessageGroupId"], json.loads(each["Body"])["data"]) for each in sqs.take(fifo.queue_name)
    ]
    assert sorted(sent) == [("group-0", 0), ("group-0", 2), ("group-1", 1), ("group-1", 3)]
    assert sent.index(("group-0", 0)) < sent.index(("group-0", 2))
    assert sqs.held(fifo.dlq_name) == 0


def test_a_fifo_queue_does_not_take_a_letter_for_a_duplicate_of_what_it_was(sqs: Sqs, fifo: Stage) -> None:
    text = body(id="order-7")
    Queue(fifo).send(text)
    (first,) = receive(Queue(fifo))
    assert Queue(fifo).dead_letter(first, MessageRefused("not_json", "As an older relay thought."))
    Queue(fifo).delete([first])
    (row,) = DeadLetters(fifo).look().rows
    assert outcomes(DeadLetters(fifo).send_again([row.id])) == {row.id: Outcome.SENT}
    (second,) = receive(Queue(fifo))
    assert (second.body, second.group) == (text, first.group)


def test_a_fifo_letter_that_was_not_deleted_is_a_duplicate_when_it_is_sent_once_more(
    sqs: Sqs, fifo: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letter = bury(sqs, fifo, body(), MessageGroupId="orders", MessageDeduplicationId="1")
    proxy = make_proxy()
    proxy.deny("DeleteMessageBatch")
    assert outcomes(DeadLetters(fifo).send_again([letter])) == {letter: Outcome.LEFT}
    proxy.deny()
    assert outcomes(DeadLetters(fifo).send_again([letter])) == {letter: Outcome.SENT}
    assert (sqs.held(fifo.queue_name), sqs.held(fifo.dlq_name)) == (1, 0)


# ── Discarding ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_only_what_is_chosen_is_discarded(queues: Sqs, stage: Stage) -> None:
    letters = [bury(queues, stage, BROKEN, REASON) for _ in range(12)]
    became = outcomes(DeadLetters(stage).discard([*letters[:2], "gone", "gone"]))
    assert became == {letters[0]: Outcome.DISCARDED, letters[1]: Outcome.DISCARDED, "gone": Outcome.MISSING}
    assert {row.id for row in DeadLetters(stage).look().rows} == set(letters[2:])
    assert queues.held(stage.queue_name) == 0


def test_a_letter_that_cannot_be_discarded_stays(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letter = bury(queues, stage, BROKEN, REASON)
    make_proxy().deny("DeleteMessageBatch")
    assert outcomes(DeadLetters(stage).discard([letter])) == {letter: Outcome.FAILED}
    assert visible(queues, stage.dlq_name) == 1


# ── What does not answer ─────────────────────────────────────────────────────────────────────────────────────────────
ASK: dict[str, Callable[[DeadLetters], Any]] = {
    "look": lambda letters: letters.look(),
    "open": lambda letters: letters.open("m"),
    "send again": lambda letters: list(letters.send_again(["m"])),
    "send all": lambda letters: list(letters.send_all()),
    "discard": lambda letters: list(letters.discard(["m"])),
}


def test_an_sqs_that_does_not_answer_is_unavailable(stage: Stage, settings: Any, nowhere: str) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    for ask in ASK.values():
        with pytest.raises(QueueUnavailable) as caught:
            ask(DeadLetters(stage))
        assert str(caught.value) == f"Queue '{stage.dlq_name}': could not be counted: EndpointConnectionError"


def test_an_sqs_that_hangs_is_waited_for_twice_and_no_longer(
    stage: Stage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "READ_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.AWS_ENDPOINT_URL = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(QueueUnavailable, match="could not be counted: ReadTimeoutError"):
            DeadLetters(stage).look()
        assert 2 <= time.monotonic() - began < 6


@pytest.mark.parametrize("asked", ASK)
def test_a_role_that_may_not_receive_is_told_so(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy], asked: str
) -> None:
    make_proxy().deny("ReceiveMessage")
    with pytest.raises(QueueUnavailable, match="could not be looked at: SQS refused with AccessDenied"):
        ASK[asked](DeadLetters(stage))


def test_letters_that_cannot_be_given_back_are_counted_and_come_back_by_themselves(
    queues: Sqs,
    stage: Stage,
    make_proxy: Callable[..., AwsProxy],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(dead_letters, "HOLD_SECONDS", 1)
    bury(queues, stage, BROKEN, REASON)
    make_proxy().deny("ChangeMessageVisibilityBatch")
    with caplog.at_level(logging.INFO, "notifications"):
        assert DeadLetters(stage).look().not_given_back == 1
    assert "1 dead letters come back within 1 s" in caplog.text
    assert "oops" not in caplog.text
    assert visible(queues, stage.dlq_name) == 0
    wait_until(lambda: visible(queues, stage.dlq_name) == 1)


def test_an_sqs_that_stops_in_the_middle_of_a_search_gives_back_what_it_had(
    queues: Sqs, stage: Stage, make_proxy: Callable[..., AwsProxy]
) -> None:
    letters = [bury(queues, stage, body(data=number)) for number in range(12)]
    proxies: list[AwsProxy] = []

    def watch(target: str, request: bytes) -> None:
        if target.endswith(".ReceiveMessage"):
            proxies[0].deny(*(["ReceiveMessage"] if watched else []))
            watched.append(target)

    watched: list[str] = []
    proxies.append(make_proxy(watch))
    with pytest.raises(QueueUnavailable):
        list(DeadLetters(stage).send_again([*letters, "gone"]))
    assert (visible(queues, stage.dlq_name), queues.held(stage.queue_name)) == (12, 0)
