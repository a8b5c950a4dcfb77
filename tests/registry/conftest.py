"""The scene of the registry's tests: connections of Alice and Bob in acme, and of Charlie in globex."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from notifications.registry.records import ConnectionRecord

Join = Callable[..., ConnectionRecord]


@pytest.fixture
def join() -> Join:
    """Return a function that makes the record of a member's new connection."""
    numbers = itertools.count(1)

    def make(user: str = "alice", room: str = "acme", stage: str = "development") -> ConnectionRecord:
        return ConnectionRecord(f"{user}-{next(numbers)}", stage, room, user, datetime.now(UTC))

    return make
