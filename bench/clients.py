"""Clients: one member's page each, and the ear that its socket has. Made by load's crowd, judged by ledger.

Per frame nine bytes are compared, and the clock is read for those whose latency is taken; those whose latency is not
are read by pieces. Everything else happens when a socket opens and when it has got all.
"""

from __future__ import annotations

import time
from array import array
from typing import Any, Protocol

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from bench import marks
from bench.dialects import LEAST, Dialect, Member, Position
from bench.ledger import Ledger, Tally
from bench.pieces import Pieces, Stream

NEVER = 1 << 40


class Crowd(Protocol):
    """What a client knows of the crowd that it is one of."""

    dialect: Dialect
    late: array[float]
    arrivals: list[tuple[int, int]]
    is_timing: bool
    open_count: int

    def stream(self, client: Client) -> Stream:
        """Return what the client's room has got."""

    def has_opened(self, client: Client) -> None:
        """Count a client that is in."""

    def has_ended(self, client: Client) -> None:
        """Count a connection that has ended, and let the client come back as a page does."""


class Ear(WSListener):
    """One socket of a client, from its handshake on."""

    __slots__ = ("client", "least", "pieces", "take", "transport")
    has_pieces = True  # what a room's sockets get is the same, byte for byte

    def __init__(self, client: Client) -> None:
        self.client = client
        self.least = NEVER  # until it is open, every frame is a control frame
        self.transport: WSTransport | None = None
        self.pieces: _Reader | None = None
        self.tune()

    def tune(self) -> None:
        """Do what the client shall do from now on with each message; nothing is on its way at this moment."""
        client = self.client
        self.take = client.take
        books, by_pieces = client.books, self.has_pieces and not client.is_timed
        if self.transport is None or not isinstance(books, Ledger) or books.wrong:
            return
        below = self.transport.underlying_transport
        if by_pieces and self.pieces is None:
            self.pieces = _Reader(self, client.crowd.stream(client), books, below.get_protocol())
            below.set_protocol(self.pieces)
        elif not by_pieces and self.pieces is not None:
            client.catch_up()
            below.set_protocol(self.pieces.before)
            self.pieces = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Introduce ourselves."""
        self.transport = transport
        if self.client.ear is not self:  # it took so long that the client has given it up
            transport.underlying_transport.abort()
            return
        dialect, client = self.client.crowd.dialect, self.client
        if (first := dialect.first(client.member, client.position)) is not None:
            transport.send(WSMsgType.TEXT, first)
        if dialect.is_open_at_once:
            self._open()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take a message, or understand a control frame."""
        if frame.payload_size >= self.least:
            self.take(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.TEXT:
            self.control(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            self.close(frame.get_payload_as_bytes())

    def close(self, payload: bytes) -> None:
        """Answer a close frame."""
        # Not get_close_code: the applications' own codes are none of its enumeration.
        self.client.ended_with = int.from_bytes(payload[:2], "big") or 1005
        if self.transport is not None:
            self.transport.send_close(WSCloseCode.OK)
            self.transport.disconnect()

    def pong(self, payload: bytes) -> None:
        """Answer a ping; the library does that itself while it reads."""
        if self.transport is not None:
            self.transport.send_pong(payload)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Let the client know."""
        self.client.ended(self)

    def control(self, payload: bytes) -> None:
        """Understand a control frame."""
        client = self.client
        if client.ear is not self:  # given up, and heard all the same until its socket is gone
            return
        heard = client.crowd.dialect.hear(payload, client.member)
        if heard.position is not None:
            client.position = heard.position
        if heard.wrong:
            client.books.complain(heard.wrong)
        if heard.reply is not None and self.transport is not None:
            self.transport.send(WSMsgType.TEXT, heard.reply)
        for message in heard.counts:  # what it had missed: no latency, and the position came with the frame
            client.books.take(message)
        if heard.is_open:
            self._open()

    def _open(self) -> None:
        if self.least == NEVER and self.client.ear is self:
            self.least = LEAST
            self.client.opened()


class LinesEar(Ear):
    """One whose frames may carry several messages, one a line, pings among them; each socket has its own of them."""

    __slots__ = ()
    has_pieces = False

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take them apart."""
        if frame.msg_type != WSMsgType.TEXT:
            super().on_ws_frame(transport, frame)
            return
        for line in frame.get_payload_as_bytes().split(b"\n"):
            if len(line) >= self.least:
                self.take(line)
            elif line:
                self.control(line)


class _Reader(Pieces):
    """Stands where the library's reader was, which is told of everything but what arrives."""

    __slots__ = ("before",)

    def __init__(self, ear: Ear, stream: Stream, books: Ledger, before: Any) -> None:
        super().__init__(ear, stream, books)
        self.before = before

    def connection_lost(self, error: Exception | None) -> None:
        """Pass it on."""
        self.before.connection_lost(error)

    def eof_received(self) -> Any:
        """Pass it on."""
        return self.before.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self.before.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.before.resume_writing()


class Client:
    """One member's page: what it has got, and where it goes on.

    Args:
        crowd: of which it is one.
        member: who it is.
        books: what judges what it gets.
    """

    __slots__ = (
        *("books", "crowd", "ear", "ended_with", "failures", "is_open", "is_timed"),
        *("last", "member", "position"),
    )

    def __init__(self, crowd: Crowd, member: Member, books: Ledger | Tally) -> None:
        self.crowd, self.member, self.books = crowd, member, books
        self.is_timed = True  # its latency is taken
        self.position: Position | None = None
        self.last: bytes | None = None
        self.ear: Ear | None = None
        self.is_open = False
        self.ended_with = 1006
        self.failures = 0

    @property
    def take(self) -> Any:
        """What a socket calls with each message."""
        return self._take_timed if self.is_timed else self.books.take

    def _take_timed(self, payload: bytes) -> None:
        now = time.monotonic_ns()
        books, crowd = self.books, self.crowd
        books.take(payload)
        self.last = payload
        if crowd.is_timing:
            if books.at >= 0:
                crowd.late.append((now - marks.stamp(payload, books.at)) / 1e6)
            else:
                crowd.arrivals += [(number, now) for number, _ in marks.find_all(payload)]

    def catch_up(self) -> None:
        """Have the books say how far pieces have come."""
        if self.ear is not None and self.ear.pieces is not None and isinstance(self.books, Ledger):
            self.books.next = self.ear.pieces.next

    def remember(self) -> None:
        """Take the position of the last message, which only who comes back needs."""
        if self.last is not None:
            position = self.crowd.dialect.position(self.last)
            if position is not None:
                epoch = position[0] or (self.position[0] if self.position else "")
                self.position = (epoch, *position[1:])
            self.last = None

    def opened(self) -> None:
        """Be in."""
        self.is_open, self.failures = True, 0
        self.crowd.has_opened(self)

    def ended(self, ear: Ear) -> None:
        """Be out, and come back where the crowd does."""
        if ear is self.ear:
            self.catch_up()
            self.ear = None
            if self.is_open:
                self.is_open = False
                self.crowd.open_count -= 1
            self.crowd.has_ended(self)
