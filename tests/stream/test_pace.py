"""How many entries come in a minute, counted by Redis and paid for by no append."""

from __future__ import annotations

import pytest
import redis

from hermes_site.engines import Valkey
from notifications.exceptions import HistoryUnavailable
from notifications.stream import glance, keys, pace
from notifications.stream.history import History
from notifications.stream.message import Message


async def append(*messages: Message, stage: str = "development") -> None:
    history = History()
    await history.append(stage, messages)
    await history.aclose()


async def test_entries_are_counted_by_stage_in_whichever_room_they_are(valkey: Valkey) -> None:
    before = pace.pace("development")
    assert before.now == 0
    await append(*(Message(f"m-{n}", 42, f"room-{n}", "1") for n in range(70)))
    await append(Message("other", 42, "acme", "1"), stage="production")
    after = pace.pace("development")
    # A minute may have begun in between: then they are in the one before.
    assert (after.now or 0) + (after.minutes[-1] or 0) == 70
    assert len(after.minutes) == pace.MINUTES
    assert after.minutes[0] is None, "nobody sampled an hour ago"


async def test_of_many_samplers_the_first_of_a_minute_writes_and_the_minutes_are_their_differences(
    valkey: Valkey,
) -> None:
    _, minute = pace.sample("development")
    key = keys.pace_key("development")
    with redis.Redis.from_url(valkey.url) as client:
        client.delete(key)
        for at, total in ((minute - 4, 100), (minute - 3, 130), (minute - 1, 160), (minute, 10)):
            client.xadd(key, {"total": total}, id=f"{at}-1")
        pace.sample("development")
        assert client.xlen(key) == 4
    assert pace.pace("development").minutes[-4:] == [30, None, None, None], "unknown is not nothing, nor is a loss"


async def test_a_redis_that_is_away_is_said_to_be(valkey: Valkey) -> None:
    valkey.stop()
    for look in (lambda: pace.pace("development"), lambda: glance.last_entries("development", "acme", 5)):
        with pytest.raises(HistoryUnavailable):
            look()


async def test_a_glance_tells_of_entries_what_is_not_their_payload(valkey: Valkey) -> None:
    assert glance.last_entries("development", "acme", 5) == (None, [])
    await append(
        Message("m-1", 42, "acme", '{"type":"info","data":"secret"}'),
        Message("m-2", "bob", "acme", '["secret"]', to=("alice", "bob")),
        Message("m-3", 0, "acme", '{"type":7}'),
    )
    head, entries = glance.last_entries("development", "acme", 2)
    assert head is not None
    assert (head.seq, head.id) == (3, "m-3")
    assert [(e.seq, e.id, e.sender, e.kind, e.addressees) for e in entries] == [
        (3, "m-3", "0", "", None),
        (2, "m-2", "bob", "", 2),
    ]
    assert glance.last_entries("development", "acme", 5)[1][-1].kind == "info"
    assert all(entry.size > 50 for entry in entries)
    assert "secret" not in repr(entries)
