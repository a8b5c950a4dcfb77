"""The demo page: what a member's dashboard looks like with Hermes. Included by urls; its form goes through notify."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast
from urllib.parse import urlsplit

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import path, reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from notifications import hermes
from notifications.access.views import find_stage, websocket_url
from notifications.exceptions import HermesError
from notifications.models import Room

KINDS = (
    ("info", "Information"),
    ("success", "Success"),
    ("warning", "Warning"),
    ("danger", "Danger"),
    ("custom", "Custom"),
)
# What a small company's page shows beside its notifications: the same in every room, because it is a demo.
FIGURES = (
    ("Paid this month", "€48,260", "12 % more than in October"),
    ("Open orders", "23", "4 leave today"),
    ("Invoices due", "€8,420", "9 in the next two weeks"),
    ("Overdue", "2", "€1,310 from Umbrella and Hooli"),
)
ORDERS = (
    ("5074", "Stark Industries", "24 workstations", "€31,180.00", "New"),
    ("5073", "Wayne Enterprises", "Network for the east wing", "€9,640.00", "New"),
    ("5072", "Globex GmbH", "Backup, second year", "€1,240.00", "Paid"),
    ("5071", "Initech Ltd.", "12 monitors", "€3,590.00", "Packed"),
    ("5070", "Soylent & Sons", "Maintenance, November", "€890.00", "Paid"),
    ("5069", "Umbrella AG", "2 switches", "€760.00", "Overdue"),
)


class MessageForm(forms.Form):
    """A toast to send to one's own room."""

    room = forms.CharField(widget=forms.HiddenInput, max_length=128)
    type = forms.ChoiceField(choices=KINDS, initial="info", widget=forms.RadioSelect)
    title = forms.CharField(max_length=120, initial="Order 5075 has come in")
    text = forms.CharField(
        max_length=500,
        required=False,
        initial="Vandelay Industries · 6 laptops, €8,940.00",
        widget=forms.Textarea(attrs={"rows": 2}),
    )


def strict(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Answer with a content security policy that allows only our own files: no inline script, no HTML from text."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        socket = urlsplit(websocket_url(request, find_stage(None)))
        response["Content-Security-Policy"] = (
            f"default-src 'self'; connect-src 'self' {socket.scheme}://{socket.netloc}; "
            "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
            "require-trusted-types-for 'script'; trusted-types 'none'"
        )
        return response

    return answer


@strict
@login_required
@never_cache
@require_GET
def dashboard(request: HttpRequest) -> HttpResponse:
    """Show the connection, what arrives, and a form whose message goes round through SQS."""
    context = _page(request, "overview")
    room = context["room"]
    context |= {"figures": FIGURES, "orders": ORDERS, "form": MessageForm(initial={"room": room.code if room else ""})}
    return render(request, "demo/dashboard.html", context)


@strict
@login_required
@never_cache
@require_GET
def guide(request: HttpRequest) -> HttpResponse:
    """Show how any back end sends; also the page to navigate to and lose nothing."""
    return render(request, "demo/guide.html", _page(request, "guide"))


@login_required
@require_POST
def send(request: HttpRequest) -> HttpResponse:
    """Put the form's message on SQS. Answers scripts with JSON, and browsers without them with the page."""
    form = MessageForm(request.POST)
    scripted = "application/json" in request.headers.get("Accept", "")
    error, status, room = "", 202, None
    if not form.is_valid():
        problems = form.errors.get_json_data().items()
        error = " ".join(f"{name}: {problem['message']}" for name, found in problems for problem in found)
        status = 400
    elif (room := _rooms(request).filter(code=form.cleaned_data["room"]).first()) is None:
        error, status = "You are not a member of that room.", 403
    else:
        toast = {name: form.cleaned_data[name] for name in ("title", "text") if form.cleaned_data[name]}
        data = {"type": form.cleaned_data["type"], "data": toast}
        try:
            hermes.notify(room.code, data, user=_user(request).pk)
        except HermesError:
            error, status = "The queue does not answer. Nothing was sent; try again.", 503
    if scripted:
        return JsonResponse({"error": error} if error else {"sent": True}, status=status)
    if error:
        messages.error(request, error)
    else:
        messages.success(request, "Sent. It comes back as a toast.")
    return HttpResponseRedirect(f"{reverse('demo')}?{urlencode({'room': room.code})}" if room else reverse("demo"))


def _user(request: HttpRequest) -> AbstractBaseUser:
    return cast(AbstractBaseUser, request.user)  # these views are for the signed-in


def _rooms(request: HttpRequest) -> Any:
    return Room.objects.filter(memberships__user_id=_user(request).pk)


def _page(request: HttpRequest, page: str) -> dict[str, Any]:
    rooms = list(_rooms(request))
    wished = request.GET.get("room")
    room = next((each for each in rooms if each.code == wished), rooms[0] if rooms else None)
    return {"rooms": rooms, "room": room, "page": page}


sign_in = strict(LoginView.as_view(template_name="demo/sign_in.html", redirect_authenticated_user=True))

urlpatterns = [
    path("", dashboard, name="demo"),
    path("guide/", guide, name="demo-guide"),
    path("send/", send, name="demo-send"),
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
]
