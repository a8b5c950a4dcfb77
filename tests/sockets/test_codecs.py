"""What is encoded comes back as it was, whatever it is: frames, positions, what clients say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol as WebSocket
from websockets.protocol import Side, State

from notifications.sockets import protocol
from notifications.sockets.consumer import _position
from notifications.sockets.protocol import Recent, Refresh, SendMessage, parse_client_frame
from notifications.stream.position import MAX_SEQ, Lost, Position

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
positions = st.builds(Position, st.from_regex(r"[0-9a-f]{1,12}", fullmatch=True), st.integers(1, MAX_SEQ), ids) | (
    st.builds(Position, st.from_regex(r"[0-9a-f]{1,12}", fullmatch=True), st.just(0), st.just(""))
)
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def read(frames: bytes) -> list[bytes]:
    """Read frames as a WebSocket client does that is not ours."""
    client = WebSocket(Side.CLIENT, state=State.OPEN, max_size=None)
    client.receive_data(frames)
    events: list[Any] = client.events_received()
    assert client.parser_exc is None
    assert all(event.opcode is Opcode.TEXT and event.fin for event in events)
    return [bytes(event.data) for event in events]


@settings(deadline=None)
@given(st.lists(texts.map(str.encode) | st.integers(0, 70_000).map(lambda size: b"x" * size), max_size=6))
def test_frames_joined_into_one_write_are_read_one_by_one(payloads: list[bytes]) -> None:
    assert read(b"".join(protocol.text_frame(payload) for payload in payloads)) == payloads


@given(positions)
def test_a_position_comes_back_from_a_frame_through_a_query(position: Position) -> None:
    told = json.loads(protocol.control("ping", protocol.place(position)))["data"]["data"]
    query = urlencode({name: told[name] for name in ("epoch", "seq", "id")}).encode()
    assert _position({"hermes.v1": True, "query_string": query}) == (position, False)


@given(st.binary(max_size=60) | st.from_regex(rb"((epoch|seq|id)=[^&]{0,9}&?){1,4}", fullmatch=True))
def test_any_query_is_a_position_or_none_or_malformed(query: bytes) -> None:
    position, is_malformed = _position({"hermes.v1": True, "query_string": query})
    assert position is None or not is_malformed
    assert position is None or (position.seq == 0) == (position.id == "")


@given(st.sampled_from(["lost", "gap"]), st.sampled_from(Lost), st.integers(0, MAX_SEQ), positions)
def test_what_is_missing_is_told_as_it_was(kind: str, reason: Lost, first: int, position: Position) -> None:
    frame = json.loads(protocol.missing(kind, reason, first, first + 1, position))
    data = frame["data"]["data"]
    assert (frame["data"]["type"], data["reason"], data["from"]) == (f"hermes.{kind}", reason.value, first)
    assert Position(data["epoch"], data["seq"], data["id"]) == position
    assert "seq" not in frame, "no toolkit may take it for an entry"


@given(json_values)
def test_what_a_client_sends_is_understood_as_it_was(data: Any) -> None:
    said = parse_client_frame(json.dumps({"action": "sendMessage", "data": data}))
    assert isinstance(said, SendMessage)
    assert json.loads(said.data) == data


@given(texts, st.integers(1, protocol.MAX_RECENT), st.dictionaries(texts, json_values, max_size=2))
def test_fields_that_nobody_knows_change_nothing(token: str, limit: int, more: dict[str, Any]) -> None:
    assert parse_client_frame(json.dumps({**more, "action": "refresh", "token": token})) == Refresh(token)
    assert parse_client_frame(json.dumps({**more, "action": "recent", "limit": limit})) == Recent(limit)
