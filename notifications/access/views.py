"""Views: `POST /notifications/token` gives a signed-in member a token for a room. Called by pages and `{% hermes %}`.

The member's row is written first, so that no token is out that the authorizer cannot find. What it says is told to
standing: who comes with the token at once, as pages do, costs no second read of it.
"""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from notifications.access import token_store, tokens
from notifications.access.standing import issued
from notifications.conf import Stage
from notifications.exceptions import MessageRefused, StoreUnavailable
from notifications.models import Membership
from notifications.stream.message import identifier

logger = logging.getLogger(__name__)


class NoRoom(Exception):
    """The user cannot get a token for the room asked for.

    Args:
        code: `room_required`, `not_a_member` or `unknown_stage`.
        status: the HTTP status that says it.
    """

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@require_POST
@never_cache
def token(request: HttpRequest) -> JsonResponse:
    """Give a token: ``{"room": "acme", "stage": "development"}``, both optional, in; ``{token, expires_in, …}`` out."""
    if not request.user.is_authenticated:
        return _error("not_signed_in", "Sign in first: a token is given to a session's user.", 401)
    try:
        wish = json.loads(request.body or b"{}")
    except RequestDataTooBig:
        return _error("too_large", "The body has more bytes than a room and a stage can need.", 413)
    except (ValueError, RecursionError):
        return _error("not_json", "The body must be a JSON object, or empty.", 400)
    if not isinstance(wish, dict):
        return _error("not_json", "The body must be a JSON object, or empty.", 400)
    room, stage = wish.get("room"), wish.get("stage")
    if any(value is not None and not isinstance(value, str) for value in (room, stage)):
        return _error("bad_field", "room and stage must be strings.", 400)
    try:
        return JsonResponse(issue_token(request, room, stage))
    except NoRoom as error:
        return _error(error.code, str(error), error.status)
    except StoreUnavailable as error:
        logger.warning("A token was not given: %s", error)
        response = _error("unavailable", "The token store does not answer; try again.", 503)
        response["Retry-After"] = "2"
        return response


def issue_token(request: HttpRequest, room: str | None = None, stage_name: str | None = None) -> dict[str, Any]:
    """Make a token for the request's user.

    Args:
        request: of a signed-in user.
        room: a room's code; may be left out by a user with one membership.
        stage_name: by default the first stage.

    Returns:
        `token`, `expires_in` (seconds), `url` (of the WebSocket), `stage`, `room_id`, `user_id`.

    Raises:
        NoRoom: the user is no member of it, or must choose one, or there is no such stage.
        StoreUnavailable: DynamoDB does not answer.
    """
    stage = find_stage(stage_name)
    code = find_room(request, room)
    user_id = _user_id(request)
    digest, ttl, begun = tokens.make_digest(user_id, stage.passcode, code), settings.HERMES_TOKEN_TTL, time.monotonic()
    row, now = token_store.save(stage, str(user_id), code, digest), time.time()
    issued.share(stage, str(user_id), code, row, digest, read_at=begun, expires_at=int(now) + ttl)
    logger.debug("A token was given", extra={"stage": stage.name, "room_id": code})
    session = tokens.session_tag(request.session.session_key, stage) if request.session.session_key else ""
    return {
        "token": tokens.issue(stage, user_id, code, now=now, ttl=ttl, session=session),
        "expires_in": ttl,
        "url": websocket_url(request, stage),
        "stage": stage.name,
        "room_id": code,
        "user_id": user_id,
    }


def find_stage(name: str | None) -> Stage:
    """Return a stage by name, or the first.

    Raises:
        NoRoom: there is no such stage.
    """
    stages: dict[str, Stage] = settings.HERMES_STAGES
    stage = stages.get(name) if name is not None else next(iter(stages.values()))
    if stage is None:
        raise NoRoom("unknown_stage", "There is no such stage.", 404)
    return stage


def find_room(request: HttpRequest, code: str | None) -> str:
    """Return the code of the room that a user asks for, or of the only one.

    Raises:
        NoRoom: the user is no member of it, or must choose one.
    """
    # A token row of a room that is called like a revocation would overwrite the revocation.
    mine = Membership.objects.filter(user_id=_user_id(request)).exclude(room__code__startswith=tokens.REVOKED_PREFIX)
    if code is not None:
        if not _can_be_a_code(code) or not mine.filter(room__code=code).exists():
            raise NoRoom("not_a_member", "You are not a member of that room.", 403)
        return code
    codes = list(mine.order_by("room__code").values_list("room__code", flat=True)[:2])
    if not codes:
        raise NoRoom("not_a_member", "You are not a member of any room.", 403)
    if len(codes) > 1:
        raise NoRoom("room_required", "You are a member of several rooms: name one as room.", 400)
    return codes[0]


def websocket_url(request: HttpRequest, stage: Stage) -> str:
    """Return where browsers of this page connect: `HERMES_PUBLIC_URL`, or the host that served the page."""
    base = settings.HERMES_PUBLIC_URL or f"{'wss' if request.is_secure() else 'ws'}://{request.get_host()}"
    return f"{base.rstrip('/')}/ws/{stage.name}"


def _user_id(request: HttpRequest) -> int:
    if request.user.pk is None:
        raise NoRoom("not_signed_in", "Sign in first: a token is given to a session's user.", 401)
    return request.user.pk


def _can_be_a_code(text: str) -> bool:
    """Whether a database can be asked for it: some raise where a text holds NUL or half of a surrogate pair."""
    try:
        identifier(text, "room")
    except MessageRefused:
        return False
    return True


def _error(code: str, message: str, status: int) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message}}, status=status)
