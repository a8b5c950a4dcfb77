"""The composition root: HTTP to Django, WebSocket to notifications.routing, lifespan to the hub."""

from __future__ import annotations

import asyncio
import os

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hermes_site.settings")
django_application = get_asgi_application()  # before the imports below: it fills Django's app registry

from hermes_site import heap  # noqa: E402
from hermes_site.request_ids import handshake_ids  # noqa: E402
from notifications import health  # noqa: E402
from notifications.access.origins import Receive, Scope, Send  # noqa: E402
from notifications.routing import websocket_application  # noqa: E402
from notifications.sockets.hub import HubOfLoop  # noqa: E402

hubs = HubOfLoop()


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    """Start the hub before the first connection and stop it after the last."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await hubs.running()
            heap.settle()
            health.keeping().start()
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await hubs.stop()
            await asyncio.to_thread(health.keeping().stop)
            await send({"type": "lifespan.shutdown.complete"})
            return


application = ProtocolTypeRouter(
    {"http": django_application, "websocket": handshake_ids(websocket_application(hubs)), "lifespan": lifespan}
)
