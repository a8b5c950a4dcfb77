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
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)  # it reads in a thread of its own


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin and end with nothing remembered."""
    rooms._cache.clear()
    monkeypatch.setattr(rooms, "_sql", rooms._Sql())
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


async def test_a_database_that_fails_is_unavailable_and_asked_again_a_little_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(rooms, "_read", lambda room_id: asked.append(room_id) or fail(room_id))
        for _ in range(5):
            with pytest.raises(Unavailable, match="does not answer"):
                await rooms.may_send("acme")
        assert asked == ["acme"]
        rooms._sql.ask_again_at = 0.0
        with pytest.raises(Unavailable):
            await rooms.may_send("globex")
        assert asked == ["acme", "globex"]
    assert caplog.text.count("DatabaseError") == 1, "once a minute"
    rooms._sql.ask_again_at = 0.0
    assert await rooms.may_send("acme")
    assert await rooms.may_send("globex"), "and now all are asked for again"


async def test_while_the_database_is_away_a_rule_counts_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    await make_room("quiet", False)
    assert await rooms.may_send("acme")
    assert not await rooms.may_send("quiet")
    for room_id, (read_at, allowed) in rooms._cache.items():
        rooms._cache[room_id] = (read_at - 3600, allowed)
    monkeypatch.setattr(rooms, "_read", fail)
    assert [await rooms.may_send("acme"), await rooms.may_send("quiet")] == [True, False]
    with pytest.raises(Unavailable):
        await rooms.may_send("unknown")


async def test_who_asks_for_a_room_meanwhile_shares_the_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    go = threading.Event()
    monkeypatch.setattr(rooms, "_read", lambda room_id: asked.append(room_id) or go.wait(10))
    askers = [asyncio.create_task(rooms.may_send("acme")) for _ in range(20)]
    await eventually(lambda: asked)
    askers[0].cancel()
    go.set()
    assert await asyncio.gather(*askers[1:]) == [True] * 19
    assert asked == ["acme"]


async def test_a_database_that_hangs_keeps_one_waiting_and_no_more(
    monkeypatch: pytest.MonkeyPatch, stuck: Callable[[str], bool]
) -> None:
    monkeypatch.setattr(rooms, "_read", stuck)
    with pytest.raises(Unavailable):
        await rooms.may_send("acme")
    monkeypatch.setattr(rooms, "ANSWER_SECONDS", 5.0)
    rooms._sql.ask_again_at = 0.0
    one = asyncio.create_task(rooms.may_send("acme"))
    await asyncio.sleep(0)
    for room_id in ("acme", "globex"):
        with pytest.raises(Unavailable):
            await asyncio.wait_for(rooms.may_send(room_id), 1)
    assert not one.done()
    one.cancel()


async def test_a_database_that_hangs_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, stuck: Callable[[str], bool]
) -> None:
    monkeypatch.setattr(rooms, "_read", stuck)
    with pytest.raises(Unavailable, match="does not answer"):
        await asyncio.wait_for(rooms.may_send("acme"), 5)
