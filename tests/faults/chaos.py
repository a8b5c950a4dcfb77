"""Chaos: a TCP proxy that cuts, resets, delays, slows, holds back or deafens what goes through it. Used by world."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from hermes_site.engines import HOST

_CHUNK = 65_536
_LINE = re.compile(rb"([^\r\n]*)\r\n")


@dataclass(eq=False)
class _Link:
    """One connection through the proxy: both of its ends."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter | None = None
    # Once its client has subscribed, what comes down is read as Redis's protocol.
    is_subscribed: bool = False
    # The command that a trap waits for has gone up, and its answer has not come down.
    is_trapped: bool = False
    unread: bytes = b""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class ChaosProxy:
    """Listens on a free port of loopback and forwards to another; harmless until told otherwise.

    Args:
        target_port: where to.
    """

    def __init__(self, target_port: int) -> None:
        self.port = 0
        # How much a fault has disturbed: one that disturbed nothing is not counted.
        self.bites = 0
        # While what it leads to is being exchanged nobody passes, whatever else ends meanwhile.
        self.is_closed = False
        self.target_port = target_port
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._trap: tuple[bytes, bool, Callable[[], None]] | None = None
        self.heal()

    def heal(self) -> None:
        """Be harmless again; what was held back goes on."""
        self.refuses = False
        self.is_deaf = False
        self.delay = 0.0
        self.bytes_a_second: int | None = None
        for event in self._open.values():
            event.set()

    def hold(self, *directions: str) -> None:
        """Let nothing pass ``up`` (to the target), ``down``, or both, and close nothing: a black hole."""
        for direction in directions:
            self._open[direction].clear()

    def set_trap(self, word: bytes, spring: Callable[[], None], *, answered: bool) -> None:
        """Call ``spring`` once, when a command with this word has come up, or its answer down; that connection ends.

        Args:
            word: what the command holds.
            spring: called before the command, or its answer, has passed; it never does.
            answered: whether to wait for the answer.
        """
        for link in self._links:
            link.is_trapped = False
        self._trap = (word, answered, spring)

    def clear_trap(self) -> None:
        """Call nobody."""
        self._trap = None

    def cut(self, *, reset: bool = False) -> int:
        """End every connection, politely or with a RST; return how many."""
        links = list(self._links)
        for link in links:
            for writer in (link.near, link.far):
                if writer is None:
                    continue
                raw = writer.get_extra_info("socket")
                if reset and raw is not None:
                    with contextlib.suppress(OSError):
                        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort() if reset else writer.close()
            for task in link.tasks:
                task.cancel()
        self.bites += len(links)
        return len(links)

    async def start(self) -> ChaosProxy:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Listen no more and end every connection."""
        if self._server is not None:
            self._server.close()
        for link in self._links:
            link.near.transport.abort()
            if link.far is not None:
                link.far.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # in which the aborted transports let go of their sockets

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses or self.is_closed:
            self.bites += self.refuses
            writer.close()
            return
        link = _Link(writer)
        self._links.add(link)
        try:
            far_reader, link.far = await asyncio.open_connection(HOST, self.target_port)
            link.tasks = [
                asyncio.create_task(self._pipe(link, reader, link.far, "up")),
                asyncio.create_task(self._pipe(link, far_reader, writer, "down")),
            ]
            await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass
        finally:
            self._links.discard(link)
            for task in link.tasks:
                task.cancel()
            for end in (writer, link.far):
                if end is not None:
                    end.close()
            await asyncio.gather(*link.tasks, return_exceptions=True)

    async def _pipe(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                if self.delay or self.bytes_a_second or not self._open[direction].is_set():
                    self.bites += 1
                await self._open[direction].wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                if direction == "up" and b"SUBSCRIBE" in data.upper():
                    link.is_subscribed = True
                if direction == "down" and link.is_subscribed:
                    data = self._heard(link, data)
                if self._springs(link, data, direction):
                    break  # what it was about to say is never said
                await self._write(writer, data)
            await self._open[direction].wait()  # in a black hole nobody hears of an end either

    def _springs(self, link: _Link, data: bytes, direction: str) -> bool:
        if self._trap is None:
            return False
        word, answered, spring = self._trap
        if direction == "up":
            link.is_trapped = link.is_trapped or word in data
        if not link.is_trapped or answered == (direction == "up"):
            return False
        self._trap = None
        spring()
        return True

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            rate = self.bytes_a_second
            size = len(data) if rate is None else max(1, rate // 20)
            writer.write(data[:size])
            await writer.drain()
            data = data[size:]
            if rate is not None:
                await asyncio.sleep(0.05)

    def _heard(self, link: _Link, data: bytes) -> bytes:
        """Return what of a subscriber's stream passes: while deaf, everything but messages."""
        replies, link.unread = split_replies(link.unread + data)
        heard = [reply for reply in replies if not (self.is_deaf and is_message(reply))]
        self.bites += len(replies) - len(heard)
        return b"".join(heard)


def is_message(reply: bytes) -> bool:
    """Whether a reply of Redis is a published message."""
    return reply[:1] in b"*>" and reply.split(b"\r\n", 3)[2:3] in ([b"message"], [b"pmessage"], [b"smessage"])


def split_replies(data: bytes) -> tuple[list[bytes], bytes]:
    """Split a stream of Redis's protocol into whole replies and what is not whole yet."""
    replies, start = [], 0
    while (end := _end_of_reply(data, start)) is not None:
        replies.append(data[start:end])
        start = end
    return replies, data[start:]


def _end_of_reply(data: bytes, start: int) -> int | None:
    """Return where the reply that begins at ``start`` ends; None if it is not whole."""
    line = _LINE.match(data, start)
    if line is None:
        return None
    kind, rest, end = line[1][:1], line[1][1:], line.end()
    if kind == b"$":
        end += int(rest) + 2 if int(rest) >= 0 else 0
        return end if end <= len(data) else None
    if kind in (b"*", b">", b"~", b"%"):
        for _ in range(max(0, int(rest)) * (2 if kind == b"%" else 1)):
            inner = _end_of_reply(data, end)
            if inner is None:
                return None
            end = inner
    return end
