"""A history on the run's Valkey, and a way to make messages. Used by stream's tests and sockets'."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hermes_site.engines import Valkey
from notifications.stream.history import History
from notifications.stream.message import Message


@pytest.fixture
async def history(valkey: Valkey) -> AsyncIterator[History]:
    """A history on an empty Valkey."""
    opened = History()
    yield opened
    await opened.aclose()


@pytest.fixture
def message() -> Callable[..., Message]:
    """Makes messages for room acme: ``message(1)`` has the id m1 and the payload 1."""

    def make(number: int, room: str = "acme", **extra: Any) -> Message:
        return Message(**{"id": f"m{number}", "user_id": 42, "room_id": room, "data": str(number)} | extra)

    return make
