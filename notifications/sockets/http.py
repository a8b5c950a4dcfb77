"""HTTP: uvicorn's protocol with limits on what a request may cost. Chosen by `manage.py serve`; hands to handshake.

uvicorn limits neither the size of a request's head and body nor the time that they may take, and Django puts a body of
any size on the disk before a view sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from notifications.sockets.handshake import Handshake, Upgrade

HEAD_BYTES = 64 * 1024  # address and headers; Django's cookies and a token fit many times
HEAD_SECONDS = 10.0  # from the first byte, or from connecting
BODY_BYTES = 3 * 1024 * 1024  # more than Django's own limit, whose answer says more
BODY_SECONDS = 60.0  # a form of that size over half a megabit a second
LAST_SECONDS = 1.0  # for who has connected when the process stops, and has not asked yet

_REFUSALS = {408: b"408 Request Timeout", 413: b"413 Content Too Large", 431: b"431 Request Header Fields Too Large"}


class HermesHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol; a request beyond its limits is answered with 408, 413 or 431, and its connection ends."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _is_stopping = False
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, and not for ever."""
        super().connection_made(transport)
        self._expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, as long as the head is not too large."""
        super().data_received(data)
        if self._in_head:
            self._size += len(data)
            if self._size > HEAD_BYTES:
                self._refuse(431)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the handshake, as it was parsed; uvicorn has it parsed a second time."""
        self._expect(None)
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEAD_BYTES:
            self._refuse(431)  # it came in one piece, and `data_received` has not counted it yet
            return
        self.connections.discard(self)
        upgrade = Upgrade(self.parser.get_method(), self.url, cast(MutableMapping[str, Any], self.scope))
        accept, refusal = upgrade.accept()
        if accept:
            handshake = Handshake(self.transport, upgrade, accept, self.app, self.server_state)
            if self._is_stopping:
                handshake.shutdown()
        else:
            self.transport.write(refusal)
            self.transport.close()

    def shutdown(self) -> None:
        """The process stops: who has connected, and whose first request is on its way, is answered all the same."""
        self._is_stopping = True
        if self.cycle is None:
            self._expect(LAST_SECONDS)
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Say that a request is none, unless it has been answered."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    # ── The parser's callbacks ───────────────────────────────────────────────────────────────────────────────────────
    def on_message_begin(self) -> None:
        """Begin to count."""
        self._in_head, self._size = True, 0
        self._expect(LAST_SECONDS if self._is_stopping else HEAD_SECONDS)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Judge the length that is announced before anybody is asked to handle it."""
        self._in_head, self._size = False, 0
        lengths = [value for name, value in self.headers if name == b"content-length"]
        if any(int(length) > BODY_BYTES for length in lengths):  # the parser has seen that they are numbers
            self._refuse(413)
            raise ValueError("the body is too large")  # ends the parsing
        self._expect(BODY_SECONDS)
        super().on_headers_complete()
        if self._is_stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count a body whose length nobody has announced."""
        self._size += len(body)
        if self._size > BODY_BYTES:
            self._refuse(413)
            raise ValueError("the body is too large")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait no more: the answer takes the time that it takes."""
        self._expect(None)
        super().on_message_complete()

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._refuse, 408)

    def _refuse(self, status: int) -> None:
        if self._in_head and not self._size:  # a browser's connection in reserve: nothing was asked
            self.transport.close()
        elif not self.transport.is_closing():
            line = b"HTTP/1.1 " + _REFUSALS[status]
            self.transport.write(line + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()
