"""Entry: a message with its place in a room's history, and its wire form. Made by history and publish, read by the hub.

Pure. The JSON text of a frame is made once, when the message is published; history and hint carry that text, and the
hub only frames it for WebSocket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from notifications.stream.message import Message
from notifications.stream.position import Position

HINT = "hermes.hint"  # the type of our channel-layer messages
_ENCODER = json.JSONEncoder(ensure_ascii=False)


class Entry(NamedTuple):
    """One entry of a room's history; a tuple, because one is made for each message and process.

    Args:
        epoch, seq, id: its place; ``prev`` is the id of the entry before it (empty for the first), which chains them.
        frame: the whole WebSocket text, UTF-8 JSON.
        to: the members who may see it; ``None`` means the whole room.
        expires_at: unix seconds after which nobody gets it.
        at: unix milliseconds, by Redis's clock, at which it was appended.
        sent_at, trace: the message's; no browser sees them.
    """

    epoch: str
    seq: int
    id: str
    prev: str
    frame: bytes
    to: frozenset[str] | None = None
    expires_at: int | None = None
    at: int = 0
    sent_at: int = 0
    trace: str = ""

    @property
    def position(self) -> Position:
        """The position of somebody who has handled this entry."""
        return Position(self.epoch, self.seq, self.id)

    def visible_to(self, user_id: str, now: float) -> bool:
        """Whether a member may still be given it.

        Args:
            user_id: the member.
            now: unix seconds.
        """
        return (self.to is None or user_id in self.to) and (self.expires_at is None or now < self.expires_at)


def frame_head(message: Message) -> bytes:
    """Encode what is known before the entry has its place; `frame` closes it.

    Returns:
        UTF-8 JSON without its end: ``{"user_id":42,"data":…,"room_id":"acme","id":"…"``.
    """

    text = _ENCODER.encode
    return (
        f'{{"user_id":{text(message.user_id)},"data":{message.data},'
        f'"room_id":{text(message.room_id)},"id":{text(message.id)}'
    ).encode()


def frame(head: bytes, epoch: str, seq: int) -> bytes:
    """Close a frame with its place; an epoch is hexadecimal and needs no escape."""
    return b'%b,"epoch":"%b","seq":%d}' % (head, epoch.encode(), seq)


def to_hint(stage: str, room_id: str, entries: Sequence[Entry], head_seq: int) -> dict[str, Any]:
    """Make the channel-layer message that wakes the hubs.

    Args:
        entries: those just appended, in order; may be empty, when only ``head_seq`` is worth saying.
        head_seq: the highest seq that the sender knows of.

    Returns:
        A value that msgpack can carry, for `from_hint`.
    """
    return {
        "type": HINT,
        "stage": stage,
        "room": room_id,
        "seq": head_seq,
        "entries": [
            (e.epoch, e.seq, e.id, e.prev, e.frame, None if e.to is None else sorted(e.to), e.expires_at, e.at)
            for e in entries
        ],
        # Beside the entries and not in them: hubs of earlier releases read entries of eight fields.
        "origins": [(e.sent_at, e.trace) for e in entries],
    }


def from_hint(hint: Mapping[str, Any]) -> list[Entry]:
    """Read the entries of a hint; the inverse of `to_hint`."""
    entries = hint["entries"]
    return [
        Entry(epoch, seq, id_, prev, frame_, None if to is None else frozenset(to), expires_at, at, *origin)
        for (epoch, seq, id_, prev, frame_, to, expires_at, at), origin in zip(
            entries, hint.get("origins") or [()] * len(entries), strict=True
        )
    ]
