"""Pieces: how a socket whose latency is not taken is checked: byte for byte, beside its room's others. Used by clients.

All sockets of a room get the same frames. The first of them that gets a frame has it judged by its number, and the room
keeps it; what TCP delivers to another is compared with what is kept at its place: one comparison in C for each piece,
however many frames are in it. So a swap, a loss or a double is seen even inside of a piece. Only what differs is taken
apart and judged by its number: control frames, frames of a socket's own, and what is wrong.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Protocol

from bench import marks
from bench.dialects import LEAST
from bench.ledger import Ledger

TEXT, CLOSE, PING = 1, 8, 9  # the opcodes that a server sends
_NEVER = -1
_NOWHERE = 1 << 60
# What one read may give. One is enough for all sockets: what is in it is dealt with before the next is read.
_buffer = memoryview(bytearray(1 << 18))


class Ear(Protocol):
    """What a piece's reader knows of the socket that it reads for."""

    def control(self, payload: bytes) -> None:
        """Understand a control frame of the dialect."""

    def pong(self, payload: bytes) -> None:
        """Answer a ping."""

    def close(self, payload: bytes) -> None:
        """Answer a close frame."""


class Stream:
    """The frames in which a room's messages came, one behind the other.

    Args:
        first: the number of the message that comes first.
        goal: the number of the last one that will come.
    """

    __slots__ = ("_starts", "data", "end", "first", "goal")

    def __init__(self, first: int, goal: int) -> None:
        self.data = bytearray()
        self._starts = [0]  # of each frame, and of the one that is to come
        self.first = first
        self.end = _NEVER  # where the goal's frame ends
        self.expect(goal)

    def expect(self, goal: int) -> None:
        """Say up to which number messages will come."""
        self.goal = goal
        self.end = self._starts[goal - self.first + 1] if goal < self.next else _NEVER

    @property
    def next(self) -> int:
        """The number of the first message that is not here yet."""
        return self.first + len(self._starts) - 1

    def number_at(self, at: int) -> int:
        """Return the number of the message whose frame a place is in, or begins."""
        return self.first + bisect_right(self._starts, at) - 1

    def start_of(self, number: int) -> int:
        """Return where a message's frame begins."""
        return self._starts[number - self.first]

    def add(self, frame: bytes) -> None:
        """Keep the frame of the next message."""
        self.data += frame
        self._starts.append(len(self.data))
        if self.next > self.goal:
            self.end = len(self.data)


class Pieces(asyncio.BufferedProtocol):
    """Reads one socket, in the place of the library's own reader.

    Args:
        ear: of the socket, for everything that is no message.
        stream: its room's.
        books: its own; they are told when all has come, and what was wrong.
    """

    __slots__ = ("_at", "_books", "_ear", "_rest", "_stream")

    def __init__(self, ear: Ear, stream: Stream, books: Ledger) -> None:
        self._ear, self._stream, self._books = ear, stream, books
        self._at = stream.start_of(books.next)  # how far the socket has come in its room's stream
        self._rest = b""  # of a frame that is not whole and that the room does not have

    @property
    def next(self) -> int:
        """The number of the first message that has not come whole."""
        return self._stream.number_at(self._at) if self._at != _NOWHERE else self._books.next

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next piece is read to."""
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take a piece that was read. It is called a hundred thousand times a second, and does as little as it can."""
        stream, data = self._stream, _buffer[:nbytes]
        if not self._rest and stream.data.startswith(data, self._at):
            self._at += nbytes
            if self._at == stream.end:
                self._books.reach(stream.goal)
        elif self._at != _NOWHERE:
            self._take_apart(bytes(data))

    def _take_apart(self, data: bytes) -> None:
        stream = self._stream
        at = stream.start_of(stream.number_at(self._at))
        data = bytes(stream.data[at : self._at]) + self._rest + data
        done = 0
        while (size := frame_size(data, done)) and done + size <= len(data):
            frame = data[done : done + size]
            done += size
            if stream.data.startswith(frame, at):
                at += size
                continue
            payload = frame[_head(frame[1]) :]
            if frame[0] & 15 == TEXT and len(payload) >= LEAST:
                at = self._take_message(frame, payload, at)
                if at == _NOWHERE:
                    break
            else:
                self._take_control(frame[0] & 15, payload)
        rest = data[done:]
        if rest and stream.data.startswith(rest, at):
            at, rest = at + len(rest), b""
        self._at, self._rest = at, rest
        if at == stream.end:
            self._books.reach(stream.goal)

    def _take_message(self, frame: bytes, payload: bytes, at: int) -> int:
        """Judge a frame that is not what the room has at this place; return where the next one is."""
        stream = self._stream
        due, mark = stream.number_at(at), marks.find(payload)
        number = marks.number(payload, mark) if mark >= 0 else None
        if number == due <= stream.goal:
            if due == stream.next:
                stream.add(frame)
            return stream.start_of(due + 1)  # the same message, in a frame of its own
        self._books.next = due
        if number is None:
            self._books.complain(f"a frame without a number: {payload[:80]!r}")
        else:
            after = ", after the last" if due > stream.goal else ""
            self._books.complain(f"{number} came where {due} was due{after}")
        return _NOWHERE

    def _take_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._ear.pong(payload)
        elif opcode == CLOSE:
            self._ear.close(payload)
        elif opcode == TEXT:
            self._ear.control(payload)


def frame_size(data: bytes, at: int) -> int:
    """Return how long the frame is that begins at ``at``, its head included; 0 where that cannot be told yet."""
    if len(data) - at < 2:
        return 0
    short = data[at + 1] & 127
    head = _head(short)
    if short < 126:
        return head + short
    return head + int.from_bytes(data[at + 2 : at + head], "big") if len(data) - at >= head else 0


def _head(second: int) -> int:
    """Return how long a frame's head is, by its second byte; a server's frames have no mask."""
    return {126: 4, 127: 10}.get(second & 127, 2)
