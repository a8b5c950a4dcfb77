"""A client that speaks the toolkit's protocol, comes back with its position, and records what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import urllib.parse
from collections.abc import Callable
from typing import Any, Self

import websockets
from websockets.asyncio.client import ClientConnection, connect

from tests.processes import Hermes
from tests.waiting import eventually

RECONNECT_SECONDS = 0.2
OPEN_SECONDS = 10.0


class Client:
    """One member's socket; an asynchronous context that stays connected until its end.

    Args:
        hermes: where to connect.
        user: who; gets a token by signing in, unless ``token`` is given.
        token: a token made otherwise.
        article: connect as the article's browser code does, by ``?token=`` and without a subprotocol.
        stay: come back by itself, with its position, whenever the connection ends and may be made again.
        position: what to resume from: epoch, seq, id.
        url: another server's ``ws://…/ws/<stage>``.
        origin: what to send as Origin; None sends none, as a program does.
        open_seconds: for the handshake to be answered.
    """

    def __init__(
        self,
        hermes: Hermes,
        user: str = "alice",
        *,
        token: str | None = None,
        article: bool = False,
        stay: bool = False,
        position: tuple[str, int, str] | None = None,
        url: str | None = None,
        origin: str | None = None,
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        self.token = hermes.token(user) if token is None else token
        self.position = position
        self.frames: list[dict[str, Any]] = []
        self.close_codes: list[int] = []
        self.connected = asyncio.Event()
        self._url, self._article, self._stay, self._origin = url or hermes.ws_url, article, stay, origin
        self._open_seconds = open_seconds
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        opened = asyncio.create_task(self.connected.wait())
        await asyncio.wait({self._task, opened}, timeout=self._open_seconds, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Close the connection and stay away."""
        if self._task is not None:
            if self._socket is not None:
                await self._socket.close()
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, websockets.WebSocketException, OSError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._live_once()
            except (OSError, websockets.WebSocketException, TimeoutError):
                if not self._stay:
                    raise
            if not self._stay or (self.close_codes and 4400 <= self.close_codes[-1] <= 4499):
                return
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _live_once(self) -> None:
        query = {"token": self.token} if self._article else {}
        if self.position is not None:
            query |= dict(zip(("epoch", "seq", "id"), map(str, self.position), strict=True))
        url = f"{self._url}?{urllib.parse.urlencode(query)}" if query else self._url
        protocols = None if self._article else ["hermes.v1", f"hermes.token.{self.token}"]
        async with connect(
            url,
            subprotocols=protocols,  # type: ignore[arg-type]
            origin=self._origin,  # type: ignore[arg-type]
            open_timeout=self._open_seconds,
            compression=None,
            proxy=None,
        ) as self._socket:
            self.connected.set()
            try:
                # Its end is recorded below; only a handshake that fails is raised.
                with contextlib.suppress(websockets.ConnectionClosed):
                    async for text in self._socket:
                        self._note(json.loads(text))
            finally:
                self.connected.clear()
                if self._socket.close_code is not None:
                    self.close_codes.append(self._socket.close_code)

    def _note(self, frame: dict[str, Any]) -> None:
        self.frames.append(frame)
        if "seq" in frame:
            self.position = (frame["epoch"], frame["seq"], frame["id"])
            return
        kind, payload = frame["data"].get("type"), frame["data"].get("data")
        if kind in ("hermes.hello", "hermes.lost", "hermes.gap", "hermes.goodbye") and payload.get("epoch"):
            self.position = (payload["epoch"], payload["seq"], payload["id"])

    async def send(self, frame: Any) -> None:
        """Send a frame, as JSON unless it is text already."""
        assert self._socket is not None
        await self._socket.send(frame if isinstance(frame, str) else json.dumps(frame))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries, in the order in which they came."""
        return [frame for frame in self.frames if "seq" in frame]

    @property
    def received(self) -> list[Any]:
        """What the producers sent, in the order in which it came."""
        return [entry["data"] for entry in self.entries]

    def control(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of one kind of control frame."""
        return [
            frame["data"]["data"]
            for frame in self.frames
            if "seq" not in frame and frame["data"].get("type") == f"hermes.{kind}"
        ]

    async def hello(self) -> dict[str, Any]:
        """Wait for the first greeting of this client and return it."""
        await self.until(lambda: self.control("hello"), what="hello")
        return self.control("hello")[0]

    async def until(self, predicate: Callable[[], Any], deadline: float = 10.0, what: str = "") -> Any:
        """Wait until something holds, or fail with what came instead."""
        try:
            return await eventually(predicate, deadline, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; frames {self.frames[-5:]}, closed with {self.close_codes}") from None


def in_order(entries: list[dict[str, Any]]) -> bool:
    """Return whether the entries' seqs rise by one, each once, within one epoch."""
    return all(
        after["epoch"] == before["epoch"] and after["seq"] == before["seq"] + 1
        for before, after in itertools.pairwise(entries)
    )
