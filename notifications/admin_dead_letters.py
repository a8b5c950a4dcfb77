"""The admin's pages of dead letters: listed, opened, mended, sent again, discarded. Asks intake.dead_letters, shows
admin_letters.

A body is a payload: it is shown as text to who may view dead letters, and neither logged nor put into a message or the
admin's log, which name a letter by its stage and MessageId.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, cast

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.debug import sensitive_post_parameters
from unfold.admin import ModelAdmin

from notifications.admin_letters import shown_letter, shown_row
from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.intake.dead_letters import ACT_SECONDS, HOLD_SECONDS, SEARCHED, SHOWN, DeadLetters
from notifications.intake.letter import Done, Letter, Outcome, excerpt, successor
from notifications.models import DeadLetter

NAMED = 5  # letters in a sentence
# What is said of letters by what became of them: how loudly, and in which words.
SAID: dict[Outcome, tuple[int, str]] = {
    Outcome.SENT: (messages.SUCCESS, "Sent again: {}."),
    Outcome.DISCARDED: (messages.SUCCESS, "Discarded: {}."),
    Outcome.LEFT: (
        messages.WARNING,
        "Sent again, but not deleted here: {}. Discard them. Sent once more within "
        "{remembered} they are not shown a second time: they keep their message id. {why}.",
    ),
    Outcome.REFUSED: (
        messages.WARNING,
        "Not sent, because the relay would refuse them again: {}. Open each and mend it.",
    ),
    Outcome.MISSING: (
        messages.WARNING,
        "Not found: {}. They are gone, or somebody else is looking at them at this moment, or they are not among the "
        "first {searched} letters.",
    ),
    Outcome.FAILED: (messages.ERROR, "Stopped at {}: nothing became of it, nor of what was to follow. {why}."),
}


@admin.register(DeadLetter)
class DeadLetterAdmin(ModelAdmin):  # type: ignore[misc]
    """The workbench of a stage's dead-letter queue."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a letter is never changed, only sent again in another form."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: discarding has a permission and a page of its own."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether the user may look."""
        return request.user.has_perm("notifications.view_deadletter")

    def get_urls(self) -> list[URLPattern]:
        """Return the workbench's pages and no others: nothing here is a row of a table."""
        name, view = "notifications_deadletter", self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name=f"{name}_changelist"),
            path("send/", view(self.send_view), name=f"{name}_send"),
            path("discard/", view(self.discard_view), name=f"{name}_discard"),
            path("<str:object_id>/history/", view(self.history_view), name=f"{name}_history"),
            path("<str:object_id>/change/", view(self.change_view), name=f"{name}_change"),
        ]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> DeadLetter:
        """Return a letter's name, of which the log speaks also when the letter is gone; no table has it."""
        _parse(object_id)
        return DeadLetter(key=object_id)

    # ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """List some of the letters."""
        self._require(request)
        stage = _stage(request.GET.get("stage"))
        context: dict[str, Any] = {
            "look": None,
            "rows": [],
            "shown": SHOWN,
            "hold_seconds": HOLD_SECONDS,
            "successors": stage.queue_name,
        }
        try:
            look = DeadLetters(stage).look()
            context |= {"look": look, "rows": [shown_row(_key(stage, row.id), row) for row in look.rows]}
        except QueueUnavailable as error:
            context["trouble"] = str(error)
        return self._page(request, "dead_letters/list.html", stage, context | (extra_context or {}))

    @method_decorator(sensitive_post_parameters("body"))
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one letter, and send it again, mended or as it is."""
        self._require(request)
        stage, message_id = _parse(object_id)
        if request.method != "POST":
            return self._letter_page(request, stage, message_id)
        self._require(request, "redrive")
        text = request.POST.get("body")
        text = None if text is None else text.replace("\r\n", "\n")
        if text is not None:
            try:
                successor(text, message_id, max_bytes=settings.HERMES_MESSAGE_MAX_BYTES)
            except MessageRefused as refusal:
                return self._letter_page(request, stage, message_id, text, refusal)
        outcomes = self._act(request, stage, DeadLetters(stage).send_again([message_id], text))
        if Outcome.SENT in outcomes or Outcome.LEFT in outcomes:
            return _to_list(stage)
        return self._letter_page(request, stage, message_id, text)

    def send_view(self, request: HttpRequest) -> HttpResponse:
        """Send the chosen letters again, or all of them."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._require(request, "redrive")
        stage = _stage(request.POST.get("stage"))
        letters = DeadLetters(stage)
        if "all" in request.POST:
            if not self._act(request, stage, letters.send_all()):
                self.message_user(request, "There was nothing to send, or nothing could be.", messages.WARNING)
        elif chosen := _chosen(request):
            self._act(request, stage, letters.send_again(chosen))
        else:
            self.message_user(request, "No letter was chosen.", messages.WARNING)
        return _to_list(stage)

    def discard_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether the chosen letters are to be deleted for good, and then do it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        self._require(request, "discard")
        stage, chosen = _stage(request.POST.get("stage")), _chosen(request)
        if not chosen:
            self.message_user(request, "No letter was chosen.", messages.WARNING)
        elif "confirmed" not in request.POST:
            return self._page(request, "dead_letters/discard.html", stage, {"chosen": chosen})
        else:
            self._act(request, stage, DeadLetters(stage).discard(chosen))
        return _to_list(stage)

    # ── How ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _require(self, request: HttpRequest, *permissions: str) -> None:
        if not all(request.user.has_perm(f"notifications.{each}") for each in ("view_deadletter", *permissions)):
            raise PermissionDenied

    def _act(self, request: HttpRequest, stage: Stage, results: Iterator[Done]) -> list[Outcome]:
        """Let letters be acted on, log each at once, and say what became of them."""
        became: dict[Outcome, list[Done]] = defaultdict(list)
        try:
            for done in results:
                became[done.outcome].append(done)
                self._log(request, stage, done)
        except QueueUnavailable as error:
            self.message_user(request, f"{error}. Nothing more was done.", messages.ERROR)
        for outcome, some in became.items():
            level, text = SAID[outcome]
            numbers = {"remembered": f"{settings.HERMES_IDEMPOTENCY_SECONDS} s", "searched": SEARCHED}
            names = ", ".join(done.id[:60] for done in some[:NAMED])
            named = f"{len(some)} ({names}{', …' if len(some) > NAMED else ''})"
            self.message_user(request, text.format(named, why=some[0].why, **numbers), level)
        return list(became)

    def _log(self, request: HttpRequest, stage: Stage, done: Done) -> None:
        said = {
            Outcome.SENT: "Sent again, mended." if done.is_mended else "Sent again.",
            Outcome.LEFT: "Sent again, mended; not deleted." if done.is_mended else "Sent again; not deleted.",
            Outcome.DISCARDED: "Discarded.",
        }.get(done.outcome)
        if said is None:
            return
        flag = DELETION if done.outcome is Outcome.DISCARDED else CHANGE
        LogEntry.objects.log_actions(
            cast(int, request.user.pk),
            [DeadLetter(key=_key(stage, done.id))],
            flag,
            change_message=said,
            single_object=True,
        )

    def _letter_page(
        self,
        request: HttpRequest,
        stage: Stage,
        message_id: str,
        text: str | None = None,
        refusal: MessageRefused | None = None,
    ) -> HttpResponse:
        """Show a letter; with a text that somebody has written, that text, and how it is refused."""
        letter: Letter | None = None
        context: dict[str, Any] = {}
        try:
            letter = DeadLetters(stage).open(message_id)
        except QueueUnavailable as error:
            context["trouble"] = str(error)
        most = settings.HERMES_MESSAGE_MAX_BYTES
        if letter:
            context |= shown_letter(letter)
        if text is not None:
            context |= {"text": text, "refusal": refusal}
            if refusal:
                context["refused"] = excerpt(text, refusal, max_bytes=most)
        context |= {"letter": letter, "original": DeadLetter(key=_key(stage, message_id)), "searched": SEARCHED}
        status = 200 if letter or text is not None or "trouble" in context else 404
        return self._page(request, "dead_letters/letter.html", stage, context, status)

    def _page(
        self, request: HttpRequest, template: str, stage: Stage, context: dict[str, Any], status: int = 200
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Dead letters",
            "opts": self.opts,
            "stage": stage,
            "stages": list(settings.HERMES_STAGES),
            "may_send": request.user.has_perm("notifications.redrive"),
            "may_discard": request.user.has_perm("notifications.discard"),
            "max_bytes": settings.HERMES_MESSAGE_MAX_BYTES,
            "act_seconds": int(ACT_SECONDS),
            **context,
        }
        return TemplateResponse(request, template, context, status=status)


def _stage(name: str | None) -> Stage:
    stages: dict[str, Stage] = settings.HERMES_STAGES
    if name is None:
        return next(iter(stages.values()))
    if name not in stages:
        raise Http404(f"There is no stage {name!r}.")
    return stages[name]


def _key(stage: Stage, message_id: str) -> str:
    return f"{stage.name}.{message_id}"


def _parse(key: str) -> tuple[Stage, str]:
    name, _, message_id = key.partition(".")
    return _stage(name), message_id


def _chosen(request: HttpRequest) -> list[str]:
    return request.POST.getlist("letter")[:SHOWN]


def _to_list(stage: Stage) -> HttpResponse:
    return HttpResponseRedirect(
        f"{reverse('admin:notifications_deadletter_changelist')}?{urlencode({'stage': stage.name})}"
    )
