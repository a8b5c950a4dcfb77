"""Routing: `/ws/<stage>` goes to the authorizer, and behind it to sockets.consumer. Used by hermes_site.asgi."""

from __future__ import annotations

from typing import Any

from channels.routing import URLRouter
from django.urls import path, re_path

from notifications.access.authorizer import Authorizer
from notifications.access.origins import Application, OriginGuard, Receive, Scope, Send
from notifications.access.token_guard import TokenGuard
from notifications.sockets.consumer import NotificationConsumer
from notifications.sockets.hub import HubOfLoop


def websocket_application(hubs: HubOfLoop) -> Application:
    """Return the ASGI application for WebSockets: Origin, then path, then token, then the consumer.

    Args:
        hubs: where the process's hub is, or will be.
    """

    async def authorizer() -> Authorizer:
        return (await hubs.running()).authorizer

    # Django types routes for its own views; Channels routes ASGI applications with the same functions.
    consumer: Any = TokenGuard(NotificationConsumer.as_asgi(hubs=hubs), authorizer)
    elsewhere: Any = _no_such_path
    return OriginGuard(URLRouter([path("ws/<str:stage>", consumer), re_path(r"", elsewhere)]))


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a handshake on any other path, before accepting it (HTTP 403)."""
    await receive()
    await send({"type": "websocket.close", "code": 4404})
