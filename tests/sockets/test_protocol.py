"""The frames, held against the golden ones that the toolkit's tests read as well."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol as WebSocket
from websockets.protocol import Side, State

from notifications.exceptions import ClientError
from notifications.sockets import protocol
from notifications.sockets.protocol import Close, Recent, Refresh, SendMessage
from notifications.stream.position import Lost, Position, Resume

WIRE = Path(__file__).parent.parent / "wire"


def golden(name: str) -> Any:
    return json.loads((WIRE / f"{name}.json").read_text(encoding="utf-8"))


def made(name: str) -> bytes:
    """Make the frame of a golden file with the product's own functions, from the golden data."""
    data = golden(name)["data"]["data"]
    position = Position(data["epoch"], data["seq"], data["id"]) if "epoch" in data else Position("", 0, "")
    if name.startswith("hello"):
        lost = Lost(data["reason"]) if "reason" in data else None
        about = {key: data[key] for key in ("ping_s", "expires_in_s", "connection_id", "user_id", "room_id")}
        how = Resume(after=data["seq"], lost=lost, fresh=data["status"] == "fresh")
        return protocol.hello(how, position, data["replayed"], **about)
    if name in {"lost", "gap"}:
        return protocol.missing(name, Lost(data["reason"]), data["from"], data["to"], position)
    if name == "error":
        return protocol.error(data["code"], data["message"], data.get("ref", ""))
    if name == "recent":
        return protocol.recent(
            [json.dumps(entry, ensure_ascii=False).encode() for entry in data["entries"]], data["ref"]
        )
    return protocol.control(name, data)


@pytest.mark.parametrize(
    "name",
    sorted(p.stem for p in WIRE.glob("*.json") if p.stem != "entry" and not p.stem.startswith("client_")),
)
def test_a_control_frame_is_the_golden_one(name: str) -> None:
    assert json.loads(made(name)) == golden(name)


def test_a_control_frame_has_the_articles_shape_and_no_seq() -> None:
    """The article's handler reads notification.data.type and throws where there is no data."""
    frame = json.loads(protocol.control("ping", {"epoch": "e", "seq": 3, "id": "m3"}))
    assert frame["data"]["type"] == "hermes.ping"
    assert "seq" not in frame


def test_a_goodbye_is_made_once_for_a_room_and_differs_in_its_slot() -> None:
    position = Position("e1", 3, 'm"3')
    for slot in (0, 7, 4000):
        data = {"epoch": "e1", "seq": 3, "id": 'm"3', "retry_after_ms": slot}
        assert protocol.goodbye(position, slot) == protocol.control("goodbye", data)


def test_a_refresh_is_known_at_sight_and_nothing_else_is_taken_for_one() -> None:
    assert protocol.is_refresh('{"action": "refresh", "token": "t"}')
    for other in (
        '{"action": "sendMessage", "data": {"action": "refresh", "token": "t"}}',
        '{"action": "refresh"}',
        '"refresh"',
        '{"action": "recent"}',
        json.dumps({"action": "refresh", "token": "t" * 8192}),
    ):
        assert not protocol.is_refresh(other)


def test_what_clients_say_is_understood() -> None:
    said = {
        name: protocol.parse_client_frame(json.dumps(golden(f"client_{name}")))
        for name in ("send_message", "refresh", "recent")
    }
    assert said["send_message"] == SendMessage(json.dumps(golden("client_send_message")["data"], separators=(",", ":")))
    assert said["refresh"] == Refresh(golden("client_refresh")["token"])
    assert said["recent"] == Recent(50, ref="1")
    assert protocol.parse_client_frame('{"action":"recent"}') == Recent(50)


@pytest.mark.parametrize(
    "action", ['"recent","limit":0', '"shout"', '"sendMessage"', '"refresh"', '"sendMessage","data":NaN']
)
def test_an_answer_names_the_frame_that_it_answers(action: str) -> None:
    with pytest.raises(ClientError) as raised:
        protocol.parse_client_frame(f'{{"ref":"tab.7","action":{action}}}')
    # A frame that cannot be read has no ref either.
    assert raised.value.ref == ("" if "NaN" in action else "tab.7")


@pytest.mark.parametrize("ref", [7, None, ["x"], "x" * 65])
def test_a_ref_that_is_no_short_text_is_as_good_as_none(ref: object) -> None:
    assert protocol.parse_client_frame(json.dumps({"action": "recent", "ref": ref})) == Recent(50)


def test_without_a_ref_none_is_answered() -> None:
    assert protocol.error("x", "y") == b'{"data":{"type":"hermes.error","data":{"code":"x","message":"y"}}}'
    assert protocol.recent([]) == b'{"data":{"type":"hermes.recent","data":{"entries":[]}}}'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nope", "not_json"),
        ("[1]", "not_an_object"),
        ('"sendMessage"', "not_an_object"),
        ("{}", "unknown_action"),
        ('{"action":"shout"}', "unknown_action"),
        ('{"action":["sendMessage"]}', "unknown_action"),
        ('{"action":"sendMessage"}', "no_data"),
        ('{"action":"sendMessage","data":{"type":"hermes.hello"}}', "reserved_type"),
        ('{"action":"sendMessage","data":"\\ud800"}', "lone_surrogate"),
        ('{"action":"sendMessage","data":NaN}', "not_finite"),
        ('{"action":"sendMessage","data":' + "[" * 40 + "]" * 40 + "}", "too_deep"),
        ('{"action":"sendMessage","action":"recent","data":1}', "duplicate_key"),
        ('{"action":"refresh"}', "no_token"),
        ('{"action":"refresh","token":7}', "no_token"),
        ('{"action":"recent","limit":0}', "bad_limit"),
        ('{"action":"recent","limit":201}', "bad_limit"),
        ('{"action":"recent","limit":true}', "bad_limit"),
        ('{"action":"recent","limit":"5"}', "bad_limit"),
    ],
)
def test_what_cannot_be_obeyed_is_answered_with_a_code(text: str, code: str) -> None:
    with pytest.raises(ClientError) as raised:
        protocol.parse_client_frame(text)
    assert raised.value.code == code
    assert raised.value.message


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(ClientError):
        assert protocol.parse_client_frame(text)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_our_frames_are_what_a_websocket_client_reads(size: int) -> None:
    client = WebSocket(Side.CLIENT, state=State.OPEN, max_size=None)
    payload = b"x" * size
    client.receive_data(protocol.text_frame(payload) + protocol.PING_FRAME)
    text, ping = client.events_received()
    assert (text.opcode, bytes(text.data), text.fin) == (Opcode.TEXT, payload, True)  # type: ignore[union-attr]
    assert ping.opcode is Opcode.PING  # type: ignore[union-attr]


def test_close_codes_say_by_their_range_whether_to_come_back() -> None:
    come_back = {Close.SLOW, Close.TOO_MANY, Close.DISCONNECTED, Close.DRAINING, Close.UNAVAILABLE, Close.RATE}
    assert {code for code in Close if 4100 <= code < 4200} == come_back
    assert {code for code in Close if 4400 <= code < 4500} == set(Close) - come_back
