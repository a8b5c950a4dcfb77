"""Lists: filters, dates and pages of the admin's connections, fast among 100,000. Used by admin; reads models."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin import SimpleListFilter
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import TextFilter
from unfold.templatetags import unfold_list
from unfold.utils import display_for_label, display_for_value
from unfold.views import ChangeList

from notifications.models import Connection

MOST_COUNTED = 5_000

_result_headers = unfold_list.result_headers


def _headers_once(changes: Any) -> Iterator[dict[str, Any]]:
    """Yield a list's headers; made once, whoever asks how often."""
    if not hasattr(changes, "headers_made"):
        changes.headers_made = list(_result_headers(changes))
    yield from changes.headers_made


# unfold makes all headers of a list anew for each of its rows, for their words alone: half of a page's time.
unfold_list.result_headers = _headers_once


@functools.cache
def label(words: str, kind: str) -> SafeString:
    """Return a coloured label as unfold's `display(label=…)` shows it, rendered once and not once a row.

    Args:
        words: what it says, of a few that there are.
        kind: its colour, as unfold calls it: `success`, `danger`, `default`.
    """
    shown: SafeString = display_for_label(words, "", {words: kind})
    return shown


@functools.cache
def tick(yes: bool) -> SafeString:
    """Return unfold's sign for yes or no, rendered once."""
    shown: SafeString = display_for_value(yes, "", boolean=True)
    return shown


def linked(words: str, there: str | None) -> str:
    """Return words with the way to a page, or the words alone where there is none."""
    if not there:
        return words
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', there, words)


class Counted(Paginator):  # type: ignore[type-arg]
    """Pages of a list whose rows are counted up to a bound: to count 100,000 costs as much as to read them."""

    template_name = "hermes_admin/pagination.html"

    @cached_property
    def count(self) -> int:
        """Return how many rows can be paged through; whoever looks for an older one has filters and dates."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows[:MOST_COUNTED].count()


class Changes(ChangeList):  # type: ignore[misc]
    """A list that says how many rows it found only where it knows: unfiltered it has no “Show all” to offer."""

    def get_results(self, request: HttpRequest) -> None:
        """Count, and tell the page's head nothing that it would call all of them."""
        super().get_results(request)
        # What stands for a number that nobody has counted.
        self.bound = f"{MOST_COUNTED:,} or more" if self.result_count >= MOST_COUNTED else ""
        if self.bound or not (self.query or self.get_filters_params(self.filter_params)):
            # unfold's head shows both where they differ.
            self.full_result_count = self.result_count


class Exactly(TextFilter):  # type: ignore[misc]
    """A filter on a column's exact value: found by its index, where a list of all values would read every row."""

    column = ""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows that have what was typed."""
        value = (self.value() or "").strip()
        if "\0" in value:  # no column holds one, and PostgreSQL raises when it is asked
            return queryset.none()
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

    def aggregate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Answer the date hierarchy's question, for the first and the last row, from the ends of an index.

        Asked for both at once, and with a filter, SQLite reads every row.
        """
        if args or kwargs.keys() != {"first", "last"}:
            return super().aggregate(*args, **kwargs)
        times = self.order_by("opened_at").values_list("opened_at", flat=True)
        return {"first": times.first(), "last": times.last()}

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
