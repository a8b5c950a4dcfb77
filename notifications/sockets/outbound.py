"""Outbound: the last step, frames into a socket, never waiting for its reader. Owned by connection, fed by feed.

Two ways, one interface: on `manage.py serve` a write to the transport, bytes made once for a whole room; on any other
ASGI server a bounded queue and the server's `send`. A reader that does not keep up is cut, its neighbours never wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from autobahn.exception import Disconnected
from django.conf import settings

from notifications.registry.records import Traffic
from notifications.sockets.protocol import PING_FRAME, Close, text_frame
from notifications.stream.entry import Entry

logger = logging.getLogger(__name__)

RAW_EXTENSION = "hermes.raw"  # sockets.server puts a RawSocket there
STALL_SECONDS = 10.0  # guarantee 7: cut this long after writes stop making progress
# What `send` raises when the client went and we were not told yet: an OSError, says ASGI; Daphne raises its own.
CLIENT_GONE = (OSError, Disconnected)
# A write takes some 8 us and the more the longer it is: 19 us with 32 KiB, 29 us with 64 KiB, to 8,000 sockets on
# loopback. A kernel's buffer takes 256 KiB of a megabyte at once (tcp.SEND_BUFFER, which Linux doubles), in 35 us.
BYTES_A_WRITE, BYTES_AT_ONCE = 32 * 1024, 256 * 1024


class Batch:
    """Texts for many sockets; their WebSocket frames are joined once.

    Args:
        texts: frames' texts, UTF-8, in order.
        entries: those among them, for what is measured.
        since: when the first of them came, in monotonic seconds.
    """

    __slots__ = ("cost", "entries", "since", "size", "texts", "wire")

    def __init__(self, texts: Sequence[bytes], entries: Sequence[Entry] = (), since: float = 0.0) -> None:
        self.texts = texts
        self.entries = entries
        self.since = since
        self.size = sum(map(len, texts))  # bytes
        # All of them as WebSocket frames, for one write.
        self.wire = b"".join([text_frame(text) for text in texts])
        # What it takes to write it to one socket, in writes of a small frame.
        self.cost = 1 + min(len(self.wire), BYTES_AT_ONCE) // BYTES_A_WRITE


class RawSocket(Protocol):
    """What sockets.server offers in ``scope["extensions"]["hermes.raw"]``."""

    # Called with the seconds over which a process that stops closes its connections.
    on_drain: Callable[[float], None] | None

    def hand_over(self, owner: Any) -> None:
        """Tell an `incoming.Owner` what the client says from now on; the application may return."""
        ...

    def go_on(self) -> None:
        """Read on, after the owner could not take more for a while."""
        ...

    def write(self, data: bytes) -> int:
        """Hand bytes to the transport; returns how many wait in its buffer."""
        ...

    def buffered(self) -> int:
        """How many bytes wait for the client; 0 while the transport's buffer is empty."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and wait for the client's, with a deadline."""
        ...

    def abort(self) -> None:
        """Drop the TCP connection and what waits in its buffer."""
        ...


class Outbound(Protocol):
    """How frames leave; every method returns at once."""

    def write(self, batch: Batch) -> None:
        """Send frames, or cut the connection if its reader is too far behind."""
        ...

    def ping(self) -> None:
        """Send WebSocket's own ping, where the server lets us."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close after what has been written."""
        ...

    def traffic(self) -> Traffic:
        """Return what was written until now; from any thread."""
        ...

    def check_progress(self, now: float) -> bool:
        """Cut a connection whose reader has taken nothing for ten seconds; called every second while anything waits.

        Args:
            now: the loop's time.

        Returns:
            Whether anything waits still.
        """
        ...


class RawOutbound:
    """Frames written straight to the transport of `manage.py serve`.

    Args:
        socket: the connection's raw side.
        on_cut: called with the close code when the reader is cut off.
        laggards: into which it puts itself while anything waits for its reader.
    """

    __slots__ = (
        "_frames",
        "_laggards",
        "_max_bytes",
        "_on_cut",
        "_socket",
        "_stalled_since",
        "_taken",
        "_waiting",
        "_written",
    )

    def __init__(self, socket: RawSocket, on_cut: Callable[[int], None], laggards: set[Outbound]) -> None:
        self._socket = socket
        self._on_cut = on_cut
        self._laggards = laggards
        self._max_bytes: int = settings.HERMES_QUEUE_BYTES
        self._written = 0
        self._frames = 0
        self._waiting = 0  # when last looked, once a second: to ask the socket is for its loop alone
        self._taken = 0
        self._stalled_since: float | None = None

    def write(self, batch: Batch) -> None:
        """See `Outbound.write`."""
        wire = batch.wire
        self._frames += len(batch.texts)
        self._written += len(wire)
        if waiting := self._socket.write(wire):
            self._lag(waiting - len(wire))

    def ping(self) -> None:
        """See `Outbound.ping`."""
        self._written += len(PING_FRAME)
        if waiting := self._socket.write(PING_FRAME):
            self._lag(waiting - len(PING_FRAME))

    def close(self, code: int, reason: str) -> None:
        """See `Outbound.close`."""
        self._socket.close(code, reason)

    def traffic(self) -> Traffic:
        """See `Outbound.traffic`."""
        return Traffic(self._frames, self._written, self._waiting)

    def check_progress(self, now: float) -> bool:
        """See `Outbound.check_progress`."""
        waiting = self._waiting = self._socket.buffered()
        taken = self._written - waiting
        if not waiting:
            self._taken, self._stalled_since = 0, None
        elif taken > self._taken:
            self._taken, self._stalled_since = taken, None
        elif self._stalled_since is None:
            self._stalled_since = now
        elif now - self._stalled_since >= STALL_SECONDS:
            self._cut()
        return bool(waiting)

    def _lag(self, before: int) -> None:
        """Be looked at: the kernel has not taken all that was written, and so many bytes wait before it."""
        self._laggards.add(self)
        # What waited before counts, not this batch: a whole replay may pass through an empty buffer at once.
        if before > self._max_bytes:
            self._cut()

    def _cut(self) -> None:
        self._on_cut(Close.SLOW)
        # The close frame would wait behind the megabyte that the reader does not read.
        self._socket.abort()


class QueuedOutbound:
    """Frames through ASGI's `send`, from a bounded queue, for servers that have no raw side.

    Args:
        send: the ASGI callable.
        on_cut: called with the close code when the reader is cut off.
        laggards: into which it puts itself while anything waits for its reader.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], Awaitable[None]],
        on_cut: Callable[[int], None],
        laggards: set[Outbound],
    ) -> None:
        self._send = send
        self._on_cut = on_cut
        self._laggards = laggards
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._frames = self._written = 0
        self._closing: tuple[int, str] | None = None
        self._wake = asyncio.Event()
        self._sending_since: float | None = None
        self._writer = asyncio.create_task(self._run(), name="hermes-outbound")

    def write(self, batch: Batch) -> None:
        """See `Outbound.write`."""
        if self._closing is not None:
            return
        # What waited before counts, not this batch: a whole replay may pass through an empty queue at once.
        if len(self._queue) > settings.HERMES_QUEUE_FRAMES or self._bytes > settings.HERMES_QUEUE_BYTES:
            self._cut()
            return
        self._queue.extend(batch.texts)
        self._bytes += batch.size
        self._frames += len(batch.texts)
        self._written += batch.size
        self._laggards.add(self)
        self._wake.set()

    def ping(self) -> None:
        """ASGI has no way to ask for a ping; these servers send their own."""

    def close(self, code: int, reason: str) -> None:
        """See `Outbound.close`."""
        if self._closing is None:
            self._closing = (code, reason)
            self._wake.set()

    def check_progress(self, now: float) -> bool:
        """See `Outbound.check_progress`."""
        if self._sending_since is not None and now - self._sending_since >= STALL_SECONDS:
            self._cut()
        return self._sending_since is not None or bool(self._queue)

    def traffic(self) -> Traffic:
        """See `Outbound.traffic`."""
        return Traffic(self._frames, self._written, self._bytes)

    async def aclose(self) -> None:
        """Stop writing; called by the consumer when its connection has ended."""
        self._writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._writer

    def _cut(self) -> None:
        self._on_cut(Close.SLOW)
        self._queue.clear()
        self._bytes = 0
        self.close(Close.SLOW, "slow")

    async def _run(self) -> None:
        try:
            await self._drain()
        except CLIENT_GONE:
            pass  # the client has gone; the consumer's receive says so too
        except Exception:
            logger.exception("A connection's writer failed; the connection is closed.")
            self._on_cut(Close.UNAVAILABLE)
            with contextlib.suppress(Exception):  # it has just failed, and may again; then TCP ends it
                await self._send({"type": "websocket.close", "code": int(Close.UNAVAILABLE), "reason": "unavailable"})

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                text = self._queue.popleft()
                self._bytes -= len(text)
                self._sending_since = loop.time()
                await self._send({"type": "websocket.send", "text": text.decode()})
                self._sending_since = None
            if self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": int(code), "reason": reason})
                return
