"""Rooms: what SQL says about a room's rules. Asked by sockets.consumer before a browser's message is published.

A room needs no row; without one, the setting decides.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from django.conf import settings
from django.db import Error, close_old_connections

from notifications.exceptions import Unavailable
from notifications.models import Room

CACHE_SECONDS = 5.0
CACHE_ROOMS = 10_000
ANSWER_SECONDS = 3.0
_threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hermes-rooms")
_cache: dict[str, tuple[float, bool]] = {}


async def may_send(room_id: str) -> bool:
    """Whether browsers of a room may send to it.

    Args:
        room_id: the room's code.

    Returns:
        Its row's `allow_client_send`, at most five seconds old; the setting where it has no row or sending is off.

    Raises:
        Unavailable: SQL does not answer.
    """
    if not settings.HERMES_CLIENT_SEND:
        return False
    known = _cache.get(room_id)
    if known is not None and time.monotonic() - known[0] < CACHE_SECONDS:
        return known[1]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            allowed = await asyncio.get_running_loop().run_in_executor(_threads, _read, room_id)
    except (Error, TimeoutError) as error:
        raise Unavailable(f"room {room_id!r}: the database does not answer: {type(error).__name__}") from error
    if len(_cache) >= CACHE_ROOMS:
        _cache.clear()
    _cache[room_id] = (time.monotonic(), allowed)
    return allowed


def _read(room_id: str) -> bool:
    close_old_connections()
    try:
        row = Room.objects.filter(code=room_id).values_list("allow_client_send", flat=True).first()
    finally:
        close_old_connections()
    return True if row is None else row
