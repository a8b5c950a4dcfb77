"""Consumer: owns one WebSocket from accept to disconnect. Called by Channels' routing behind access.authorizer; joins
the hub, which does the delivering, and obeys the client's frames.

It has no rules of its own: what a frame may be is protocol's, who may join is access's, what is delivered is hub's.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

from channels.consumer import AsyncConsumer
from django.conf import settings

from notifications.access import rooms
from notifications.access.refusals import REFUSALS
from notifications.access.token_guard import SUBPROTOCOL
from notifications.exceptions import ClientError, HistoryUnavailable, TokenRefused, Unavailable
from notifications.sockets import protocol
from notifications.sockets.connection import ANSWER_BYTES, IDLE_FRAMES, Connection
from notifications.sockets.crowd import TooManyConnections, subscriber_of
from notifications.sockets.hub import Hub, HubOfLoop
from notifications.sockets.outbound import RAW_EXTENSION, QueuedOutbound, RawOutbound, RawSocket
from notifications.sockets.protocol import Close, Recent, Refresh, SendMessage
from notifications.stream.message import Message
from notifications.stream.position import Position, parse_position

logger = logging.getLogger(__name__)


class NotificationConsumer(AsyncConsumer):  # type: ignore[misc]
    """One WebSocket. It has no channel of its own: the hub has one for the whole process.

    On `manage.py serve` it returns once its client has joined, and is called when the client says something: ten
    thousand that say nothing have no task that waits. Elsewhere it waits for its client as ASGI applications do.

    Args:
        hubs: where the process's hub is.
    """

    __slots__ = ("_connection", "_hub", "_hubs", "_raw", "said")

    def __init__(self, hubs: HubOfLoop) -> None:
        self._hubs = hubs
        self.said: deque[str | None] = deque()

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Let the client in, and handle what it says until it ends."""
        hub = self._hub = await self._hubs.running()
        await receive()  # websocket.connect
        raw: RawSocket | None = scope.get("extensions", {}).get(RAW_EXTENSION)
        connection = Connection(scope["hermes.grant"], speaks_v1=scope["hermes.v1"], address=_address(scope))
        self._connection, self._raw = connection, raw
        await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if connection.speaks_v1 else None})
        if raw is not None:
            connection.outbound = RawOutbound(raw, connection.on_cut, hub.wheel.laggards(connection))
            raw.on_drain = self.drain
            try:
                await self._join(hub, connection, scope)
            except BaseException:
                hub.leave(connection, None)
                raise
            raw.hand_over(self)
            return
        connection.outbound = queued = QueuedOutbound(send, connection.on_cut, hub.wheel.laggards(connection))
        code: int | None = None
        try:
            await self._join(hub, connection, scope)
            while (event := await receive())["type"] != "websocket.disconnect":
                await self.obey(event.get("text"))
            code = event.get("code")
        finally:
            hub.leave(connection, code)
            await queued.aclose()

    # ── Called by the raw side, and by the inbox ─────────────────────────────────────────────────────────────────────
    def hear(self, said: str | bytes) -> bool:
        """See `incoming.Owner.hear`."""
        if isinstance(said, str):
            return self._hub.inbox.put(self, said, is_urgent=protocol.is_refresh(said))
        return self._hub.inbox.put(self, None)

    def bear(self, frames: int) -> None:
        """See `incoming.Owner.bear`."""
        self._connection.charge(frames / IDLE_FRAMES, time.monotonic())

    def heard(self) -> None:
        """See `inbox.Speaker.heard`."""
        if self._raw is not None:
            self._raw.go_on()

    def ended(self, code: int) -> None:
        """See `incoming.Owner.ended`."""
        self._raw = None
        self._hub.leave(self._connection, code)

    def drain(self, slot_seconds: float) -> None:
        """Say goodbye; see `Hub.drain`."""
        self._hub.drain(self._connection, slot_seconds)

    async def _join(self, hub: Hub, connection: Connection, scope: dict[str, Any]) -> None:
        if hub.is_draining:
            REFUSALS.labels("draining").inc()
            connection.close(Close.DRAINING, "draining")
            return
        position, malformed = _position(scope)
        try:
            await hub.join(connection, position, malformed=malformed)
        except TooManyConnections:
            REFUSALS.labels("too_many").inc()
            connection.close(Close.TOO_MANY, "too many connections")
        except Unavailable as error:
            REFUSALS.labels("unavailable").inc()
            logger.warning("A join has to wait: %s", error, extra=connection.fields)
            connection.close(Close.UNAVAILABLE, "unavailable")

    async def obey(self, text: str | None) -> None:
        """Do what a frame asks for, and answer it; raises nothing."""
        hub, connection = self._hub, self._connection
        ref = ""
        try:
            if not connection.may_speak(time.monotonic()):
                raise ClientError("rate_limited", "Too many frames; wait a moment.")
            if text is None:
                raise ClientError("binary", "Frames are text: JSON objects with an action.")
            if len(text.encode()) > settings.HERMES_FRAME_MAX_BYTES:  # where the server has no such limit of its own
                raise ClientError("too_large", f"A frame has at most {settings.HERMES_FRAME_MAX_BYTES} bytes.")
            frame = protocol.parse_client_frame(text)
            ref = frame.ref
            match frame:
                case SendMessage(data):
                    await self._send_message(hub, connection, data, ref)
                case Refresh(token):
                    await self._refresh(hub, connection, token)
                case Recent(limit):
                    answer = protocol.recent(await hub.recent(connection, limit), ref)
                    connection.charge(len(answer) // ANSWER_BYTES, time.monotonic())
                    connection.control(answer)
        except ClientError as error:
            connection.error(error.code, error.message, error.ref or ref)
        except Unavailable as error:
            level = logging.WARNING if hub.inbox.may_complain() else logging.DEBUG
            logger.log(level, "A client's frame could not be obeyed: %s", error, extra=connection.fields)
            connection.error("unavailable", "That is not possible right now; try again.", ref)
        except Exception:
            logger.exception("A client's frame could not be obeyed; its connection is closed.", extra=connection.fields)
            connection.close(Close.UNAVAILABLE, "unavailable")

    async def _send_message(self, hub: Hub, connection: Connection, data: str, ref: str) -> None:
        grant = connection.grant
        if not await rooms.may_send(grant.room_id):
            raise ClientError("send_not_allowed", "This room does not take messages from browsers.")
        message = Message(id=uuid.uuid4().hex, user_id=grant.user_id, room_id=grant.room_id, data=data)
        (result,) = await hub.publisher.publish(grant.stage, [message])
        if isinstance(result, HistoryUnavailable):
            raise result
        connection.control(protocol.control("sent", {"id": message.id, **protocol.echo(ref)}))

    async def _refresh(self, hub: Hub, connection: Connection, token: str) -> None:
        old = connection.grant
        try:
            grant = await hub.authorizer.authorize(settings.HERMES_STAGES[old.stage], token)
        except TokenRefused as refusal:
            raise ClientError(
                "token_refused", f"The new token was refused ({refusal}); the old one counts."
            ) from refusal
        if (grant.user, grant.room_id) != (old.user, old.room_id):
            raise ClientError(
                "token_refused", "The new token is another member's or another room's; the old one counts."
            )
        if grant.expires_at > time.time():
            hub.refresh(connection, grant)


def _address(scope: dict[str, Any]) -> str:
    """Return what a client's address counts as: nothing, unless it is said who may tell us addresses.

    Without that, everybody behind a proxy has the proxy's. `serve` has the server put the true one here.
    """
    client = scope.get("client")
    return subscriber_of(client[0]) if client and settings.HERMES_TRUSTED_PROXIES else ""


def _position(scope: dict[str, Any]) -> tuple[Position | None, bool]:
    """Read a client's position from its handshake; the second value says that it is malformed."""
    if not scope["hermes.v1"]:
        return None, False  # the article's clients get what is live
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    try:
        return parse_position(*(query[name][0] if name in query else None for name in ("epoch", "seq", "id"))), False
    except ValueError:
        return None, True
