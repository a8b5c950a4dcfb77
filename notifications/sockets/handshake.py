"""Handshake: an upgrade that http has read is judged by RFC 6455, then waits at gate for server and asgi.

While it waits it costs little, and little more to send it away: no parser, no task. The ordinary handshake is judged
by a handful of comparisons; whatever looks different is left to websockets, whose answer counts.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol

from notifications.access.refusals import REFUSALS
from notifications.access.token_guard import SUBPROTOCOL
from notifications.sockets.asgi import Asgi
from notifications.sockets.gate import Gate
from notifications.sockets.protocol import Close, close_frame
from notifications.sockets.server import EARLY, WebSocket

LINGER_SECONDS = 2.0  # for a client that was sent away to read why
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
NOT_GET = b"HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_GATES: WeakKeyDictionary[Any, Gate] = WeakKeyDictionary()
_JUDGED = {b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version"}
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An HTTP request that asks for a WebSocket.

    Args:
        method, target: of the request line.
        http: uvicorn's scope of the request.
    """

    method: bytes
    target: bytes
    http: MutableMapping[str, Any]

    def accept(self) -> tuple[bytes, bytes]:
        """Judge it by RFC 6455, section 4.2.1.

        Returns:
            The value of ``Sec-WebSocket-Accept``, empty if it is refused, and the response that refuses it.
        """
        fields: dict[bytes, bytes] = {}
        is_ordinary = self.method == b"GET" and self.http["http_version"] == "1.1" and self.target.isascii()
        for name, value in self.http["headers"]:
            if name in _JUDGED:
                is_ordinary = is_ordinary and name not in fields
                fields[name] = value
        if (
            is_ordinary
            and fields.get(b"upgrade", b"").lower() == b"websocket"
            and fields.get(b"connection", b"").lower() in (b"upgrade", b"keep-alive, upgrade")
            and fields.get(b"sec-websocket-version") == b"13"
            and (key := _KEY.fullmatch(fields.get(b"sec-websocket-key", b"")))
        ):
            return base64.b64encode(hashlib.sha1(key[0] + _MAGIC).digest()), b""  # noqa: S324  RFC 6455
        return self._accept_by_the_book()

    def _accept_by_the_book(self) -> tuple[bytes, bytes]:
        if self.method != b"GET":
            return b"", NOT_GET
        if self.http["http_version"] != "1.1" or not self.target.isascii():
            return b"", BAD_REQUEST
        headers = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.http["headers"]])
        response = ServerProtocol().accept(Request(self.target.decode(), headers))
        return response.headers.get("Sec-WebSocket-Accept", "").encode(), response.serialize()

    def scope(self) -> MutableMapping[str, Any]:
        """Return the WebSocket's scope, as ASGI has it."""
        path, _, query = self.target.partition(b"?")
        http = self.http
        return {
            "type": "websocket",
            "asgi": {"version": http["asgi"]["version"], "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if http["scheme"] == "https" else "ws",
            "server": http["server"],
            "client": http["client"],
            "root_path": http["root_path"],
            "path": http["root_path"] + unquote(path.decode()),
            "raw_path": http["root_path"].encode() + path,
            "query_string": query,
            "headers": http["headers"],
            "subprotocols": self.subprotocols,
            "state": http["state"],
        }

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers."""
        return [
            token.strip()
            for name, value in self.http["headers"]
            if name == b"sec-websocket-protocol"
            for token in value.decode("latin-1").split(",")
        ]


class Handshake(asyncio.Protocol):
    """A `gate.Guest`.

    Args:
        transport: whose protocol it becomes.
        upgrade, accept: the request, and the value of ``Sec-WebSocket-Accept`` that answers it.
        application: who judges it then.
        state: uvicorn's, of the whole server, which has one gate.
    """

    __slots__ = ("_accept", "_application", "_early", "_gate", "_is_sent_away", "_state", "_transport", "_upgrade")

    def __init__(
        self,
        transport: asyncio.Transport,
        upgrade: Upgrade,
        accept: bytes,
        application: Callable[..., Awaitable[None]],
        state: Any,
    ) -> None:
        self._transport = transport
        self._upgrade = upgrade
        self._accept = accept
        self._application = application
        self._state = state
        if state not in _GATES:
            _GATES[state] = Gate()
        self._gate = _GATES[state]
        self._early = b""
        self._is_sent_away = False
        state.connections.add(self)
        transport.set_protocol(self)
        self._gate.enter(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes for the protocol that will read it; what came with the request itself is lost to uvicorn."""
        if self._is_sent_away:
            self._transport.close()  # it has answered our close frame
            return
        self._early += data
        if len(self._early) > EARLY:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the line."""
        self._state.connections.discard(self)
        self._gate.leave(self)

    def admit(self) -> None:
        """Hand the transport over to the protocol that parses, and the client to the application."""
        if self._transport.is_closing() or self._is_sent_away:
            self._gate.leave(self)
            return
        self._state.connections.discard(self)
        link = WebSocket(self._transport, self._accept, self._state, lambda: self._gate.leave(self))
        if self._early:
            link.data_received(self._early)
        Asgi(link).start(self._application, self._upgrade.scope(), self._state.tasks)

    def send_away(self) -> None:
        """Too many come at once: come back."""
        REFUSALS.labels("busy").inc()
        self._refuse(Close.UNAVAILABLE, "unavailable")

    def shutdown(self) -> None:
        """The process stops."""
        if self._is_sent_away:
            return
        self._gate.leave(self)
        REFUSALS.labels("draining").inc()
        self._refuse(Close.DRAINING, "draining")

    def _refuse(self, code: Close, reason: str) -> None:
        """Accept and close in one write, so that a browser reads why."""
        self._is_sent_away = True
        if self._transport.is_closing():
            return
        lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
        lines.append(b"Sec-WebSocket-Accept: " + self._accept)
        if SUBPROTOCOL in self._upgrade.subprotocols:
            lines.append(b"Sec-WebSocket-Protocol: " + SUBPROTOCOL.encode())
        self._transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + close_frame(code, reason))
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)
