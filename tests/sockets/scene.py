"""A member's connection without a network, and entries of a made-up history. Used by the tests of sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
import websockets
from channels.layers import get_channel_layer
from django.conf import settings
from websockets.typing import Subprotocol

from notifications.access import token_store, tokens
from notifications.access.authorizer import Grant
from notifications.registry.records import Traffic
from notifications.routing import websocket_application
from notifications.sockets.connection import Connection
from notifications.sockets.handshake import Handshake
from notifications.sockets.http import HermesHttpProtocol
from notifications.sockets.hub import HubOfLoop
from notifications.sockets.outbound import Batch
from notifications.sockets.tcp import listening_socket
from notifications.stream.entry import Entry, frame, frame_head
from notifications.stream.message import Message


class Recorder:
    """An `Outbound` that writes down what it is given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.closed: tuple[int, str] | None = None
        self.pings = 0

    def write(self, batch: Batch) -> None:
        self.batches.append(batch)

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def traffic(self) -> Traffic:
        return Traffic(len(self.frames), sum(len(text) for batch in self.batches for text in batch.texts), 0)

    def check_progress(self, now: float) -> bool:
        return False

    @property
    def frames(self) -> list[dict[str, Any]]:
        """Every frame, parsed."""
        return [json.loads(text) for batch in self.batches for text in batch.texts]

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries among the frames."""
        return [each for each in self.frames if "seq" in each]

    @property
    def seqs(self) -> list[int]:
        """The entries' places."""
        return [each["seq"] for each in self.entries]

    def controls(self, kind: str) -> list[dict[str, Any]]:
        """The data of the control frames of a kind."""
        return [
            each["data"]["data"]
            for each in self.frames
            if "seq" not in each and each["data"]["type"] == f"hermes.{kind}"
        ]


Connect = Callable[..., Connection]


def recorder(connection: Connection) -> Recorder:
    """Return what a connection was given."""
    assert isinstance(connection.outbound, Recorder)
    return connection.outbound


def make_connection(user: str = "alice", room: str = "acme", **options: Any) -> Connection:
    """Make a connection: of room acme, for an hour, speaking hermes.v1, with a `Recorder`."""
    grant = Grant(
        stage=options.get("stage", "development"),
        user_id=user,
        room_id=room,
        expires_at=int(time.time()) + options.get("ttl", 3600),
        issued_at=options.get("issued_at", int(time.time())),
        session=options.get("session", ""),
        checked_at=time.monotonic(),
    )
    connection = Connection(grant, speaks_v1=options.get("v1", True), address=options.get("address", ""))
    connection.outbound = Recorder()
    return connection


def chain(first: int, last: int, *, epoch: str = "e1", before: str | None = None, **extra: Any) -> list[Entry]:
    """Make entries ``first`` to ``last`` of one history; the id of number n is mn."""
    entries: list[Entry] = []
    for seq in range(first, last + 1):
        prev = entries[-1].id if entries else (before if before is not None else f"m{seq - 1}" if seq > 1 else "")
        entries.append(make_entry(seq, prev, epoch=epoch, **extra))
    return entries


def make_entry(
    seq: int, prev: str, *, epoch: str = "e1", id: str = "", to: Sequence[str] | None = None, **extra: Any
) -> Entry:
    """Make one entry."""
    made = Message(id or f"m{seq}", 42, "acme", str(seq))
    return Entry(
        epoch,
        seq,
        made.id,
        prev,
        frame(frame_head(made), epoch, seq),
        None if to is None else frozenset(to),
        extra.get("expires_at"),
        extra.get("at", int(time.time() * 1000)),
    )


class Serving:
    """Hermes's WebSocket application on a uvicorn with our protocol, in the test's own loop."""

    origin = settings.HERMES_ALLOWED_ORIGINS[0]

    def __init__(self) -> None:
        self.hubs = HubOfLoop()
        self.listener = listening_socket("127.0.0.1", 0)
        self.address: tuple[str, int] = self.listener.getsockname()[:2]
        config = uvicorn.Config(
            websocket_application(self.hubs),
            http=HermesHttpProtocol,
            ws=Handshake,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=5,
        )
        config.load()
        self.server = uvicorn.Server(config)
        self.server.lifespan = config.lifespan_class(config)

    async def start(self) -> None:
        await self.server.startup(sockets=[self.listener])

    async def stop(self) -> None:
        await self.server.shutdown(sockets=[self.listener])
        await self.hubs.stop()
        await get_channel_layer().flush()

    def token(self, user: str | int = "alice", room: str = "acme", stage: str = "development", ttl: int = 3600) -> str:
        """Make a member's row and a token for it."""
        chosen = settings.HERMES_STAGES[stage]
        token_store.save(chosen, str(user), room, tokens.make_digest(user, chosen.passcode, room))
        return tokens.issue(chosen, user, room, now=time.time(), ttl=ttl)

    @property
    def stage(self) -> Any:
        """The stage that members join."""
        return settings.HERMES_STAGES["development"]

    def connection(self, grant: Grant) -> Connection:
        """Make a connection that has been granted its place, without a socket."""
        connection = Connection(grant, speaks_v1=True)
        connection.outbound = Recorder()
        return connection

    def url(self, query: str = "", stage: str = "development") -> str:
        host, port = self.address
        return f"ws://{host}:{port}/ws/{stage}{query}"

    def connect(self, token: str, query: str = "", **options: Any) -> Any:
        """Open a WebSocket as the toolkit does."""
        protocols = [Subprotocol("hermes.v1"), Subprotocol(f"hermes.token.{token}")]
        return websockets.connect(self.url(query), subprotocols=protocols, compression=None, **options)

    async def publish(self, *numbers: int, room: str = "acme", data: str = "") -> None:
        """Publish messages m<number>."""
        hub = await self.hubs.running()
        messages = [Message(f"m{number}", 42, room, data or str(number)) for number in numbers]
        await hub.publisher.publish("development", messages)


async def heard(socket: Any) -> dict[str, Any]:
    """Return the next frame that is not a ping (those come when it is their second), parsed."""
    async with asyncio.timeout(10):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if "seq" in frame or frame["data"]["type"] != "hermes.ping":
                return frame


async def control(socket: Any, kind: str) -> dict[str, Any]:
    """Return the data of the next frame, which must be a control frame of a kind."""
    frame = await heard(socket)
    assert frame["data"]["type"] == f"hermes.{kind}", frame
    data: dict[str, Any] = frame["data"]["data"]
    return data


async def close_of(socket: Any) -> tuple[int, str]:
    """Wait until a socket is closed by the server; return code and reason."""
    async with asyncio.timeout(15):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason
