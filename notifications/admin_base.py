"""Base: what the admin's pages share. Used by admin and admin_rooms; shows models by admin_lists."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.admin import ShowFacets, helpers
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import NestedObjects
from django.db import router, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import capfirst
from django.utils.translation import get_language
from unfold.admin import ModelAdmin, TabularInline, checkbox

from notifications.admin_lists import Changes, Counted
from notifications.exceptions import Unavailable
from notifications.models import Membership

_KEY = "the-key-of-a-row"


@functools.cache
def _checkbox(language: str | None) -> str:
    # Its label is translated.
    return str(checkbox.render(helpers.ACTION_CHECKBOX_NAME, _KEY))


class Listed(ModelAdmin):  # type: ignore[misc]
    """Lists whose rows cost little, and which never count a whole table.

    unfold renders three templates for the checkbox of each row.
    """

    list_per_page = 25
    paginator = Counted
    show_full_result_count = False
    # Django's “Show counts” counts every row once for each choice of each filter.
    show_facets = ShowFacets.NEVER
    list_disable_select_all = True

    def action_checkbox(self, obj: Model) -> SafeString:
        """Return a row's checkbox: the one template with the row's key put in."""
        return mark_safe(_checkbox(get_language()).replace(_KEY, escape(obj.pk)))  # noqa: S308  the key is escaped

    action_checkbox.short_description = ModelAdmin.action_checkbox.short_description  # type: ignore[attr-defined]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[Changes]:
        """Return the list that tells what it has not counted."""
        return Changes

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Act on chosen rows alone.

        Thousands at once would take minutes: a revocation alone is 20 ms, and a proxy gives a request up after 30 s.
        """
        across = any(value not in ("", "0") for value in request.POST.getlist("select_across"))
        most: int = self.list_max_show_all
        if across or len(request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)) > most:
            text = f"Nothing was done: an action takes the rows that are chosen on a page, {most} at most."
            self.message_user(request, text, messages.ERROR)
            return None
        response: HttpResponse | None = super().response_action(request, queryset)
        return response


class ShownOnly(Listed):
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


class Memberships(TabularInline):  # type: ignore[misc]
    """Memberships on a room's or a user's page: added and taken away. There is nothing to change about one."""

    model = Membership
    extra = 0
    hide_title = True
    per_page = 20

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Refuse, so that those that are there are text: a field to choose from costs a query and 5 ms, each."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Read the names of all in one query."""
        memberships: QuerySet[Membership] = super().get_queryset(request)
        return memberships.select_related("room", "user")


class _Going(NestedObjects):
    """What a deletion takes along. Django reads it a kind at a time, but then the names of each membership alone."""

    def related_objects(self, related_model: type[Model], related_fields: Any, objs: Any) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().related_objects(related_model, related_fields, objs)
        return rows.select_related("room", "user") if related_model is Membership else rows


class TakesAuthority(Listed):
    """Pages whose changes may take a member's authority back, which DynamoDB must know before they are saved.

    While it does not answer nothing is changed, and the page says so; Django has rolled everything back by then.
    """

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Return what a deletion takes along, in as many queries for many rows as for few.

        Whoever has done something cannot be deleted: the admin's log of it would go, too.
        """
        going = _Going(using=router.db_for_write(self.model), origin=objs)
        going.collect(objs)
        found: Any = going.model_objs  # by model; its stubs say by name
        admins = {model: self.admin_site._registry.get(model) for model in found}
        lacking = {
            str(model._meta.verbose_name)
            for model, its in admins.items()
            # Lines of the log are named below, with what to do instead.
            if its is not None and model is not LogEntry
            # Of some kinds not every row is theirs to delete.
            if not all(its.has_delete_permission(request, row) for row in found[model])
        }
        counts = {str(model._meta.verbose_name_plural): len(rows) for model, rows in found.items()}
        kept = [_named(each) for each in going.protected]
        if lines := len(found.get(LogEntry, ())):
            kept.append(f"lines of the log of what was done here: {lines}. Take away “active” instead.")
        return going.nested(_named), counts, lacking, kept

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Save, or say that nothing was saved."""
        return self._or_say_so(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Delete, or say that nothing was deleted."""
        return self._or_say_so(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List, and run actions such as the deletion of many."""
        if "delete_selected" in request.POST.getlist("action"):
            # Django writes its log first, and would leave it there when nothing was deleted.
            return self._or_say_so(request, transaction.atomic(super().changelist_view), *args, **kwargs)
        return self._or_say_so(request, super().changelist_view, *args, **kwargs)

    def _or_say_so(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Unavailable:
            # In the stages before the silent one tokens are revoked now: that does no harm to whoever stays a member.
            text = "Nothing was changed: the token store does not answer, and tokens could not be revoked. Try again."
            self.message_user(request, text, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())


def _named(row: Model) -> str:
    return f"{capfirst(str(row._meta.verbose_name))}: {row}"
