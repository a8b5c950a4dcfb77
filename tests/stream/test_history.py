"""A room's history on a real Valkey: each message one place, chained, kept by count and age, read by position."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from hermes_site.engines import Valkey
from notifications.exceptions import HistoryUnavailable
from notifications.stream import examine, keys
from notifications.stream import history as history_module
from notifications.stream.history import History
from notifications.stream.message import Message
from notifications.stream.position import Position
from notifications.stream.rendering import position_for_page
from notifications.stream.replies import Appended, to_position
from tests.waiting import wait_until

Make = Callable[..., Message]


async def append(history: History, *messages: Message) -> list[Appended]:
    results = await history.append("development", messages)
    assert all(isinstance(result, Appended) for result in results), results
    return [result for result in results if isinstance(result, Appended)]


def client(valkey: Valkey) -> redis.Redis:
    return redis.Redis.from_url(valkey.url)


async def test_messages_get_their_places_in_order(history: History, message: Make) -> None:
    results = await append(history, message(1), message(2), message(3))
    assert [result.seq for result in results] == [1, 2, 3]
    entries = [result.entry for result in results if result.entry]
    assert [(entry.prev, entry.id) for entry in entries] == [("", "m1"), ("m1", "m2"), ("m2", "m3")]
    assert len({entry.epoch for entry in entries}) == 1
    assert json.loads(entries[1].frame) == {
        "user_id": 42,
        "data": 2,
        "room_id": "acme",
        "id": "m2",
        "epoch": entries[1].epoch,
        "seq": 2,
    }


async def test_one_id_gets_one_place_however_often_it_comes(history: History, message: Make) -> None:
    first = await append(history, message(1), message(2), message(1))
    again = await append(history, message(2))
    assert [result.seq for result in first] == [1, 2, 1]
    assert first[2].entry is None
    assert again == [Appended(2, None)]
    assert len((await history.read("development", "acme")).entries) == 2


async def test_the_same_id_in_another_room_or_stage_is_another_message(history: History, message: Make) -> None:
    await append(history, message(1), message(1, room="globex"))
    await history.append("production", [message(1)])
    assert [
        len((await history.read(s, r)).entries) for s, r in (("development", "globex"), ("production", "acme"))
    ] == [
        1,
        1,
    ]


async def test_what_is_read_is_what_was_appended(history: History, message: Make) -> None:
    made = [message(1), message(2, to=("alice", "bob")), message(3, expires_at=4_000_000_000)]
    entries = [result.entry for result in await append(history, *made)]
    page = await history.read("development", "acme")
    assert page.entries == entries
    assert page.head == entries[-1].position  # type: ignore[union-attr]
    assert page.oldest == 1
    assert page.entries[1].to == {"alice", "bob"}
    assert page.entries[2].expires_at == 4_000_000_000
    assert abs(page.entries[0].at / 1000 - time.time()) < 60


async def test_a_read_begins_after_a_seq(history: History, message: Make) -> None:
    await append(history, *map(message, range(1, 6)))
    page = await history.read("development", "acme", after=3)
    assert [entry.seq for entry in page.entries] == [4, 5]
    assert page.oldest == 1


async def test_a_room_without_history_has_no_head_and_reading_makes_none(history: History, valkey: Valkey) -> None:
    page = await history.read("development", "acme")
    assert (page.head, page.entries, page.oldest) == (None, [], 1)
    assert await history.heads("development", ["acme", "globex"]) == [None, None]
    with client(valkey) as redis_client:
        assert redis_client.dbsize() == 0


async def test_opening_begins_a_history_once(history: History, message: Make) -> None:
    position = await history.open("development", "acme")
    assert (position.seq, position.id) == (0, "")
    assert await history.open("development", "acme") == position
    (result,) = await append(history, message(1))
    assert result.entry is not None
    assert result.entry.epoch == position.epoch


async def test_a_history_keeps_so_many_entries(history: History, message: Make, settings: Any) -> None:
    settings.HERMES_HISTORY_ENTRIES = 5
    await append(history, *map(message, range(1, 21)))
    page = await history.read("development", "acme")
    assert [entry.seq for entry in page.entries] == [16, 17, 18, 19, 20]
    assert page.oldest == 16


async def test_entries_past_their_age_are_not_read_and_are_trimmed_by_later_ones(
    history: History, message: Make, settings: Any, valkey: Valkey
) -> None:
    settings.HERMES_HISTORY_SECONDS = 2
    await append(history, message(1), message(2))
    with client(valkey) as redis_client:
        begun = redis_client.time()[0]  # type: ignore[index]
        await asyncio.to_thread(
            wait_until,
            lambda: redis_client.time()[0] >= begun + 4,
            10,
            "four seconds have passed",  # type: ignore[index]
        )
        page = await history.read("development", "acme")
        assert (page.entries, page.oldest) == ([], 3)
        assert page.head is not None
        assert page.head.seq == 2
        await append(history, *map(message, range(3, 18)))
        page = await history.read("development", "acme")
        assert page.oldest == 3
        assert redis_client.xlen(keys.log_key("development", "acme")) == 15


async def test_old_entries_of_a_busy_room_are_trimmed(
    history: History, message: Make, settings: Any, valkey: Valkey
) -> None:
    """The log's own expiry never comes in a room that gets entries all the time."""
    settings.HERMES_HISTORY_SECONDS = 3
    await append(history, *map(message, range(1, 11)))
    with client(valkey) as redis_client:
        begun = redis_client.time()[0]  # type: ignore[index]
        number = 10
        while redis_client.time()[0] < begun + 5:  # type: ignore[index]
            number += 1
            await append(history, message(number))
            await asyncio.sleep(0.05)
        assert number > 26, "the room was busy"
        assert (await history.read("development", "acme")).oldest > 10
        assert int(redis_client.xrange(keys.log_key("development", "acme"), count=1)[0][0].split(b"-")[0]) > 1  # type: ignore[index,union-attr]


async def test_a_log_that_is_ahead_of_its_head_begins_a_new_life(
    history: History, message: Make, valkey: Valkey
) -> None:
    (first,) = await append(history, message(1))
    with client(valkey) as redis_client:
        redis_client.xadd(keys.log_key("development", "acme"), {"id": "x"}, id="99-0")
    (second,) = await append(history, message(2))
    assert first.entry is not None
    assert second.entry is not None
    assert second.entry.epoch != first.entry.epoch
    assert (second.seq, second.entry.prev) == (1, "")


async def test_a_place_from_a_dead_epoch_does_not_count(history: History, message: Make, valkey: Valkey) -> None:
    await append(history, message(1))
    with client(valkey) as redis_client:
        redis_client.delete(keys.head_key("development", "acme"))
    (again,) = await append(history, message(1))
    assert again.entry is not None, "its entry is gone with its history, so it is appended again"


async def test_the_script_is_loaded_again_after_a_restart(history: History, message: Make, valkey: Valkey) -> None:
    await append(history, message(1))
    with client(valkey) as redis_client:
        redis_client.script_flush()
    assert (await append(history, message(2), message(3)))[1].seq == 3


async def test_a_refused_append_is_told_apart_from_its_neighbours(
    history: History, message: Make, valkey: Valkey
) -> None:
    with client(valkey) as redis_client:
        redis_client.set(keys.head_key("development", "globex"), "not a hash")
    good, bad = await history.append("development", [message(1), message(2, room="globex")])
    assert isinstance(good, Appended)
    assert isinstance(bad, HistoryUnavailable)
    assert "globex" in str(bad)
    with pytest.raises(HistoryUnavailable, match="globex"):
        await history.open("development", "globex")


async def test_durability_that_is_not_reached_is_not_claimed(history: History, message: Make, settings: Any) -> None:
    settings.HERMES_DURABILITY_SECONDS = 1
    settings.HERMES_DURABILITY = "replica"
    with pytest.raises(HistoryUnavailable, match="0 of 1"):
        await history.append("development", [message(1)])
    settings.HERMES_DURABILITY = "fsync"
    with pytest.raises(HistoryUnavailable, match="refused"):
        await history.append("development", [message(2)])


async def test_fsync_is_reached_where_redis_appends_to_a_file(
    history: History, message: Make, settings: Any, valkey: Valkey
) -> None:
    settings.HERMES_DURABILITY = "fsync"
    with client(valkey) as redis_client:
        redis_client.config_set("appendonly", "yes")
        try:
            await asyncio.to_thread(
                wait_until,
                lambda: redis_client.info("persistence")["aof_rewrite_in_progress"] == 0,  # type: ignore[index]
                10,
                "the append-only file is written",
            )
            assert (await append(history, message(1)))[0].seq == 1
            assert await append(history, message(1)) == [Appended(1, None)], "a duplicate is confirmed, too"
        finally:
            redis_client.config_set("appendonly", "no")


async def test_activity_says_which_rooms_got_entries(history: History, message: Make) -> None:
    partition = keys.partition("acme")
    (begun,) = (await history.activity("development", {partition: None})).values()
    assert begun.cursor == b""
    await append(history, message(1), message(2))
    (found,) = (await history.activity("development", {partition: begun.cursor})).values()
    page = await history.read("development", "acme")
    assert found.heads == {"acme": page.head}
    assert not found.overrun
    (nothing,) = (await history.activity("development", {partition: found.cursor})).values()
    assert (nothing.heads, nothing.overrun, nothing.cursor) == ({}, False, found.cursor)
    (at_end,) = (await history.activity("development", {partition: None})).values()
    assert at_end.cursor == found.cursor


async def test_activity_that_was_trimmed_or_lost_is_called_overrun(
    history: History, message: Make, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = keys.partition("acme")
    await append(history, message(1))
    (begun,) = (await history.activity("development", {partition: None})).values()
    with client(valkey) as redis_client:
        redis_client.xtrim(keys.activity_key("development", partition), maxlen=0, approximate=False)
    await append(history, message(2))
    (found,) = (await history.activity("development", {partition: begun.cursor})).values()
    assert found.overrun
    assert found.heads["acme"].seq == 2
    monkeypatch.setattr(history_module, "ACTIVITY_LENGTH", 1)
    (found,) = (await history.activity("development", {partition: b""})).values()
    assert found.overrun, "a stream that was empty and is long now may have been trimmed meanwhile"


async def test_activity_that_redis_refuses_to_read_is_no_silence(history: History, valkey: Valkey) -> None:
    partition = keys.partition("acme")
    with client(valkey) as redis_client:
        redis_client.set(keys.activity_key("development", partition), "of another kind")
    for cursor in (None, b"", b"1-0"):
        with pytest.raises(HistoryUnavailable, match="WRONGTYPE"):
            await history.activity("development", {partition: cursor})


async def test_connections_that_broke_unnoticed_cost_nobody_a_failure(
    history: History, message: Make, valkey: Valkey
) -> None:
    """After a restart of Redis the pool is full of dead connections."""
    await asyncio.gather(*(history.open("development", f"room-{number}") for number in range(8)))
    with client(valkey) as redis_client:
        redis_client.client_kill_filter(_type="normal", skipme=True)
    assert (await append(history, message(1)))[0].seq == 1


async def test_an_unreachable_redis_says_so(message: Make, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    lost = History()
    for attempt in (
        lost.append("development", [message(1)]),
        lost.open("development", "acme"),
        lost.read("development", "acme"),
        lost.heads("development", ["acme"]),
        lost.activity("development", {1: None}),
    ):
        with pytest.raises(HistoryUnavailable, match="Redis does not answer"):
            await attempt
    await lost.aclose()
    with pytest.raises(HistoryUnavailable):
        list(examine.answers())


def test_a_page_gets_its_position_and_begins_the_history(valkey: Valkey) -> None:
    position = position_for_page("development", "acme")
    assert position is not None
    assert (position.seq, position.id) == (0, "")
    assert position_for_page("development", "acme") == position


def test_a_page_does_not_wait_for_a_redis_that_hangs(
    settings: Any, caplog: pytest.LogCaptureFixture, valkey: Valkey
) -> None:
    valkey.suspend()
    try:
        begun = time.monotonic()
        assert position_for_page("development", "acme") is None
        assert time.monotonic() - begun < 0.25, "50 ms, and what a busy machine adds"
    finally:
        valkey.resume()
    assert "without its position" in caplog.text


@given(st.integers(0, 2**53 - 1), st.text(max_size=5))
def test_a_position_survives_redis_form(seq: int, last_id: str) -> None:
    reply = [b"e1", str(seq).encode(), last_id.encode("utf-8", "replace")]
    position = to_position(reply)
    assert position is not None
    assert position == Position("e1", seq, last_id.encode("utf-8", "replace").decode())
