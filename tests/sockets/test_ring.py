"""The ring: a chained run of entries that ends at a position."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from notifications.sockets.ring import Ring
from notifications.stream.position import Position
from tests.sockets.scene import chain, make_entry


def ring(head: Position | None = None, **limits: int) -> Ring:
    head = head or Position("e1", 0, "")
    return Ring(head, **{"max_entries": 100, "max_bytes": 100_000, "max_age_ms": 60_000} | limits)


def test_a_ring_knows_the_ids_it_holds_and_the_one_before() -> None:
    mine = ring(Position("e1", 3, "m3"))
    for entry in chain(4, 6):
        mine.append(entry)
    assert [mine.id_at(seq) for seq in range(2, 8)] == [None, "m3", "m4", "m5", "m6", None]
    assert mine.head == Position("e1", 6, "m6")
    assert [entry.seq for entry in mine.after(4)] == [5, 6]
    assert mine.after(6) == []


def test_a_full_ring_forgets_its_oldest() -> None:
    mine = ring(max_entries=3)
    for entry in chain(1, 5):
        mine.append(entry)
    assert mine.before == Position("e1", 2, "m2")
    assert not mine.is_cut, "the history keeps no more than that either"


def test_a_ring_too_heavy_forgets_its_oldest_and_says_so() -> None:
    size = len(chain(1, 1)[0].frame)
    mine = ring(max_bytes=3 * size)
    for entry in chain(1, 5):
        mine.append(entry)
    assert [entry.seq for entry in mine.after(0)] == [3, 4, 5]
    assert mine.is_cut


def test_a_ring_extends_back_to_what_the_history_still_has() -> None:
    mine = ring(Position("e1", 5, "m5"))
    mine.append(make_entry(6, "m5"))
    assert mine.extend_back(chain(2, 7))
    assert mine.before == Position("e1", 1, "m1")
    assert [entry.seq for entry in mine.after(0)] == [2, 3, 4, 5, 6]
    assert mine.extend_back([]), "with nothing to add there is nothing to contradict"


def test_a_ring_does_not_chain_with_another_history() -> None:
    mine = ring(Position("e1", 5, "other"))
    assert not mine.extend_back(chain(1, 5))
    assert mine.after(0) == []


def test_a_ring_extends_back_only_as_far_as_it_may_hold() -> None:
    mine = ring(Position("e1", 5, "m5"), max_entries=2)
    assert mine.extend_back(chain(1, 5))
    assert mine.before == Position("e1", 3, "m3")
    assert mine.is_cut


def test_a_longer_ring_goes_on_before_and_leaves_the_other_as_it_is() -> None:
    size = len(chain(1, 1)[0].frame)
    mine = ring(max_bytes=2 * size)
    for entry in chain(1, 5):
        mine.append(entry)
    longer = mine.with_older(chain(2, 5))
    assert [entry.seq for entry in longer.after(0)] == [2, 3, 4, 5]
    assert (longer.before, longer.head, longer.is_cut) == (Position("e1", 1, "m1"), mine.head, False)
    assert (mine.before.seq, mine.is_cut) == (3, True)
    alike = mine.with_older([*chain(1, 2), make_entry(3, "m2", id="other")])
    assert (alike.after(0), alike.before, alike.is_cut) == (mine.after(0), mine.before, True)


def test_a_ring_is_full_of_others_where_it_is_cut_and_holds_what_a_member_may_not_see() -> None:
    size = len(chain(1, 1)[0].frame)
    mine = ring(max_bytes=2 * size)
    for entry in [*chain(1, 4), make_entry(5, "m4", to=["bob"])]:
        mine.append(entry)
    away, here = Position("e1", 2, "m2"), Position("e1", 3, "m3")
    assert mine.is_full_of_others(away, "alice")
    assert not mine.is_full_of_others(away, "bob")
    for position in (None, here, Position("e2", 2, "m2")):
        assert not mine.is_full_of_others(position, "alice")


def test_old_entries_are_forgotten() -> None:
    now = time.time()
    mine = ring(max_age_ms=10_000)
    for entry in chain(1, 2, at=int((now - 11) * 1000)) + chain(3, 3, at=int(now * 1000)):
        mine.append(entry)
    mine.forget_old(now)
    assert mine.before == Position("e1", 2, "m2")


@given(st.integers(1, 8), st.integers(0, 30), st.integers(0, 40))
def test_a_ring_is_always_chained_and_ends_at_its_head(size: int, count: int, after: int) -> None:
    mine = ring(max_entries=size)
    for entry in chain(1, count):
        mine.append(entry)
    held = mine.after(mine.before.seq)
    assert [entry.seq for entry in held] == list(range(mine.before.seq + 1, count + 1))
    assert len(held) == min(size, count)
    assert [entry.seq for entry in mine.after(after)] == [s for s in range(mine.before.seq + 1, count + 1) if s > after]
    assert mine.head.seq == count
