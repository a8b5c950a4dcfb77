"""The admin: members are edited here, servers shown. Rooms are admin_rooms's, connections admin_connections's."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from notifications import admin_dead_letters, admin_log, admin_pages, admin_words  # noqa: F401  registering is importing
from notifications.access import revocation
from notifications.admin_actions import ask, carry_out, count, some
from notifications.admin_base import Listed, Memberships, ShownOnly, TakesAuthority
from notifications.admin_connections import ConnectionAdmin
from notifications.admin_lists import label
from notifications.admin_rooms import RoomAdmin
from notifications.models import Connection, Membership, Room, Server

# What says of a user what they may do here.
RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister((User, Group))
admin.site.register(Room, RoomAdmin)
admin.site.register(Connection, ConnectionAdmin)


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
    def revoke_tokens(self, request: HttpRequest, memberships: QuerySet[Membership]) -> HttpResponse | None:
        """Refuse every token these members have for these rooms; who is still a member gets a new one on asking."""
        chosen = list(memberships.select_related("room", "user"))
        if question := ask(
            self,
            request,
            chosen,
            f"Revoke the tokens of {count(chosen, 'membership')}?",
            consequence="Their connections are closed. Who is still a member gets a new token on asking.",
            verb="Revoke tokens",
        ):
            return question
        carry_out(
            self,
            request,
            chosen,
            lambda each: revocation.revoke(str(each.user.pk), each.room.code),
            log="Revoked the tokens.",
            done=lambda each: f"The tokens of {some(each)} are revoked.",
            failed=lambda each: f"The tokens of {each} are not revoked in every stage",
        )
        return None


@admin.register(Server)
class ServerAdmin(ShownOnly):
    """The server processes, their leases, and how many connections each has."""

    list_display = ("server_id", "host", "pid", "lease", "connections", "load_average", "started", "leased")
    # Of its own page; leases of 30 s are of use to the second only.
    fields = readonly_fields = list_display

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

    @admin.display(description="Load average", ordering="load")
    def load_average(self, server: Server) -> str:
        """Return its host's load average as it said it."""
        return "–" if server.load is None else f"{server.load:.2f}"

    @admin.display(description="Started", ordering="started_at")
    def started(self, server: Server) -> str:
        """Return when it began."""
        return admin_words.moment_of_a_year(server.started_at)

    @admin.display(description="Lease until", ordering="lease_until")
    def leased(self, server: Server) -> str:
        """Return when its lease ends, if it says nothing more."""
        return admin_words.moment_of_a_year(server.lease_until)

    @admin.display(description="Connections", ordering="open_connections")
    def connections(self, server: Server) -> str:
        """Return how many connections the server said it has open: to count them reads the rows of all."""
        return "–" if server.open_connections is None else admin_words.number(server.open_connections)


@admin.register(User)
class MemberAdmin(UserAdmin, TakesAuthority):  # type: ignore[misc, type-arg]
    """Django's users, with their rooms.

    Whoever may edit users edits members. Staff are a superuser's: who gave themselves rights, or another of the staff a
    new password, would have every permission there is.
    """

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> tuple[type[Memberships], ...]:
        """Show the rooms of a user that exists; a new one is only named first."""
        return (RoomsOfMember,) if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Let superusers alone say what somebody may do."""
        fields = tuple(str(each) for each in super().get_readonly_fields(request, obj))
        return fields if _is_superuser(request) else (*fields, *RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Tell whether the user may edit users, and this one; a new password is an edit."""
        return super().has_change_permission(request, obj) and _is_within_reach(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Tell whether the user may delete users, and this one."""
        return super().has_delete_permission(request, obj) and _is_within_reach(request, obj)


@admin.register(Group)
class PermissionGroupAdmin(GroupAdmin, Listed):  # type: ignore[misc]
    """Django's groups: what is in one is given to all who are in it, so it is a superuser's to say."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may make groups."""
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Tell whether the user may edit groups."""
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Tell whether the user may delete groups."""
        return _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_superuser


def _is_within_reach(request: HttpRequest, user: User | None) -> bool:
    """Tell whether a user is nobody from whom authority could be taken over."""
    return _is_superuser(request) or user is None or not (user.is_staff or user.is_superuser)
