"""Whether a room's browsers may send: its row, the setting, and what a database that does not answer changes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from notifications.access import rooms
from notifications.exceptions import Unavailable
from notifications.models import Room

pytestmark = pytest.mark.django_db(transaction=True)  # it reads in a thread of its own


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Begin and end with nothing remembered."""
    rooms._cache.clear()
    yield
    rooms._cache.clear()


async def make_room(code: str, allowed: bool) -> None:
    """Make a room, or change its rule."""
    await sync_to_async(Room.objects.update_or_create)(code=code, defaults={"allow_client_send": allowed})


async def test_a_room_without_a_row_may_send() -> None:
    assert await rooms.may_send("nobody made it")


async def test_a_rooms_row_decides() -> None:
    await make_room("acme", True)
    await make_room("globex", False)
    assert await rooms.may_send("acme")
    assert not await rooms.may_send("globex")


async def test_the_setting_forbids_it_everywhere(settings: Any) -> None:
    await make_room("acme", True)
    settings.HERMES_CLIENT_SEND = False
    assert not await rooms.may_send("acme")


async def test_a_rule_is_remembered_for_five_seconds() -> None:
    await make_room("acme", True)
    assert await rooms.may_send("acme")
    await make_room("acme", False)
    assert await rooms.may_send("acme")
    read_at, allowed = rooms._cache["acme"]
    rooms._cache["acme"] = (read_at - rooms.CACHE_SECONDS, allowed)
    assert not await rooms.may_send("acme")


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "CACHE_ROOMS", 2)
    for code in ("a", "b", "c"):
        await rooms.may_send(code)
    assert list(rooms._cache) == ["c"]


def fail(_: str) -> bool:
    """Do as a database that has gone away."""
    raise DatabaseError("gone")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], bool]]:
    """A read that does not come back while the test lasts."""
    go = threading.Event()
    monkeypatch.setattr(rooms, "ANSWER_SECONDS", 0.05)

    def wait(_: str) -> bool:
        go.wait(10)
        return True

    yield wait
    go.set()


async def test_a_database_that_fails_is_unavailable_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(rooms, "_read", fail)
        with pytest.raises(Unavailable, match="DatabaseError"):
            await rooms.may_send("acme")
    assert await rooms.may_send("acme")


async def test_a_database_that_hangs_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, stuck: Callable[[str], bool]
) -> None:
    monkeypatch.setattr(rooms, "_read", stuck)
    with pytest.raises(Unavailable, match="TimeoutError"):
        await asyncio.wait_for(rooms.may_send("acme"), 5)
