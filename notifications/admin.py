"""The admin: rooms and members are edited here, servers and connections only shown. Shows models; sends by hermes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from notifications import admin_dead_letters, hermes  # noqa: F401  registering is importing
from notifications.access import revocation
from notifications.admin_lists import ByPeriod, RoomFilter, StageFilter, StateFilter, UserFilter
from notifications.exceptions import HermesError, Unavailable
from notifications.models import Connection, Membership, Room, Server

admin.site.unregister((User, Group))


class ShownOnly(ModelAdmin):  # type: ignore[misc]
    """What the system writes: to be looked at and acted on, never to be edited."""

    actions: tuple[str, ...] | None = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False


class TakesAuthority(ModelAdmin):  # type: ignore[misc]
    """Pages whose changes may take a member's authority back, which DynamoDB must know before they are saved.

    While it does not answer nothing is changed, and the page says so; Django has rolled everything back by then.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Save, or say that nothing was saved."""
        return self._or_say_so(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Delete, or say that nothing was deleted."""
        return self._or_say_so(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List, and run actions such as the deletion of many."""
        return self._or_say_so(request, super().changelist_view, *args, **kwargs)

    def _or_say_so(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Unavailable:
            text = "Nothing was changed: the token store does not answer, and tokens could not be revoked. Try again."
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


class MembersOfRoom(TabularInline):  # type: ignore[misc]
    """A room's members, on its page."""

    model = Membership
    autocomplete_fields = ("user",)
    extra = 0
    hide_title = True
    per_page = 20
    verbose_name_plural = "members"


class RoomsOfMember(TabularInline):  # type: ignore[misc]
    """A user's rooms, on the user's page."""

    model = Membership
    autocomplete_fields = ("room",)
    extra = 0
    hide_title = True
    verbose_name_plural = "rooms"


@admin.register(Room)
class RoomAdmin(TakesAuthority):
    """Rooms with their members, and a test message to any of them."""

    list_display = ("code", "name", "members", "allow_client_send")
    search_fields = ("code", "name")
    list_filter = ("allow_client_send",)
    list_filter_submit = True
    list_per_page = 50
    show_full_result_count = False
    inlines = (MembersOfRoom,)
    actions = ("send_test_message",)

    def get_readonly_fields(self, request: HttpRequest, obj: Room | None = None) -> tuple[str, ...]:
        """Keep the code of a room that exists: with another one it would be another room to producers and tokens."""
        return () if obj is None else ("code",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        """Count the members of the rooms on the page by their index, not by a join that groups all rooms."""
        counted = Membership.objects.filter(room=OuterRef("pk")).order_by().values("room")
        members = Coalesce(Subquery(counted.annotate(number=Count("pk")).values("number")), 0)
        rooms: QuerySet[Room] = super().get_queryset(request)
        return rooms.annotate(members=members)

    @admin.display(description="Members", ordering="members")
    def members(self, room: Any) -> int:
        """Return how many members the room has."""
        number: int = room.members
        return number

    def has_send_message_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may send messages to rooms."""
        return request.user.has_perm("notifications.send_message")

    @admin.action(description="Send a test message", permissions=("send_message",))
    def send_test_message(self, request: HttpRequest, rooms: QuerySet[Room]) -> None:
        """Put a message for each room on SQS; it comes back as a toast in every browser of the room."""
        sent: list[Room] = []
        sender = request.user.get_username()
        for room in rooms:
            data = {"title": "Test message", "text": f"Sent to {room} from the admin by {sender}."}
            try:
                hermes.notify(room.code, {"type": "info", "data": data}, user=request.user.pk)
            except HermesError as error:
                self.message_user(request, f"Nothing was sent to {room}: {type(error).__name__}.", messages.ERROR)
                continue
            self.log_change(request, room, "Sent a test message.")
            sent.append(room)
        if sent:
            self.message_user(request, f"A test message is on its way to {_some(sent)}.", messages.SUCCESS)


@admin.register(Membership)
class MembershipAdmin(TakesAuthority):
    """Who may join which room."""

    list_display = ("room", "user")
    list_select_related = ("room", "user")
    search_fields = ("room__code", "room__name", "user__username", "user__email")
    autocomplete_fields = ("room", "user")
    list_per_page = 50
    show_full_result_count = False
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
                text = f"The tokens of {membership} are not revoked: {type(error).__name__}. Stopped there."
                self.message_user(request, text, messages.ERROR)
                return
            self.log_change(request, membership, "Revoked the tokens.")
            self.message_user(request, f"The tokens of {membership} are revoked.", messages.SUCCESS)


@admin.register(Connection)
class ConnectionAdmin(ShownOnly):
    """Who is connected, and who was."""

    list_display = ("state", "room_id", "user_id", "stage", "opened_at", "closed_at", "close_code", "connection_id")
    list_display_links = ("connection_id",)
    list_filter = (StateFilter, RoomFilter, UserFilter, StageFilter)
    list_filter_submit = True
    list_per_page = 50
    # Whole values, which have indexes; a part of a value would read every row.
    search_fields = ("connection_id__exact", "room_id__exact", "user_id__exact")
    search_help_text = "A connection, room or user, in full"
    date_hierarchy = "opened_at"
    actions = ("disconnect",)
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        """Return every connection, in the admin's order."""
        return ByPeriod(Connection).order_by(*self.get_ordering(request) or ())

    def has_disconnect_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may close connections."""
        return request.user.has_perm("notifications.disconnect")

    @admin.action(description="Disconnect", permissions=("disconnect",))
    def disconnect(self, request: HttpRequest, connections: QuerySet[Connection]) -> None:
        """Tell every server to close these connections; their clients may come back at once."""
        told = list(connections.filter(closed_at=None))
        for connection in told:
            revocation.disconnect(connection.stage, connection.connection_id)
            self.log_change(request, connection, "Disconnected.")
        self.message_user(request, f"Connections that are being closed: {len(told)}.", messages.SUCCESS)

    @display(description="State", label={"open": "success", "closed": "default"})  # type: ignore[untyped-decorator]
    def state(self, connection: Connection) -> str:
        """Return whether the connection is open."""
        return "open" if connection.closed_at is None else "closed"


@admin.register(Server)
class ServerAdmin(ShownOnly):
    """The server processes, their leases, and how many connections each has."""

    list_display = ("server_id", "host", "pid", "lease", "connections", "started_at", "lease_until")
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Server]:
        """Count each server's open connections, and read the database's clock."""
        counted = Connection.objects.filter(server_id=OuterRef("pk"), closed_at=None).order_by().values("server_id")
        connections = Coalesce(Subquery(counted.annotate(number=Count("pk")).values("number")), 0)
        servers: QuerySet[Server] = super().get_queryset(request)
        return servers.annotate(connections=connections, now=Now())

    @display(description="Lease", label={"alive": "success", "run out": "danger"})  # type: ignore[untyped-decorator]
    def lease(self, server: Any) -> str:
        """Return whether the lease still runs."""
        return "alive" if server.lease_until > server.now else "run out"

    @admin.display(description="Connections", ordering="connections")
    def connections(self, server: Any) -> int:
        """Return how many connections the server has open."""
        number: int = server.connections
        return number


@admin.register(User)
class MemberAdmin(UserAdmin, TakesAuthority):  # type: ignore[type-arg]
    """Django's users, with their rooms."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_inlines(self, request: HttpRequest, obj: Model | None) -> tuple[type[TabularInline], ...]:
        """Show the rooms of a user that exists; a new one is only named first."""
        return (RoomsOfMember,) if obj else ()


@admin.register(Group)
class PermissionGroupAdmin(GroupAdmin, ModelAdmin):  # type: ignore[misc]
    """Django's groups."""


def _some(rooms: list[Room]) -> str:
    names = ", ".join(str(room) for room in rooms[:5])
    return names if len(rooms) <= 5 else f"{names} and {len(rooms) - 5} more"
