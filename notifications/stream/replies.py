"""Replies: what Redis answers, as values. Used by history and rendering.

Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from notifications.stream.entry import Entry, frame
from notifications.stream.position import Position


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one message.

    Args:
        entry: its entry; ``None`` when the id already had a place.
        seq: its place.
    """

    seq: int
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Page:
    """What a read of a room found.

    Args:
        head: the room's last position; ``None`` when it has no history.
        entries: those asked for that are still there, in order.
        oldest: seq of the oldest entry retained; ``head.seq + 1`` when none is.
        read_at: unix milliseconds, by the clock that stamps entries; 0 where there is no history.
    """

    head: Position | None
    entries: list[Entry]
    oldest: int
    read_at: int = 0

    def reaches_back(self, seconds: float) -> bool:
        """Whether a page of all that is retained holds all that was appended in the last seconds.

        Age takes what is older than the retention, the limit of entries whatever is oldest: what stands first must be
        older than what was asked for, or the very first. Nothing at all is left by age alone.
        """
        return self.oldest <= 1 or not self.entries or self.entries[0].at < self.read_at - seconds * 1000


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened in one partition since a cursor.

    Args:
        cursor: where to follow on from; ``b""`` when the stream is empty.
        heads: the last seen position of each room that got entries.
        overrun: entries between the old cursor and the first one seen may be missing: compare heads.
    """

    cursor: bytes
    heads: dict[str, Position]
    overrun: bool


def to_position(reply: Any) -> Position | None:
    """Read a head's fields as Redis gives them: epoch, seq and id, ``None`` where there is no history."""
    epoch, seq, last_id = reply
    if epoch is None or seq is None:
        return None
    return Position(epoch.decode(), int(seq), (last_id or b"").decode())


def seq_of(item: tuple[bytes, Any]) -> int:
    """Return the seq of a stream item, whose id is `<seq>-0`."""
    return int(item[0].split(b"-")[0])


def to_activity(item: tuple[bytes, list[bytes]]) -> tuple[str, Position]:
    """Read one item of an activity stream, its fields as they came: a room, and its position."""
    _, room, _, epoch, _, seq, _, last_id = item[1]  # in the order in which append.lua names them
    return room.decode(), Position(epoch.decode(), int(seq), last_id.decode())


def to_entry(epoch: str, item: tuple[bytes, dict[bytes, bytes]]) -> Entry:
    """Read one item of a room's log."""
    fields, seq = item[1], seq_of(item)
    to, expires = fields[b"to"], fields[b"expires"]
    return Entry(
        epoch,
        seq,
        fields[b"id"].decode(),
        fields[b"prev"].decode(),
        frame(fields[b"frame"], epoch, seq),
        frozenset(json.loads(to)) if to else None,
        int(expires) if expires else None,
        int(fields[b"at"]),
        int(fields.get(b"sent") or 0),  # entries of earlier releases have neither
        fields.get(b"trace", b"").decode(),
    )
