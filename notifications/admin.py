"""The admin: members are edited here, servers and connections only shown. Shows models; rooms are admin_rooms's."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from notifications import admin_dead_letters, admin_pages, admin_words  # noqa: F401  registering is importing
from notifications.access import revocation
from notifications.admin_base import Listed, Memberships, ShownOnly, TakesAuthority
from notifications.admin_lists import ByPeriod, RoomFilter, StageFilter, StateFilter, UserFilter, label
from notifications.admin_rooms import RoomAdmin
from notifications.exceptions import Unavailable
from notifications.models import Connection, Membership, Room, Server

admin.site.unregister((User, Group))
admin.site.register(Room, RoomAdmin)


class RoomsOfMember(Memberships):
    """A user's rooms, on the user's page."""

    autocomplete_fields = ("room",)
    verbose_name_plural = "rooms"


@admin.register(Membership)
class MembershipAdmin(TakesAuthority):
    """Who may join which room."""

    list_display = ("room", "user")
    list_select_related = ("room", "user")
    search_fields = ("room__code", "room__name", "user__username", "user__email")
    autocomplete_fields = ("room", "user")
    actions = ("revoke_tokens",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may revoke tokens."""
        return request.user.has_perm("notifications.revoke")

    @admin.action(description="Revoke tokens, and close their connections", permissions=("revoke",))
    def revoke_tokens(self, request: HttpRequest, memberships: QuerySet[Membership]) -> None:
        """Refuse every token these members have for these rooms; who is still a member gets a new one on asking."""
        for membership in memberships.select_related("room", "user"):
            try:
                revocation.revoke(str(membership.user.pk), membership.room.code)
            except Unavailable as error:
                # Those that follow would fail as well, each after a wait.
                text = (
                    f"The tokens of {membership} are not revoked in every stage: {type(error).__name__}. Stopped there."
                )
                self.message_user(request, text, messages.ERROR)
                return
            self.log_change(request, membership, "Revoked the tokens.")
            self.message_user(request, f"The tokens of {membership} are revoked.", messages.SUCCESS)


@admin.register(Connection)
class ConnectionAdmin(ShownOnly):
    """Who is connected, and who was."""

    list_display = (
        "state",
        "room_id",
        "user_id",
        "stage",
        "opened",
        "closed",
        "reason",
        "sent",
        "behind",
        "beginning",
    )
    # By an index; any other order would sort every row there is.
    sortable_by = ("opened",)
    list_fullwidth = True
    list_display_links = ("beginning",)
    list_filter = (StateFilter, RoomFilter, UserFilter, StageFilter)
    list_filter_submit = True
    # Whole values, which have indexes; a part of a value would read every row.
    search_fields = ("connection_id__exact", "room_id__exact", "user_id__exact")
    search_help_text = "A connection, room or user, in full"
    date_hierarchy = "opened_at"
    actions = ("disconnect",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        """Return every connection, in the admin's order."""
        return ByPeriod(Connection).order_by(*self.get_ordering(request) or ())

    def has_disconnect_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may close connections."""
        return request.user.has_perm("notifications.disconnect")

    @admin.action(description="Disconnect", permissions=("disconnect",))
    def disconnect(self, request: HttpRequest, connections: QuerySet[Connection]) -> None:
        """Tell every server to close these connections; their clients may come back at once."""
        told = 0
        for connection in connections.filter(closed_at=None):
            try:
                revocation.disconnect(connection.stage, connection.connection_id)
            except Unavailable as error:
                # Those that follow would fail as well, each after a wait.
                text = f"The connection {connection} is not closed: {type(error).__name__}. Stopped there."
                self.message_user(request, text, messages.ERROR)
                if not told:
                    return
                break
            self.log_change(request, connection, "Disconnected.")
            told += 1
        self.message_user(request, f"Connections that are being closed: {told}.", messages.SUCCESS)

    @admin.display(description="State")
    def state(self, connection: Connection) -> SafeString:
        """Return whether the connection is open."""
        return label("open", "success") if connection.closed_at is None else label("closed", "default")

    @admin.display(description="Connection")
    def beginning(self, connection: Connection) -> str:
        """Return the beginning of its id, which tells it from others; its page has the whole of it."""
        return connection.connection_id[:10]

    @admin.display(description="Opened", ordering="opened_at")
    def opened(self, connection: Connection) -> str:
        """Return when it joined."""
        return admin_words.moment(connection.opened_at)

    @admin.display(description="Closed")
    def closed(self, connection: Connection) -> str:
        """Return when it ended."""
        return "–" if connection.closed_at is None else admin_words.moment(connection.closed_at)

    @admin.display(description="Close reason")
    def reason(self, connection: Connection) -> str:
        """Return why it was closed."""
        if connection.closed_at is None:
            return "–"
        words = admin_words.reason(connection.close_code)
        return words if connection.close_code is None else f"{connection.close_code} {words}"

    @admin.display(description="Sent")
    def sent(self, connection: Connection) -> str:
        """Return how many frames and bytes it was sent."""
        if connection.frames_sent is None:
            return "–"
        frames, volume = admin_words.number(connection.frames_sent), admin_words.size(connection.bytes_sent or 0)
        return f"{frames}\u00a0frames, {volume}"

    @admin.display(description="Behind")
    def behind(self, connection: Connection) -> str:
        """Return how much its reader has not taken yet."""
        waiting = connection.bytes_waiting
        return "–" if waiting is None else admin_words.size(waiting) if waiting else "no"


@admin.register(Server)
class ServerAdmin(ShownOnly):
    """The server processes, their leases, and how many connections each has."""

    list_display = ("server_id", "host", "pid", "lease", "connections", "load", "started_at", "lease_until")

    def get_urls(self) -> list[URLPattern]:
        """Add the pages that are about no one model."""
        wrap = self.admin_site.admin_view
        return [
            path("live/", wrap(admin_pages.live), name="notifications_live"),
            path("relays/", wrap(admin_pages.relays), name="notifications_relays"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Server]:
        """Read the database's clock, which leases run by."""
        servers: QuerySet[Server] = super().get_queryset(request)
        return servers.annotate(now=Now())

    @admin.display(description="Lease")
    def lease(self, server: Any) -> SafeString:
        """Return whether the lease still runs."""
        return label("alive", "success") if server.lease_until > server.now else label("run out", "danger")

    @admin.display(description="Connections", ordering="open_connections")
    def connections(self, server: Server) -> str:
        """Return how many connections the server said it has open: to count them reads the rows of all."""
        return "–" if server.open_connections is None else admin_words.number(server.open_connections)


@admin.register(User)
class MemberAdmin(UserAdmin, TakesAuthority):  # type: ignore[type-arg]
    """Django's users, with their rooms."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> tuple[type[Memberships], ...]:
        """Show the rooms of a user that exists; a new one is only named first."""
        return (RoomsOfMember,) if obj else ()


@admin.register(Group)
class PermissionGroupAdmin(GroupAdmin, Listed):  # type: ignore[type-arg]
    """Django's groups."""
