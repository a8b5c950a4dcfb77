"""The checker accepts a true history and rejects every corrupted one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import HISTORY_ENTRIES, Checker, Event, check

STAGE, ROOM, EPOCH = "development", "acme", "e1"


def produced(n: int, **about: Any) -> Event:
    usual = {"stage": STAGE, "room": ROOM, "to": None, "expires": None, "refused": False, "by": "sqs"}
    return {"event": "produced", "n": f"m{n}", "mids": [f"sqs-{n}"], **usual, **about}


def appended(n: int, seq: int = 0, **about: Any) -> Event:
    seq = seq or n
    usual = {
        "stage": STAGE,
        "room": ROOM,
        "epoch": EPOCH,
        "id": f"id{n}",
        "to": None,
        "expires": None,
        "size": 200,
        "at": 900.0,
    }
    prev = f"id{seq - 1}" if seq > 1 else ""
    return {"event": "appended", "n": f"m{n}", "seq": seq, "prev": prev, **usual, **about}


def acked(n: int, unix: float = 950.0) -> Event:
    return {"event": "acked", "mid": f"sqs-{n}", "unix": unix}


def dead(n: int, unix: float = 940.0) -> Event:
    return {"event": "dead", "n": f"m{n}", "unix": unix}


def place(n: int, seq: int | None = None, epoch: str = EPOCH) -> Event:
    return {"epoch": epoch, "seq": n if seq is None else seq, "id": f"id{n}" if n else ""}


def joining(*position: Any, client: str = "alice-1", user: str = "alice", room: str = ROOM) -> Event:
    where = {"stage": STAGE, "room": room, "user": user}
    return {"event": "joining", "client": client, "position": list(position) or None, "unix": 800.0, **where}


def hello(n: int, status: str = "recovered", reason: str | None = None, client: str = "alice-1") -> Event:
    return {"event": "hello", "client": client, "status": status, "reason": reason, **place(n)}


def received(n: int, client: str = "alice-1", /, *, shown: bool = True, **about: Any) -> Event:
    usual = {"room": ROOM, "n": f"m{n}", "shown": shown, **place(n)}
    return {"event": "received", "client": client, **usual, **about}


def told(kind: str, n: int, reason: str = "", client: str = "alice-1") -> Event:
    return {"event": kind, "client": client, "reason": reason, "from": 1, "to": 0, **place(n)}


def settled(n: int, *clients: str) -> Event:
    return {"event": "settled", "heads": {f"{STAGE}/{ROOM}": [EPOCH, n, f"id{n}"]}, "clients": clients or ["alice-1"]}


BOOKS = {
    "event": "registry",
    "store": "mirror",
    "ok": True,
    "seconds": 2.0,
    "limit": 5.0,
    "after": "a kill",
    "detail": "",
}
CLOSED = {"event": "closed", "client": "alice-1", "code": 1006}

# Alice is connected, misses two entries, comes back; the fifth is for Bob, the sixth was refused.
TRUE = [
    joining(),
    hello(0, "fresh"),
    *(produced(n) for n in (1, 2, 3, 4)),
    *(appended(n) for n in (1, 2, 3, 4)),
    *(acked(n) for n in (1, 2, 3, 4)),
    received(1),
    received(2),
    CLOSED,
    joining(EPOCH, 2, "id2"),
    hello(2),
    received(3),
    received(4),
    produced(5, to=["bob"]),
    appended(5, to=["bob"]),
    produced(6, refused=True),
    dead(6),
    acked(6),
    told("ping", 5),
    BOOKS,
    settled(5),
]


def violations(events: list[Event]) -> list[str]:
    return Checker().check(events).violations


def test_a_true_history_is_accepted() -> None:
    assert violations(TRUE) == []


def test_a_deletion_in_the_very_millisecond_of_the_entry_is_accepted() -> None:
    assert violations(instead(acked(4), acked(4, 900.0))(TRUE)) == []
    assert violations(instead(acked(4), acked(4, 899.9995))(TRUE)) == []


def test_what_is_written_down_late_is_judged_all_the_same() -> None:
    """The tap may read an entry after its member has."""
    late = [event for event in TRUE if event["event"] == "appended"]
    assert violations([event for event in TRUE if event["event"] != "appended"] + late) == []


def without(event: Event) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [other for other in events if other != event]


def instead(event: Event, *others: Event) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [new for other in events for new in (others if other == event else (other,))]


def swapped(one: Event, other: Event) -> Callable[[list[Event]], list[Event]]:
    return lambda events: [other if event == one else one if event == other else event for event in events]


CORRUPTIONS: dict[str, tuple[Callable[[list[Event]], list[Event]], str]] = {
    "an entry that never came": (without(received(3)), "past 3, untold"),
    "the last entry that never came": (without(received(4)), "past 4, untold"),
    "an entry that never came before a gap in time": (without(received(2)), "shows the position"),
    "an entry twice": (instead(received(3), received(3), received(3)), "out of order, or again"),
    "an entry shown again after it was known": (
        instead(hello(2), hello(1), received(2)),
        "is said to be recovered from",
    ),
    "an entry dropped that was never shown": (instead(received(3), received(3, shown=False)), "had never been shown"),
    "two entries in the wrong order": (swapped(received(3), received(4)), "past 3, untold"),
    "an entry that was for Bob": (instead(told("ping", 5), received(5)), "which is for ['bob']"),
    "an entry of another room": (instead(received(3), received(3, room="globex")), "its history never held"),
    "an entry that no history held": (instead(received(3), received(9)), "its history never held"),
    "an entry with another's content": (instead(received(3), received(3, n="m1")), "where m3 stands"),
    "an entry of another epoch": (instead(received(3), received(3, epoch="e2")), "its history never held"),
    "a ping ahead of its entries": (instead(received(3), told("ping", 3)), "past 3, untold"),
    "a goodbye ahead of its entries": (instead(received(3), told("goodbye", 3)), "past 3, untold"),
    "a hello ahead of what was missed": (instead(hello(2), hello(3)), "past 3, untold"),
    "a fresh start for who has a position": (instead(hello(2), hello(2, "fresh")), "as if it had none"),
    "a recovery for who has no position": (instead(hello(0, "fresh"), hello(0)), "without a position"),
    "a loss told for no reason": (instead(hello(2), hello(2, "lost", "trimmed")), "for no reason"),
    "a gap told for no reason": (instead(received(3), told("gap", 3, "trimmed")), "for no reason"),
    "an epoch said to be lost that is the same": (instead(hello(2), hello(2, "lost", "epoch")), "for no reason"),
    "a fork told where there was none": (instead(hello(2), hello(2, "lost", "fork")), "for no reason"),
    "a message deleted that is nowhere": (without(appended(4)), "deleted from SQS and was in no history"),
    "a message deleted before it was in its history": (
        instead(acked(4), acked(4, 899.99)),
        "m4 was deleted from SQS and was in no history and no dead-letter queue: it was 0.010 s later",
    ),
    "a refused message deleted before it was a dead letter": (
        instead(acked(6), acked(6, 939.9)),
        "m6 was deleted from SQS and was in no history",
    ),
    "a refused message deleted of which a letter only turned up": (
        instead(dead(6), {"event": "dead", "n": "m6"}),
        "m6 was deleted from SQS and was in no history",
    ),
    "a refused message deleted that is nowhere": (without(dead(6)), "no dead-letter queue"),
    "a refused message in a history": (instead(told("ping", 5), appended(6), told("ping", 5)), "must be refused"),
    "a message that vanished": (
        lambda events: without(acked(4))(without(appended(4))(without(received(4))(events))),
        "neither in a history nor in the dead-letter queue",
    ),
    "a message with two places": (
        lambda events: [*events[:-1], appended(4, 6, prev="id5"), settled(5)],
        "has two places",
    ),
    "an entry that nobody produced": (without(produced(1)), "nobody produced m1"),
    "an entry for everybody that was for Bob": (instead(produced(5, to=["bob"]), produced(5)), "somebody else"),
    "an entry that does not follow its predecessor": (instead(appended(3), appended(3, prev="other")), "which follows"),
    "a member that is not where its room is": (instead(settled(5), produced(7), appended(7, 6), settled(6)), "past 6"),
    "a member that is in another life than its room": (
        instead(settled(5), {**settled(5), "heads": {f"{STAGE}/{ROOM}": ["e2", 5, "id5"]}}),
        "is at ('e1', 5, 'id5') while its room is at ('e2', 5, 'id5')",
    ),
    "a member that has no position where its room has entries": (
        lambda events: [*events, joining(client="bob-1", user="bob"), settled(5, "bob-1")],
        "bob-1 is at None while its room is at",
    ),
    "a loss told to who has no position": (
        instead(hello(0, "fresh"), hello(0, "lost", "epoch")),
        "came without a position and was told that it lost something: epoch",
    ),
    "a registry that is wrong": (
        lambda events: [*events, {**BOOKS, "ok": False}],
        "mirror was not right",
    ),
    "a registry that came right too late": (
        lambda events: [*events, {**BOOKS, "seconds": 5.1}],
        "5.0 s are allowed after a kill",
    ),
    "an outage of Redis told that was none": (instead(hello(2), hello(2, "lost", "unavailable")), "for no reason"),
    "a good token refused": (lambda events: [*events, {**CLOSED, "code": 4401}], "its token is good"),
    "a process that ended by itself": (
        lambda events: [*events, {"event": "died", "process": "relay", "code": 1}],
        "ended by itself",
    ),
    "an error that nobody had thought of": (
        lambda events: [*events, {"event": "unexpected", "process": "server-0", "what": "Exception", "count": 2}],
        "server-0 logged 2 times",
    ),
    "a calm in which it did not settle": (
        lambda events: [*events, {"event": "unsettled", "what": "the queue is empty"}],
        "did not settle",
    ),
    "a send confirmed that is in no history": (
        lambda events: [*events, {"event": "sent", "client": "alice-1", "id": "id77"}],
        "was told that id77 was sent",
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_history_is_rejected(name: str) -> None:
    corrupt, expected = CORRUPTIONS[name]
    found = violations(corrupt(copy.deepcopy(TRUE)))
    assert any(expected in violation for violation in found), found


# ── A FIFO queue ─────────────────────────────────────────────────────────────────────────────────────────────────────
def grouped(n: int, group: str = "acme-one") -> Event:
    return produced(n, group=group)


def test_each_group_of_a_fifo_queue_has_an_order_of_its_own() -> None:
    sent = [grouped(1), grouped(2), grouped(3, "acme-other"), grouped(4, "acme-other")]
    assert violations([*sent, appended(1), appended(2), appended(3), appended(4)]) == []
    assert violations([*sent, *(appended(n, seq) for seq, n in enumerate((3, 1, 4, 2), 1))]) == []
    assert Checker().check([*sent, appended(1), appended(2)]).order.count == 2


def test_a_message_with_its_place_after_one_of_its_group_that_was_sent_later_is_rejected() -> None:
    found = violations([grouped(1), grouped(2), appended(2, 1), appended(1, 2)])
    assert any("m1 of group" in each and "was sent before m2" in each for each in found), found
    assert violations([produced(1), produced(2), appended(2, 1), appended(1, 2)]) == [], "a standard queue has no order"


def test_a_place_that_redis_lost_is_given_again_later() -> None:
    events = [grouped(1), grouped(2), appended(1), life("none", 0, ""), appended(2, 1, epoch="e2")]
    assert violations([*events, appended(1, 2, epoch="e2")]) == []


# ── What Redis's own losses excuse, and what they do not ─────────────────────────────────────────────────────────────
def life(how: str, seq: int, epoch: str = EPOCH) -> Event:
    return {"event": "life", "how": how, "heads": {f"{STAGE}/{ROOM}": [epoch, seq]}}


BEFORE = [
    joining(),
    hello(0, "fresh"),
    *(produced(n) for n in (1, 2, 3, 4)),
    *(appended(n) for n in (1, 2, 3)),
    *(received(n) for n in (1, 2, 3)),
]
# Redis goes back to the first entry; the fourth message stands where the second stood.
FORKED = [*BEFORE, life("older", 1), appended(4, 2)]


def test_a_fork_that_is_told_is_accepted() -> None:
    after = [told("lost", 1, "fork"), received(4, seq=2)]
    assert violations([*FORKED, *after]) == []


def test_a_fork_that_is_not_told_is_rejected() -> None:
    assert any("out of order" in found for found in violations([*FORKED, received(4, seq=2)]))


def test_a_message_appended_again_after_its_place_was_lost_is_accepted() -> None:
    again = appended(3, 3, prev="id4")
    assert violations([*FORKED, again, told("lost", 1, "fork"), received(4, seq=2), received(3, shown=False)]) == []


def test_what_comes_again_after_a_loss_that_was_told_is_not_shown_again() -> None:
    told_lost = [*FORKED, appended(3, 3, prev="id4"), told("lost", 1, "fork"), received(4, seq=2)]
    assert violations([*told_lost, received(3, shown=True)]) == [f"alice-1: {(EPOCH, 3, 'id3')} was shown again"]


def test_a_message_appended_again_although_its_place_stands_is_rejected() -> None:
    assert any("two places" in found for found in violations([*FORKED, appended(1, 3, prev="id4")]))


def test_a_new_epoch_that_is_told_is_accepted_and_one_that_is_not_is_rejected() -> None:
    lost = [*BEFORE, life("none", 0, ""), appended(4, 1, epoch="e2")]
    entry = received(4, **place(4, 1, "e2"))
    assert violations([*lost, {**told("lost", 0, "epoch"), "epoch": "e2"}, entry]) == []
    assert any("another epoch, untold" in found for found in violations([*lost, entry]))


def test_what_more_was_trimmed_than_a_history_keeps_may_be_told_as_lost() -> None:
    many = range(1, HISTORY_ENTRIES + 2)
    first = [joining(), hello(0, "fresh"), *map(produced, many), *map(appended, many), CLOSED]
    back = [joining(EPOCH, 0, ""), hello(1, "lost", "trimmed"), *map(received, many[1:])]
    assert violations([*first, *back, settled(HISTORY_ENTRIES + 1)]) == []


def test_what_expires_may_be_missed_but_is_not_delivered_afterwards() -> None:
    events = [joining(), hello(0, "fresh"), produced(1, expires=1000), appended(1, expires=1000)]
    assert violations([*events, settled(1)]) == []
    assert violations([*events, received(1)]) == []
    back = [CLOSED, {**joining(EPOCH, 0, ""), "unix": 1005.0}, hello(0)]
    assert any("had expired" in found for found in violations([*events, *back, received(1)]))
    late = [*events[:-1], appended(1, expires=1000, at=1005.0)]
    assert any("had expired" in found for found in violations([*late, received(1)]))


def promoted(seq: int, *, durable: bool) -> Event:
    return {**life("promoted", seq), "durable": durable}


def test_what_a_replica_confirmed_and_its_promotion_lost_is_rejected() -> None:
    lost = [*BEFORE, acked(3), promoted(2, durable=True), told("lost", 2, "fork"), produced(5), appended(5, 3)]
    found = violations([*lost, received(5, seq=3)])
    assert any("id3') was confirmed when a replica had it" in each for each in found)
    sent = [*BEFORE, {"event": "sent", "client": "alice-1", "id": "id3"}, promoted(2, durable=True)]
    assert any("was confirmed when a replica had it" in each for each in violations(sent))


def test_what_nobody_confirmed_may_go_with_its_primary_and_in_memory_anything_may() -> None:
    assert not any("confirmed" in each for each in violations([*BEFORE, promoted(2, durable=True)]))
    assert not any("confirmed" in each for each in violations([*BEFORE, acked(3), promoted(2, durable=False)]))


def test_an_outage_may_be_told_when_redis_was_away() -> None:
    def fault(phase: str, t: float) -> Event:
        return {"event": "fault", "kind": "Redis link: cut", "part": "server-0", "phase": phase, "t": t}

    told_lost = {**hello(2, "lost", "unavailable"), "t": 20.0}
    events = [told_lost if event == hello(2) else event for event in TRUE]
    assert violations([fault("begin", 8), fault("end", 9), *events]) == []
    assert any("for no reason" in found for found in violations([fault("begin", 1), fault("end", 2), *events]))


def test_a_file_whose_last_line_was_cut_off_is_judged_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(map(json.dumps, TRUE)) + '\n{"event": "died", "proc')
    judged = check(path)
    assert judged.violations == []
    assert judged.counts["appended"] == 5
