"""Connections in the admin: found, looked at and closed. Shows models by admin_lists; closes by access.revocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.dataclasses import UnfoldAction
from unfold.decorators import action

from notifications import admin_words
from notifications.access import revocation
from notifications.admin_actions import ask, carry_out, count, some
from notifications.admin_base import ShownOnly
from notifications.admin_lists import ByPeriod, RoomFilter, StageFilter, StateFilter, UserFilter, label, linked
from notifications.models import Connection, Membership, Room, Server


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
    actions = ("disconnect", "revoke_tokens")
    actions_detail = ("disconnect_it", "revoke_tokens_of_it")
    # Of its own page: every value in words, to the second, with the way to what it is of.
    fields = readonly_fields = (
        "connection_id",
        "state",
        "stage",
        "room",
        "user",
        "server",
        "opened_on",
        "closed_on",
        "reason",
        "sent",
        "behind",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        """Return every connection, in the admin's order."""
        return ByPeriod(Connection).order_by(*self.get_ordering(request) or ())

    def has_revoke_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Tell whether the user may revoke tokens."""
        return request.user.has_perm("notifications.revoke")

    def has_disconnect_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Tell whether the user may close connections."""
        return request.user.has_perm("notifications.disconnect")

    @admin.action(description="Disconnect", permissions=("disconnect",))
    def disconnect(self, request: HttpRequest, connections: QuerySet[Connection]) -> HttpResponse | None:
        """Tell every server to close these connections; their clients may come back at once."""
        return self._disconnect(request, connections)

    @action(  # type: ignore[untyped-decorator]
        description="Disconnect", url_path="disconnect", permissions=["view", "disconnect"], icon="link_off"
    )
    def disconnect_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Tell every server to close a connection."""
        back = reverse("admin:notifications_connection_change", args=(object_id,))
        return self._disconnect(request, _one(object_id), back) or HttpResponseRedirect(back)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[UnfoldAction]:
        """Offer to close a connection while it is open."""
        offered: list[UnfoldAction] = super().get_actions_detail(request, object_id)
        if Connection.objects.filter(pk=object_id, closed_at=None).exists():
            return offered
        return [each for each in offered if each.method != self.disconnect_it]

    def _disconnect(
        self, request: HttpRequest, connections: QuerySet[Connection], back: str = ""
    ) -> HttpResponse | None:
        still_open = list(connections.filter(closed_at=None))
        if not still_open:
            self.message_user(request, "None of these is open any more.", messages.WARNING)
            return None
        if question := ask(
            self,
            request,
            still_open,
            f"Close {count(still_open, 'open connection')}?",
            consequence="A page may come back at once. To keep somebody out, revoke tokens or remove memberships.",
            verb="Disconnect",
            named=lambda each: f"{each.connection_id}: {_member(each)}",
            back=back,
        ):
            return question
        carry_out(
            self,
            request,
            still_open,
            lambda each: revocation.disconnect(each.stage, each.connection_id),
            log="Disconnected.",
            done=lambda each: f"Connections that are being closed: {len(each)}.",
            failed=lambda each: f"The connection {each} is not closed",
        )
        return None

    @admin.action(description="Revoke their members' tokens", permissions=("revoke",))
    def revoke_tokens(self, request: HttpRequest, connections: QuerySet[Connection]) -> HttpResponse | None:
        """Refuse every token that these members have for these rooms.

        Another issuer's members have no membership here: a connection is all that is known of them.
        """
        return self._revoke(request, connections)

    @action(  # type: ignore[untyped-decorator]
        description="Revoke tokens", url_path="revoke", permissions=["view", "revoke"], icon="key_off"
    )
    def revoke_tokens_of_it(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Refuse every token that the member of a connection has for its room."""
        back = reverse("admin:notifications_connection_change", args=(object_id,))
        return self._revoke(request, _one(object_id), back) or HttpResponseRedirect(back)

    def _revoke(self, request: HttpRequest, connections: QuerySet[Connection], back: str = "") -> HttpResponse | None:
        # One connection of each member and room; of stages that the settings no longer have, nobody knows the tokens.
        known = connections.filter(stage__in=list(settings.HERMES_STAGES))
        chosen = list({(each.stage, each.room_id, each.user_id): each for each in known}.values())
        if not chosen:
            self.message_user(request, "No stage of the settings has these.", messages.WARNING)
            return None
        if question := ask(
            self,
            request,
            chosen,
            f"Revoke the tokens of {count(chosen, 'member')}?",
            consequence="Their connections to these rooms close. Who is still a member gets a new token on asking.",
            verb="Revoke tokens",
            named=_member,
            back=back,
        ):
            return question
        carry_out(
            self,
            request,
            chosen,
            lambda each: revocation.revoke(each.user_id, each.room_id, [each.stage]),
            log="Revoked the member's tokens.",
            done=lambda each: f"The tokens of {some([_member(one) for one in each])} are revoked.",
            failed=lambda each: f"The tokens of {_member(each)} are not revoked",
        )
        return None

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

    @admin.display(description="Opened")
    def opened_on(self, connection: Connection) -> str:
        """Return when it joined, with its year."""
        return admin_words.moment_of_a_year(connection.opened_at)

    @admin.display(description="Closed")
    def closed_on(self, connection: Connection) -> str:
        """Return when it ended, with its year."""
        return "–" if connection.closed_at is None else admin_words.moment_of_a_year(connection.closed_at)

    @admin.display(description="Room")
    def room(self, connection: Connection) -> str:
        """Return its room, with the way to its page where there is one: a room needs no row to be joined."""
        return _linked(connection.room_id, _around(connection).room)

    @admin.display(description="User")
    def user(self, connection: Connection) -> str:
        """Return its user, with the way to the page of one who is Django's: another issuer's are named alike."""
        return _linked(connection.user_id, _around(connection).user)

    @admin.display(description="Server")
    def server(self, connection: Connection) -> str:
        """Return its server, with the way to its page while it has one."""
        server = _around(connection).server
        return _linked(f"{server} ({connection.server_id})" if server else connection.server_id, server)

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
            return _uncounted(connection)
        return f"{admin_words.frames(connection.frames_sent)}, {admin_words.size(connection.bytes_sent or 0)}"

    @admin.display(description="Behind")
    def behind(self, connection: Connection) -> str:
        """Return how far its reader is behind its room: frames, by what one of its own has weighed, and bytes."""
        waiting = connection.bytes_waiting
        if not waiting:
            return _uncounted(connection) if waiting is None else "no"
        frames, volume = connection.frames_sent or 0, connection.bytes_sent or 0
        # What is not taken was sent, too; half of a frame is a frame that has not come.
        late = min(frames, -(-waiting * frames // volume)) if volume else 0
        return f"≈\u00a0{admin_words.frames(late)}, {admin_words.size(waiting)}"


def _member(connection: Connection) -> str:
    return f"{connection.user_id} in {connection.room_id} (stage {connection.stage})"


def _one(connection_id: str) -> QuerySet[Connection]:
    """Return a connection alone.

    Raises:
        Http404: there is none.
    """
    found = Connection.objects.filter(pk=connection_id)
    if "\0" in connection_id or not found.exists():
        raise Http404(f"There is no connection {connection_id!r}.")
    return found


def _uncounted(connection: Connection) -> str:
    """Say that there is no count: a server writes what it has counted once a minute, all connections in one go."""
    return "not yet" if connection.closed_at is None else "–"


@dataclass(frozen=True, slots=True)
class Around:
    """The rows of what a connection is of, where there are any."""

    room: Room | None
    user: Any
    server: Server | None


def _around(connection: Any) -> Around:
    """Look for them once: unfold asks for each value of a page several times."""
    if not hasattr(connection, "around"):
        number = _number(connection.user_id)
        known = Membership.objects.filter(room__code=connection.room_id, user_id=number) if number is not None else None
        membership = known.select_related("user").first() if known is not None else None
        connection.around = Around(
            Room.objects.filter(code=connection.room_id).first(),
            membership and membership.user,
            Server.objects.filter(pk=connection.server_id).first(),
        )
    around: Around = connection.around
    return around


def _linked(words: str, row: Model | None) -> str:
    if row is None:
        return words
    return linked(words, reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=(row.pk,)))


def _number(user_id: str) -> int | None:
    """Return a key of Django's users; ``None`` for what is none."""
    return int(user_id) if user_id.isascii() and user_id.isdecimal() and len(user_id) < 19 else None
