"""Actions of the admin: asked about first, done to the rows that were chosen, told in one message. Used by admin_*.

An action tells servers, DynamoDB or SQS, row by row: a request may only take as many rows as a page shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.contrib import messages
from django.contrib.admin import helpers
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from notifications.exceptions import HermesError, StageNotConfigured

NAMED = 5  # rows in a sentence
CONFIRMED = "post"  # as in Django's own question before a deletion
_Row = TypeVar("_Row", bound=Model)


def some(rows: Sequence[object]) -> str:
    """Name rows in a sentence, the first few of many."""
    names = ", ".join(str(row) for row in rows[:NAMED])
    return names if len(rows) <= NAMED else f"{names} and {len(rows) - NAMED} more"


def count(rows: Sequence[object], noun: str) -> str:
    """Say how many rows there are."""
    return f"{len(rows)} {noun}{'' if len(rows) == 1 else 's'}"


def ask(
    admin: ModelAdmin,
    request: HttpRequest,
    rows: Sequence[Model],
    question: str,
    *,
    consequence: str,
    verb: str,
    named: Callable[[Any], str] = str,
    back: str = "",
) -> HttpResponse | None:
    """Ask before something is done that disturbs people.

    Args:
        admin: whose action it is.
        request: the one that chose the rows, or the answer to the question.
        rows: what it would be done to; all of them are named.
        question, consequence, verb: what the page asks and says, and what its button says.
        named: what a row is called.
        back: where to go instead; by default where the request came from.

    Returns:
        The page with the question; ``None`` once it was answered with yes.
    """
    if request.method == "POST" and request.POST.get(CONFIRMED) == "yes":
        return None
    context = {
        **admin.admin_site.each_context(request),
        "title": verb,
        "question": question,
        "consequence": consequence,
        "verb": verb,
        "rows": [(row.pk, named(row)) for row in rows],
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        # A list's action is told by name; a page of its own has an address.
        "action": request.POST.get("action", ""),
        "back": back or request.get_full_path(),
    }
    return TemplateResponse(request, "hermes_admin/confirm.html", context)


def carry_out(
    admin: Any,
    request: HttpRequest,
    rows: Sequence[_Row],
    act: Callable[[_Row], object],
    *,
    log: str,
    done: Callable[[Sequence[_Row]], str],
    failed: Callable[[_Row], str],
) -> list[_Row]:
    """Act on each row, log each, and say in one message what was done.

    What is not answered stops it: those that follow would most likely fail as well, each after a wait. A row of a stage
    that this process does not have is told of, and the others go on.

    Args:
        admin: whose action it is.
        request: whose user does it.
        rows: what it is done to.
        act: does it to one; raises `HermesError` where it cannot.
        log: what the admin's log says of each.
        done, failed: what is said of those that it was done to, and of one that failed.

    Returns:
        Those that it was done to.
    """
    finished: list[_Row] = []
    for number, row in enumerate(rows, 1):
        try:
            act(row)
        except StageNotConfigured as error:
            admin.message_user(request, f"{failed(row)}: {error}", messages.ERROR)
            continue
        except HermesError as error:
            rest = len(rows) - number
            text = f"{failed(row)}: {type(error).__name__}. Stopped there{f', before {rest} more' if rest else ''}."
            admin.message_user(request, text, messages.ERROR)
            break
        admin.log_change(request, row, log)
        finished.append(row)
    if finished:
        admin.message_user(request, done(finished), messages.SUCCESS)
    return finished
