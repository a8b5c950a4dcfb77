"""Witness: one client as the checker knows it. Kept by checker; pure."""

from __future__ import annotations

from dataclasses import dataclass, field

Place = tuple[str, int, str]  # epoch, seq, id


@dataclass
class Member:
    """One client as the checker knows it.

    Args:
        key: stage and room.
        user: who.
        server: the one it last asked to join.
    """

    key: tuple[str, str]
    user: str
    position: Place | None = None
    # Unix seconds at which it last asked to join. When an entry was written to it nobody outside can tell, because
    # links and readers are slow at times; but not before that.
    joined_at: float = 0.0
    server: str = ""
    shown: set[str] = field(default_factory=set)
