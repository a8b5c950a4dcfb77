"""Server: one WebSocket of `manage.py serve`, from its handshake to its end. Made by handshake, owned by consumer.

Bytes in and out, and nothing of the application: an owner is told what the client says, and may be another one later
(asgi first, then whoever has let the client in). A frame made once is written straight to the transport.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from websockets.frames import CloseCode

from notifications.sockets import tcp
from notifications.sockets.incoming import Incoming, Owner
from notifications.sockets.protocol import Close, close_frame

DRAIN_SECONDS = 5.0
DRAIN_VARIABLE = "HERMES_SERVE_DRAIN_SECONDS"  # set by `serve --drain-seconds` for the workers that it spawns
PONG_BUFFER = 64 * 1024  # bytes that may wait before a client's pings go unanswered
SLICE = 4 * 1024  # bytes of one client that are parsed in one turn of the loop; a kernel's buffer may hold 200,000
EARLY = 64 * 1024  # bytes that may wait of a client to whom nobody listens yet
CLOSE_SECONDS = 10.0  # for a client to answer a close frame
STOP_CLOSE_SECONDS = 3.0  # the same while the process stops, which `serve` lets take 5 s more than the drain
RATE_GRACE = 1.0  # s for a client that sends without end to see why it is closed; it is not read meanwhile
FRAMES_GRACE = 0.1  # s between the goodbye and the earliest close, so that the goodbye is read


class WebSocket(asyncio.Protocol):
    """One connection; `outbound.RawSocket` for who writes to it.

    Args:
        transport: whose protocol it becomes.
        accept: the value of ``Sec-WebSocket-Accept``.
        state: uvicorn's, of the whole server.
        on_judged: called once, when the application has let the client in or refused it.
    """

    __slots__ = (
        "_accept",
        "_code",
        "_incoming",
        "_on_judged",
        "_owner",
        "_state",
        "_timer",
        "_unparsed",
        "_writable",
        "close_sent",
        "is_accepted",
        "is_busy",
        "is_deaf",
        "is_heard",
        "is_paused",
        "is_stopping",
        "is_watched",
        "loop",
        "on_drain",
        "transport",
    )

    def __init__(
        self, transport: asyncio.Transport, accept: bytes, state: Any, on_judged: Callable[[], None] | None
    ) -> None:
        self.transport = transport
        self.loop = asyncio.get_running_loop()
        self._accept = accept
        self._state = state
        self._on_judged = on_judged
        self._owner: Owner | None = None
        self._writable: asyncio.Event | None = None
        self._incoming: Incoming | None = None
        self._unparsed = b""
        self._timer: asyncio.TimerHandle | None = None
        self._code: int | None = None  # why it is over
        self.on_drain: Callable[[float], None] | None = None
        self.is_accepted = self.close_sent = self.is_stopping = False
        self.is_heard = self.is_deaf = self.is_busy = self.is_watched = self.is_paused = False
        state.connections.add(self)
        transport.set_protocol(self)
        # So that a write goes to the kernel at once, and what is in the buffer is what the kernel has not taken.
        transport.set_write_buffer_limits(high=0)

    @property
    def drain_seconds(self) -> float:
        """Seconds over which a process that stops closes its connections, and over which clients come back."""
        return float(os.environ.get(DRAIN_VARIABLE, DRAIN_SECONDS))

    @property
    def is_gone(self) -> bool:
        """Whether there is nobody to write to any more."""
        return self._code is not None or self.transport.is_closing()

    # ── The handshake's answer ───────────────────────────────────────────────────────────────────────────────────────
    def let_in(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Accept the handshake."""
        self.is_accepted = True
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
            self._accept,
        ]
        if subprotocol:
            lines += [b"\r\nSec-WebSocket-Protocol: ", subprotocol.encode()]
        for name, value in headers:
            lines += [b"\r\n", name, b": ", value]
        lines.append(b"\r\n\r\n")
        self.transport.write(b"".join(lines))
        if self._owner is not None:
            self._listen()
        if self.is_stopping:
            self.close(Close.DRAINING, "draining")

    def refuse(self, response: bytes) -> None:
        """Answer a handshake that is not let in; one that has been answered is left alone."""
        if not self.is_accepted and not self.close_sent and not self.transport.is_closing():
            self.close_sent = True
            self._end(CloseCode.ABNORMAL_CLOSURE)
            self.transport.write(response)
            self.transport.close()

    def judged(self) -> None:
        """The application has joined or refused: the place at the gate is free; a second time does nothing."""
        if self._on_judged is not None:
            self._on_judged()
            self._on_judged = None

    # ── For its owner ────────────────────────────────────────────────────────────────────────────────────────────────
    def hand_over(self, owner: Owner) -> None:
        """Tell an owner what the client says from now on, and what it has said since it was accepted."""
        self._owner = owner
        if self._code is not None:
            self.loop.call_soon(owner.ended, self._code)
        if self.is_accepted:
            self._listen()

    def is_owned_by(self, owner: Owner) -> bool:
        """Whether nobody else has taken it over."""
        return self._owner is owner or self._owner is None

    def _listen(self) -> None:
        self.is_heard = True
        if self._unparsed:
            self.loop.call_soon(self._go_on)
        self._read_or_not()

    def go_on(self) -> None:
        """Read on: what was said has been heard."""
        self.is_busy = False
        if self._unparsed:
            self.loop.call_soon(self._go_on)
        self._read_or_not()

    def hang_up(self) -> None:
        """Close the TCP connection after what has been written, unless a close frame waits for its answer."""
        if not self.close_sent:
            self.transport.close()

    async def writable(self) -> None:
        """Wait until the client has read enough of what was written."""
        if self._writable is not None:
            await self._writable.wait()

    def _end(self, code: int) -> None:
        if self._code is None:
            self._code = int(code)
            if self._owner is not None:
                self.loop.call_soon(self._owner.ended, self._code)  # it may be in the middle of closing

    # ── For outbound: see `RawSocket` ────────────────────────────────────────────────────────────────────────────────
    def write(self, data: bytes) -> int:
        """Hand whole frames to the transport; see `outbound.RawSocket`."""
        transport = self.transport
        if self.close_sent or transport.is_closing():
            return 0
        transport.write(data)
        return transport.get_write_buffer_size()

    def buffered(self) -> int:
        """How many bytes wait, if any do in the transport's buffer: those in the kernel's are then counted, too.

        The kernel takes more only when a third of its buffer is free, which may be 40 KiB: a reader of 1 KB a second
        would seem to stand still for longer than a reader may. While any wait, whoever asks watches their progress,
        and the kernel does not: it would end a reader that is slow as one that is gone.
        """
        waiting = 0 if self.transport.is_closing() else self.transport.get_write_buffer_size()
        if bool(waiting) != self.is_watched and not self.transport.is_closing():
            self.is_watched = bool(waiting)
            tcp.set_user_timeout(self.transport, 0 if self.is_watched else tcp.USER_TIMEOUT_MS)
        return waiting and waiting + tcp.unacknowledged(self.transport)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and give the client ten seconds to answer it."""
        if self.close_sent or self.transport.is_closing():
            return
        self._end(code)
        self.transport.write(close_frame(code, reason))
        self.close_sent = True
        self._listen()  # for the answer
        self.judged()
        self.is_deaf = code == Close.RATE  # nobody reads on after what has been heard
        self.go_on()
        # Not a mere close: that would wait for a reader that does not read.
        self._later(RATE_GRACE if self.is_deaf else self._close_seconds, self.abort)

    def abort(self) -> None:
        """Drop the connection and what waits in its buffers."""
        tcp.reset(self.transport)

    @property
    def _close_seconds(self) -> float:
        return STOP_CLOSE_SECONDS if self.is_stopping else CLOSE_SECONDS

    def _later(self, seconds: float, then: Callable[..., None], *arguments: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, then, *arguments)

    # ── For the event loop ───────────────────────────────────────────────────────────────────────────────────────────
    def data_received(self, data: bytes) -> None:
        """Parse what has come, but no more of one client in a turn of the loop than others can bear."""
        if self.is_heard and not self._unparsed:
            self._parse(data)
        else:
            self._unparsed += data
            self._read_or_not()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it is over, and let go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end(CloseCode.ABNORMAL_CLOSURE)
        self.resume_writing()
        self._state.connections.discard(self)
        self._owner = self._incoming = None

    def eof_received(self) -> None:
        """Close: who sends no more is gone."""

    def pause_writing(self) -> None:
        """Let the application's `send` wait."""
        if self._writable is None:
            self._writable = asyncio.Event()

    def resume_writing(self) -> None:
        """Let it go on."""
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def shutdown(self) -> None:
        """The process stops: say goodbye now, close at a moment of this connection's own."""
        self.is_stopping = True
        if self.close_sent:
            self._later(0, self.abort)
        elif not self.is_accepted:
            pass  # it is told when it has been judged
        elif self.on_drain is None:
            self.close(CloseCode.SERVICE_RESTART, "")
            self.transport.close()
        elif self._timer is None:
            self.on_drain(self.drain_seconds)
            delay = FRAMES_GRACE + random.uniform(0, max(0.0, self.drain_seconds - FRAMES_GRACE))  # noqa: S311  spreading load
            self._later(delay, self.close, int(Close.DRAINING), "draining")

    # ── Parsing ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _parse(self, data: bytes) -> None:
        self._unparsed = data[SLICE:]
        self._parse_slice(data[:SLICE])
        if self._unparsed:
            self.loop.call_soon(self._go_on)
        self._read_or_not()

    def _go_on(self) -> None:
        if self.transport.is_closing() or self.is_deaf:
            self._unparsed = b""
        elif self._unparsed and not self.is_busy:  # else it is called again by `go_on`
            self._parse(self._unparsed)

    def _read_or_not(self) -> None:
        """Take nothing more of a client from the kernel while something of it waits here: its own buffer is bounded."""
        most = 0 if self.is_heard else EARLY  # before it is listened to, reading on shows that it has gone
        is_paused = self.is_busy or self.is_deaf or len(self._unparsed) > most
        if is_paused != self.is_paused and not self.transport.is_closing():
            self.is_paused = is_paused
            if is_paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _parse_slice(self, data: bytes) -> None:
        incoming = self._incoming
        if incoming is None:  # most clients never say anything
            incoming = self._incoming = Incoming(settings.HERMES_FRAME_MAX_BYTES)
        for said in incoming.read(data):
            if self._owner is not None and self._code is None and not self._owner.hear(said):
                self.is_busy = True
        if incoming.idle and self._owner is not None and self._code is None:
            self._owner.bear(incoming.idle)
        incoming.idle = 0
        answers = incoming.answers()
        if self.close_sent or self.transport.is_closing():
            if incoming.has_closed:  # it has answered our close frame, and has read it thus
                self.transport.close()
        elif incoming.code is not None:  # the client closes, or what it says cannot be read
            self._end(incoming.code)
            self.close_sent = True
            self.transport.write(answers)
            self.transport.close()
            self._later(self._close_seconds, self.abort)
        # RFC 6455, section 5.5.3, lets pongs be skipped: one who does not read them would pile them up without end.
        elif answers and self.transport.get_write_buffer_size() <= PONG_BUFFER:
            self.transport.write(answers)
