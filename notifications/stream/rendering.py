"""Rendering: a room's position for a page on its way to a browser. Called by templatetags.hermes.

Synchronous, because templates are; a page never fails for it and never waits for long.
"""

from __future__ import annotations

import logging

import redis
from django.conf import settings

from notifications.stream import keys
from notifications.stream.history import SCRIPT, script_arguments
from notifications.stream.position import Position
from notifications.stream.redis_client import sync_client
from notifications.stream.replies import to_position

logger = logging.getLogger(__name__)

PAGE_SECONDS = 0.016  # three times (connect, look, begin) stays under the 50 ms that a page may wait


def position_for_page(stage: str, room_id: str) -> Position | None:
    """Return a room's position for a page that is being rendered, so that the browser can resume from that moment.

    Begins the room's history if it has none: a page is about to join it.

    Returns:
        The position, or ``None`` when Redis does not answer within 50 ms: a page never fails for it.
    """
    try:
        client = _client()
        key = keys.head_key(stage, room_id)
        position = to_position(client.hmget(key, ["epoch", "seq", "id"]))
        if position is None:
            reply = client.eval(SCRIPT, 4, *script_arguments(stage, None, b"", room_id))
            position = to_position(reply[1:])
    except redis.RedisError as error:
        logger.warning("A page of room %r is rendered without its position: %s", room_id, type(error).__name__)
        return None
    return position


_clients: dict[str, redis.Redis] = {}


def _client() -> redis.Redis:
    """One client per Redis address and process; it is thread-safe and keeps its connections."""
    url: str = settings.REDIS_URL
    if url not in _clients:
        _clients[url] = sync_client(PAGE_SECONDS)
    return _clients[url]
