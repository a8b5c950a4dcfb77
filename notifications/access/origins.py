"""Origins: which web pages may open a WebSocket here. ASGI middleware around routing; nothing comes before it.

A page of any site can open a WebSocket to us from its visitor's browser; the browser names the site in `Origin`. What
is not a browser sends none and is let on: authority is the token's, never a cookie's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from notifications.access.refusals import REFUSALS

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_DEFAULT_PORTS = {"http": 80, "https": 443}


@lru_cache(maxsize=1_024)  # the same few come with every handshake; who makes many up drives out his own
def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Read an origin.

    Returns:
        Scheme, host and port, comparable; ``None`` if it is malformed or opaque (`null`).
    """
    try:
        parts = urlsplit(text)
        port = _DEFAULT_PORTS.get(parts.scheme) if parts.port is None else parts.port
    except ValueError:
        return None
    # Nothing but these three: `urlsplit` drops tabs, a bare `?` and a bare `#`, and reads a port of 0080 as 80.
    if not port or not parts.hostname or parts.username is not None:
        return None
    if text.lower() != f"{parts.scheme}://{parts.netloc}".lower():
        return None
    if parts.port is not None and not parts.netloc.endswith(f":{port}"):
        return None
    return parts.scheme, parts.hostname.lower(), port


def is_allowed(headers: Iterable[tuple[bytes, bytes]], allowed: Iterable[str]) -> bool:
    """Judge a handshake's `Origin`: absent, or exactly one of those allowed in scheme, host and port.

    Args:
        headers: the handshake's, names in lower case.
        allowed: origins as `HERMES_ALLOWED_ORIGINS` has them.
    """
    origins = [value for name, value in headers if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = parse_origin(origins[0].decode("latin-1"))
    return origin is not None and origin in {parse_origin(text) for text in allowed}


class OriginGuard:
    """Refuses handshakes of foreign pages with HTTP 403, before anything is accepted.

    Args:
        application: who handles the others.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one handshake."""
        if is_allowed(scope["headers"], settings.HERMES_ALLOWED_ORIGINS):
            await self._application(scope, receive, send)
            return
        # Nothing is routed yet, and a stage that we do not have is somebody's own idea.
        stage = scope["path"].rpartition("/")[2]
        fields = {"stage": stage} if stage in settings.HERMES_STAGES else {}
        fields["reason"] = "origin"
        logger.info("A handshake was refused: its Origin is not in HERMES_ALLOWED_ORIGINS.", extra=fields)
        REFUSALS.labels("origin").inc()
        await receive()  # websocket.connect
        await send({"type": "websocket.close", "code": 4403})  # before accepting, both servers turn it into HTTP 403
