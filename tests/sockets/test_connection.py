"""A connection: what it is told, and why it ends."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

from notifications.sockets.connection import ANSWER_BYTES, END_JITTER, EXPIRING_SECONDS
from notifications.sockets.protocol import Close
from notifications.stream.position import Position
from tests.sockets.scene import Connect, recorder


def test_its_record_is_what_the_registry_keeps(connect: Connect) -> None:
    alice = connect("alice")
    record = alice.record
    assert (record.connection_id, record.stage, record.room_id, record.user_id) == (
        alice.id,
        "development",
        "acme",
        "alice",
    )
    assert record.opened_at.tzinfo is not None


def test_the_article_s_client_gets_error_frames_and_no_others(connect: Connect) -> None:
    old = connect("alice", v1=False)
    old.control(b'{"data":{}}')
    old.error("unknown_action", "The action must be …")
    assert [frame["data"]["type"] for frame in recorder(old).frames] == ["hermes.error"]


def test_the_first_reason_to_close_counts(connect: Connect) -> None:
    alice = connect("alice")
    alice.close(Close.TOKEN, "expired")
    alice.close(Close.REVOKED, "revoked")
    alice.on_cut(Close.SLOW)
    alice.error("x", "nothing is said after a close")
    assert recorder(alice).closed == (4401, "expired")
    assert alice.close_code == 4401
    assert recorder(alice).frames == []


def test_a_member_is_told_once_that_the_token_ends_and_refreshes_it(connect: Connect) -> None:
    alice = connect("alice", ttl=60)
    now = time.time()
    alice.keep_time(now)
    assert recorder(alice).frames == []
    soon = alice.grant.expires_at - EXPIRING_SECONDS + 1
    alice.keep_time(soon)
    alice.keep_time(soon + 1)
    assert [expiring["expires_in_s"] for expiring in recorder(alice).controls("expiring")] == [EXPIRING_SECONDS - 1]
    alice.refresh(replace(alice.grant, expires_at=int(now) + 3600))
    assert 3590 <= recorder(alice).controls("refreshed")[0]["expires_in_s"] <= 3600
    alice.keep_time(soon + 60)
    assert recorder(alice).closed is None
    alice.keep_time(alice.grant.expires_at + END_JITTER)
    assert recorder(alice).closed == (4401, "expired")


def test_tokens_of_one_second_do_not_end_their_connections_at_one_moment(connect: Connect) -> None:
    members = [connect("alice", ttl=60) for _ in range(100)]
    end = members[0].grant.expires_at
    closed = []
    for step in range(11):
        for member in members:
            member.keep_time(end - 0.001 + step * 0.1)
        closed.append(sum(member.is_closing for member in members))
    assert closed[0] == 0, "nobody before the end"
    assert closed[-2] == 100, "everybody within a second after it"
    assert all(after - before < 50 for before, after in itertools.pairwise(closed))


def test_an_answer_costs_as_many_frames_as_it_has_bytes_for(connect: Connect, settings: Any) -> None:
    settings.HERMES_CLIENT_BURST, settings.HERMES_CLIENT_RATE = 20, 10
    alice, now = connect("alice"), time.monotonic()
    assert alice.may_speak(now)
    alice.charge(1024 * 1024 / ANSWER_BYTES, now)
    assert [alice.may_speak(now) for _ in range(4)] == [True, True, True, False]
    assert alice.may_speak(now + 1)
    assert not alice.is_closing
    for _ in range(9):
        alice.charge(16, now + 1)
    assert recorder(alice).closed == (4129, "rate")


def test_a_goodbye_spreads_the_returns(connect: Connect) -> None:
    slots = []
    for _ in range(50):
        alice = connect("alice")
        alice.goodbye(Position("e1", 3, "m3"), 10.0)
        slots.append(recorder(alice).controls("goodbye")[0]["retry_after_ms"])
    assert all(0 <= slot <= 10_000 for slot in slots)
    assert max(slots) - min(slots) > 2_000
