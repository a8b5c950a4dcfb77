"""The log in the admin: who did what, and when, to be looked at alone. Shows Django's log entries by admin_lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin import SimpleListFilter
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst
from unfold.contrib.filters.admin import TextFilter

from notifications.admin_base import ShownOnly
from notifications.admin_lists import linked
from notifications.admin_words import moment_of_a_year


class WhoFilter(TextFilter):  # type: ignore[misc]
    """What one user did."""

    title = "user"
    parameter_name = "user"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the lines of the user, by the index of its key and not by a join with all users."""
        name = (self.value() or "").strip()
        if not name:
            return queryset
        key = None if "\0" in name else User.objects.filter(username=name).values_list("pk", flat=True).first()
        return queryset.filter(user_id=key) if key else queryset.none()


class KindFilter(SimpleListFilter):
    """What was done to one kind of thing; the kinds come from the admin's pages, not from the rows."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Name the kinds."""
        models = model_admin.admin_site._registry
        return sorted((model._meta.label_lower, capfirst(str(model._meta.verbose_name))) for model in models)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen kind."""
        app, _, model = (self.value() or "").partition(".")
        if not app:
            return queryset
        kind = ContentType.objects.filter(app_label=app, model=model).values_list("pk", flat=True).first()
        return queryset.filter(content_type_id=kind) if kind else queryset.none()


@admin.register(LogEntry)
class LogAdmin(ShownOnly):
    """Django's log of what was done in the admin."""

    list_display = ("at", "who", "kind", "what", "said")
    list_display_links = None
    list_select_related = ("user", "content_type")
    list_filter = (WhoFilter, KindFilter)
    list_filter_submit = True
    list_fullwidth = True
    # Lines are never changed, so they are in the order of their keys; times have no index.
    ordering = ("-pk",)
    sortable_by = ()

    @admin.display(description="When")
    def at(self, entry: LogEntry) -> str:
        """Return when it was done; the log is kept for years."""
        return moment_of_a_year(entry.action_time)

    @admin.display(description="Who")
    def who(self, entry: LogEntry) -> str:
        """Return who did it."""
        return entry.user.get_username()

    @admin.display(description="Kind")
    def kind(self, entry: LogEntry) -> str:
        """Return what kind of thing it was done to."""
        return "–" if entry.content_type is None else capfirst(entry.content_type.name)

    @admin.display(description="To what")
    def what(self, entry: LogEntry) -> str:
        """Return what it was done to, with the way to its page where it may still have one."""
        there = None if entry.is_deletion() else entry.get_admin_url()
        return linked(entry.object_repr, there)

    @admin.display(description="What was done")
    def said(self, entry: LogEntry) -> str:
        """Return what the log says."""
        return entry.get_change_message() or ("Deleted." if entry.is_deletion() else "Changed.")
