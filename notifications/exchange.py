"""Exchange: one kept connection to AWS: a request out, its answer in, as httptools tells of it. Used by wire.

A thread waits for the answer by itself, an event loop by its own means; what is read, and how, is the same.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from collections.abc import Callable

import httptools

_PIECE = 64 * 1024  # bytes in one read


class Connection:
    """One connection, of one thread or task at a time.

    Args:
        connected: its socket.
        answer_seconds: how long an answer may take, all of it.
    """

    __slots__ = (
        *("_body", "_ends_with_us", "_headers", "_is_whole", "_poll", "_seconds", "_socket", "_status", "_told"),
        "is_reusable",
    )

    def __init__(self, connected: socket.socket, answer_seconds: float) -> None:
        self._socket, self._seconds = connected, answer_seconds
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self.is_reusable = True

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: neither the end, nor what nobody has asked for.

        A balancer tells a connection that was idle for long that it is (408), and a next request would take that for
        its own answer.
        """
        return not self._poll.poll(0) and not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending())

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request and wait for its answer.

        Returns:
            Its status, its headers by their names in small letters, and its body.

        Raises:
            OSError: it ended, or did not come in time (``TimeoutError``).
            httptools.HttpParserError, httptools.HttpParserUpgrade: it is no HTTP, or no longer.
        """
        deadline = time.monotonic() + self._seconds
        self._begin()
        self._socket.settimeout(self._seconds)
        self._socket.sendall(request)
        while not self._is_whole:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("it did not come in time")
            self._socket.settimeout(left)
            self._take(self._socket.recv(_PIECE))
        return self._status, self._headers, bytes(self._body)

    async def ask_here(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Do as `ask` does, without a thread: the event loop waits.

        Whoever cancels it must close the connection: the answer is still to come.
        """
        loop = asyncio.get_running_loop()
        self._begin()
        self._socket.settimeout(0)
        async with asyncio.timeout(self._seconds):
            rest = memoryview(request)
            while rest:
                try:
                    rest = rest[self._socket.send(rest) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    await _until(self._socket, loop.add_writer, loop.remove_writer)
                except ssl.SSLWantReadError:
                    await _until(self._socket, loop.add_reader, loop.remove_reader)
            while not self._is_whole:
                # Nothing comes at once, but what TLS holds back may be there already.
                if not (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()):
                    await _until(self._socket, loop.add_reader, loop.remove_reader)
                try:
                    data = self._socket.recv(_PIECE)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                self._take(data)
        return self._status, self._headers, bytes(self._body)

    def _begin(self) -> None:
        self._forget()
        self._is_whole = self.is_reusable = False
        self._told = httptools.HttpResponseParser(self)

    def _take(self, data: bytes) -> None:
        """Take a piece of the answer, or its end."""
        if not data:
            # One without a length is whole when the connection ends: a balancer's own, perhaps. Where it is empty,
            # nobody can tell it from one that broke off.
            if not (self._ends_with_us and self._body):
                raise ConnectionResetError("it ended before its answer did")
            self._is_whole = True
            return
        try:
            self._told.feed_data(data)
        except httptools.HttpParserError:
            if not self._is_whole:
                raise
            self.is_reusable = False

    def _forget(self) -> None:
        self._status, self._ends_with_us = 0, False
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    # ── For httptools ────────────────────────────────────────────────────────────────────────────────────────────────
    # What comes behind a whole answer belongs to none: it is dropped, and the connection with it.
    def on_message_begin(self) -> None:
        """Take note of an answer that nobody has asked for."""
        if self._is_whole:
            self.is_reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._is_whole:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Take note of the status, and of whether it is the connection's end that ends the body."""
        if not self._is_whole:
            self._status = self._told.get_status_code()
            self._ends_with_us = not self._headers.keys() & {"content-length", "transfer-encoding"}

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._is_whole:
            self._body += body

    def on_message_complete(self) -> None:
        """Take note of the end; an interim answer (1xx) is forgotten, its headers too."""
        if self._is_whole:
            return
        if self._status < 200:
            self._forget()
            return
        self._is_whole, self.is_reusable = True, self._told.should_keep_alive()


async def _until(waits: socket.socket, add: Callable[..., object], remove: Callable[[socket.socket], object]) -> None:
    """Wait until a socket can be read or written, by the loop's own two functions for it."""
    came: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    add(waits, _tell, came)
    try:
        await came
    finally:
        remove(waits)


def _tell(came: asyncio.Future[None]) -> None:
    if not came.done():
        came.set_result(None)
