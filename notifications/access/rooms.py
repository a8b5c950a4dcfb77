"""Rooms: what SQL says about a room's rules. Asked by sockets.consumer before a browser's message is published.

A room needs no row; without one, the setting decides. While SQL does not answer nobody waits for it but one who asks
whether it is back: a room's rule counts as it was known last, and of a room that is not known nothing is said.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor

from django.conf import settings
from django.db import Error, close_old_connections

from notifications.exceptions import Unavailable
from notifications.models import Room

logger = logging.getLogger(__name__)

CACHE_SECONDS = 5.0
CACHE_ROOMS = 10_000
ANSWER_SECONDS = 3.0
QUIET_SECONDS = 5.0  # after a failure SQL is asked no more, then by one for all
COMPLAIN_SECONDS = 60.0
_threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hermes-rooms")
_cache: dict[str, tuple[float, bool]] = {}
_reading: dict[str, Future[bool | Error]] = {}


class _Sql:
    """Whether SQL answers, as far as is known here; in monotonic seconds."""

    def __init__(self) -> None:
        self.is_away = False
        self.ask_again_at = float("-inf")
        self.complained_at = float("-inf")


_sql = _Sql()


async def may_send(room_id: str) -> bool:
    """Whether browsers of a room may send to it.

    Args:
        room_id: the room's code.

    Returns:
        Its row's `allow_client_send`, at most five seconds old, or as it was when SQL answered last; the setting where
        it has no row or sending is off.

    Raises:
        Unavailable: SQL does not answer, and the room is not known from before.
    """
    if not settings.HERMES_CLIENT_SEND:
        return False
    known, now = _cache.get(room_id), time.monotonic()
    if known is not None and now - known[0] < CACHE_SECONDS:
        return known[1]
    if not _sql.is_away or now >= _sql.ask_again_at:
        _sql.ask_again_at = now + QUIET_SECONDS
        answer = await _ask(room_id)
        if isinstance(answer, bool):
            return answer
        _complain(answer)
    if known is not None:
        return known[1]
    raise Unavailable(f"room {room_id!r}: the database does not answer")


async def _ask(room_id: str) -> bool | str:
    """Return what SQL says of a room, or what is wrong with it; one read, however many ask."""
    reading = _reading.get(room_id)
    if reading is None:
        reading = _reading[room_id] = _threads.submit(_look, room_id)
        reading.add_done_callback(lambda _: _reading.pop(room_id, None))
    await asyncio.wait([asyncio.wrap_future(reading)], timeout=ANSWER_SECONDS)
    answer = reading.result() if reading.done() else TimeoutError()
    if isinstance(answer, bool):
        return answer
    _sql.is_away, _sql.ask_again_at = True, time.monotonic() + QUIET_SECONDS
    return type(answer).__name__


def _look(room_id: str) -> bool | Error:
    """Ask SQL; what comes after everybody has given up is good for the next who asks."""
    begun = time.monotonic()
    try:
        allowed = _read(room_id)
    except Error as error:
        return error
    if len(_cache) >= CACHE_ROOMS:
        _cache.clear()
    _cache[room_id] = (begun, allowed)
    _sql.is_away = False
    return allowed


def _read(room_id: str) -> bool:
    close_old_connections()
    try:
        row = Room.objects.filter(code=room_id).values_list("allow_client_send", flat=True).first()
    finally:
        close_old_connections()
    return True if row is None else row


def _complain(what: str) -> None:
    if time.monotonic() - _sql.complained_at >= COMPLAIN_SECONDS:
        _sql.complained_at = time.monotonic()
        logger.warning(
            "The database does not answer: %s. Browsers may send where they might when it answered last.", what
        )
