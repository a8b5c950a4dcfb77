"""Feed: one room in this process, its ring and its connections. Fed by hub, writes to connections.

No I/O: `take` judges what arrives and says whether the history must be asked; `adopt` judges what the history said.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from django.conf import settings

from notifications.sockets import protocol
from notifications.sockets.backlog import Backlog, who_sees_what
from notifications.sockets.connection import Connection
from notifications.sockets.ring import Ring, new_ring
from notifications.sockets.vitals import CONNECTED, LOST, TALLY
from notifications.stream import trace
from notifications.stream.entry import Entry
from notifications.stream.position import Lost, Position, Resume, resume
from notifications.stream.replies import Page

logger = logging.getLogger(__name__)


class Feed:
    """One room of one stage in this process.

    Args:
        stage, room_id: which.
        head: the history's position when the room was opened here.
    """

    __slots__ = ("_backlog", "_since", "by_user", "connections", "is_whole", "pending", "ring", "room_id", "stage")

    # Whether it stays open while it has no connections.
    is_kept = False

    def __init__(self, stage: str, room_id: str, head: Position) -> None:
        self.stage = stage
        self.room_id = room_id
        self.connections: set[Connection] = set()
        self.by_user: dict[str, set[Connection]] = {}
        self.pending: list[Entry] = []
        self._backlog = Backlog()
        self._since = 0.0  # when the first of those pending came, in monotonic seconds
        self.ring = new_ring(head)
        # Whether the ring reaches back to the oldest entry retained, as far as its size allows.
        self.is_whole = False

    @property
    def head(self) -> Position:
        """What has been handed to every connection here."""
        return self.ring.head

    def add(self, connection: Connection) -> None:
        """Let a connection have what comes from now on."""
        self.connections.add(connection)
        self.by_user.setdefault(connection.user, set()).add(connection)

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        mine = self.by_user.get(connection.user)
        if mine is not None:
            mine.discard(connection)
            if not mine:
                del self.by_user[connection.user]

    def take(self, entries: Iterable[Entry], head_seq: int) -> bool:
        """Take entries from a hint: queue those that follow, drop those known.

        Args:
            entries: in order.
            head_seq: the highest seq that the hint's sender knew of.

        Returns:
            Whether everything fits; if not, the history must be asked, because something is missing or does not chain.
        """
        for entry in entries:
            if entry.epoch != self.head.epoch:
                return False
            if entry.seq == self.head.seq + 1 and entry.prev == self.head.id:
                self._queue(entry)
                TALLY.hinted += 1
            elif entry.seq > self.head.seq or self.contradicts(entry.position):
                return False
        return head_seq <= self.head.seq

    def agrees_with(self, head: Position | None) -> bool:
        """Whether a head that the history or its activity stream named holds nothing new for this feed."""
        if head is None or head.epoch != self.head.epoch:
            return False
        return head.seq <= self.head.seq and not self.contradicts(head)

    def adopt(self, page: Page, asked_at: Position) -> bool:
        """Take what a read of the history after this feed's position has found.

        Args:
            page: what was read after ``asked_at.seq``.
            asked_at: this feed's position when the read began; hints may have moved it on meanwhile.

        Returns:
            Whether the feed is now where the history is; if not, the history is another than the one this feed
            followed: read it whole and call `restart`.
        """
        head = page.head
        if head is None or head.epoch != self.head.epoch or head.seq < asked_at.seq or self.contradicts(head):
            return False
        if page.oldest > self.head.seq + 1:
            self._jump(page)
            return True
        for entry in page.entries:
            if entry.seq <= self.head.seq:
                if self.contradicts(entry.position):
                    return False
            elif entry.seq == self.head.seq + 1 and entry.prev == self.head.id:
                self._find([entry])
            else:
                return False
        return True

    def restart(self, page: Page) -> None:
        """Follow another history than before: tell the connections, then deliver what is still there.

        Args:
            page: the whole history; its head exists.
        """
        head = page.head
        if head is None:
            raise ValueError("restart needs a history that has been opened")
        self.prepare()
        reason = Lost.FORK if head.epoch == self.head.epoch else Lost.EPOCH
        lost_from, lost_to = 1, 0  # nobody knows how many were lost
        entries = page.entries
        if reason is Lost.FORK:
            # What both histories share was delivered; the rest of the new one was not.
            shared = max((e.seq for e in entries if self.ring.id_at(e.seq) == e.id), default=0)
            entries = [entry for entry in entries if entry.seq > shared]
            lost_from, lost_to = (entries[0].seq if entries else head.seq + 1), self.head.seq
        start = Position(head.epoch, entries[0].seq - 1, entries[0].prev) if entries else head
        self.ring = new_ring(start)
        self.is_whole = False
        self.tell("lost", reason, lost_from, lost_to, start)
        self._find(entries)

    def resume(self, position: Position | None, ring: Ring | None = None) -> Resume | None:
        """Decide how a client goes on, if the ring can.

        Args:
            ring: a longer one than this feed's, here and in `replay`.

        Returns:
            How; ``None`` when the history must be asked first (`needs_history` says so, too).
        """
        if self.needs_history(position):
            return None
        ring = ring or self.ring
        how = resume(position, self.head, ring.before.seq + 1, ring.id_at)
        if how.lost is Lost.TRIMMED and ring.is_cut:
            how = Resume(after=how.after, lost=Lost.TOO_FAR)
        return how

    def needs_history(self, position: Position | None) -> bool:
        """Whether a client's position lies outside the ring, and the ring could be made longer."""
        if position is None:
            return False
        self.ring.forget_old(time.time())
        known = position.epoch == self.head.epoch and self.ring.before.seq <= position.seq <= self.head.seq
        return not known and not self.is_whole

    def extend_back(self, page: Page) -> bool:
        """Make the ring reach as far back as a read of the whole history does.

        Returns:
            Whether the two chain; if not, the history has forked.
        """
        if page.head is None or page.head.epoch != self.head.epoch:
            return False
        self.is_whole = self.ring.extend_back(page.entries)
        return self.is_whole

    def replay(self, how: Resume, user: str, ring: Ring | None = None) -> tuple[Resume, Position, list[bytes]]:
        """Collect what a client gets at once, within the replay's limits.

        Args:
            how: from `resume`.
            user: the member.

        Returns:
            How it goes on after all (`too_far` when the limits cut it), the position before the first entry, and
            the entries' texts.
        """
        if how.fresh:
            return how, self.head, []
        ring, now, size = ring or self.ring, time.time(), 0
        chosen: list[bytes] = []
        visible = [entry for entry in ring.after(how.after) if entry.visible_to(user, now)]
        for entry in reversed(visible):
            size += len(entry.frame)
            if len(chosen) >= settings.HERMES_REPLAY_ENTRIES or size > settings.HERMES_REPLAY_BYTES:
                how = Resume(after=entry.seq, lost=how.lost or Lost.TOO_FAR)
                break
            chosen.append(entry.frame)
        start = Position(self.head.epoch, how.after, ring.id_at(how.after) or "")
        return how, start, chosen[::-1]

    def recent(self, user: str, limit: int) -> list[bytes]:
        """Return the texts of the last entries that a member may see, oldest first."""
        now = time.time()
        return [e.frame for e in self.ring.after(self.ring.before.seq) if e.visible_to(user, now)][-limit:]

    @property
    def is_busy(self) -> bool:
        """Whether something is to be written."""
        return bool(self.pending or self._backlog)

    def flush(self) -> None:
        """Write all that is to be written, now."""
        while self.is_busy:
            self.write(len(self.connections) + 1)

    def write(self, most: int) -> int:
        """Write what is to be written to some connections, so that other rooms have their turn.

        What comes while a large room is being written to waits, and goes out together.

        Args:
            most: writes, as `outbound.Batch.cost` counts them.

        Returns:
            How many it was; those of the last connection may be more than were left.
        """
        count = 0
        while count < most:
            if not self._backlog:
                self.prepare()
                if not self._backlog:
                    break
            count += self._backlog.write(most - count)
        return count

    def prepare(self) -> None:
        """Line up the entries that have come, for those who are here now."""
        entries, self.pending = self.pending, []
        self.deliver(entries)

    def deliver(self, entries: list[Entry]) -> None:
        """Line up entries: once per connection, the same bytes for all that see the same."""
        if not entries or not self.connections:
            return
        now = time.time()
        entries = [entry for entry in entries if entry.expires_at is None or now < entry.expires_at]
        for connections, seen in who_sees_what(entries, self.connections, self.by_user):
            self._backlog.add_entries(connections, seen, self._since)
        for entry in entries:
            trace.log(logger, "delivered", self.stage, self.room_id, entry, connections=len(self.connections))

    def line_up(self, connections: Iterable[Connection], texts: Sequence[bytes]) -> None:
        """Have texts written to connections, behind what is lined up already."""
        self._backlog.add(connections, texts)

    def ping(self, connections: Sequence[Connection]) -> None:
        """Tell connections the position of the room, behind the entries that it counts."""
        self.prepare()
        self._backlog.tell(connections, protocol.ping(self.head))

    def _queue(self, entry: Entry) -> None:
        if not self.pending:
            self._since = time.monotonic()
        self.ring.append(entry)
        self.pending.append(entry)

    def _find(self, entries: Sequence[Entry]) -> None:
        TALLY.found += len(entries)
        for entry in entries:
            self._queue(entry)

    def contradicts(self, position: Position) -> bool:
        """Whether this feed knows another id at a position's seq."""
        known = self.ring.id_at(position.seq)
        return known is not None and known != position.id

    def _jump(self, page: Page) -> None:
        """Go on after a hole: entries were trimmed from the history before this feed had read them."""
        self.prepare()
        start = Position(
            self.head.epoch,
            page.oldest - 1,
            page.entries[0].prev if page.entries else page.head.id if page.head else "",
        )
        TALLY.gaps += 1
        self.tell("gap", Lost.TRIMMED, self.head.seq + 1, page.oldest - 1, start)
        self.ring = new_ring(start)
        self.is_whole = False
        self._find(page.entries)

    def tell(self, kind: str, reason: Lost, first: int, last: int, position: Position) -> None:
        """Tell every connection that entries could not be delivered, before the next one is.

        Args:
            kind, reason, first, last, position: as `protocol.missing` takes them.
        """
        told = [connection for connection in self.connections if connection.speaks_v1]
        if kind == "lost":
            LOST.labels(reason.value, CONNECTED).inc(len(told))
        self.line_up(told, [protocol.missing(kind, reason, first, last, position)])
