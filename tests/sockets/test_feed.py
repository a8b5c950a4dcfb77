"""The feed: what one room's connections get, whatever hints say and whatever the history answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableSet
from typing import Any

import pytest

from notifications.sockets.connection import Connection
from notifications.sockets.feed import Feed
from notifications.sockets.outbound import Batch
from notifications.stream.position import Lost, Position, Resume
from notifications.stream.replies import Page
from tests.sockets.scene import Connect, chain, make_entry, recorder

START = Position("e1", 3, "m3")


@pytest.fixture
def feed() -> Feed:
    return Feed("development", "acme", START)


@pytest.fixture
def alice(connect: Connect, feed: Feed) -> Connection:
    connection = connect("alice")
    feed.add(connection)
    return connection


class Watched(MutableSet[Connection]):
    """The connections of a room, which counts how many of them somebody has looked at."""

    def __init__(self, connections: set[Connection]) -> None:
        self._connections = connections
        self.looked_at = 0

    def __contains__(self, connection: object) -> bool:
        self.looked_at += 1
        return connection in self._connections

    def __iter__(self) -> Iterator[Connection]:
        for connection in self._connections:
            self.looked_at += 1
            yield connection

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections.add(connection)

    def discard(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def difference(self, *others: Any) -> set[Connection]:
        self.looked_at += len(self)
        return self._connections.difference(*others)


def page(first: int, last: int, **extra: Any) -> Page:
    entries = chain(first, last, **extra)
    return Page(entries[-1].position, entries, extra.get("oldest", first))


def test_entries_that_follow_are_delivered_once(feed: Feed, alice: Connection) -> None:
    assert feed.take(chain(4, 6), 6)
    assert feed.take(chain(5, 6), 6), "hints may repeat"
    feed.flush()
    feed.flush()
    assert recorder(alice).seqs == [4, 5, 6]
    assert len(recorder(alice).batches) == 1, "what waits goes out together"


@pytest.mark.parametrize(
    ("entries", "head_seq"),
    [
        (chain(5, 5), 5),  # ahead
        ([make_entry(4, "other")], 4),  # the chain is broken
        ([make_entry(3, "m2", id="other")], 3),  # another id where we know one
        (chain(1, 1, epoch="e2"), 1),  # another life
        ([], 5),  # the sender knows more than it says
    ],
)
def test_what_does_not_follow_has_the_history_asked(
    feed: Feed, alice: Connection, entries: list[Any], head_seq: int
) -> None:
    assert not feed.take(entries, head_seq)
    feed.flush()
    assert recorder(alice).seqs == []


def test_an_entry_older_than_the_feed_knows_is_dropped(feed: Feed, alice: Connection) -> None:
    assert feed.take([make_entry(1, "")], 1)
    feed.flush()
    assert recorder(alice).seqs == []


def test_a_gap_is_filled_from_the_history(feed: Feed, alice: Connection) -> None:
    assert not feed.take(chain(6, 6), 6)
    assert feed.adopt(page(4, 6, oldest=1), START)
    feed.flush()
    assert recorder(alice).seqs == [4, 5, 6]


def test_a_read_that_a_hint_overtook_is_no_fork(feed: Feed, alice: Connection) -> None:
    feed.take(chain(4, 6), 6)
    assert feed.adopt(page(4, 5, oldest=1), START)
    feed.flush()
    assert recorder(alice).seqs == [4, 5, 6]
    assert feed.head.seq == 6


def test_a_read_that_found_nothing_new_is_fine(feed: Feed) -> None:
    assert feed.adopt(Page(START, [], 1), START)


def test_entries_trimmed_before_they_were_read_are_told_as_a_gap(feed: Feed, alice: Connection) -> None:
    assert feed.adopt(page(7, 8, oldest=7), START)
    feed.flush()
    (gap,) = recorder(alice).controls("gap")
    assert gap == {"reason": "trimmed", "from": 4, "to": 6, "epoch": "e1", "seq": 6, "id": "m6"}
    assert recorder(alice).seqs == [7, 8]


def test_a_history_with_nothing_left_is_told_as_a_gap(feed: Feed, alice: Connection) -> None:
    assert feed.adopt(Page(Position("e1", 8, "m8"), [], 9), START)
    feed.flush()
    (gap,) = recorder(alice).controls("gap")
    assert (gap["from"], gap["to"], gap["seq"], gap["id"]) == (4, 8, 8, "m8")
    assert feed.take(chain(9, 9), 9)


@pytest.mark.parametrize(
    "found",
    [
        Page(None, [], 1),
        page(1, 2, epoch="e2"),
        Page(Position("e1", 2, "m2"), [], 1),  # it lost its end
        Page(Position("e1", 3, "other"), [], 1),
        Page(Position("e1", 4, "m4"), [make_entry(4, "other")], 1),
        Page(Position("e1", 4, "m4"), [make_entry(3, "m2", id="other"), make_entry(4, "other")], 1),
    ],
)
def test_another_history_is_not_adopted(feed: Feed, found: Page) -> None:
    assert not feed.adopt(found, START)


def test_a_new_life_is_told_and_delivered_from_its_beginning(feed: Feed, alice: Connection, connect: Connect) -> None:
    old = connect("bob", v1=False)
    feed.add(old)
    feed.restart(page(1, 2, epoch="e2"))
    feed.flush()
    (lost,) = recorder(alice).controls("lost")
    assert lost == {"reason": "epoch", "from": 1, "to": 0, "epoch": "e2", "seq": 0, "id": ""}
    assert recorder(alice).seqs == [1, 2]
    assert recorder(alice).frames[0]["data"]["type"] == "hermes.lost", "told before the next entry"
    assert [entry["seq"] for entry in recorder(old).frames] == [1, 2], "the article's clients get entries only"


def test_a_fork_delivers_what_the_new_history_has_of_its_own(feed: Feed, alice: Connection) -> None:
    feed.take(chain(4, 6), 6)
    other = [*chain(1, 5), make_entry(6, "m5", id="n6"), make_entry(7, "n6", id="n7")]
    feed.restart(Page(other[-1].position, other, 1))
    feed.flush()
    (lost,) = recorder(alice).controls("lost")
    assert lost == {"reason": "fork", "from": 6, "to": 6, "epoch": "e1", "seq": 5, "id": "m5"}
    assert [entry["id"] for entry in recorder(alice).entries] == ["m4", "m5", "m6", "n6", "n7"]


def test_a_history_that_only_lost_its_end_repeats_nothing(feed: Feed, alice: Connection) -> None:
    feed.take(chain(4, 6), 6)
    feed.restart(page(1, 5))
    feed.flush()
    assert recorder(alice).seqs == [4, 5, 6]
    assert recorder(alice).controls("lost")[0]["seq"] == 5
    assert feed.take([make_entry(6, "m5", id="n6")], 6)


def test_a_new_life_without_entries_begins_at_its_head(feed: Feed, alice: Connection) -> None:
    feed.restart(Page(Position("e2", 0, ""), [], 1))
    feed.flush()
    assert recorder(alice).controls("lost")[0]["epoch"] == "e2"
    assert feed.head == Position("e2", 0, "")


def test_a_history_that_was_never_opened_cannot_be_followed(feed: Feed) -> None:
    with pytest.raises(ValueError, match="opened"):
        feed.restart(Page(None, [], 1))


def test_an_entry_reaches_only_those_it_is_addressed_to(feed: Feed, connect: Connect) -> None:
    alice, bob, other_tab = connect("alice"), connect("bob"), connect("alice")
    for connection in (alice, bob, other_tab):
        feed.add(connection)
    feed.take([make_entry(4, "m3"), make_entry(5, "m4", to=["alice", "zoe"]), make_entry(6, "m5")], 6)
    feed.flush()
    assert recorder(alice).seqs == recorder(other_tab).seqs == [4, 5, 6]
    assert recorder(bob).seqs == [4, 6]
    feed.take([make_entry(7, "m6", to=["zoe"])], 7)
    feed.flush()
    assert recorder(alice).seqs == [4, 5, 6]


@pytest.mark.parametrize("size", [10, 1_000])
def test_what_is_addressed_to_one_member_looks_at_nobody_else_however_large_the_room_is(
    feed: Feed, alice: Connection, connect: Connect, size: int
) -> None:
    for number in range(size):
        feed.add(connect(f"member-{number}"))
    watched: Any = Watched(feed.connections)
    feed.connections = watched
    feed.take([make_entry(4, "m3", to=["alice"]), make_entry(5, "m4", to=["alice", "zoe"])], 5)
    feed.flush()
    assert recorder(alice).seqs == [4, 5]
    assert watched.looked_at == 0
    feed.take(chain(6, 6), 6)
    feed.flush()
    assert watched.looked_at == size + 1, "what is for all of them is given to each once"


def test_members_who_see_the_same_are_given_the_same_bytes(feed: Feed, connect: Connect) -> None:
    members = {name: connect(name) for name in ("alice", "bob", "carol", "dave")}
    for connection in members.values():
        feed.add(connection)
    entries = [
        make_entry(4, "m3", to=["alice", "bob"]),
        make_entry(5, "m4"),
        make_entry(6, "m5", to=["carol", "alice", "bob"]),
    ]
    feed.take(entries, 6)
    feed.flush()
    seen = {name: recorder(connection).seqs for name, connection in members.items()}
    assert seen == {"alice": [4, 5, 6], "bob": [4, 5, 6], "carol": [5, 6], "dave": [5]}
    assert recorder(members["alice"]).batches[0] is recorder(members["bob"]).batches[0]


def test_an_expired_entry_is_delivered_to_nobody(feed: Feed, alice: Connection) -> None:
    feed.take([make_entry(4, "m3", expires_at=int(time.time()) - 1), make_entry(5, "m4")], 5)
    feed.flush()
    assert recorder(alice).seqs == [5]
    assert feed.replay(Resume(after=3), "alice")[2] == [feed.ring.after(4)[0].frame]


def test_a_closing_connection_gets_nothing_more(feed: Feed, alice: Connection) -> None:
    alice.on_cut(4108)
    feed.take(chain(4, 4), 4)
    feed.flush()
    assert recorder(alice).frames == []


def test_a_connection_that_left_gets_nothing(feed: Feed, alice: Connection, connect: Connect) -> None:
    feed.remove(alice)
    feed.remove(alice)
    feed.take(chain(4, 4), 4)
    feed.flush()
    assert recorder(alice).frames == []
    assert feed.by_user == {}


def test_a_client_that_missed_something_needs_the_history_once(feed: Feed) -> None:
    missed = Position("e1", 1, "m1")
    assert feed.needs_history(missed)
    assert feed.resume(missed) is None
    assert feed.extend_back(page(1, 3))
    assert not feed.needs_history(missed)
    assert feed.resume(missed) == Resume(after=1)
    assert [entry.seq for entry in feed.ring.after(1)] == [2, 3]


def test_a_history_that_does_not_chain_does_not_extend_a_feed(feed: Feed) -> None:
    assert not feed.extend_back(Page(None, [], 1))
    assert not feed.extend_back(page(1, 3, epoch="e2"))
    other = [make_entry(3, "m2", id="other")]
    assert not feed.extend_back(Page(other[0].position, other, 3))
    assert not feed.is_whole


def test_a_replay_is_cut_at_its_limits_and_says_so(feed: Feed, settings: Any) -> None:
    feed.extend_back(page(1, 3))
    settings.HERMES_REPLAY_ENTRIES = 2
    how, start, texts = feed.replay(Resume(after=0), "alice")
    assert (how.lost, how.after, start.seq, len(texts)) == (Lost.TOO_FAR, 1, 1, 2)
    settings.HERMES_REPLAY_ENTRIES = 1000
    settings.HERMES_REPLAY_BYTES = 1
    how, start, texts = feed.replay(Resume(after=0), "alice")
    assert (how.lost, start.seq, texts) == (Lost.TOO_FAR, 3, [])


def test_a_ring_cut_by_its_weight_is_too_far_and_not_trimmed(settings: Any) -> None:
    settings.HERMES_REPLAY_BYTES = 2 * len(chain(1, 1)[0].frame)
    feed = Feed("development", "acme", START)
    feed.extend_back(page(1, 3))
    how = feed.resume(Position("e1", 0, ""))
    assert how is not None
    assert (how.lost, how.after) == (Lost.TOO_FAR, 1)


def test_recent_entries_are_those_a_member_may_see(feed: Feed) -> None:
    feed.take([make_entry(4, "m3"), make_entry(5, "m4", to=["bob"]), make_entry(6, "m5")], 6)
    assert feed.recent("alice", 10) == [feed.ring.after(3)[0].frame, feed.ring.after(5)[0].frame]
    assert feed.recent("bob", 1) == [feed.ring.after(5)[0].frame]


def test_a_head_that_holds_nothing_new_agrees(feed: Feed) -> None:
    assert feed.agrees_with(START)
    assert feed.agrees_with(Position("e1", 1, "m1"))
    assert not feed.agrees_with(Position("e1", 4, "m4"))
    assert not feed.agrees_with(Position("e1", 3, "other"))
    assert not feed.agrees_with(Position("e2", 1, "m1"))
    assert not feed.agrees_with(None)


def test_a_large_room_is_written_to_in_parts_and_what_comes_meanwhile_goes_out_together(
    feed: Feed, connect: Connect
) -> None:
    members = [connect(f"member-{number}") for number in range(10)]
    for member in members:
        feed.add(member)
    assert feed.take(chain(4, 4), 4)
    assert (feed.write(4), feed.is_busy) == (4, True)
    assert feed.take(chain(5, 6), 6)
    late = connect("late")
    feed.prepare()  # as a join does: it gets 4 to 6 as what it missed
    feed.add(late)
    assert feed.take(chain(7, 7), 7)
    while feed.is_busy:
        assert 0 < feed.write(4) <= 4
    assert [recorder(member).seqs for member in members] == [[4, 5, 6, 7]] * 10
    assert [len(recorder(member).batches) for member in members] == [3] * 10
    assert recorder(late).seqs == [7]
    assert feed.write(4) == 0


def test_a_write_that_fails_writes_to_nobody_twice_and_costs_nobody_else_anything(
    feed: Feed, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [connect(f"member-{number}") for number in range(7)]
    for member in members:
        feed.add(member)
    order = list(feed.connections)
    broken = order[3]

    def fail(batch: Batch) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(broken.outbound, "write", fail)
    feed.take(chain(4, 5), 5)
    with pytest.raises(RuntimeError):
        feed.write(5)
    feed.flush()
    assert [recorder(each).seqs for each in order] == [[4, 5]] * 3 + [[]] + [[4, 5]] * 3
    assert recorder(broken).closed == (4113, "unavailable")


def test_who_leaves_while_a_room_is_written_to_is_passed_over(feed: Feed, connect: Connect) -> None:
    members = [connect(f"member-{number}") for number in range(3)]
    for member in members:
        feed.add(member)
    assert feed.take(chain(4, 4), 4)
    feed.write(1)
    written = [member for member in members if recorder(member).seqs]
    gone = next(member for member in members if member not in written)
    gone.close_code = 4403
    feed.remove(gone)
    feed.flush()
    assert recorder(gone).seqs == []
    assert sum(recorder(member).seqs == [4] for member in members) == 2
