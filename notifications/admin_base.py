"""Base: what the admin's pages share. Used by admin and admin_rooms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from unfold.admin import ModelAdmin, checkbox

from notifications.exceptions import Unavailable

_KEY = "the-key-of-a-row"


@functools.cache
def _checkbox(language: str | None) -> str:
    # Its label is translated.
    return str(checkbox.render(helpers.ACTION_CHECKBOX_NAME, _KEY))


class Listed(ModelAdmin):  # type: ignore[misc]
    """Lists whose rows cost little: unfold renders three templates for the checkbox of each."""

    def action_checkbox(self, obj: Model) -> SafeString:
        """Return a row's checkbox: the one template with the row's key put in."""
        return mark_safe(_checkbox(get_language()).replace(_KEY, escape(obj.pk)))  # noqa: S308  the key is escaped

    action_checkbox.short_description = ModelAdmin.action_checkbox.short_description  # type: ignore[attr-defined]


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


class TakesAuthority(Listed):
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
