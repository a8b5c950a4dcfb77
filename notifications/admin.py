"""The admin: rooms and members are edited here, servers and connections only shown. Shows models; sends by hermes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin import SimpleListFilter
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Count, Model, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from notifications import hermes
from notifications.exceptions import HermesError
from notifications.models import Connection, Membership, Room, Server

admin.site.unregister((User, Group))


class ShownOnly(ModelAdmin):  # type: ignore[misc]
    """What the system writes: to be looked at, never to be edited."""

    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse."""
        return False


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
class RoomAdmin(ModelAdmin):  # type: ignore[misc]
    """Rooms with their members, and a test message to any of them."""

    list_display = ("code", "name", "members", "allow_client_send")
    search_fields = ("code", "name")
    list_filter = ("allow_client_send",)
    list_filter_submit = True
    list_per_page = 50
    show_full_result_count = False
    inlines = (MembersOfRoom,)
    actions = ("send_test_message",)

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
class MembershipAdmin(ModelAdmin):  # type: ignore[misc]
    """Who may join which room."""

    list_display = ("room", "user")
    list_select_related = ("room", "user")
    search_fields = ("room__code", "room__name", "user__username", "user__email")
    autocomplete_fields = ("room", "user")
    list_per_page = 50
    show_full_result_count = False


class Exactly(TextFilter):  # type: ignore[misc]
    """A filter on a column's exact value: found by its index, where a list of all values would read every row."""

    column = ""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows that have what was typed."""
        value = (self.value() or "").strip()
        return queryset.filter(**{self.column: value}) if value else queryset


class RoomFilter(Exactly):
    """Connections of one room."""

    title = "room"
    parameter_name = "room"
    column = "room_id"


class UserFilter(Exactly):
    """Connections of one user."""

    title = "user"
    parameter_name = "user"
    column = "user_id"


class StateFilter(SimpleListFilter):
    """Open or closed connections."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Name both states."""
        return [("open", "Open"), ("closed", "Closed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen state."""
        return queryset if self.value() is None else queryset.filter(closed_at__isnull=self.value() == "open")


class StageFilter(SimpleListFilter):
    """Connections of one stage; the stages come from the settings, not from the rows."""

    title = "stage"
    parameter_name = "stage"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Name the stages."""
        return [(name, name) for name in settings.HERMES_STAGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen stage."""
        return queryset if self.value() is None else queryset.filter(stage=self.value())


class ByPeriod(QuerySet[Connection]):
    """Connections whose date hierarchy lists every period from the first to the last, whether or not it has rows.

    Django asks for the distinct ones, and so truncates the time of every row: 1.1 s for 100,000 rows in SQLite.
    """

    def datetimes(self, field_name: str, kind: str, *args: Any, **kwargs: Any) -> Any:
        """Return the beginnings of the years, months or days between the first row and the last."""
        times = self.order_by(field_name).values_list(field_name, flat=True)
        first, last = times.first(), times.last()
        begins: list[datetime] = []
        while first is not None and last is not None and first <= last:
            begins.append(_begin(first, kind))
            # 32 days after its first day every month is over, 367 days after it every year.
            first = _begin(begins[-1] + timedelta(days={"day": 1, "month": 32, "year": 367}[kind]), kind)
        return begins


def _begin(moment: datetime, kind: str) -> datetime:
    day = timezone.localtime(moment).replace(hour=0, minute=0, second=0, microsecond=0)
    return day if kind == "day" else day.replace(day=1) if kind == "month" else day.replace(month=1, day=1)


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
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        """Return every connection, in the admin's order."""
        return ByPeriod(Connection).order_by(*self.get_ordering(request) or ())

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
class MemberAdmin(UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
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
