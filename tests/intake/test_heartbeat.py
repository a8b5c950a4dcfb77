"""What a relay says of itself, and how soon it is no longer believed."""

from __future__ import annotations

import json
import os
import time

import pytest
import redis

from hermes_site.engines import Valkey
from notifications.exceptions import HistoryUnavailable
from notifications.intake import sightings
from notifications.intake.heartbeat import Heartbeat, Tally, relays
from notifications.intake.hold import Hold
from notifications.intake.received import Received
from notifications.stream import keys


def test_a_tally_says_how_long_the_oldest_of_the_last_batch_took() -> None:
    tally = Tally()
    tally.carried([Received("1", "r", "{}", sent_at=100_000), Received("2", "r", "{}", sent_at=101_000)], 101.5, 101.75)
    assert tally == Tally(batches=1, messages=2, lag_ms=1750, waited_ms=1500)
    tally.carried([Received("3", "r", "{}", sent_at=200_000)], 199.9, 199.95)
    assert (tally.lag_ms, tally.waited_ms) == (0, 0), "two clocks may differ"
    tally.carried([Received("4", "r", "{}")], 300.0, 301.0)
    assert (tally.batches, tally.messages, tally.lag_ms) == (3, 4, 0)


def test_a_relay_that_beats_is_seen_and_one_that_fell_silent_is_not(valkey: Valkey) -> None:
    ours, other = Heartbeat("development", Tally(3, 21, 40, 12)), Heartbeat("development", Tally())
    ours.beat()
    other.beat()
    Heartbeat("production", Tally()).beat()
    seen = {beat.relay_id: beat for beat in relays("development")}
    assert set(seen) == {ours.relay_id, other.relay_id}
    assert (seen[ours.relay_id].pid, seen[ours.relay_id].tally) == (os.getpid(), Tally(3, 21, 40, 12))
    assert seen[ours.relay_id].silent_s < 2
    with redis.Redis.from_url(valkey.url) as client:
        client.delete(keys.relay_key("development", other.relay_id))
        assert [beat.relay_id for beat in relays("development")] == [ours.relay_id]
        assert client.scard(keys.relays_key("development")) == 1, "who is gone is forgotten"


def test_a_relay_says_how_old_what_it_has_in_hand_is_and_when_the_queue_was_empty(valkey: Valkey) -> None:
    hold = Hold(None, None, None)  # type: ignore[arg-type]
    heartbeat = Heartbeat("development", Tally(1, 1, 69, 20), hold)
    heartbeat.beat()
    (quiet,) = relays("development")
    assert (quiet.tally.in_hand_ms, quiet.tally.worst_ms) == (None, 69)
    assert sightings.since_empty("development") is None
    held = Received("1", "r-1", "{}", sent_at=round((time.time() - 40) * 1000))
    hold.take([held, Received("2", "r-2", "{}", sent_at=round(time.time() * 1000)), Received("3", "r-3", "{}")])
    hold.emptied = time.monotonic() - 60
    heartbeat.beat()
    (stuck,) = relays("development")
    assert 40_000 <= (stuck.tally.in_hand_ms or 0) < 45_000
    assert stuck.tally.worst_ms == stuck.tally.in_hand_ms
    assert sightings.since_empty("development") == pytest.approx(60, abs=5)
    hold.drop([held])
    hold.owe([held])
    assert hold.oldest == held.sent_at, "what was given back for want of Redis still waits"
    hold.settle([held])
    assert (hold.oldest or 0) > held.sent_at


def test_a_relay_of_another_release_is_understood(valkey: Valkey) -> None:
    heartbeat = Heartbeat("development", Tally(1, 1, 69, 20))
    heartbeat.beat()
    name = keys.relay_key("development", heartbeat.relay_id)
    with redis.Redis.from_url(valkey.url) as client:
        told = json.loads(client.get(name) or "")
        del told["in_hand_ms"]
        client.set(name, json.dumps({**told, "mood": "good"}), ex=16)
    (beat,) = relays("development")
    assert beat.tally == Tally(1, 1, 69, 20)


def test_the_largest_figure_of_each_minute_is_kept_for_an_hour(valkey: Valkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        minute = client.time()[0] // 60
        for ago, value in ((61, 1), (59, 2), (3, 7), (3, 9), (3, 8)):
            client.xadd(keys.figure_key("development", "lag"), {"value": value}, id=f"{minute - ago}-*")
    for value in (5, 6, 4):
        sightings.note("development", "lag", value)
    hour = sightings.last_hour("development", "lag")
    assert len(hour) == 60
    assert {value for value in hour if value is not None} == {2, 9, 6}
    with redis.Redis.from_url(valkey.url) as client:
        assert client.xlen(keys.figure_key("development", "lag")) == 6, "what is older is forgotten"


def test_without_redis_nothing_is_said_and_nothing_is_known(valkey: Valkey) -> None:
    valkey.stop()
    with pytest.raises(HistoryUnavailable):
        Heartbeat("development", Tally()).beat()
    with pytest.raises(HistoryUnavailable):
        relays("development")
    for look in (sightings.since_empty, lambda stage: sightings.last_hour(stage, "lag")):
        with pytest.raises(HistoryUnavailable):
            look("development")
    with pytest.raises(HistoryUnavailable):
        sightings.note("development", "never", 1)
