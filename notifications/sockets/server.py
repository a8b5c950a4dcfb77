"""Server: uvicorn's WebSocket protocol with a raw side, so that a frame made once is written straight to sockets.

Chosen by `manage.py serve`; found by sockets.consumer in ``scope["extensions"]``. uvicorn stays the owner of handshake,
parsing and closing; what goes past it is only the write.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

from notifications.sockets.outbound import RAW_EXTENSION
from notifications.sockets.protocol import Close

SEND_BUFFER = 128 * 1024  # bytes in the kernel per socket; without a limit Linux lets it grow to megabytes
RECEIVE_BUFFER = 64 * 1024  # the same for what a client sends and we do not read; it grew to 1.5 MB
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time
USER_TIMEOUT_MS = 20_000  # unacknowledged writes end a connection whose peer is gone without a word
DRAIN_SECONDS = 5.0
DRAIN_VARIABLE = "HERMES_SERVE_DRAIN_SECONDS"  # set by `serve --drain-seconds` for the workers that it spawns
PONG_BUFFER = 64 * 1024  # bytes that may wait before a client's pings go unanswered
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
SLICE = 4 * 1024  # bytes of one client that are parsed in one turn of the loop; a kernel's buffer may hold 200,000
BUSY_SECONDS = 0.005  # until what is left is looked at again
RATE_GRACE = 1.0  # s for a client that sends without end to see why it is closed; it is not read meanwhile
FRAMES_GRACE = 0.1  # s between the goodbye and the earliest close, so that the goodbye is read


class HermesWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol, and `RawSocket` for outbound."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.on_judged: Callable[[], None] | None = None
        self.is_deaf = self.is_watched = False
        self.unparsed = b""

    @property
    def drain_seconds(self) -> float:
        """Seconds over which a process that stops closes its connections, and over which clients come back."""
        return float(os.environ.get(DRAIN_VARIABLE, DRAIN_SECONDS))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit what the kernel buffers for a reader that does not read."""
        super().connection_made(transport)
        self.on_drain: Callable[[float], None] | None = None
        self.drain_timer: asyncio.TimerHandle | None = None
        self.transport.set_write_buffer_limits(high=1024 * 1024)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a planned close."""
        if self.drain_timer is not None:
            self.drain_timer.cancel()
        super().connection_lost(exc)
        if not hasattr(self, "scope"):  # else it keeps its place until it has been judged, although in vain
            self.judged()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """However it was judged, the next one's turn."""
        super().on_task_complete(task)
        self.judged()

    def judged(self) -> None:
        """The application has joined or refused: the place at the gate is free; a second time does nothing."""
        if self.on_judged is not None:
            self.on_judged()
            self.on_judged = None

    def data_received(self, data: bytes) -> None:
        """Parse what has come, but no more of one client in a turn of the loop than others can bear."""
        if self.unparsed:
            self.unparsed += data
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self.unparsed = data[SLICE:]
        self._parse_slice(data[:SLICE])
        if self.unparsed:
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self.transport.is_closing() or self.is_deaf:
            self.unparsed = b""
        elif self.queue.empty():
            self._parse(self.unparsed)
        else:  # the consumer has its hands full with what was parsed before
            self.loop.call_later(BUSY_SECONDS, self._go_on)

    async def send(self, message: Any) -> None:
        """Send what the application sends; whatever is not an accept says that the handshake has been judged."""
        await super().send(message)
        if message["type"] != "websocket.accept":
            self.judged()

    def handle_connect(self, event: Any) -> None:
        """Offer the raw side to the application; its task starts after this."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[RAW_EXTENSION] = self

    def _parse_slice(self, data: bytes) -> None:
        """Answer a handshake that cannot be read, as one with too long a line; uvicorn would leave it hanging."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.handshake_initiated = self.close_sent = True
            self.transport.write(BAD_REQUEST)
            self.transport.close()

    def send_receive_event_to_app(self) -> None:
        """End a connection whose text is not UTF-8 with 1007; uvicorn would log a traceback for each."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(CloseCode.INVALID_DATA)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a client's ping, unless it does not read our answers: then they would pile up without end.

        RFC 6455, section 5.5.3, lets pongs be skipped.
        """
        if self.transport.get_write_buffer_size() <= PONG_BUFFER:
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the pong that was prepared is thrown away

    def write(self, data: bytes) -> int:
        """Hand whole frames to the transport; see `outbound.RawSocket`."""
        if self.close_sent or self.transport.is_closing():
            return 0
        self.transport.write(data)
        return self.transport.get_write_buffer_size()

    def buffered(self) -> int:
        """How many bytes wait, if any do in the transport's buffer: those in the kernel's are then counted, too.

        The kernel takes more only when a third of its buffer is free, which may be 40 KiB: a reader of 1 KB a second
        would seem to stand still for longer than a reader may. While any wait, whoever asks watches their progress,
        and the kernel does not: it would end a reader that is slow as one that is gone.
        """
        waiting = 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()
        if bool(waiting) != self.is_watched and not self.transport.is_closing():
            self.is_watched = bool(waiting)
            _set_user_timeout(self.transport, 0 if self.is_watched else USER_TIMEOUT_MS)
        return waiting and waiting + _unacknowledged(self.transport)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and give the client ten seconds to answer it, as uvicorn does for ASGI's close."""
        if self.close_sent or self.transport.is_closing():
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.judged()
        if code == Close.RATE:
            self.is_deaf, self.read_paused = True, False  # nobody reads on after what is in the queue
            self.transport.pause_reading()
        elif self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        # Not a mere close: that would wait for a reader that does not read.
        grace = RATE_GRACE if self.is_deaf else self.close_timeout
        self.close_timer = self.loop.call_later(grace, self.abort)

    def abort(self) -> None:
        """Drop the connection and what waits in its buffers; without a reset the kernel would keep its own."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None and not self.transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    def shutdown(self) -> None:
        """The process stops: say goodbye now, close at a moment of this connection's own."""
        if self.on_drain is None or self.close_sent or self.drain_timer is not None:
            super().shutdown()
            return
        self.on_drain(self.drain_seconds)
        delay = FRAMES_GRACE + random.uniform(0, max(0.0, self.drain_seconds - FRAMES_GRACE))  # noqa: S311  spreading load
        self.drain_timer = self.loop.call_later(delay, self.close, int(Close.DRAINING), "draining")


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes that the kernel has taken and the client has not acknowledged; 0 where the system does not say."""
    connection = transport.get_extra_info("socket")
    if sys.platform != "linux" or connection is None:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def _set_user_timeout(transport: asyncio.Transport, milliseconds: int) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def listening_socket(host: str, port: int, backlog: int = 2048) -> socket.socket:
    """Bind a socket whose connections inherit our limits.

    Args:
        host: a name or address; port: 0 for any.

    Returns:
        The socket, to be shared by the workers.

    Raises:
        OSError: the address is taken or not ours.
    """
    family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        listener.bind(address)
        listener.listen(backlog)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener
