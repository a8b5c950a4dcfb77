"""A member's connection without a network, and a history on a real Valkey. What they are made of is in scene.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.stream.conftest import history, message

__all__ = ["connect", "history", "message"]


@pytest.fixture
def connect() -> Callable[..., Any]:
    """Makes connections: ``connect("alice")``; see `scene.make_connection`."""
    from tests.sockets.scene import make_connection  # it needs Django's models, and a conftest comes before them

    return make_connection


@pytest.fixture
async def serving(valkey: Any, aws: Any, transactional_db: None) -> AsyncIterator[Any]:
    """A server of `manage.py serve`'s kind in this loop; see `scene.Serving`."""
    from tests.sockets.scene import Serving

    serving = Serving()
    await serving.start()
    yield serving
    await serving.stop()


@pytest.fixture
async def room(serving: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A room with nobody in it, in which no ping disturbs a count; see `pages.Room`."""
    from tests.sockets.pages import Room

    monkeypatch.setattr((await serving.hubs.running()).wheel, "_ping", lambda connections: None)
    room = Room(serving)
    yield room
    for page in room.pages:
        page.transport.abort()
