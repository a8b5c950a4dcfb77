"""Incoming: bytes of a client become messages; what the RFC asks for is answered. No I/O."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from notifications.sockets.incoming import Incoming

MAX_BYTES = 1024


def client_frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def server_frame(opcode: Opcode, data: bytes = b"") -> bytes:
    return Frame(opcode, data).serialize(mask=False)


def close_data(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


@pytest.fixture
def incoming() -> Incoming:
    """What one client says."""
    return Incoming(MAX_BYTES)


def test_texts_and_bytes_are_told_apart_and_ask_for_no_answer(incoming: Incoming) -> None:
    data = client_frame(Opcode.TEXT, "ä".encode()) + client_frame(Opcode.BINARY, b"\xff") + client_frame(Opcode.TEXT)
    assert list(incoming.read(data)) == ["ä", b"\xff", ""]
    assert (incoming.answers(), incoming.code, incoming.has_closed) == (b"", None, False)


def test_a_message_may_come_byte_by_byte(incoming: Incoming) -> None:
    data = client_frame(Opcode.TEXT, b"one") + client_frame(Opcode.TEXT, b"two")
    assert [said for byte in data for said in incoming.read(bytes((byte,)))] == ["one", "two"]


def test_a_message_of_many_frames_is_one_even_where_a_character_is_cut(incoming: Incoming) -> None:
    first, second = "ä".encode()[:1], "ä".encode()[1:]
    text = client_frame(Opcode.TEXT, first, fin=False) + client_frame(Opcode.CONT, second, fin=False)
    assert list(incoming.read(text)) == []
    assert list(incoming.read(client_frame(Opcode.CONT, b"!"))) == ["ä!"]
    binary = client_frame(Opcode.BINARY, b"\xff", fin=False) + client_frame(Opcode.CONT, b"\xfe")
    assert list(incoming.read(binary + client_frame(Opcode.TEXT, b"next"))) == [b"\xff\xfe", "next"]


def test_pings_between_the_frames_of_a_message_are_answered_and_pongs_are_not(incoming: Incoming) -> None:
    data = client_frame(Opcode.TEXT, b"a", fin=False) + client_frame(Opcode.PING, b"1") + client_frame(Opcode.PONG)
    data += client_frame(Opcode.PING, b"2") + client_frame(Opcode.CONT, b"b")
    assert list(incoming.read(data)) == ["ab"]
    assert incoming.answers() == server_frame(Opcode.PONG, b"1") + server_frame(Opcode.PONG, b"2")
    assert incoming.answers() == b""


def test_frames_that_say_nothing_are_counted(incoming: Incoming) -> None:
    data = client_frame(Opcode.PING) * 3 + client_frame(Opcode.PONG) + client_frame(Opcode.TEXT, fin=False)
    data += client_frame(Opcode.CONT, fin=False) * 2 + client_frame(Opcode.CONT, b"a", fin=False)
    assert list(incoming.read(data + client_frame(Opcode.CONT))) == ["a"]
    assert incoming.idle == 7


@pytest.mark.parametrize(("data", "code"), [(close_data(4001, b"bye"), 4001), (close_data(1000), 1000), (b"", 1005)])
def test_a_close_frame_is_answered_in_kind_and_ends_what_is_said(incoming: Incoming, data: bytes, code: int) -> None:
    last = client_frame(Opcode.TEXT, b"last") + client_frame(Opcode.CLOSE, data)
    assert list(incoming.read(last + client_frame(Opcode.TEXT, b"too late"))) == ["last"]
    assert (incoming.code, incoming.has_closed) == (code, True)
    assert incoming.answers() == server_frame(Opcode.CLOSE, data)
    assert list(incoming.read(client_frame(Opcode.PING))) == []
    assert incoming.answers() == b""


def test_a_text_that_is_no_utf8_ends_it_with_1007_and_nothing_behind_it_is_heard(incoming: Incoming) -> None:
    data = client_frame(Opcode.TEXT, b"good") + client_frame(Opcode.TEXT, b"\xff") + client_frame(Opcode.TEXT, b"good")
    assert list(incoming.read(data)) == ["good"]
    assert (incoming.code, incoming.has_closed) == (1007, False)
    assert incoming.answers() == server_frame(Opcode.CLOSE, close_data(1007, b"not UTF-8"))
    assert list(incoming.read(client_frame(Opcode.TEXT, b"more"))) == []


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client_frame(Opcode.TEXT, b"x" * (MAX_BYTES + 1))[:4], 1009),  # it is enough that it is announced
        (client_frame(Opcode.TEXT, b"x" * MAX_BYTES, fin=False) + client_frame(Opcode.CONT, b"x"), 1009),
        (server_frame(Opcode.TEXT, b"not masked"), 1002),
        (client_frame(Opcode.CONT, b"of nothing"), 1002),
        (client_frame(Opcode.CLOSE, b"\x03"), 1002),
    ],
)
def test_what_breaks_the_rules_ends_it_with_the_code_that_says_why(incoming: Incoming, data: bytes, code: int) -> None:
    assert list(incoming.read(client_frame(Opcode.TEXT, b"good") + data)) == ["good"]
    assert (incoming.code, incoming.has_closed) == (code, False)
    assert incoming.answers()[2:4] == close_data(code)


def test_the_largest_message_is_heard_in_one_frame_and_in_many(incoming: Incoming) -> None:
    half = b"x" * (MAX_BYTES // 2)
    data = client_frame(Opcode.BINARY, 2 * half)
    data += client_frame(Opcode.BINARY, half, fin=False) + client_frame(Opcode.CONT, half)
    assert list(incoming.read(data)) == [2 * half] * 2
    assert incoming.code is None
