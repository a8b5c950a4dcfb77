"""Glance: a room's last entries without their payloads, for people. Called by the admin's pages of rooms; reads Redis.

Synchronous, because the admin's pages are, and short.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import redis

from notifications.exceptions import HistoryUnavailable
from notifications.stream import keys
from notifications.stream.entry import Entry
from notifications.stream.pace import shared_client
from notifications.stream.position import Position
from notifications.stream.replies import to_entry, to_position


@dataclass(frozen=True, slots=True)
class Glanced:
    """What is told of an entry.

    Args:
        seq, id: its place.
        sender: its ``user_id``, as text.
        kind: its ``data.type``; empty where it has none.
        size: bytes of its frame.
        addressees: to how many members it is addressed; ``None`` for the whole room.
        at: when it was appended, by Redis's clock.
    """

    seq: int
    id: str
    sender: str
    kind: str
    size: int
    addressees: int | None
    at: datetime


def last_entries(stage: str, room_id: str, limit: int) -> tuple[Position | None, list[Glanced]]:
    """Read the head of a room's history and its last entries, the newest first.

    Args:
        stage, room_id: which.
        limit: how many entries at most.

    Returns:
        The head, ``None`` where the room has no history; and the entries.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    try:
        pipeline = shared_client().pipeline(transaction=True)
        pipeline.execute_command("HMGET", keys.head_key(stage, room_id), "epoch", "seq", "id")
        pipeline.execute_command("XREVRANGE", keys.log_key(stage, room_id), "+", "-", "COUNT", limit)
        reply, items = pipeline.execute()
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"room {room_id!r}: Redis does not answer: {type(error).__name__}") from error
    head = to_position(reply)
    return head, [] if head is None else [_glance(to_entry(head.epoch, item)) for item in items]


def _glance(entry: Entry) -> Glanced:
    frame = json.loads(entry.frame)
    data = frame.get("data")
    kind = data.get("type") if isinstance(data, dict) else None
    return Glanced(
        seq=entry.seq,
        id=entry.id,
        sender=str(frame.get("user_id", "")),
        kind=kind if isinstance(kind, str) else "",
        size=len(entry.frame),
        addressees=None if entry.to is None else len(entry.to),
        at=datetime.fromtimestamp(entry.at / 1000, UTC),
    )
