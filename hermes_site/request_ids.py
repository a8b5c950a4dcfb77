"""Request ids: one for each HTTP request, in its response and in every log line about it. Settings puts them on.

A handshake has the one that a proxy gave it, in every line until its client has joined; asgi puts that on.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

HEADER = "X-Request-ID"
# What a proxy gives: nginx 32 hexadecimal digits, others a UUID or a ULID. Whatever else comes is a client's own idea.
_TAKEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id")
# With the handshake's own task: those that it starts go on for others, and for longer.
_handshake: ContextVar[tuple[weakref.ref[Any], str]] = ContextVar("handshake_id")

Response = HttpResponseBase
GetResponse = Callable[[HttpRequest], Response | Awaitable[Response]]
Application = Callable[[Any, Any, Any], Awaitable[None]]  # ASGI's: scope, receive, send


def request_id_for(claimed: str | None) -> str:
    """Return the id of a request: what came with it, or a new one.

    Args:
        claimed: the header's value, if there is one; taken if it has at most 64 letters, digits, dots, hyphens and
            underscores.

    >>> request_id_for("4f2a-7")
    '4f2a-7'
    >>> len(request_id_for("of two words"))
    32
    """
    return claimed if claimed is not None and _TAKEN.fullmatch(claimed) else secrets.token_hex(16)


@sync_and_async_middleware
def request_ids(get_response: GetResponse) -> GetResponse:
    """Middleware: give each request its id, and each response the header."""

    def begin(request: HttpRequest) -> str:
        # On the request as well: Django logs a response of 400 or more when every middleware is through.
        request_id = request.request_id = request_id_for(request.headers.get(HEADER))  # type: ignore[attr-defined]
        return str(request_id)

    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> Response:
            request_id = begin(request)
            token = _current.set(request_id)
            try:
                response = await cast("Awaitable[Response]", get_response(request))
            finally:
                _current.reset(token)
            response.headers[HEADER] = request_id
            return response

        return asynchronous

    def synchronous(request: HttpRequest) -> Response:
        request_id = begin(request)
        token = _current.set(request_id)
        try:
            response = cast("Response", get_response(request))
        finally:
            _current.reset(token)
        response.headers[HEADER] = request_id
        return response

    return synchronous


def handshake_ids(application: Application) -> Application:
    """Return an ASGI application for WebSockets that knows a handshake's id while it handles it.

    Args:
        application: who handles it. Nothing but a log tells the id, so where none came none is made.
    """
    header = HEADER.lower().encode()

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        claimed = [value.decode("latin-1") for name, value in scope["headers"] if name == header]
        task = asyncio.current_task()
        if task is not None and len(claimed) == 1 and _TAKEN.fullmatch(claimed[0]):
            _handshake.set((weakref.ref(task), claimed[0]))  # the task's context ends with it
        await application(scope, receive, send)

    return handle


def _handshake_id() -> str | None:
    task, request_id = _handshake.get((None, None))
    try:
        return request_id if task is not None and task() is asyncio.current_task() else None
    except RuntimeError:  # a thread, which has no tasks
        return None


class AddRequestId(logging.Filter):
    """Gives each record that is written during a request or a handshake, or about one, the field ``request_id``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id where there is one; always lets the record through."""
        about: Any = getattr(record, "request", None)
        request_id = getattr(about, "request_id", None) or _current.get(None) or _handshake_id()
        if request_id is not None:
            record.request_id = request_id
        return True
