"""A `traceparent` is read as W3C's trace context says, and carried beside an entry, never in what a browser gets."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from notifications.stream import trace
from notifications.stream.entry import Entry, from_hint, to_hint
from notifications.stream.history import History
from notifications.stream.message import Message

ID, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{ID}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PARENT, PARENT),
        (f"00-{ID}-{SPAN}-00", f"00-{ID}-{SPAN}-00"),
        (f"cc-{ID}-{SPAN}-01", f"cc-{ID}-{SPAN}-01"),
        (f"cc-{ID}-{SPAN}-01-what-later-versions-append", f"cc-{ID}-{SPAN}-01"),
        (f"00-{ID}-{SPAN}-01-more", ""),
        (f"ff-{ID}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{ID}-{'0' * 16}-01", ""),
        (f"00-{ID.upper()}-{SPAN}-01", ""),
        (f"00-{ID[1:]}-{SPAN}-01", ""),
        (f" {PARENT}", ""),
        (f"{PARENT}\n", ""),
        (f"cc-{ID}-{SPAN}-01-a\nb", ""),
        ("", ""),
        (None, ""),
        (7, ""),
        (b"00", ""),
    ],
)
def test_what_the_standard_allows_is_taken_and_all_else_ignored(text: object, expected: str) -> None:
    assert trace.parse(text) == expected


def test_a_trace_that_is_recorded_is_worth_a_line_and_another_only_to_who_looks_closely() -> None:
    assert trace.level(PARENT) == logging.INFO
    assert trace.level(f"00-{ID}-{SPAN}-03") == logging.INFO
    assert trace.level(f"00-{ID}-{SPAN}-00") == trace.level("") == logging.DEBUG
    assert trace.fields(PARENT) == {"trace_id": ID, "span_id": SPAN}
    assert trace.fields("") == {}


def test_a_hint_carries_it_beside_entries_that_earlier_releases_can_read() -> None:
    entries = [Entry("e", 1, "m1", "", b"{}", at=5, sent_at=4, trace=PARENT), Entry("e", 2, "m2", "m1", b"{}")]
    hint = to_hint("development", "acme", entries, 2)
    assert from_hint(hint) == entries
    assert {len(entry) for entry in hint["entries"]} == {8}, "as earlier releases read them"
    del hint["origins"]  # an earlier release's
    assert [(entry.sent_at, entry.trace) for entry in from_hint(hint)] == [(0, ""), (0, "")]


async def test_the_history_carries_it_and_the_frame_does_not(history: History) -> None:
    plain = Message(id="m1", user_id=1, room_id="acme", data="1")
    traced = Message(id="m2", user_id=1, room_id="acme", data="1", sent_at=1_700_000_000_123, trace=PARENT)
    (first, second) = await history.append("development", [plain, traced])
    page = await history.read("development", "acme")
    assert page.entries == [_entry(first), _entry(second)]
    assert [(entry.sent_at, entry.trace) for entry in page.entries] == [(0, ""), (1_700_000_000_123, PARENT)]
    assert ID.encode() not in page.entries[1].frame
    assert b"1700000000123" not in page.entries[1].frame


def _entry(appended: Any) -> Entry:
    assert appended.entry is not None
    entry: Entry = appended.entry
    return entry
