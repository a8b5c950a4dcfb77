"""docs/migration.md is played: rooms move from the article's system to Hermes one by one, and back; nothing is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from notifications.exceptions import MessageRefused
from notifications.intake import envelope
from tests.conftest import Aws
from tests.e2e.moving import OLD, example, load, names, scene
from tests.e2e.old_system import TABLE
from tests.processes import Hermes
from tests.waiting import eventually, wait_until

MAX_BYTES = 65_536


@pytest.fixture(scope="module")
def own_hermes(make_hermes: Callable[..., Hermes]) -> Iterator[Hermes]:
    """A Hermes beside the article's system, with the names that the document gives it."""
    own = make_hermes(**names())
    try:
        yield own.start()
    finally:
        own.stop()


@pytest.fixture
def forwarder(tmp_path: Path) -> ModuleType:
    """The document's forwarder, imported."""
    return load("Forwarder", tmp_path)


@pytest.fixture
def queues(aws_endpoint: Aws) -> Iterator[dict[str, str]]:
    """The addresses of three queues of the test's own, as the forwarder calls them."""
    sqs = aws_endpoint.sqs
    made = {
        "from": sqs.create_queue(QueueName="moving", Attributes={"VisibilityTimeout": "1"})["QueueUrl"],
        "old": sqs.create_queue(QueueName="moving-old.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"],
        "hermes": sqs.create_queue(QueueName="moving-new")["QueueUrl"],
    }
    yield made
    for queue in made.values():
        sqs.delete_queue(QueueUrl=queue)


# ── The play ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_rooms_move_one_by_one_and_back_and_nobody_misses_a_message_or_sees_one_twice(
    own_hermes: Hermes, tmp_path: Path
) -> None:
    own = own_hermes.env["HERMES_QUEUE_NAME"]
    async with scene(own_hermes, tmp_path) as play:
        for user in ("alice", "bob", "charlie"):
            await play.open(user, "old")
        play.talk("acme", "globex")
        await play.go_on()

        # acme moves, while messages flow and the forwarder is killed with some that both sides have.
        await play.move("acme", "both")
        await play.change_sides("alice", "hermes")
        await play.forwarder.kill_between()
        await play.move("globex", "both")
        play.forwarder.start()
        await play.change_sides("bob", "hermes")
        await eventually(lambda: "acme" not in {row["room_id"] for row in play.old.rows()}, what="no row of acme")
        await play.move("acme", "hermes")
        moved = len(play.sent["acme"])
        await play.go_on()
        assert not any(play.forwarder.sent[OLD, text] for text in play.sent["acme"][moved:])

        # globex moves in a lull: Charlie's one page is loaded anew.
        await play.hush("acme", "globex")
        await play.everything_is_worked_off()
        await play.close(play.tabs["charlie"][0])
        await play.open("charlie", "hermes")
        await play.move("globex", "hermes")
        play.talk("acme", "globex")
        await play.go_on()

        # acme moves back.
        await play.move("acme", "both")
        await play.change_sides("alice", "old")
        await play.change_sides("bob", "old")
        await eventually(lambda: "acme" not in rooms_on(own_hermes), what="no connection of acme on Hermes")
        await play.move("acme", "old")
        moved = len(play.sent["acme"])
        await play.go_on()
        assert not any(play.forwarder.sent[own, text] for text in play.sent["acme"][moved:])

        # And once more; then all have moved, and the forwarder goes.
        await play.move("acme", "both")
        await play.change_sides("alice", "hermes")
        await play.change_sides("bob", "hermes")
        await play.move("acme", "hermes")
        await play.hush("acme", "globex")
        await play.everything_is_worked_off()
        await asyncio.to_thread(play.forwarder.stop)
        play.queue = own
        play.talk("acme", "globex")
        await play.go_on()
        await play.hush("acme", "globex")
        await play.everything_is_worked_off()

    # The kill was one: there are messages that were put on each side's queue a second time.
    assert {queue for (queue, _), times in play.forwarder.sent.items() if times > 1} == {OLD, own}
    for user, tabs in play.tabs.items():
        sent = play.sent[tabs[0].room]
        for tab in tabs:
            assert max(Counter(tab.shown).values()) == 1, f"{user}: each once"
            assert set(sent[tab.since : tab.until]) <= set(tab.shown) <= set(sent)
        assert set().union(*(tab.shown for tab in tabs)) == set(sent), f"{user}: all of them"
    # Who has one page at a time sees each once whatever side it was on.
    assert Counter(text for tab in play.tabs["charlie"] for text in tab.shown) == Counter(play.sent["globex"])
    assert not own_hermes.dead_letters(f"{own}-dead")
    assert "not obeyed" not in play.forwarder.log


def rooms_on(hermes: Hermes) -> set[str]:
    """Return the rooms that have connections on Hermes."""
    items = hermes.items(hermes.env["HERMES_CONNECTIONS_TABLE"])
    return {item["room_id"]["S"] for item in items if "room_id" in item}


# ── The sending function ─────────────────────────────────────────────────────────────────────────────────────────────
async def test_the_corrected_function_sends_for_browsers_and_forgets_who_is_gone(
    own_hermes: Hermes, tmp_path: Path
) -> None:
    async with scene(own_hermes, tmp_path) as play:
        for user in ("alice", "bob", "charlie"):
            await play.open(user, "old")
        alice, bob, charlie = (play.tabs[user][0].page for user in ("alice", "bob", "charlie"))
        stale = {"connection_id": {"S": "gone"}, "room_id": {"S": "acme"}, "user_id": {"S": "7"}}
        own_hermes.client("dynamodb").put_item(TableName=TABLE, Item=stale)
        await alice.say({"type": "info", "data": "from a browser"})  # type: ignore[union-attr]
        await eventually(lambda: alice.received and bob.received, what="both have it")
        assert alice.received == bob.received == [{"type": "info", "data": "from a browser"}]
        await eventually(lambda: "gone" not in {row["connection_id"] for row in play.old.rows()}, what="no stale row")
        assert charlie.received == []


async def test_the_corrected_function_takes_every_record_and_names_those_that_must_come_again(
    own_hermes: Hermes, tmp_path: Path
) -> None:
    async with scene(own_hermes, tmp_path) as play:
        await play.open("alice", "old")
        assert play.old.sender is not None
        alice = play.tabs["alice"][0].page
        bodies = [*(json.dumps({"user_id": 1, "room_id": "acme", "data": n}) for n in range(3)), "no JSON", "{}"]
        records = [{"messageId": f"m{number}", "body": body} for number, body in enumerate(bodies)]
        outcome = await asyncio.to_thread(play.old.sender.handler, {"Records": records}, None)
        assert outcome == {"batchItemFailures": [{"itemIdentifier": "m3"}, {"itemIdentifier": "m4"}]}
        await eventually(lambda: alice.received == [0, 1, 2], what="those before are there")


# ── The forwarder, part by part ──────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("body", "room"),
    [
        ('{"user_id": 1, "room_id": "acme", "data": {"type": "info", "data": "è"}}', "acme"),
        (' \n{"room_id":7,"user_id":"1","data":{"id":"another"},"to":[1]}', "7"),
        ('{"user_id": 1, "room_id": "acme", "data": [1.50, "\\u00e8"], "id": null}', "acme"),
        ('{"id": "the producer\'s", "user_id": 1, "room_id": "two words", "data": null}', "two words"),
        ('{"id": 7, "user_id": 1, "room_id": "acme", "data": null, "expires_at": 1.5}', "acme"),
    ],
)
def test_a_forwarded_message_is_to_hermes_what_it_was_and_has_the_same_id_each_time(
    forwarder: ModuleType, body: str, room: str
) -> None:
    message = {"MessageId": "5fea7756-0ea4-451a-a703-a558b933e274", "Body": body}
    read, forwarded = forwarder.opened(message)
    assert read == room
    before = envelope.decode(body, message["MessageId"], max_bytes=MAX_BYTES)
    assert envelope.decode(forwarded, "another queue's", max_bytes=MAX_BYTES) == before


@pytest.mark.parametrize(
    ("body", "room"),
    [
        ("no JSON", None),
        ("[" * 100_000, None),
        ('["room_id"]', None),
        ('{"user_id": 1, "data": 1}', None),
        ('{"user_id": 1, "room_id": true, "data": 1}', None),
        ('{"user_id": 1, "room_id": "acme", "data": 1, "data": 2}', "acme"),
        ('{"user_id": 1, "room_id": "acme", "data": NaN}', "acme"),
        ('{"user_id": 1, "room_id": "acme", "data": "\\ud800"}', "acme"),
        ('{"room_id": "acme", "data": 1}', "acme"),
    ],
    ids=["text", "deep", "list", "no-room", "no-room-id", "repeated", "not-finite", "surrogate", "no-user"],
)
def test_what_hermes_refuses_it_refuses_for_the_same_reason_when_it_was_forwarded(
    forwarder: ModuleType, body: str, room: str | None
) -> None:
    read, forwarded = forwarder.opened({"MessageId": "m", "Body": body})
    assert read == room
    codes = []
    for each in (body, forwarded):
        with pytest.raises(MessageRefused) as refusal:
            envelope.decode(each, "m", max_bytes=MAX_BYTES * 2)
        codes.append(refusal.value.code)
    assert codes[0] == codes[1]


def test_a_message_goes_by_where_its_room_was_when_it_was_sent(forwarder: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "moves.txt"
    path.write_text(example(), encoding="utf-8")
    moves = forwarder.read_moves(path)
    (first, _, _), (second, _, _), _ = moves
    assert forwarder.sides_of("acme", first - 0.001, moves) == ("old",)
    assert forwarder.sides_of("acme", first, moves) == ("old", "hermes")
    assert forwarder.sides_of("acme", second, moves) == ("hermes",)
    assert forwarder.sides_of("globex", second, moves) == ("old",)
    assert forwarder.sides_of("initech", second, moves) == ("old",)


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-24T09:00:00+01:00 both",
        "2026-11-24T09:00:00 both acme",
        "soon both acme",
        "2026-11-24T09:00:00Z bo acme",
    ],
)
def test_a_list_with_a_wrong_line_is_not_obeyed_and_stops_a_forwarder_that_starts(
    forwarder: ModuleType, tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "moves.txt"
    path.write_text(example(), encoding="utf-8")
    moves = forwarder.read_again(path, [])
    path.write_text(example() + line, encoding="utf-8")
    assert forwarder.read_again(path, moves) == moves
    assert "is not obeyed" in caplog.text
    with pytest.raises(ValueError, match="is no move"):
        forwarder.read_moves(path)


def test_batches_are_never_larger_than_sqs_takes_them(forwarder: ModuleType) -> None:
    sizes = [100_000, 100_000, 100_000, 900_000, 10, 10]
    entries = [{"Id": str(number), "MessageBody": "x" * size} for number, size in enumerate(sizes)]
    assert [[each["Id"] for each in batch] for batch in forwarder.batches(entries)] == [
        ["0", "1"],
        ["2"],
        ["3"],
        ["4", "5"],
    ]


def test_what_one_queue_does_not_take_comes_again_and_the_other_shows_it_once(
    forwarder: ModuleType, queues: dict[str, str], aws_endpoint: Aws, tmp_path: Path
) -> None:
    sqs = aws_endpoint.sqs
    sqs.set_queue_attributes(QueueUrl=queues["hermes"], Attributes={"MaximumMessageSize": "1024"})
    path = tmp_path / "moves.txt"
    path.write_text("2020-01-01T00:00:00Z both acme\n", encoding="utf-8")
    bodies = [{"user_id": 1, "room_id": "acme", "data": data} for data in ("small", "large" * 300)]
    for body in bodies:
        sqs.send_message(QueueUrl=queues["from"], MessageBody=json.dumps(body))
    forwarder.turn(sqs, queues, path, [])
    assert [body["data"] for body in taken(sqs, queues["hermes"])] == ["small"]
    sqs.set_queue_attributes(QueueUrl=queues["hermes"], Attributes={"MaximumMessageSize": "262144"})
    forwarder.turn(sqs, queues, path, [])
    assert [body["data"] for body in taken(sqs, queues["hermes"])] == ["large" * 300]
    assert [body["data"] for body in taken(sqs, queues["old"])] == ["small", "large" * 300]


def test_a_message_sent_before_its_room_moved_goes_to_the_side_of_then(
    forwarder: ModuleType, queues: dict[str, str], aws_endpoint: Aws, tmp_path: Path
) -> None:
    sqs = aws_endpoint.sqs
    path = tmp_path / "moves.txt"
    sent = []
    for data in ("before", "after"):
        body = {"user_id": 1, "room_id": "acme", "data": data}
        sqs.send_message(QueueUrl=queues["from"], MessageBody=json.dumps(body))
        sent.append(time.time())
        # SQS counts milliseconds: the next is sent, and the move counts, at least two later.
        wait_until(lambda: time.time() > sent[-1] + 0.002)
    path.write_text(f"{datetime.fromtimestamp(sent[0] + 0.001, UTC).isoformat()} hermes acme\n", encoding="utf-8")
    moves: Any = []
    while queued(sqs, queues["from"]):
        moves = forwarder.turn(sqs, queues, path, moves)
    assert [body["data"] for body in taken(sqs, queues["old"])] == ["before"]
    assert [body["data"] for body in taken(sqs, queues["hermes"])] == ["after"]


def queued(sqs: Any, queue: str) -> int:
    """Return how many messages a queue holds."""
    name = "ApproximateNumberOfMessages"
    return int(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])["Attributes"][name])


def taken(sqs: Any, queue: str) -> list[Any]:
    """Take everything that a queue has to give; return the bodies."""
    bodies = []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            bodies.append(json.loads(message["Body"]))
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return bodies
