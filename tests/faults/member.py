"""Member: a client that speaks the toolkit's protocol and writes down every frame. Made by run, disturbed by faults."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import random
import socket
import struct
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection, connect

from hermes_site.engines import HOST
from tests.faults.recorder import Recorder

REMEMBERED = 1024  # ids, as the toolkit's
OPEN_SECONDS = 10.0
# The toolkit waits up to 20 s; a run of minutes wants more comings and goings than that.
LONGEST_RETURN_SECONDS = 2.0
_RECEIVE_BUFFER = 16_384  # bytes: so small that a reader that stalls is soon felt by its server
_SO_ATTACH_FILTER = 26
_Frames = dict[str, Any]


@dataclass(frozen=True)
class Token:
    """What a member shows: the JWT, and in unix seconds when it was issued and when it ends."""

    text: str
    iat: int
    exp: int


class Member:
    """One client of one member, which stays connected until told otherwise.

    Args:
        name: what it is called in the record.
        stage, room, user: who it is.
        token: good for the whole run.
        port: called before each connection; which server to connect to, and at which port.
        is_direct: that port is its server's own, and no proxy's.
        recorder: where it writes.
        rng: for its jitter.
        addresses: of the servers that are not on loopback.
    """

    def __init__(
        self,
        name: str,
        stage: str,
        room: str,
        user: str,
        *,
        token: Token,
        port: Callable[[], tuple[str, int]],
        is_direct: bool,
        recorder: Recorder,
        rng: random.Random,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.stage, self.room, self.user = name, stage, room, user
        self.is_direct = is_direct
        self.position: tuple[str, int, str] | None = None
        self.connection_id = ""
        self.is_open = False
        self.greeted_at = self.closed_at = 0.0  # monotonic seconds
        # Every connection in which it was greeted: which server it had chosen, and when, in monotonic seconds.
        self.greetings: dict[str, tuple[str, float]] = {}
        self._ids: dict[str, None] = {}
        self.token, self._port, self._recorder, self._rng = token, port, recorder, rng
        self._addresses = addresses or {}
        self._socket: ClientConnection | None = None
        self._raw: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._gone: list[Any] = []
        self._stall_until = self._slow_until = self._away_until = 0.0
        self._retry_at = 0.0
        self._sent = 0
        self._server = ""

    @property
    def key(self) -> str:
        """Stage and room, as the record names them."""
        return f"{self.stage}/{self.room}"

    def start(self) -> None:
        """Connect and stay connected."""
        self._task = asyncio.create_task(self._run(), name=f"member-{self.name}")

    async def stop(self) -> None:
        """Leave for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for raw in self._gone:
            raw.close()

    # ── What may happen to it ────────────────────────────────────────────────────────────────────────────────────────
    def stall(self, seconds: float) -> None:
        """Read nothing for a while."""
        self._stall_until = time.monotonic() + seconds

    def slow(self, seconds: float) -> None:
        """Read a few frames a second for a while."""
        self._slow_until = time.monotonic() + seconds

    def away(self, seconds: float) -> None:
        """Leave, and come back after a while."""
        self._away_until = time.monotonic() + seconds
        self.drop()

    def drop(self) -> None:
        """End the connection without a closing handshake."""
        if self._socket is not None:
            self._socket.transport.abort()

    def vanish(self) -> bool:
        """Be gone without a word, as a host without its network: nothing that comes is acknowledged any more.

        Returns:
            Whether there was a connection.
        """
        if self._raw is None or self._raw.fileno() < 0 or self._socket is None or not self.is_open:
            return False
        program = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # drop every packet
        self._raw.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
        # A duplicate keeps the kernel's socket, and with it the silence, while asyncio lets go of its own.
        self._gone.append(self._raw.dup())
        self._socket.transport.abort()
        return True

    async def say(self, n: str) -> None:
        """Send a message as browsers do."""
        if self._socket is not None and self.is_open:
            frame = {"action": "sendMessage", "data": {"type": "info", "data": {"n": n}}}
            with contextlib.suppress(websockets.WebSocketException, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._socket.send(json.dumps(frame))

    async def chatter(self, frames: int) -> None:
        """Ask for more than a client may, again and again."""
        for _ in range(frames):
            if self._socket is None or not self.is_open:
                return
            with contextlib.suppress(websockets.WebSocketException, OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._socket.send('{"action": "recent", "limit": 1}')

    # ── Its life ─────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _run(self) -> None:
        while True:
            code: int | None = None
            try:
                await self._prepare()
                await self._live_once()
            except (OSError, websockets.WebSocketException, TimeoutError):
                pass
            finally:
                if self._socket is not None:
                    code = self._socket.close_code
                self.is_open = False
                self.connection_id = ""
                self._socket = self._raw = None
            self._recorder.write("closed", client=self.name, code=code, unix=round(time.time(), 2))
            self._on_closed(code)
            now = self.closed_at = time.monotonic()
            jitter = self._rng.uniform(0.02, LONGEST_RETURN_SECONDS)
            await asyncio.sleep(max(jitter, self._away_until - now, self._retry_at - now))

    async def _prepare(self) -> None:
        """Whatever is to be done before connecting."""

    def _on_closed(self, code: int | None) -> None:
        """Take note of how a connection ended."""

    def _on_control(self, kind: str, data: _Frames) -> None:
        """Take note of a control frame."""

    async def _live_once(self) -> None:
        loop = asyncio.get_running_loop()
        raw = socket.socket()
        try:
            raw.setblocking(False)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            async with asyncio.timeout(OPEN_SECONDS):
                server, port = self._port()
                self._server = server
                await loop.sock_connect(raw, (self._addresses.get(server, HOST), port))
            query = urllib.parse.urlencode(dict(zip(("epoch", "seq", "id"), self.position or (), strict=False)))
            where = {"stage": self.stage, "room": self.room, "user": self.user, "position": self.position}
            about = {"server": server, "iat": self.token.iat, "exp": self.token.exp}
            self._recorder.write("joining", client=self.name, unix=round(time.time(), 2), **about, **where)
            async with connect(
                f"ws://{HOST}/ws/{self.stage}?{query}",
                sock=raw,
                subprotocols=["hermes.v1", f"hermes.token.{self.token.text}"],  # type: ignore[list-item]
                open_timeout=OPEN_SECONDS,
                close_timeout=1.0,
                ping_interval=None,
                compression=None,
                proxy=None,
            ) as self._socket:
                self._raw = self._socket.transport.get_extra_info("socket")
                await self._listen(self._socket)
        finally:
            if self._socket is None:
                raw.close()

    async def _listen(self, connection: ClientConnection) -> None:
        silence = OPEN_SECONDS
        while True:
            now = time.monotonic()
            if now < self._stall_until:
                await asyncio.sleep(self._stall_until - now)
            if now < self._slow_until:
                await asyncio.sleep(self._rng.uniform(0.05, 0.3))
            async with asyncio.timeout(silence):
                text = await connection.recv()
            frame = json.loads(text)
            if "seq" in frame:
                self._take(frame)
            elif (ping_seconds := self._obey(frame["data"]["type"].removeprefix("hermes."), frame["data"]["data"])) > 0:
                silence = 2 * ping_seconds + 5

    def _take(self, entry: _Frames) -> None:
        place = (entry["epoch"], entry["seq"], entry["id"])
        position = self.position
        shown = not (position and position[0] == place[0] and place[1] <= position[1])
        if shown:
            self.position = place
            shown = place[2] not in self._ids
            self._ids[place[2]] = None
            while len(self._ids) > REMEMBERED:
                del self._ids[next(iter(self._ids))]
        named = dict(zip(("epoch", "seq", "id"), place, strict=True))
        n = entry["data"]["data"]["n"]
        who = {"client": self.name, "room": entry["room_id"], "n": n, "shown": shown}
        self._recorder.write("received", **who, **named)

    def _obey(self, kind: str, data: _Frames) -> float:
        """Obey a control frame; return the server's ping interval where it is told, else 0."""
        if kind in ("hello", "lost", "gap", "ping", "goodbye"):
            told = {name: data.get(name) for name in ("epoch", "seq", "id", "status", "reason", "from", "to")}
            self._recorder.write(kind, client=self.name, unix=round(time.time(), 2), **told)
            place = (data["epoch"], data["seq"], data["id"])
            if kind in ("hello", "lost", "gap") or (
                self.position and self.position[0] == place[0] and place[1] > self.position[1]
            ):
                self.position = place
        self._on_control(kind, data)
        if kind == "goodbye":
            self._retry_at = time.monotonic() + data["retry_after_ms"] / 1000
        if kind == "sent":
            self._recorder.write("sent", client=self.name, id=data["id"])
        if kind == "error":
            self._recorder.write("error", client=self.name, code=data["code"])
        if kind == "hello":
            self.connection_id = data["connection_id"]
            self.is_open = True
            self.greeted_at = time.monotonic()
            self.greetings[self.connection_id] = (self._server, self.greeted_at)
            return float(data["ping_s"])
        return 0.0
