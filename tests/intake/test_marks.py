"""Where a body's error is: found for every reason that there is, whatever the text, and never by guessing."""

from __future__ import annotations

import json
import time

import pytest

from notifications.exceptions import MessageRefused
from notifications.intake import envelope, marks
from notifications.intake.letter import excerpt, successor

MAX = 65_536


def refused(body: str, max_bytes: int = MAX) -> MessageRefused:
    """Return how a body is refused."""
    with pytest.raises(MessageRefused) as caught:
        envelope.decode(body, "m", max_bytes=max_bytes)
    return caught.value


# Each with what is marked between « and ».
BODIES = {
    "not_json: no value": '{"user_id": 1, "room_id": «}»',
    "not_json: a quote": '{"user_id": 1, «room_id»: 2}',
    "not_json: nothing": "«»",
    "not_json: text": "«hello»",
    "not_an_object": "  «[1, 2]»  ",
    "missing_field": '«{»"user_id": 1, "data": 2}',
    "bad_field: user": '{"user_id": «true», "room_id": "acme", "data": {"user_id": 1}}',
    "bad_field: room": '{"data": {"room_id": []}, "user_id": 1, "room_id": «{"a": [1, 2]}»}',
    "bad_field: id": '{"id": «""», "user_id": 1, "room_id": "acme", "data": {"id": ""}}',
    "bad_field: to": '{"user_id": 1, "room_id": "acme", "data": 1, "to": «[1, true, [2]]»}',
    "bad_field: expiry": '{"user_id": 1, "room_id": "acme", "data": 1, "expires_at": «"soon"»}',
    "duplicate_key": '{"user_id": 1, "room_id": "acme", "data": {"a": 1, "b": {"a": 2}, «"a"»: 3}}',
    "duplicate_key: escaped": '{"user_id": 1, "room_id": "acme", "data": {"a": 1, «"\\u0061"»: 3}}',
    "not_finite: NaN": '{"user_id": 1, "room_id": "acme", "data": ["NaN", «NaN»]}',
    "not_finite: infinity": '{"user_id": 1, "room_id": "acme", "data": {"NaN": «-Infinity»}}',
    "not_finite: large": '{"user_id": 1, "room_id": "acme", "data": [1e9, «1e999»]}',
    "number_too_long": '{"user_id": 1, "room_id": "acme", "data": [' + f"«{'1' * 4301}»]}}",
    "too_deep": '{"user_id": 1, "room_id": "acme", "data": ' + "[" * 31 + "«[»" + "]" * 32 + "}",
    "lone_surrogate": '{"user_id": 1, "room_id": "acme", "data": "\\ud83d\\ude00 \\\\ud800 «\\ud83d» x"}',
    "lone_surrogate: low": '{"user_id": 1, "room_id": "acme", "data": "«\\udE00»"}',
    "reserved_type": '{"user_id": 1, "room_id": "acme", "data": {"data": {"type": 1}, "type": «"hermes.hello"»}}',
}


@pytest.mark.parametrize("case", BODIES)
def test_what_is_wrong_is_marked(case: str) -> None:
    text = BODIES[case]
    body = text.replace("«", "").replace("»", "")
    refusal = refused(body)
    assert refusal.code == case.partition(":")[0]
    span = marks.locate(body, refusal, max_bytes=MAX)
    assert span is not None
    start, end = span
    assert f"{body[:start]}«{body[start:end]}»{body[end:]}" == text


def test_what_is_too_large_is_marked_from_where_it_is_so_by_whole_characters() -> None:
    body = "é" * 60
    assert marks.locate(body, refused(body, 101), max_bytes=101) == (50, 60)


def test_nothing_is_marked_where_nothing_is_found() -> None:
    assert marks.locate("{}", MessageRefused("not_json", "without a position"), max_bytes=MAX) is None
    assert marks.locate("{}", MessageRefused("bad_field", "to must be there."), max_bytes=MAX) is None
    assert marks.locate("{}", MessageRefused("lone_surrogate", "Half."), max_bytes=MAX) is None


@pytest.mark.parametrize(
    ("body", "room"),
    [
        ('{"room_id": "acme"}', "acme"),
        ('{"room_id": 42, "room_id": 43', "42"),
        ('{"data": {"room_id": "globex"}, "room_id": "Größe \\ud83d\\ude00", oops', "Größe 😀"),
        ('{"room_id": ["acme"]}', ""),
        ('{"room_id": true}', ""),
        ('{"room_id": "acm', ""),
        ('{"room_id": acme}', ""),
        ('["room_id", "acme"]', ""),
        ('}]}:,"room_id', ""),
        ("", ""),
    ],
)
def test_a_field_is_read_as_far_as_a_body_can_be_read(body: str, room: str) -> None:
    assert marks.read(body, "room_id") == room


@pytest.mark.parametrize("text", ["[" * 50_000, '"' * 50_000, '{"a":' * 10_000, "1," * 25_000, '"\\' * 25_000])
def test_a_hostile_body_is_read_in_time_linear_in_its_length(text: str) -> None:
    began = time.perf_counter()
    assert marks.find(text, "room_id") is None
    assert time.perf_counter() - began < 10  # were it quadratic, minutes


# ── What a page shows ────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_excerpt_names_line_and_column_of_the_error() -> None:
    body = '{"user_id": 1,\n "room_id": "acme",\n "data": oops}'
    shown = excerpt(body, refused(body), max_bytes=MAX)
    assert (shown.line, shown.column, shown.marked) == (3, 10, "oops")
    assert shown.before + shown.marked + shown.after == body


def test_an_excerpt_of_a_huge_body_is_small_and_says_what_is_left_out() -> None:
    for body in ("x" * 1_000_000, json.dumps({"a": "x" * 900_000}) + "}", "\ud800" * 100_000):
        shown = excerpt(body, refused(body, 2_000_000), max_bytes=2_000_000)
        text = shown.before + shown.marked + shown.after
        assert len(text) <= 8_000
        assert len(text) + shown.cut_before + shown.cut_marked + shown.cut_after == len(body)
        text.encode()
    shown = excerpt("x" * 1_000_000, refused("x" * 1_000_000), max_bytes=MAX)
    assert (shown.cut_before, shown.cut_marked) == (MAX - 4_000, 1_000_000 - MAX - 2_000)


def test_a_body_without_an_error_is_shown_from_its_beginning() -> None:
    shown = excerpt("x" * 9_000, None, max_bytes=MAX)
    assert (shown.before, shown.cut_after, shown.line) == ("x" * 8_000, 1_000, 0)


# ── What is sent in its place ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (
            '{"user_id": 1, "room_id": "a", "data": 1, "id": "own"}',
            '{"user_id": 1, "room_id": "a", "data": 1, "id": "own"}',
        ),
        (' {"user_id": 1, "room_id": "a", "data": 1e2}', ' {"id": "m", "user_id": 1, "room_id": "a", "data": 1e2}'),
        (
            '{"id": null, "user_id": 1, "room_id": "a", "data": 1}',
            '{"id": "m", "user_id": 1, "room_id": "a", "data": 1}',
        ),
        (
            '{"user_id": 1, "room_id": "a", "data": {"id": null}, "id":null}',
            '{"user_id": 1, "room_id": "a", "data": {"id": null}, "id":"m"}',
        ),
    ],
)
def test_a_successor_is_the_same_body_with_a_key(body: str, sent: str) -> None:
    assert successor(body, "m", max_bytes=MAX) == sent
    assert envelope.decode(sent, "another", max_bytes=MAX).id == ("own" if "own" in body else "m")


def test_a_body_that_leaves_no_room_for_a_key_is_refused_with_the_reason() -> None:
    body = json.dumps({"user_id": 1, "room_id": "a", "data": "x"})
    with pytest.raises(MessageRefused, match="too_large: With the id that keeps it from being shown twice, the body"):
        successor(body, "m", max_bytes=len(body))
