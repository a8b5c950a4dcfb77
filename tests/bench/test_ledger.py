"""The books that say whether a run counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench import marks
from bench.dialects import DIALECTS, Member
from bench.ledger import Ledger, Tally


def frame(number: int, at: int = 5, envelope: str = '{"user_id":0,"data":%s,"seq":1}') -> bytes:
    return (envelope % marks.write(number, at, 140)).encode()


def books(upto: int) -> tuple[Ledger, list[str]]:
    called: list[str] = []
    ledger = Ledger(lambda: called.append("done"))
    ledger.expect(upto)
    return ledger, called


def test_all_in_order_is_right_and_is_said_once() -> None:
    ledger, called = books(3)
    for number in (1, 2, 3):
        assert not called
        ledger.take(frame(number))
    assert (ledger.wrong, called) == ("", ["done"])


def test_it_goes_on_with_the_next_goal() -> None:
    ledger, called = books(1)
    ledger.take(frame(1))
    ledger.expect(3)
    ledger.take(frame(2))
    ledger.take(frame(3))
    assert (ledger.wrong, called) == ("", ["done", "done"])


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ((1, 3), "3 came where 2 was due"),  # lost
        ((1, 2, 2), "2 came where 3 was due"),  # doubled
        ((1, 3, 2), "3 came where 2 was due"),  # swapped
        ((2, 3), "2 came where 1 was due"),  # the first is lost
        ((1, 2, 3, 4, 4), "4 came where 5 was due, after the last"),
        ((1, 2, 3, 4, 5), "5 came where 5 was due, after the last"),
    ],
)
def test_what_is_lost_doubled_or_swapped_is_wrong(numbers: tuple[int, ...], wrong: str) -> None:
    ledger, called = books(4)
    for number in numbers:
        ledger.take(frame(number))
    assert (ledger.wrong, called) == (wrong, ["done"])


def test_a_frame_without_a_mark_is_wrong() -> None:
    ledger, _ = books(1)
    ledger.take(b'{"data":"something else"}')
    assert ledger.wrong.startswith("a frame without a number")


def test_what_comes_when_nothing_is_due_is_wrong() -> None:
    ledger, _ = books(0)
    ledger.take(frame(1))
    assert "after the last" in ledger.wrong


def test_frames_may_begin_differently() -> None:
    ledger, _ = books(2)
    ledger.take(frame(1))
    ledger.take(frame(2, envelope='{"push":{"channel":"room","pub":{"data":%s}}}'))
    assert not ledger.wrong


def test_a_tally_takes_any_order_and_refuses_doubles() -> None:
    called: list[str] = []
    tally = Tally(lambda: called.append("done"))
    tally.expect(3)
    tally.take(frame(30))
    tally.take(frame(10) + b"," + frame(20))
    assert (tally.wrong, called, sorted(tally.seen)) == ("", ["done"], [10, 20, 30])
    tally.expect(4)
    tally.take(frame(10))
    assert (tally.wrong, called) == ("10 came twice", ["done", "done"])


def test_a_mark_is_found_again() -> None:
    payload = frame(42, at=123_456_789)
    at = marks.find(payload)
    assert (marks.number(payload, at), marks.stamp(payload, at)) == (42, 123_456_789)
    assert marks.find_all(payload) == [(42, 123_456_789)]
    assert len(marks.write(1, 1, 140)) == 140


_MEMBER = Member("user-0", "room-0000", "token")


@pytest.mark.parametrize(
    ("dialect", "payload", "check"),
    [
        ("socketio", b'0{"sid":"a"}', lambda heard: heard.reply == b'40{"token": "token"}' and not heard.is_open),
        ("socketio", b'40{"sid":"b"}', lambda heard: heard.is_open),
        ("socketio", b"2", lambda heard: heard.reply == b"3"),
        ("socketio", b'44{"message":"no"}', lambda heard: heard.wrong),
        (
            "hermes",
            b'{"data":{"type":"hermes.hello","data":{"status":"recovered","epoch":"e","seq":4,"id":"x"}}}',
            lambda heard: heard.is_open and heard.position == ("e", 4, "x") and not heard.wrong,
        ),
        (
            "hermes",
            b'{"data":{"type":"hermes.hello","data":{"status":"lost","reason":"trimmed","epoch":"e","seq":4,"id":""}}}',
            lambda heard: heard.wrong == "hermes.hello(trimmed)",
        ),
        (
            "centrifugo",
            b'{"id":1,"connect":{"client":"c","subs":{"room-0000":{"recoverable":true,"epoch":"e","offset":7}}}}',
            lambda heard: heard.is_open and heard.position == ("e", 7, ""),
        ),
        ("centrifugo", b"{}", lambda heard: heard.reply == b"{}"),
    ],
)
def test_control_frames_are_understood(dialect: str, payload: bytes, check: Callable[[object], bool]) -> None:
    assert check(DIALECTS[dialect].hear(payload, _MEMBER))
