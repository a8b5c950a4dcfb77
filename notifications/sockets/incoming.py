"""Incoming: what a client sends, frame by frame, becomes messages. Made by server when a client speaks. No I/O.

RFC 6455 is websockets' to know; here is what it leaves open: messages of many frames, texts that are no UTF-8.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol as Interface

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SERVER, Protocol

_logger = logging.getLogger("websockets.server")  # asked for once, not for each connection


class Owner(Interface):
    """Who is told what a client says."""

    def hear(self, said: str | bytes) -> bool:
        """Take a message; returns whether more may come at once, else `server.WebSocket.go_on` says when."""
        ...

    def bear(self, frames: int) -> None:
        """Know of frames that say nothing, and must be read all the same."""
        ...

    def ended(self, code: int) -> None:
        """The connection is over; called once."""
        ...


class Incoming:
    """The messages of one client.

    Args:
        max_bytes: of a message; a larger one ends the connection.
    """

    __slots__ = ("_is_text", "_message", "_protocol", "has_closed", "idle")

    def __init__(self, max_bytes: int) -> None:
        self._protocol = Protocol(SERVER, max_size=max_bytes, logger=_logger)
        self._message: list[bytes] = []
        self._is_text = False
        # Whether the client has sent a close frame.
        self.has_closed = False
        # How many frames have said nothing, since its reader asked: pings, pongs, empty pieces.
        self.idle = 0

    def read(self, data: bytes) -> Iterator[str | bytes]:
        """Yield the messages that data completes; `answers` and `code` say what else there was in it."""
        self._protocol.receive_data(data)
        for frame in self._protocol.events_received():
            if not isinstance(frame, Frame) or frame.opcode in (Opcode.PING, Opcode.PONG):
                self.idle += 1
                continue
            if frame.opcode is Opcode.CLOSE:
                self.has_closed = True
                continue
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            if frame.data:  # of nothing there may be any number, and no limit of bytes would end it
                self._message.append(bytes(frame.data))
            elif not frame.fin:
                self.idle += 1
            if frame.fin:
                message, self._message = b"".join(self._message), []
                try:
                    yield message.decode() if self._is_text else message
                except UnicodeDecodeError:
                    self._protocol.fail(CloseCode.INVALID_DATA, "not UTF-8")
                    return

    def answers(self) -> bytes:
        """Return what is to be sent: pongs, the answer to a close frame, or the reason why nothing more can be read."""
        return b"".join(self._protocol.data_to_send())

    @property
    def code(self) -> int | None:
        """Why the connection ends, if it does."""
        sent = self._protocol.close_sent
        return None if sent is None else int(sent.code)
