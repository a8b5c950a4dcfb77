"""What is checked by pieces: every byte of every socket, however TCP cuts them."""

from __future__ import annotations

import random

import pytest

from bench import marks
from bench.ledger import Ledger
from bench.pieces import Pieces, Stream, frame_size


def frame(number: int, at: int = 5, size: int = 230) -> bytes:
    payload = marks.write(number, at, size).encode()
    return bytes([0x81, 126]) + len(payload).to_bytes(2, "big") + payload


def control(opcode: int, payload: bytes) -> bytes:
    return bytes([0x80 | opcode, len(payload)]) + payload


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []

    def control(self, payload: bytes) -> None:
        self.heard.append(("control", payload))

    def pong(self, payload: bytes) -> None:
        self.heard.append(("pong", payload))

    def close(self, payload: bytes) -> None:
        self.heard.append(("close", payload))


def give(socket: Pieces, data: bytes) -> None:
    """Have a socket read something, as an event loop does."""
    socket.get_buffer(-1)[: len(data)] = data
    socket.buffer_updated(len(data))


class Room:
    """Sockets of one room, of which the first has everything in order."""

    def __init__(self, upto: int, sockets: int = 2) -> None:
        self.done = 0
        self.stream = Stream(1, upto)
        self.ears = [Ear() for _ in range(sockets)]
        self.books = [Ledger(self._count) for _ in range(sockets)]
        self.sockets = [Pieces(ear, self.stream, books) for ear, books in zip(self.ears, self.books, strict=True)]
        for books in self.books:
            books.expect(upto)

    def _count(self) -> None:
        self.done += 1

    @property
    def wrong(self) -> list[str]:
        return [books.wrong for books in self.books]


ALL = b"".join(frame(number) for number in range(1, 9))


def test_a_piece_of_many_frames_is_right_where_it_is_what_the_others_got() -> None:
    room = Room(8)
    for socket in room.sockets:
        give(socket, ALL)
    assert (room.wrong, room.done) == (["", ""], 2)
    assert [socket.next for socket in room.sockets] == [9, 9]


def test_tcp_may_cut_anywhere_and_each_socket_may_be_ahead() -> None:
    chance = random.Random(7)
    for _ in range(50):
        room = Room(8, sockets=4)
        rests = [ALL] * 4
        while any(rests):
            one = chance.choice([at for at in range(4) if rests[at]])
            cut = chance.choice([1, 2, 3, 5, 100, 234, 235, 700, 2_000])
            give(room.sockets[one], rests[one][:cut])
            rests[one] = rests[one][cut:]
        assert (room.wrong, room.done) == ([""] * 4, 4)


@pytest.mark.parametrize("is_first", [True, False], ids=["the room's first socket", "another socket"])
@pytest.mark.parametrize("is_cut", [True, False], ids=["frame by frame", "one piece"])
@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ((1, 2, 4, 5), "4 came where 3 was due"),  # lost
        ((1, 2, 2, 3, 4), "2 came where 3 was due"),  # doubled
        ((1, 3, 2, 4), "3 came where 2 was due"),  # swapped
        ((1, 2, 2, 4), "2 came where 3 was due"),  # lost, and another one doubled: as many as there should be
        ((1, 2, 3, 4, 4), "4 came where 5 was due, after the last"),
        ((1, 2, 3, 4, 5), "5 came where 5 was due, after the last"),
    ],
)
def test_what_is_lost_doubled_or_swapped_inside_of_a_piece_is_wrong(
    numbers: tuple[int, ...], wrong: str, *, is_cut: bool, is_first: bool
) -> None:
    room = Room(4)
    if not is_first:
        give(room.sockets[0], b"".join(frame(number) for number in (1, 2, 3, 4)))
    frames = [frame(number) for number in numbers]
    for piece in frames if is_cut else [b"".join(frames)]:
        give(room.sockets[1], piece)
    assert room.wrong == ["", wrong]
    assert room.done == (1 if is_first else 2)


def test_who_has_not_got_all_is_not_done_and_says_how_far_it_is() -> None:
    room = Room(8)
    give(room.sockets[0], ALL)
    give(room.sockets[1], ALL[: 3 * 234 + 100])
    assert room.done == 1
    assert room.sockets[1].next == 4


def test_control_frames_are_heard_wherever_they_stand() -> None:
    room = Room(3)
    for socket in room.sockets:
        give(
            socket,
            frame(1) + control(9, b"hey") + frame(2)[:50],
        )
        give(socket, frame(2)[50:] + control(1, b'{"ping":1}') + frame(3) + control(8, b"\x03\xe8"))
    assert (room.wrong, room.done) == (["", ""], 2)
    assert [ear.heard for ear in room.ears] == [
        [("pong", b"hey"), ("control", b'{"ping":1}'), ("close", b"\x03\xe8")],
    ] * 2


def test_the_same_message_may_have_another_envelope() -> None:
    room = Room(2)
    give(room.sockets[0], frame(1) + frame(2))
    give(room.sockets[1], frame(1, size=240) + frame(2, at=6))
    assert (room.wrong, room.done) == (["", ""], 2)


def test_it_goes_on_with_the_next_goal() -> None:
    room = Room(2)
    for socket in room.sockets:
        give(socket, frame(1) + frame(2))
    room.stream.expect(4)
    for books in room.books:
        books.expect(4)
    for socket in room.sockets:
        give(socket, frame(3) + frame(4))
    assert (room.wrong, room.done) == (["", ""], 4)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_the_size_of_a_frame_is_in_its_head(length: int) -> None:
    if length < 126:
        head = bytes([0x81, length])
    elif length < 1 << 16:
        head = bytes([0x81, 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x81, 127]) + length.to_bytes(8, "big")
    assert frame_size(b"__" + head, 2) == len(head) + length
    assert frame_size(b"__" + head[:1], 2) == 0
