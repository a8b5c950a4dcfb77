"""Handshake: a WebSocket handshake that waits at gate for its turn, when server's protocol takes its transport over.

Chosen by `manage.py serve`. While it waits it costs little, and little more to send it away: no parser, no task.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from typing import Any, cast
from weakref import WeakKeyDictionary

from notifications.access.authorizer import SUBPROTOCOL
from notifications.sockets.gate import Gate
from notifications.sockets.protocol import Close, close_frame
from notifications.sockets.server import HermesWebSocketProtocol

EARLY = 64 * 1024  # bytes that a client may send before its handshake is answered
LINGER_SECONDS = 2.0  # for a client that was sent away to read why
_GATES: WeakKeyDictionary[Any, Gate] = WeakKeyDictionary()
_KEY = re.compile(rb"\r\nsec-websocket-key: *([A-Za-z0-9+/=]+) *\r\n", re.IGNORECASE)
_OFFER = re.compile(rb"\r\nsec-websocket-protocol:[^\r]*[ ,:]" + re.escape(SUBPROTOCOL.encode()) + rb"[ ,\r]", re.I)
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Handshake(asyncio.Protocol):
    """A `gate.Guest`.

    Args:
        config, server_state, app_state: uvicorn's; the handshakes of one server have one gate.
    """

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        self._uvicorn = (config, server_state, app_state)
        self._connections: set[Any] = server_state.connections
        self._gate = _GATES.setdefault(server_state, Gate())
        self._early = b""
        self._is_sent_away = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Get in line."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)
        self._gate.enter(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes for the protocol that will read it."""
        if self._is_sent_away:
            self._transport.close()  # it has answered our close frame
            return
        self._early += data
        if len(self._early) > EARLY:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the line."""
        self._connections.discard(self)
        self._gate.leave(self)

    def admit(self) -> None:
        """Hand the transport over to the protocol that parses."""
        if self._transport.is_closing():
            self._gate.leave(self)
            return
        protocol = HermesWebSocketProtocol(*self._uvicorn)
        protocol.on_judged = lambda: self._gate.leave(self)
        self._connections.discard(self)
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        protocol.data_received(self._early)

    def send_away(self) -> None:
        """Too many come at once: come back."""
        self._refuse(Close.UNAVAILABLE, "unavailable")

    def shutdown(self) -> None:
        """The process stops."""
        self._gate.leave(self)
        self._refuse(Close.DRAINING, "draining")

    def _refuse(self, code: Close, reason: str) -> None:
        """Accept and close in one write, so that a browser reads why."""
        self._is_sent_away = True
        key = _KEY.search(self._early)
        if key is None or self._transport.is_closing():
            self._transport.close()
            return
        accept = base64.b64encode(hashlib.sha1(key[1] + _MAGIC).digest())  # noqa: S324  RFC 6455
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
        lines.append(b"Sec-WebSocket-Accept: " + accept)
        if _OFFER.search(self._early):
            lines.append(b"Sec-WebSocket-Protocol: " + SUBPROTOCOL.encode())
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + close_frame(code, reason))
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)
