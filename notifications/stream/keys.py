"""Keys: what a room's history is called in Redis and in the channel layer. Used by history, publish and the hub.

Pure. Every key carries the hash tag `{stage:partition}`, so that one script touches one slot and a Redis Cluster, or
several Redis servers, can come later. docs/how-it-works.md has the table of keys with their lifetimes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

PARTITIONS = 64
# Revocations and disconnects travel as entries of this room of each stage; no message can name it, because ids with
# control characters are refused.
CONTROL_ROOM = "\x00control"


def partition(room_id: str) -> int:
    """Return the room's partition, 0 to 63; the same in every process and release."""
    return zlib.crc32(room_id.encode()) % PARTITIONS


def tag(stage: str, room_id: str) -> str:
    """Return the prefix that puts all keys of a room into one slot; a stage's name holds no brace."""
    return f"hermes:{{{stage}:{partition(room_id)}}}"


def head_key(stage: str, room_id: str) -> str:
    """A hash: epoch, seq and id of the last entry."""
    return of_append(stage, room_id, "")[0]


def log_key(stage: str, room_id: str) -> str:
    """A stream: the entries, with ids `<seq>-0`."""
    return of_append(stage, room_id, "")[1]


def once_key(stage: str, room_id: str, message_id: str) -> str:
    """A string `<epoch>:<seq>`: the place of this message id. The length keeps ("a", "b:c") from ("a:b", "c")."""
    return of_append(stage, room_id, message_id)[2]


def of_append(stage: str, room_id: str, message_id: str) -> tuple[str, str, str, str]:
    """Return the head, log, once and activity keys of one append."""
    room = tag(stage, room_id)
    return (
        f"{room}:head:{room_id}",
        f"{room}:log:{room_id}",
        f"{room}:once:{len(room_id)}:{room_id}:{message_id}",
        f"{room}:activity",
    )


def activity_key(stage: str, partition_: int) -> str:
    """A capped stream: which rooms of a partition got entries lately."""
    return f"hermes:{{{stage}:{partition_}}}:activity"


def partitions(rooms: Iterable[str]) -> set[int]:
    """Return the partitions that these rooms live in."""
    return {partition(room_id) for room_id in rooms}


def group_name(stage: str, room_id: str) -> str:
    """Return the channel-layer group of a room: ASCII, under 100 characters, and different for different rooms.

    Channels allows only letters, digits, '-', '_' and '.', so the room is hashed; SHA-256 does not collide.
    """
    return f"{stage}.{hashlib.sha256(room_id.encode()).hexdigest()}"


def pace_key(stage: str) -> str:
    """A capped stream with ids `<minute>-1`: how many entries the stage's activity streams had been given by then."""
    return f"hermes:{{{stage}:pace}}:minutes"


def relays_key(stage: str) -> str:
    """A set: the ids of the stage's relays."""
    return f"hermes:{{{stage}:relays}}:ids"


def relay_key(stage: str, relay_id: str) -> str:
    """A string, JSON: what a relay said of itself last; it expires when the relay falls silent."""
    return f"hermes:{{{stage}:relays}}:beat:{relay_id}"


def queue_empty_key(stage: str) -> str:
    """A string whose age says how long ago a relay last saw the stage's queue empty."""
    return f"hermes:{{{stage}:relays}}:empty"


def figure_key(stage: str, figure: str) -> str:
    """A stream with ids `<minute>-<n>`: what a figure of the stage's queue was, each time that it was larger."""
    return f"hermes:{{{stage}:relays}}:minutes:{figure}"
