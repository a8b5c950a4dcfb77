"""Position: where a client, a hub or a history stands, and how a client that comes back goes on. Used by both.

Pure. A position is `(epoch, seq, id)`: the epoch names one life of a room's history, seq counts its entries from 1,
and id is the last entry's, so that two histories that counted the same way but differ (a fork) are told apart.
A recovery is whole or is called lost; there is nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MAX_SEQ = 2**53 - 1  # the largest whole number that JavaScript and Lua count exactly


class Position(NamedTuple):
    """A place in one life of a room's history; a tuple, because two are made for each message and process.

    Args:
        epoch: names the history's life.
        seq: of the last entry that was handled; 0 before the first.
        id: that entry's id; empty when seq is 0.
    """

    epoch: str
    seq: int
    id: str


class Lost(StrEnum):
    """Why entries could not be recovered, as the wire says it."""

    EPOCH = "epoch"
    TRIMMED = "trimmed"
    FORK = "fork"
    TOO_FAR = "too_far"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Resume:
    """How a client goes on.

    Args:
        after: delivery goes on with the entry after this seq.
        lost: why something is missing; ``None`` when nothing is.
        fresh: the client had no position and gets only what comes from now on.
    """

    after: int
    lost: Lost | None = None
    fresh: bool = False

    @property
    def status(self) -> str:
        """`fresh`, `recovered` or `lost`, as `hello` says it."""
        return "lost" if self.lost else "fresh" if self.fresh else "recovered"


def parse_position(epoch: str | None, seq: str | None, last_id: str | None) -> Position | None:
    """Read a position from a query string.

    Args:
        epoch, seq, last_id: the parameters `epoch`, `seq` and `id`, or ``None`` where absent.

    Returns:
        The position; ``None`` if none of the three was given.

    Raises:
        ValueError: it is malformed; the client is then told `lost(epoch)`.
    """
    if epoch is None and seq is None and last_id is None:
        return None
    if not epoch or not seq or not seq.isascii() or not seq.isdigit() or len(seq) > 16:
        raise ValueError("a position needs epoch and seq")
    number = int(seq)
    if number > MAX_SEQ or (number == 0) != (not last_id):
        raise ValueError("a position's id is empty exactly when its seq is 0")
    return Position(epoch, number, last_id or "")


def resume(client: Position | None, head: Position, oldest: int, id_at: Callable[[int], str | None]) -> Resume:
    """Decide how a client goes on from its position.

    After a lost epoch or a fork nothing tells which of the retained entries the client has seen, so all of them are
    delivered and the client drops the ids it knows.

    Args:
        client: its position, or ``None``.
        head: the history's last position.
        oldest: the seq of the oldest entry retained; ``head.seq + 1`` when none is.
        id_at: the id of the entry with a seq from ``oldest - 1`` to ``head.seq``; ``None`` where unknown. The id at
            ``oldest - 1`` is known from the chain: every entry names its predecessor's id.

    Returns:
        What to tell the client, and from where to deliver.
    """
    if client is None:
        return Resume(after=head.seq, fresh=True)
    if client.epoch != head.epoch:
        return Resume(after=oldest - 1, lost=Lost.EPOCH)
    if client.seq > head.seq:
        return Resume(after=oldest - 1, lost=Lost.FORK)
    if client.seq < oldest - 1:
        return Resume(after=oldest - 1, lost=Lost.TRIMMED)
    if id_at(client.seq) != client.id:
        return Resume(after=oldest - 1, lost=Lost.FORK)
    return Resume(after=client.seq)
