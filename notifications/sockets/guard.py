"""Guard: closes connections whose authority has ended. Owned by hub; obeys access.commands, asks access.authorizer.

Commands come as entries of each stage's control room, followed like any room: filled when a hint is lost. What Hermes
was not told of (a row that somebody else deleted) is found by looking at the rows of everybody who is connected.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from django.conf import settings

from notifications.access import commands
from notifications.access.authorizer import Authorizer, Grant, judge_row
from notifications.access.commands import Disconnect, Revoke, SignOut
from notifications.access.standing import ROW_SECONDS
from notifications.exceptions import TokenRefused, Unavailable
from notifications.sockets.connection import Connection
from notifications.sockets.feed import Feed
from notifications.sockets.protocol import Close
from notifications.stream.entry import Entry
from notifications.stream.keys import CONTROL_ROOM
from notifications.stream.position import Lost, Position
from notifications.stream.replies import Page

if TYPE_CHECKING:
    from notifications.access.token_store import Row

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 5.0  # with the 45 s for which a row counts, a deleted one takes effect within 60 s
# Longer than a row counts and a join can take from reading it to being registered.
REMEMBER_SECONDS = 120.0


class ControlFeed(Feed):
    """A stage's control room: its entries go to the guard instead of to connections."""

    __slots__ = ("_guard", "_is_new")

    is_kept = True

    def __init__(self, stage: str, head: Position, guard: Guard) -> None:
        super().__init__(stage, CONTROL_ROOM, head)
        self._guard = guard
        self._is_new = True

    def extend_back(self, page: Page) -> bool:
        """Learn the commands of before: rows that others have read since then can be trusted."""
        is_whole = super().extend_back(page)
        if is_whole and self._is_new:
            self._is_new = False
            is_all = not self.ring.is_cut and page.reaches_back(REMEMBER_SECONDS)
            self._guard.learn(self.stage, page.entries, is_all=is_all)
        return is_whole

    def deliver(self, entries: list[Entry]) -> None:
        """Obey each command."""
        for entry in entries:
            self._guard.obey(self.stage, entry)

    def tell(self, kind: str, reason: Lost, first: int, last: int, position: Position) -> None:
        """Commands may be lost."""
        self._is_new = False
        self._guard.begin(self.stage)


class Guard:
    """Closes connections of one process.

    Args:
        connections: returns the process's connections.
        of_member: returns those of a stage, a room and a user: a room that is deleted is a command for each member.
        authorizer: whose rows are read again.
    """

    def __init__(
        self,
        connections: Callable[[], Iterable[Connection]],
        of_member: Callable[[str, str, str], Iterable[Connection]],
        authorizer: Authorizer,
    ) -> None:
        self._connections = connections
        self._of_member = of_member
        self._authorizer = authorizer
        self._revoked: dict[tuple[str, str, str], tuple[float, int]] = {}
        self._signed_out: dict[tuple[str, str], float] = {}
        self._sweep_at = time.monotonic() + SWEEP_SECONDS
        self._is_blind = False
        self._obeying_since: dict[str, float] = {}

    def make_feed(self, stage: str, room_id: str, head: Position) -> Feed:
        """Make a room's feed, or the control room's."""
        if room_id != CONTROL_ROOM:
            return Feed(stage, room_id, head)
        self.begin(stage)
        return ControlFeed(stage, head, self)

    def begin(self, stage: str) -> None:
        """Nothing is known of earlier commands: trust no row that was read before now."""
        self._obeying_since[stage] = time.monotonic()
        self._authorizer.forget_all()
        self.sweep_soon()

    def learn(self, stage: str, entries: Iterable[Entry], *, is_all: bool) -> None:
        """Obey the commands of before this process followed them.

        Args:
            entries: those that the control room retains.
            is_all: whether it retains all of the last minutes, so that rows read since then can be trusted.
        """
        begun = self._obeying_since.get(stage)
        for entry in entries:
            self.obey(stage, entry)
        is_understood = self._obeying_since.get(stage) == begun
        if is_all and is_understood and settings.HERMES_HISTORY_SECONDS >= REMEMBER_SECONDS:
            self._obeying_since[stage] = time.monotonic() - REMEMBER_SECONDS
            self._authorizer.trust_since(max(self._obeying_since.values()))

    def obey(self, stage: str, entry: Entry) -> None:
        """Obey one command."""
        try:
            command = commands.decode(json.loads(entry.frame)["data"])
        except ValueError:
            logger.warning("A command was not understood: is another release running beside this one?")
            self.begin(stage)
            return
        match command:
            case Revoke(user_id, room_id, not_before):
                self._authorizer.forget(stage, user_id, room_id)
                self._revoked[(stage, user_id, room_id)] = (time.monotonic(), not_before)
                for connection in self._of_member(stage, room_id, user_id):
                    self.check_joined(connection)
                    if not connection.is_closing:  # who was removed has no row, whatever the token's clock says
                        connection.checked_at = float("-inf")
                        self.sweep_soon()
            case SignOut(session):
                self._signed_out[(stage, session)] = time.monotonic()
                for connection in self._connections():
                    if connection.grant.session == session and connection.grant.stage == stage:
                        self.check_joined(connection)
            case Disconnect(connection_id):
                for connection in self._connections():
                    if connection.id == connection_id and connection.grant.stage == stage:
                        connection.close(Close.DISCONNECTED, "disconnected")

    def is_trusted(self, connection: Connection) -> bool:
        """Whether all commands are known since the row was read by which a connection was granted its place."""
        return connection.checked_at >= self._obeying_since.get(connection.grant.stage, 0.0)

    async def look_again(self, connection: Connection) -> None:
        """Judge one who joins by a newer row, where a revocation since its own may be unknown; before it is greeted.

        Raises:
            Unavailable: its row cannot be read now.
        """
        while not self.is_trusted(connection) and not connection.is_closing:
            grant = connection.grant
            stage = settings.HERMES_STAGES[grant.stage]
            read_at, row = await self._authorizer.read_once(stage, grant.user, grant.room_id)
            self._judge_one(connection, row, read_at)

    def check_joined(self, connection: Connection, grant: Grant | None = None) -> None:
        """Close a connection whose authority was taken back after it was granted; called before it is greeted.

        Args:
            grant: one that it is to have from now on, before it is told so; by default its own.
        """
        checked_at = connection.checked_at if grant is None else grant.checked_at
        grant = grant or connection.grant
        if grant.session and (grant.stage, grant.session) in self._signed_out:
            connection.close(Close.REVOKED, "signed out")
            return
        revoked = self._revoked.get((grant.stage, connection.user, grant.room_id))
        if revoked is not None and (grant.issued_at is None or grant.issued_at <= revoked[1]):
            connection.close(Close.REVOKED, "revoked")
        elif checked_at < self._obeying_since.get(grant.stage, 0.0):
            self.sweep_soon()

    def sweep_soon(self) -> None:
        """Look at the rows at the next opportunity."""
        self._sweep_at = 0.0

    async def sweep(self) -> None:
        """If it is time, read the rows that were read too long ago and close who has none any more."""
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_SECONDS
        self._revoked = {key: value for key, value in self._revoked.items() if now - value[0] < REMEMBER_SECONDS}
        self._signed_out = {key: at for key, at in self._signed_out.items() if now - at < REMEMBER_SECONDS}
        for name, stage in settings.HERMES_STAGES.items():
            asked_at = time.monotonic()
            trusted = max(asked_at - ROW_SECONDS, self._obeying_since.get(name, 0.0))
            members = {
                (c.user, c.grant.room_id)
                for c in self._connections()
                if c.checked_at < trusted and c.grant.stage == name
            }
            if not members:
                continue
            try:
                rows = await self._authorizer.reread(stage, members)
                self._is_blind = False
            except Unavailable as error:
                # Who is connected stays: an outage must not close anybody, and tokens end by themselves.
                if not self._is_blind:
                    logger.warning("Deleted rows are not noticed now: %s", error)
                self._is_blind = True
                continue
            self._judge(name, rows, asked_at)

    def _judge(self, stage: str, rows: dict[tuple[str, str], Row], asked_at: float) -> None:
        for connection in self._connections():
            row = rows.get((connection.user, connection.grant.room_id))
            # Who joined meanwhile was let in by a newer row than these.
            if row is None or connection.grant.stage != stage or connection.checked_at > asked_at:
                continue
            self._judge_one(connection, row, asked_at)

    @staticmethod
    def _judge_one(connection: Connection, row: Row, read_at: float) -> None:
        connection.checked_at = read_at
        try:
            judge_row(row, connection.grant.issued_at)
        except TokenRefused as refusal:
            connection.close(Close(refusal.close_code), refusal.reason)
