"""What waits to be written stays small and keeps its order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from notifications.registry.records import SILENCE, Life, Listening, Pending, Watch, full_jitter
from tests.registry.conftest import Join

CAP = 1_000  # more than any of these tests closes


def ended(life: Life) -> Life:
    return Life(life.record, datetime.now(UTC), 1000)


def test_a_connection_that_opens_and_closes_between_two_flushes_is_written_once(join: Join) -> None:
    pending, alice = Pending(CAP), Life(join())
    pending.add(alice)
    pending.add(ended(alice))
    assert [life.code for life in pending.take(10)] == [1000]
    assert len(pending) == 0


def test_what_could_not_be_written_does_not_replace_something_newer(join: Join) -> None:
    pending, alice, bob = Pending(CAP), Life(join()), Life(join("bob"))
    pending.add(alice)
    pending.add(bob)
    taken = pending.take(10)
    pending.add(ended(alice))
    pending.put_back(taken)
    assert {life.record.user_id: life.code for life in pending.take(10)} == {"alice": 1000, "bob": None}


def test_a_closed_connection_that_is_open_after_all_waits_as_open(join: Join) -> None:
    pending, alice = Pending(CAP), Life(join())
    pending.add(ended(alice))
    pending.add(alice)
    assert list(pending.closed_ids) == []
    assert [life.closed_at for life in pending.take(10)] == [None]


def test_a_long_outage_drops_the_oldest_closed_connections_and_counts_them(join: Join) -> None:
    pending = Pending(closed_cap=3)
    lives = [Life(join()) for _ in range(5)]
    for life in lives:
        pending.add(ended(life))
    assert pending.dropped == 2
    assert [life.record for life in pending.take(10)] == [life.record for life in lives[2:]]


def test_neither_joins_nor_leaves_keep_the_other_from_being_written(join: Join) -> None:
    pending = Pending(CAP)
    for _ in range(10):
        pending.add(Life(join()))
        pending.add(ended(Life(join())))
    taken = pending.take(8)
    assert [life.closed_at is None for life in taken] == [True] * 4 + [False] * 4
    assert len(pending.take(100)) == 12


def test_a_batch_is_full_when_there_are_only_joins_or_only_leaves(join: Join) -> None:
    pending = Pending(CAP)
    for _ in range(10):
        pending.add(Life(join()))
    assert len(pending.take(8)) == 8
    for _ in range(10):
        pending.add(ended(Life(join())))
    assert len(pending.take(11)) == 11


def test_back_off_grows_to_its_cap_and_never_beyond() -> None:
    assert all(0 <= full_jitter(1, base=0.2, cap=5) <= 0.2 for _ in range(100))
    assert all(0 <= full_jitter(attempt, base=0.2, cap=5) <= 5 for attempt in range(1, 2000))
    assert max(full_jitter(50, base=0.2, cap=5) for _ in range(200)) > 3


LEASE = 30.0


def looked(*at: float) -> Listening:
    """What has looked at these times."""
    listening = Listening(LEASE)
    for now in at:
        listening.look(now)
    return listening


def test_looks_that_come_in_time_count_whole() -> None:
    listening = looked(1000, 1003, 1006, 1010)
    assert (listening.seconds, listening.unbroken) == (10, 10)


def test_a_look_that_comes_late_counts_whole() -> None:
    listening = looked(1000, 1003, 1014)
    assert (listening.seconds, listening.unbroken) == (14, 14)


def test_what_the_store_kept_us_waiting_for_does_not_count() -> None:
    listening = looked(1000, 1003)
    listening.look(1013, 8)
    assert (listening.seconds, listening.unbroken) == (5, 5)


def test_around_a_call_that_failed_one_beat_counts() -> None:
    listening = looked(1000, 1003)
    listening.failed()
    listening.look(1013)
    assert (listening.seconds, listening.unbroken) == (6, 6)
    listening.look(1023)
    assert (listening.seconds, listening.unbroken) == (16, 16)


@pytest.mark.parametrize("has_failed", [True, False])
def test_after_a_break_as_long_as_the_silence_of_the_dead_all_silence_counts_anew(has_failed: bool) -> None:
    listening = looked(1000, 1003)
    if has_failed:
        listening.failed()
    listening.look(1016, 0 if has_failed else 12.5)
    assert (listening.seconds, listening.unbroken) == (3, 0)
    listening.look(1019)
    assert (listening.seconds, listening.unbroken) == (6, 3)


def silences(listening: Listening, looks: Sequence[tuple[float, int]]) -> list[float]:
    """Look at Bob at these times, and see these beats; return the silence that would bury him if it is long enough."""
    watch, found = Watch[str, int](), []
    for now, beat in looks:
        listening.look(now)
        found += [min(silent, listening.unbroken) for _, _, silent in watch.look([("bob", beat)], listening.seconds)]
    return found


def test_who_was_suspended_sees_that_the_others_beat_meanwhile_and_buries_nobody() -> None:
    assert silences(Listening(LEASE), [(1000, 1), (1003, 2), (1063, 22), (1066, 23)]) == [0, 0, 0, 0]


def test_who_slept_with_its_host_gives_the_others_two_beats_to_be_heard() -> None:
    slept = silences(Listening(LEASE), [(1000, 1), (1003, 2), (1063, 2), (1066, 2), (1069, 3), (1072, 4)])
    assert max(slept) < LEASE * SILENCE


def test_who_died_while_everybody_slept_is_known_two_beats_later() -> None:
    dead = silences(Listening(LEASE), [(1000, 1), (1003, 1), (1063, 1), (1066, 1), (1069, 1)])
    assert [silent >= LEASE * SILENCE for silent in dead] == [False, False, False, False, True]


def test_on_a_busy_host_the_dead_are_known_as_soon_as_on_any_other() -> None:
    dead = silences(Listening(LEASE), [(1000, 1), (1010, 2), (1020, 3), (1030, 3)])
    assert dead == [0, 0, 0, 10]
    assert silences(Listening(LEASE), [(1000, 1), (1007, 2), (1014, 2), (1021, 2)])[-1] == 14
