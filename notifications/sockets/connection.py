"""Connection: one accepted WebSocket and what the hub knows of it. Made by consumer, kept by feed and hub."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime

from django.conf import settings

from notifications.access.authorizer import Grant
from notifications.registry.connections import ConnectionRecord
from notifications.sockets import protocol
from notifications.sockets.outbound import Batch, Outbound
from notifications.sockets.protocol import Close
from notifications.sockets.vitals import TALLY
from notifications.stream.position import Position

OVERDRAFT = 100  # frames that a client may send beyond its bucket before it is closed
ANSWER_BYTES = 64 * 1024  # of an answer that cost as much as a frame: 40 bytes may ask for a mebibyte
IDLE_FRAMES = 32  # pings, pongs and empty pieces that cost as much as a frame that is obeyed
EXPIRING_SECONDS = 30  # a client is told this long before its token ends; it takes one request to refresh it
# Tokens given in the same second end in the same second: their connections are closed over this many seconds after it,
# so that the clients do not all come back at once. Less than a second, within which guarantee 6 wants them closed.
END_JITTER = 0.8


class Connection:
    """One accepted WebSocket.

    Args:
        grant: what its token allows.
        speaks_v1: whether it gets control frames; the article's clients get entries and `error` frames only.
        address: what its client's address counts as; empty where addresses are not counted.
    """

    __slots__ = (
        "_credit",
        "_credited_at",
        "address",
        "checked_at",
        "close_code",
        "ends_at",
        "expiring_sent",
        "grant",
        "id",
        "opened_at",
        "outbound",
        "speaks_v1",
        "user",
    )

    outbound: Outbound

    def __init__(self, grant: Grant, *, speaks_v1: bool, address: str = "") -> None:
        self.grant = grant
        self.checked_at = grant.checked_at  # when its member's row was last read, in this process's monotonic seconds
        self.ends_at = _end(grant)
        self.address = address
        self.user = grant.user
        self.speaks_v1 = speaks_v1
        self.id = uuid.uuid4().hex
        self.opened_at = datetime.now(UTC)
        # The first reason counts: a cut connection is then closed by TCP, and a closed one by the client's answer.
        self.close_code: int | None = None
        self.expiring_sent = False
        self._credit = float(settings.HERMES_CLIENT_BURST)
        self._credited_at = time.monotonic()

    @property
    def record(self) -> ConnectionRecord:
        """What the registry keeps of it."""
        return ConnectionRecord(
            connection_id=self.id,
            stage=self.grant.stage,
            room_id=self.grant.room_id,
            user_id=self.user,
            opened_at=self.opened_at,
        )

    @property
    def fields(self) -> dict[str, str]:
        """What a log line says of it."""
        return {"stage": self.grant.stage, "room_id": self.grant.room_id, "connection_id": self.id}

    @property
    def is_closing(self) -> bool:
        """Whether Hermes has decided to close it; nothing is delivered to it any more."""
        return self.close_code is not None

    def control(self, text: bytes) -> None:
        """Send a control frame, if it speaks hermes.v1."""
        if self.speaks_v1 and not self.is_closing:
            self._write(text)

    def error(self, code: str, message: str, ref: str = "") -> None:
        """Send an `error` frame; the article's clients get these too."""
        if not self.is_closing:
            self._write(protocol.error(code, message, ref))

    def close(self, code: Close, reason: str) -> None:
        """Close it; the first reason counts."""
        if not self.is_closing:
            self.close_code = int(code)
            self.outbound.close(int(code), reason)

    def on_cut(self, code: int) -> None:
        """Remember why its outbound gave up."""
        if not self.is_closing:
            self.close_code = int(code)
            TALLY.slow_cuts += code == Close.SLOW

    def _write(self, text: bytes) -> None:
        self.outbound.write(Batch([text]))
        TALLY.written(0, len(text))

    def may_speak(self, now: float) -> bool:
        """Whether a frame of this client is heard: a bucket of `HERMES_CLIENT_BURST`, filled at `HERMES_CLIENT_RATE`.

        What is not heard is counted all the same: a client that goes on regardless is closed with 4129.

        Args:
            now: monotonic seconds.
        """
        self.charge(1, now)
        return self._credit >= 0

    def charge(self, frames: float, now: float) -> None:
        """Count what a client costs beside the frames that are heard; too much of it closes it with 4129.

        Args:
            frames: as many as it costs.
            now: monotonic seconds.
        """
        filled = self._credit + (now - self._credited_at) * settings.HERMES_CLIENT_RATE
        self._credit, self._credited_at = min(filled, float(settings.HERMES_CLIENT_BURST)) - frames, now
        if self._credit < -OVERDRAFT:
            self.close(Close.RATE, "rate")

    def keep_time(self, now: float) -> None:
        """Tell a client that its token ends soon; close it when it has ended, at `ends_at`.

        Args:
            now: unix seconds.
        """
        remaining = self.grant.expires_at - now
        if now >= self.ends_at:
            self.close(Close.TOKEN, "expired")
        elif remaining <= EXPIRING_SECONDS and not self.expiring_sent:
            self.expiring_sent = True
            self.control(protocol.control("expiring", {"expires_in_s": max(0, int(remaining))}))

    def refresh(self, grant: Grant) -> None:
        """Stay, with a grant that ends later."""
        self.grant = grant
        self.checked_at = grant.checked_at
        self.ends_at = _end(grant)
        self.expiring_sent = False
        expires_in = int(grant.expires_at - time.time())
        self.control(protocol.control("refreshed", {"expires_in_s": expires_in}))

    def goodbye(self, position: Position, slot_seconds: float) -> None:
        """Tell a client that this process goes away, and when to come back.

        Args:
            position: its room's, from which it will resume.
            slot_seconds: clients are spread over this time, so that they do not all come back at once.
        """
        retry_after_ms = int(random.uniform(0, slot_seconds) * 1000)  # noqa: S311  spreading load, not a secret
        self.control(protocol.goodbye(position, retry_after_ms))


def _end(grant: Grant) -> float:
    """Unix seconds at which a connection by this grant is closed."""
    return grant.expires_at + random.uniform(0, END_JITTER)  # noqa: S311  spreading load, not a secret
