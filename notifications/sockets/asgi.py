"""ASGI: a WebSocket of server as an application has it, with `receive` and `send`. Made by handshake.

An application may hand the WebSocket to an owner of its own, before it asks for what the client says, and return: then
no task waits for that. One that knows nothing of this, and asks, is served as ASGI says.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from websockets.frames import CloseCode, Frame, Opcode

from notifications.sockets.outbound import RAW_EXTENSION
from notifications.sockets.protocol import text_frame
from notifications.sockets.server import WebSocket

logger = logging.getLogger(__name__)

_FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

Event = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]


class Asgi:
    """An `incoming.Owner` that an application talks to.

    Args:
        link: the WebSocket.
    """

    __slots__ = ("_events", "_is_listening", "_link", "_waiting")

    def __init__(self, link: WebSocket) -> None:
        self._link = link
        self._events: deque[Event] = deque(({"type": "websocket.connect"},))
        self._is_listening = False
        self._waiting: asyncio.Future[None] | None = None

    def start(self, application: Application, scope: Event, tasks: set[asyncio.Task[None]]) -> None:
        """Have the application judge the client, in a task that ends when it returns.

        Args:
            scope: without extensions.
            tasks: uvicorn's, which a process that stops waits for.
        """
        scope["extensions"] = {RAW_EXTENSION: self._link}
        task = asyncio.get_running_loop().create_task(self._run(application, scope), name="hermes-application")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _run(self, application: Application, scope: Event) -> None:
        link = self._link
        try:
            await application(scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except Exception:
            logger.exception("The application failed; its connection is closed.")
            link.refuse(_FAILED)
            link.hang_up()
        finally:
            link.judged()
            if link.is_owned_by(self):
                link.refuse(_FAILED)
                link.hang_up()

    # ── As its owner ─────────────────────────────────────────────────────────────────────────────────────────────────
    def hear(self, said: str | bytes) -> bool:
        """Keep a message for `receive`; the client is not read meanwhile."""
        self._put({"type": "websocket.receive", "text" if isinstance(said, str) else "bytes": said})
        return False

    def bear(self, frames: int) -> None:
        """Nothing: an application that asks for each message has limits of its own."""

    def ended(self, code: int) -> None:
        """Keep for `receive` that it is over."""
        self._put({"type": "websocket.disconnect", "code": code})

    def _put(self, event: Event) -> None:
        self._events.append(event)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # ── For the application ──────────────────────────────────────────────────────────────────────────────────────────
    async def receive(self) -> Event:
        """Return the application's next event."""
        if not self._events and not self._is_listening:
            self._is_listening = True
            self._link.hand_over(self)
        if not self._events and self._link.is_accepted:
            self._link.judged()
        while not self._events:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        event = self._events.popleft()
        if not self._events:
            self._link.go_on()
        return event

    async def send(self, message: Event) -> None:
        """Send what the application sends.

        Raises:
            ClientDisconnected: there is nobody to send it to; an OSError.
            RuntimeError: it is not the time for it.
        """
        link = self._link
        await link.writable()
        if link.is_gone:
            raise ClientDisconnected
        match message["type"]:
            case "websocket.accept" if not link.is_accepted:
                link.let_in(message.get("subprotocol"), message.get("headers", ()))
                return
            case "websocket.close" if not link.is_accepted:
                link.refuse(_FORBIDDEN)
            case "websocket.send" if link.is_accepted:
                text = message.get("text")
                binary = Frame(Opcode.BINARY, message.get("bytes") or b"")
                link.write(binary.serialize(mask=False) if text is None else text_frame(text.encode()))
            case "websocket.close":
                link.close(message.get("code") or CloseCode.NORMAL_CLOSURE, message.get("reason") or "")
            case other:
                raise RuntimeError(f"{other} is not what may be sent now")
        link.judged()
