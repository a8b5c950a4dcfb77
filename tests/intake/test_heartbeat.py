"""What a relay says of itself, and how soon it is no longer believed."""

from __future__ import annotations

import os

import pytest
import redis

from hermes_site.engines import Valkey
from notifications.exceptions import HistoryUnavailable
from notifications.intake.heartbeat import Heartbeat, Tally, relays
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


def test_without_redis_nothing_is_said_and_nothing_is_known(valkey: Valkey) -> None:
    valkey.stop()
    with pytest.raises(HistoryUnavailable):
        Heartbeat("development", Tally()).beat()
    with pytest.raises(HistoryUnavailable):
        relays("development")
