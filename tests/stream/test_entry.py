"""An entry's wire form: the bytes that history, hint and socket share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from notifications.stream.entry import Entry, frame, frame_head, from_hint, to_hint
from notifications.stream.message import Message, encode_data
from notifications.stream.position import Position

WIRE = Path(__file__).parent.parent / "wire"

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def test_a_frame_is_the_golden_one() -> None:
    golden = json.loads((WIRE / "entry.json").read_text(encoding="utf-8"))
    head = frame_head(Message(golden["id"], golden["user_id"], golden["room_id"], encode_data(golden["data"])))
    text = frame(head, golden["epoch"], golden["seq"])
    assert json.loads(text) == golden
    assert list(json.loads(text)) == list(golden), "in this order, too"


@given(json_values, texts, texts, st.integers() | texts)
def test_a_frame_is_json_and_says_what_the_producer_said(data: Any, room: str, key: str, user: str | int) -> None:
    text = frame(frame_head(Message(key, user, room, encode_data(data))), "a1b2", 17)
    assert json.loads(text) == {
        "user_id": user,
        "data": data,
        "room_id": room,
        "id": key,
        "epoch": "a1b2",
        "seq": 17,
    }


@given(st.lists(texts, max_size=3), st.none() | st.integers(1, 2**53))
def test_a_hint_carries_entries_through_msgpack(to: list[str], expires_at: int | None) -> None:
    entries = [
        Entry("e", 1, "m1", "", b"{}", frozenset(to) if to else None, expires_at, 1_700_000_000_000),
        Entry("e", 2, "m2", "m1", '{"é":1}'.encode()),
    ]
    hint = msgpack.unpackb(msgpack.packb(to_hint("development", "acme", entries, 2)))
    assert from_hint(hint) == entries
    assert (hint["stage"], hint["room"], hint["seq"]) == ("development", "acme", 2)


def test_an_entry_is_visible_to_those_it_is_addressed_to_until_it_expires() -> None:
    public = Entry("e", 1, "m1", "", b"{}")
    private = Entry("e", 2, "m2", "m1", b"{}", frozenset({"alice"}), expires_at=100)
    assert public.visible_to("charlie", 1e10)
    assert private.visible_to("alice", 99.9)
    assert not private.visible_to("alice", 100)
    assert not private.visible_to("bob", 99.9)
    assert private.position == Position("e", 2, "m2")
