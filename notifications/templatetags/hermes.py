"""The tag `{% hermes %}`: puts the toolkit into a page. Asks access.views for the room, history for the position."""

from __future__ import annotations

import logging
from typing import Any

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template.context import Context
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html, format_html_join, json_script
from django.utils.safestring import SafeString, mark_safe

from notifications.access.views import NoRoom, find_room, find_stage, issue_token, websocket_url
from notifications.exceptions import StoreUnavailable
from notifications.stream.rendering import position_for_page

register = template.Library()
logger = logging.getLogger(__name__)

# Named in the page, so that the browser fetches them at once and not one import after the other.
_MODULES = (
    *("hermes", "connection", "credentials", "shown", "frames", "position", "backoff"),
    *("share", "ring", "turn", "showing"),
    *("toasts", "content", "toast_view", "strings", "drawing", "swipe"),
)


@register.simple_tag(takes_context=True, name="hermes")
def hermes_tag(context: Context, room: str | None = None, stage: str | None = None, inline_token: bool = False) -> str:
    """Emit the toolkit's stylesheet, configuration and module; for nobody, or no room, a comment.

    Args:
        context: holds the request, and is what `django.template.context_processors.request` gives.
        room: a room's code; may be left out by a user with one membership.
        stage: by default the first stage.
        inline_token: put a token into the page, as the article does, instead of having it fetched by POST.

    Returns:
        HTML without any inline script. It never raises: a page is worth more than its notifications.
    """
    request = context.get("request")
    if not isinstance(request, HttpRequest) or not getattr(request, "user", None) or not request.user.is_authenticated:
        return mark_safe("<!-- hermes: nobody is signed in -->")
    try:
        return _elements(_configuration(request, room, stage, inline_token))
    except NoRoom as error:
        return format_html("<!-- hermes: {} -->", error.code)
    except Exception:
        logger.exception("A page goes without notifications.")
        return mark_safe("<!-- hermes: unavailable -->")


def _configuration(request: HttpRequest, room: str | None, stage: str | None, inline_token: bool) -> dict[str, Any]:
    chosen = find_stage(stage)
    code = find_room(request, room)
    position = position_for_page(chosen.name, code)
    configuration: dict[str, Any] = {
        "url": websocket_url(request, chosen),
        "token_url": reverse("hermes-token"),
        # Both: the cookie may be closed to scripts, and the text grows old when the user signs in anew.
        "csrf_cookie": settings.CSRF_COOKIE_NAME,
        "csrf_token": get_token(request),
        "stage": chosen.name,
        "room": code,
        "user_id": request.user.pk,
        "position": position and {"epoch": position.epoch, "seq": position.seq, "id": position.id},
    }
    if inline_token:
        try:
            configuration["pass"] = issue_token(request, code, chosen.name)
        except StoreUnavailable:
            logger.warning("No token for a page: the toolkit will ask for one.")
    return configuration


def _elements(configuration: dict[str, Any]) -> SafeString:
    return format_html(
        '<link rel="stylesheet" href="{}">{}{}<script type="module" src="{}"></script>',
        static("hermes/toasts.css"),
        format_html_join(
            "", '<link rel="modulepreload" href="{}">', ((static(f"hermes/{name}.js"),) for name in _MODULES)
        ),
        json_script(configuration, "hermes-config"),
        static("hermes/page.js"),
    )
