"""Token guard: lets handshakes pass whose tokens authorizer accepts. Middleware behind origins, before the consumer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from django.conf import settings

from notifications.access.authorizer import Authorizer
from notifications.access.origins import Application, Receive, Scope, Send
from notifications.access.refusals import REFUSALS
from notifications.exceptions import TokenRefused, Unavailable

logger = logging.getLogger(__name__)

SUBPROTOCOL = "hermes.v1"
TOKEN_SUBPROTOCOL = "hermes.token."  # noqa: S105  a prefix
BAD_REQUEST, UNAVAILABLE = 4400, 4113  # docs/protocol.md
GOODBYE_SECONDS = 10.0  # for who is refused to close its side


class TokenGuard:
    """Middleware: lets a handshake with a valid token through, with ``scope["hermes.grant"]``; refuses the others.

    To refuse with a reason that a browser can read, the connection is accepted first and then closed.

    Args:
        application: the consumer.
        authorizer: returns the process's authorizer.
    """

    def __init__(self, application: Application, authorizer: Callable[[], Awaitable[Authorizer]]) -> None:
        self._application = application
        self._authorizer = authorizer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one handshake."""
        scope["hermes.v1"] = SUBPROTOCOL in scope["subprotocols"]
        stage = settings.HERMES_STAGES.get(scope["url_route"]["kwargs"]["stage"])
        if stage is None:
            await _refuse(scope, receive, send, BAD_REQUEST, "unknown stage")
            return
        try:
            authorizer = await self._authorizer()
            scope["hermes.grant"] = await authorizer.authorize(stage, credentials(scope))
        except TokenRefused as refusal:
            fields = {"stage": stage.name, "code": refusal.close_code, "reason": refusal.reason}
            logger.info("A token was refused: %s", refusal.reason, extra=fields)
            await _refuse(scope, receive, send, refusal.close_code, refusal.reason)
            return
        except Unavailable as error:
            fields = {"stage": stage.name, "code": UNAVAILABLE, "reason": "unavailable"}
            logger.warning("A join has to wait: %s", error, extra=fields)
            await _refuse(scope, receive, send, UNAVAILABLE, "unavailable")
            return
        await self._application(scope, receive, send)


def credentials(scope: Scope) -> str:
    """Find the token of a handshake: among the subprotocols, or in the query string as the article's clients send it.

    Raises:
        TokenRefused: there is none, or more than one.
    """
    offered: list[str] = [p[len(TOKEN_SUBPROTOCOL) :] for p in scope["subprotocols"] if p.startswith(TOKEN_SUBPROTOCOL)]
    offered += parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("token", [])
    if not offered or not offered[0]:
        raise TokenRefused("no_token")
    if len(offered) > 1:
        raise TokenRefused("two_tokens")
    return offered[0]


async def _refuse(scope: Scope, receive: Receive, send: Send, code: int, reason: str) -> None:
    REFUSALS.labels(reason.replace(" ", "_")).inc()
    await receive()  # websocket.connect
    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL if scope["hermes.v1"] else None})
    await send({"type": "websocket.close", "code": code, "reason": reason})
    # The closing handshake is the client's turn; leaving now would let the server cut it short.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            while (await receive())["type"] != "websocket.disconnect":
                pass
