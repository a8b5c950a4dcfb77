"""What waits to be written stays small and keeps its order."""

from __future__ import annotations

from datetime import UTC, datetime

from notifications.registry.records import Life, Listening, Pending, Watch, full_jitter
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


def test_a_look_that_comes_late_counts_for_one_and_begins_nothing_anew() -> None:
    listening = looked(1000, 1003, 1014)
    assert (listening.seconds, listening.unbroken) == (6, 6)


def test_after_a_break_as_long_as_the_silence_of_the_dead_all_silence_counts_anew() -> None:
    listening = looked(1000, 1003, 1016, 1019)
    assert (listening.seconds, listening.unbroken) == (6, 3)


def test_a_server_is_silent_only_while_somebody_listens() -> None:
    listening, watch = looked(1000), Watch[str, int]()
    list(watch.look([("bob", 1)], listening.seconds))
    silent = []
    for now in (1003, 1014, 1017, 1020):
        listening.look(now)
        silent += [seconds for _, _, seconds in watch.look([("bob", 1)], listening.seconds)]
    assert silent == [3, 6, 9, 12]
