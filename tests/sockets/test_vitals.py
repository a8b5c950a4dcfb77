"""What the hub counts: entries by how they came, deliveries by socket, times by bucket, losses by reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from notifications.sockets import vitals
from notifications.sockets.connection import Connection
from notifications.sockets.feed import Feed
from notifications.sockets.protocol import Close
from notifications.sockets.vitals import Times
from notifications.stream.position import Position, Resume
from notifications.stream.replies import Page
from tests.sockets.scene import Connect, Serving, chain, control, recorder
from tests.waiting import eventually

Rise = Callable[..., float]


@pytest.fixture
def rise() -> Rise:
    """Return a function that says by how much a number has risen since the test began."""

    def now() -> dict[tuple[str, str], float]:
        samples = [sample for family in REGISTRY.collect() for sample in family.samples]
        return {(each.name, ",".join(each.labels.values())): each.value for each in samples}

    before = now()
    return lambda name, label="": now()[f"hermes_{name}", label] - before[f"hermes_{name}", label]


@pytest.fixture
def feed() -> Feed:
    return Feed("development", "acme", Position("e1", 3, "m3"))


@pytest.fixture
def members(connect: Connect, feed: Feed) -> list[Connection]:
    """Alice and Bob."""
    made = [connect("alice"), connect("bob")]
    for connection in made:
        feed.add(connection)
    return made


def test_an_entry_counts_once_as_it_came_and_once_for_each_socket(
    feed: Feed, members: list[Connection], rise: Rise
) -> None:
    feed.take(chain(4, 5), 5)
    feed.take(chain(4, 5), 5)
    feed.flush()
    entries = chain(6, 8, before="m5")
    feed.adopt(Page(entries[-1].position, entries, 1), feed.head)
    feed.flush()
    assert rise("entries_total", "hint") == 2
    assert rise("entries_total", "history") == 3
    assert rise("deliveries_total") == 2 * 5
    texts = [text for batch in recorder(members[0]).batches for text in batch.texts]
    assert rise("sent_bytes_total") == 2 * sum(map(len, texts))
    assert rise("fanout_seconds_count") == 2, "what goes out together counts once"


def test_who_is_closing_or_is_not_addressed_is_no_delivery(
    feed: Feed, members: list[Connection], connect: Connect, rise: Rise
) -> None:
    members[0].close(Close.SLOW, "slow")
    feed.take(chain(4, 4), 4)
    feed.flush()
    assert rise("deliveries_total") == 1
    feed.take(chain(5, 5, before="m4", to=["bob"]), 5)
    feed.flush()
    assert rise("deliveries_total") == 2


def test_from_sqs_to_the_socket_is_measured_where_sqs_said_when(
    feed: Feed, members: list[Connection], rise: Rise
) -> None:
    first, second, third = chain(4, 6)
    now = int(time.time() * 1000)
    feed.take([first._replace(sent_at=now - 3_000), second._replace(sent_at=now + 60_000), third], 6)
    feed.flush()
    assert rise("end_to_end_seconds_count") == 2, "a browser's entry has not come by SQS"
    assert 3 <= rise("end_to_end_seconds_sum") < 5, "a clock that goes ahead makes nothing less than nothing"
    assert rise("end_to_end_seconds_bucket", "2.5") == 1
    assert rise("end_to_end_seconds_bucket", "5.0") == 2


def test_the_fan_out_of_a_large_room_ends_with_its_last_socket(
    feed: Feed, members: list[Connection], rise: Rise
) -> None:
    feed.take(chain(4, 4), 4)
    feed.write(1)
    assert rise("deliveries_total") == 1
    assert rise("fanout_seconds_count") == 0
    feed.write(1)
    assert rise("fanout_seconds_count") == 1


def test_a_gap_and_a_loss_are_counted_where_members_are_told(feed: Feed, members: list[Connection], rise: Rise) -> None:
    entries = chain(8, 9, before="m7")
    feed.adopt(Page(entries[-1].position, entries, 8), feed.head)
    assert rise("gaps_total") == 1
    other = chain(1, 2, epoch="e2")
    feed.restart(Page(other[-1].position, other, 1))
    assert rise("lost_total", "epoch,connected") == 2, "Alice was told, and Bob"


@pytest.mark.parametrize("bound", vitals.FANOUT_SECONDS)
def test_a_time_is_in_the_buckets_that_end_with_it_or_later(bound: float) -> None:
    times = Times(vitals.FANOUT_SECONDS)
    times.observe(bound)
    counts = {sample.labels["le"]: sample.value for sample in times.family("t", "").samples if "le" in sample.labels}
    assert {float(le) for le, count in counts.items() if count} == {
        each for each in (*vitals.FANOUT_SECONDS, float("inf")) if each >= bound
    }


@pytest.mark.parametrize(
    ("code", "label"), [(1001, "1001"), (4401, "4401"), (None, "none"), (3000, "other"), (4999, "other")]
)
def test_a_code_that_a_client_made_up_is_no_label(code: int | None, label: str, rise: Rise) -> None:
    vitals.closed(code)
    assert rise("closes_total", label) == 1


@pytest.mark.parametrize(
    ("how", "status", "lost"),
    [
        (Resume(after=0, fresh=True), "fresh", 0),
        (Resume(after=0), "recovered", 0),
        (Resume(after=0, lost=vitals.Lost.TRIMMED), "lost", 1),
        (None, "live", 0),
    ],
)
def test_a_join_is_counted_by_how_it_goes_on(how: Resume | None, status: str, lost: int, rise: Rise) -> None:
    vitals.joined(how)
    assert rise("joins_total", status) == 1
    assert rise("lost_total", "trimmed,joining") == lost
    assert rise("lost_total", "trimmed,connected") == 0, "a position that somebody brings is no loss of ours"


def test_a_reader_that_is_cut_counts_once(connect: Connect, rise: Rise) -> None:
    alice = connect("alice")
    alice.on_cut(int(Close.SLOW))
    alice.on_cut(int(Close.SLOW))
    assert rise("slow_cuts_total") == 1


async def test_a_replay_is_delivered_and_an_end_counted(serving: Serving, rise: Rise) -> None:
    token = await asyncio.to_thread(serving.token, "alice")
    async with serving.connect(token) as alice:
        place = await control(alice, "hello")
        await serving.publish(1, 2)
        await eventually(lambda: rise("deliveries_total") == 2)
        async with serving.connect(token, f"?epoch={place['epoch']}&seq={place['seq']}&id={place['id']}") as again:
            assert (await control(again, "hello"))["replayed"] == 2
    assert rise("deliveries_total") == 4
    assert rise("joins_total", "fresh") == rise("joins_total", "recovered") == 1
    await eventually(lambda: rise("closes_total", "1000") == 2)
