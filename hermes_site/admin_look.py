"""The admin's look: its name, colour and side bar, as unfold reads them. Imported by settings; links to admin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy


def _may_view(model: str) -> Callable[[HttpRequest], bool]:
    app, _, name = model.partition("_")
    return lambda request: request.user.has_perm(f"{app}.view_{name}")


def _is_servers(request: HttpRequest) -> bool:
    # The relays' page has an address below that of the servers, and an item of its own.
    below = str(reverse_lazy("admin:notifications_server_changelist"))
    return request.path.startswith(below) and request.path != str(reverse_lazy("admin:notifications_relays"))


def _page(title: str, icon: str, model: str, name: str = "") -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{name or f'{model}_changelist'}"),
        "permission": _may_view(model),
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Hermes",
    "SITE_HEADER": "Hermes",
    "SITE_SUBHEADER": "Notifications",
    "SITE_SYMBOL": "notifications_active",
    "BORDER_RADIUS": "8px",
    "COLORS": {
        "primary": {
            "50": "oklch(96.2% .018 272.314)",
            "100": "oklch(93% .034 272.788)",
            "200": "oklch(87% .065 274.039)",
            "300": "oklch(78.5% .115 274.713)",
            "400": "oklch(67.3% .182 276.935)",
            "500": "oklch(58.5% .233 277.117)",
            "600": "oklch(51.1% .262 276.966)",
            "700": "oklch(45.7% .24 277.023)",
            "800": "oklch(39.8% .195 277.366)",
            "900": "oklch(35.9% .144 278.697)",
            "950": "oklch(25.7% .09 281.288)",
        }
    },
    "DASHBOARD_CALLBACK": "notifications.admin_pages.with_dashboard",
    "SIDEBAR": {
        "navigation": [
            {
                "title": "Who is here",
                "items": [
                    _page("Dashboard", "monitoring", "notifications_server", "index"),
                    _page("Connections", "cable", "notifications_connection"),
                    {**_page("Servers", "dns", "notifications_server"), "active": _is_servers},
                    _page("Relays", "conveyor_belt", "notifications_server", "notifications_relays"),
                ],
            },
            {
                "title": "What went wrong",
                "separator": True,
                "items": [_page("Dead letters", "unsubscribe", "notifications_deadletter")],
            },
            {
                "title": "What was done",
                "separator": True,
                "items": [_page("Log", "history", "admin_logentry")],
            },
            {
                "title": "Who may join",
                "separator": True,
                "items": [
                    _page("Rooms", "meeting_room", "notifications_room"),
                    _page("Memberships", "badge", "notifications_membership"),
                    _page("Users", "person", "auth_user"),
                    _page("Groups", "group", "auth_group"),
                ],
            },
        ]
    },
}
