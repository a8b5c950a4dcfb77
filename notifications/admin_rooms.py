"""Rooms in the admin: edited with their members, their last entries, and messages to them. Sends by hermes.

A page shows of an entry what it weighs and whose it is, and never its payload.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.decorators import action
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from notifications import hermes
from notifications.admin_actions import ask, carry_out, count, some
from notifications.admin_base import Memberships, TakesAuthority
from notifications.admin_lists import tick
from notifications.admin_words import size
from notifications.exceptions import HermesError, HistoryUnavailable
from notifications.models import Membership, Room
from notifications.stream import glance

ENTRIES = 50  # of a room's history on its page


class MessageForm(forms.Form):
    """A message to a room, as hermes.notify takes it."""

    stage = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    payload = forms.CharField(
        label="Data",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
        initial='{"type": "info", "data": {"title": "", "text": ""}}',
        help_text="Any JSON. Pages show the types info, success, warning and danger as toasts.",
    )
    to = forms.CharField(
        required=False,
        label="Only for",
        widget=UnfoldAdminTextInputWidget,
        help_text="User ids with commas between them; empty for the whole room.",
    )
    key = forms.CharField(
        required=False,
        label="Idempotency key",
        widget=UnfoldAdminTextInputWidget,
        help_text="What is sent with the same key again within an hour is dropped; empty for a new one.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["stage"].choices = [(name, name) for name in settings.HERMES_STAGES]  # type: ignore[attr-defined]

    def clean_payload(self) -> Any:
        """Read the JSON; what it may hold is for the relay's rules to say."""
        try:
            return json.loads(self.cleaned_data["payload"])
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from error

    def clean_to(self) -> list[str] | None:
        """Read the addressees."""
        return [user.strip() for user in self.cleaned_data["to"].split(",") if user.strip()] or None

    def clean_key(self) -> str | None:
        """Read the key."""
        return self.cleaned_data["key"].strip() or None


class MembersOfRoom(Memberships):
    """A room's members, on its page."""

    autocomplete_fields = ("user",)
    verbose_name_plural = "members"


class RoomAdmin(TakesAuthority):
    """Rooms with their members, and a test message to any of them."""

    list_display = ("code", "name", "members", "clients_may_send")
    search_fields = ("code", "name")
    list_filter = ("allow_client_send",)
    list_filter_submit = True
    inlines = (MembersOfRoom,)
    actions = ("send_test_message",)
    actions_detail = ("history_of_room", "send_to_room")

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

    @admin.display(description="allow client send", ordering="allow_client_send")
    def clients_may_send(self, room: Room) -> SafeString:
        """Return whether clients of the room may send to it."""
        return tick(room.allow_client_send)

    def has_send_message_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        """Tell whether the user may send messages to rooms."""
        return request.user.has_perm("notifications.send_message")

    @admin.action(description="Send a test message", permissions=("send_message",))
    def send_test_message(self, request: HttpRequest, rooms: QuerySet[Room]) -> HttpResponse | None:
        """Put a message for each room on SQS; it comes back as a toast in every browser of the room."""
        chosen = list(rooms)
        if question := ask(
            self,
            request,
            chosen,
            f"Send a test message to {count(chosen, 'room')}?",
            consequence="It is a toast on every open page of these rooms.",
            verb="Send",
        ):
            return question
        carry_out(
            self,
            request,
            chosen,
            lambda room: self._send_test(request, room),
            log="Sent a test message.",
            done=lambda rooms: f"A test message is on its way to {some(rooms)}.",
            failed=lambda room: f"Nothing was sent to {room}",
        )
        return None

    def _send_test(self, request: HttpRequest, room: Room) -> None:
        sender = request.user.get_username()
        data = {"title": "Test message", "text": f"Sent to {room} from the admin by {sender}."}
        hermes.notify(room.code, {"type": "info", "data": data}, user=request.user.pk)

    @action(description="Last entries", url_path="entries", permissions=["view"], icon="list")  # type: ignore[untyped-decorator]
    def history_of_room(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show a room's last entries: place, sender, type and size."""
        room = self._room(object_id)
        stages = list(settings.HERMES_STAGES)
        stage = request.GET.get("stage", stages[0])
        if stage not in stages:
            stage = stages[0]
        head, entries, refused = None, list[glance.Glanced](), ""
        try:
            head, entries = glance.last_entries(stage, room.code, ENTRIES)
        except HistoryUnavailable as error:
            refused = str(error)
        rows = [
            (
                entry.seq,
                entry.at,
                entry.sender,
                entry.kind or "–",
                size(entry.size),
                "the room" if entry.addressees is None else f"{entry.addressees} of its members",
                entry.id,
            )
            for entry in entries
        ]
        more = {"head": head, "rows": rows, "refused": refused, "stage": stage, "stages": stages}
        return self._page(request, room, "hermes_admin/entries.html", f"Last entries of {room}", more)

    @action(  # type: ignore[untyped-decorator]
        description="Send a message", url_path="send", permissions=["view", "send_message"], icon="send"
    )
    def send_to_room(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a message through SQS, or only say what would be published and whether the relay would take it."""
        room = self._room(object_id)
        form = MessageForm(request.POST or None, initial={"stage": next(iter(settings.HERMES_STAGES))})
        more: dict[str, Any] = {"form": form}
        if form.is_valid():
            told = form.cleaned_data
            message = {"to": told["to"], "id": told["key"], "user": request.user.pk, "stage": told["stage"]}
            try:
                body = hermes.compose(room.code, told["payload"], **message)
                if "send" in request.POST:
                    hermes.notify(room.code, told["payload"], **message)
                    self._log_sent(request, room, told, body)
                    return HttpResponseRedirect(request.path)
            except (HermesError, ValueError) as error:
                # Of SQS the words are for the log of the relay's host; of the rules they are for who wrote this.
                more["refused"] = str(error)
            else:
                shown = json.loads(body)
                if told["key"] is None:
                    del shown["id"]  # made for this body alone: sending makes another
                more |= {
                    "body": json.dumps(shown, indent=2, ensure_ascii=False),
                    "has_key": told["key"] is not None,
                    "size": size(len(body.encode())),
                    "queue": settings.HERMES_STAGES[told["stage"]].queue_name,
                }
        return self._page(request, room, "hermes_admin/send.html", f"Send a message to {room}", more)

    def _log_sent(self, request: HttpRequest, room: Room, told: dict[str, Any], body: str) -> None:
        kind = told["payload"].get("type") if isinstance(told["payload"], dict) else None
        whom = "the room" if told["to"] is None else f"{len(told['to'])} of its members"
        said = f"Sent a message to {whom} (stage {told['stage']}, type {str(kind)[:40]!r}, {len(body.encode())} bytes)."
        self.log_change(request, room, said)
        self.message_user(request, f"The message is on its way to {room}.", messages.SUCCESS)

    def _room(self, object_id: str) -> Room:
        try:
            return get_object_or_404(Room, pk=object_id)
        except ValueError as error:
            raise PermissionDenied from error

    def _page(
        self, request: HttpRequest, room: Room, template: str, title: str, more: dict[str, Any]
    ) -> TemplateResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "room": room,
            "back": reverse("admin:notifications_room_change", args=(room.pk,)),
            **more,
        }
        return TemplateResponse(request, template, context)
