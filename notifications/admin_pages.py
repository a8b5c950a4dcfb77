"""Pages: the admin's dashboard, what it fetches every few seconds, and the relays. Shows dashboard; routed by admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from notifications import dashboard
from notifications.dashboard_looks import Refused

SERVER_HEADERS = ("Server", "Lease", "Connections", "Load average", "Started")
RELAY_HEADERS = ("Relay", "Stage", "Lag", "Batches", "Messages", "Heard")


def may_look(request: HttpRequest) -> bool:
    """Tell whether the user may see how servers, relays and queues are: figures and hosts, no member."""
    return request.user.has_perm("notifications.view_server")


def with_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Give the admin's index its dashboard, if the user may see it. Called by unfold."""
    if may_look(request):
        may_see_letters = request.user.has_perm("notifications.view_deadletter")
        context |= {
            "report": dashboard.report(),
            "title": "Dashboard",
            "may_see_letters": may_see_letters,
            **_headers(),
        }
    return context


@require_safe
@never_cache
def live(request: HttpRequest) -> HttpResponse:
    """Answer what the dashboard shows, as JSON."""
    _insist(request)
    return JsonResponse(dashboard.report())


@require_safe
def relays(request: HttpRequest) -> HttpResponse:
    """Show the relays."""
    _insist(request)
    answers = dashboard.looks().answers()
    told = [answers[part] for part in answers if part.startswith("relays:")]
    context = {
        **admin.site.each_context(request),
        "title": "Relays",
        "report": {"relays": dashboard.relay_rows(answers)},
        "refused": next((each.reason for each in told if isinstance(each, Refused)), ""),
        **_headers(),
    }
    return TemplateResponse(request, "hermes_admin/relays.html", context)


def _insist(request: HttpRequest) -> None:
    if not may_look(request):
        raise PermissionDenied


def _headers() -> dict[str, Any]:
    return {"server_headers": SERVER_HEADERS, "relay_headers": RELAY_HEADERS}
