"""Who may do what in the admin: every page and every action, held against every permission; and what the log says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from hermes_site.engines import Valkey
from notifications import dashboard
from notifications.intake.queue import Queue
from notifications.models import Connection, Membership, Room, Server
from notifications.stream.history import History
from notifications.stream.message import Message

pytestmark = pytest.mark.django_db(transaction=True)

# Each page with what opens it: the one permission, of which there may be several.
# Django's rule: who may change may see. What Hermes writes nobody may change, but the rule is the same.
VIEW = {model: {f"view_{model}", f"change_{model}"} for model in ("room", "membership", "connection", "server")}
SHOWN = ("connection", "server")
# Staff and groups are a superuser's; what the row of a user here is, any member, is whoever's who may edit users.
VIEW |= {model: {f"view_{model}", f"change_{model}"} for model in ("user", "group")}
SUPERUSERS = {f"auth_group_{page}" for page in ("add", "delete")}
BOTH = {
    # Django's rule: who may make users may edit them.
    "auth_user_add": ("add_user", "change_user"),
    "notifications_room_send_to_room": ("view_room", "send_message"),
    "notifications_connection_disconnect_it": ("view_connection", "disconnect"),
    "notifications_connection_revoke_tokens_of_it": ("view_connection", "revoke"),
}
PAGES: dict[str, set[str]] = {
    "notifications_live": {"view_server"},
    "notifications_relays": {"view_server"},
    **{f"notifications_{model}_changelist": VIEW[model] for model in ("room", "membership")},
    **{f"notifications_{model}_change": VIEW[model] for model in ("room", "membership")},
    **{f"notifications_{model}_history": VIEW[model] for model in ("room", "membership")},
    **{f"notifications_{model}_add": {f"add_{model}"} for model in ("room", "membership")},
    **{f"notifications_{model}_delete": {f"delete_{model}"} for model in ("room", "membership")},
    **{f"notifications_{model}_{page}": VIEW[model] for model in SHOWN for page in ("changelist", "change", "history")},
    **{f"notifications_{model}_{page}": set() for model in SHOWN for page in ("add", "delete")},
    # Django's model: its own permission to view, and nobody may change a line.
    **{f"admin_logentry_{page}": {"view_logentry"} for page in ("changelist", "change", "history")},
    **{f"admin_logentry_{page}": set() for page in ("add", "delete")},
    "notifications_room_history_of_room": VIEW["room"],
    **{
        f"auth_{model}_{page}": VIEW[model]
        for model in ("user", "group")
        for page in ("changelist", "change", "history")
    },
    "auth_user_delete": {"delete_user"},
    "auth_user_password_change": {"change_user"},
    **{page: set() for page in (*BOTH, *SUPERUSERS)},
}
# Every action with its permission, and what it is seen to have done.
ACTIONS = {
    ("connection", "disconnect"): "disconnect",
    ("connection", "disconnect_it"): "disconnect",
    ("connection", "revoke_tokens"): "revoke",
    ("connection", "revoke_tokens_of_it"): "revoke",
    ("membership", "revoke_tokens"): "revoke",
    ("room", "send_test_message"): "send_message",
    ("room", "send"): "send_message",
}
OURS = ("room", "membership", "connection", "server")
DJANGOS = ("user", "group")
SINGLE = sorted(
    {f"{verb}_{model}" for verb in ("view", "add", "change", "delete") for model in (*OURS, *DJANGOS)}
    | {"disconnect", "revoke", "send_message", "view_logentry"}
)


@pytest.fixture(autouse=True)
def anew(valkey: Valkey) -> Iterator[None]:
    dashboard.looks.cache_clear()
    yield
    if dashboard.looks.cache_info().currsize:
        dashboard.looks().close()
    dashboard.looks.cache_clear()


@pytest.fixture
def rows(alice: Any) -> dict[str, str]:
    """A row of each model, by its key."""
    now = timezone.now()
    Connection.objects.create(connection_id="c-1", stage="development", room_id="acme", user_id="1", server_id="s-1")
    Server.objects.create(server_id="s-1", host="web", pid=1, started_at=now, lease_until=now)
    return {
        "room": str(Room.objects.get().pk),
        "membership": str(Membership.objects.get().pk),
        "connection": "c-1",
        "server": "s-1",
    }


@pytest.fixture
def all_rows(rows: dict[str, str]) -> dict[str, str]:
    """Those, a line of the log, which other tests begin without, a group, and a member of no room."""
    dana = User.objects.create_user("dana")
    LogEntry.objects.log_actions(dana.pk, [Room.objects.get()], 2, change_message="Sent a test message.")
    group = Group.objects.create(name="operators")
    member = User.objects.create_user("frank")
    return rows | {"logentry": str(LogEntry.objects.get().pk), "group": str(group.pk), "user": str(member.pk)}


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What actions have done."""
    calls: list[str] = []
    monkeypatch.setattr("notifications.access.revocation.disconnect", lambda *a: calls.append("disconnect"))
    monkeypatch.setattr("notifications.access.revocation.revoke", lambda *a: calls.append("revoke"))
    monkeypatch.setattr(Queue, "send", lambda self, body, traceparent: calls.append("send_message"))
    return calls


def staff(*permissions: str, superuser: bool = False) -> Client:
    """Sign in a member of staff with just these permissions."""
    user = User.objects.create_user(f"staff-{User.objects.count()}", is_staff=True, is_superuser=superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions, content_type__app_label__in=APPS))
    client = Client()
    client.force_login(user)
    return client


APPS = ("notifications", "auth", "admin")


DETAIL = ("history_of_room", "send_to_room", "disconnect_it", "revoke_tokens_of_it")  # buttons of an object's page


def path(page: str, rows: dict[str, str]) -> str:
    model = page.split("_")[1]
    has_row = page.split("_", 2)[-1] in {"change", "history", "delete", "password_change", *DETAIL}
    return reverse(f"admin:{page}", args=(rows[model],) if has_row else ())


def routes(patterns: list[Any]) -> Iterator[str]:
    for each in patterns:
        if isinstance(each, URLResolver):
            yield from routes(each.url_patterns)
        elif isinstance(each, URLPattern) and each.name and each.name.startswith(("notifications_", "admin_", "auth_")):
            yield each.name


def test_the_matrix_has_every_page_and_every_action_of_ours() -> None:
    kinds = {*OURS, *DJANGOS, "live", "relays", "logentry"}
    ours = {name for name in routes(admin.site.urls[0]) if name.split("_")[1] in kinds}
    assert ours == set(PAGES)
    actions = {
        (model._meta.model_name, name)
        for model, each in admin.site._registry.items()
        if model._meta.app_label == "notifications" and model._meta.model_name in OURS
        for name in each.actions or ()
    }
    buttons = {("room", "send"), ("connection", "disconnect_it"), ("connection", "revoke_tokens_of_it")}
    assert actions | buttons == set(ACTIONS)


def test_each_page_opens_to_its_permission_and_to_no_other(all_rows: dict[str, str], aws: Any) -> None:
    clients = {permission: staff(permission) for permission in SINGLE}
    wrong = [
        (page, permission)
        for page, allowed in PAGES.items()
        for permission, client in clients.items()
        if (client.get(path(page, all_rows)).status_code == 200) != (permission in allowed)
    ]
    assert wrong == []
    for page, both in BOTH.items():
        assert staff(*both).get(path(page, all_rows)).status_code == 200


def test_no_page_opens_to_a_stranger_to_a_member_or_to_staff_without_permissions(
    all_rows: dict[str, str], alice: Any
) -> None:
    stranger, member, nobody = Client(), Client(), staff()
    member.force_login(alice)
    for page in [*PAGES, "index"]:
        there = reverse("admin:index") if page == "index" else path(page, all_rows)
        for client in (stranger, member):
            response = client.get(there)
            assert (response.status_code, response.headers.get("Location", "").split("?")[0]) == (302, "/admin/login/")
        assert nobody.get(there).status_code == (200 if page == "index" else 403), page
    assert b"hermes-tiles" not in nobody.get(reverse("admin:index")).content


def test_every_page_opens_to_a_superuser_but_those_that_nobody_may(all_rows: dict[str, str], aws: Any) -> None:
    client = staff(superuser=True)
    for page, allowed in PAGES.items():
        expected = 200 if allowed or page in BOTH or page in SUPERUSERS else 403
        assert client.get(path(page, all_rows)).status_code == expected, page


def act(client: Client, model: str, action: str, rows: dict[str, str]) -> None:
    if action == "send":
        form = {
            "stage": "development",
            "payload": '{"type": "info", "data": "secret"}',
            "to": "",
            "key": "",
            "send": "1",
        }
        client.post(reverse("admin:notifications_room_send_to_room", args=(rows["room"],)), form)
        return
    if action in DETAIL:
        client.post(path(f"notifications_{model}_{action}", rows), {"post": "yes"})
        return
    form = {"action": action, "_selected_action": rows[model], "post": "yes"}
    client.post(reverse(f"admin:notifications_{model}_changelist"), form)


@pytest.mark.parametrize(("model", "action"), sorted(ACTIONS))
def test_an_action_is_done_for_who_may_see_and_do_it_and_for_nobody_else(
    rows: dict[str, str], done: list[str], alice: Any, model: str, action: str
) -> None:
    right = ACTIONS[model, action]
    stranger, member = Client(), Client()
    member.force_login(alice)
    refused = [
        stranger,
        member,
        staff(),
        staff(right),
        *(staff(f"view_{model}", other) for other in SINGLE if other != right),
    ]
    for client in refused:
        act(client, model, action, rows)
    assert done == []
    assert not LogEntry.objects.exists()
    act(staff(f"view_{model}", right), model, action, rows)
    act(staff(superuser=True), model, action, rows)
    assert done == [right, right]


# Django's own action of every list, and what goes along.
DELETIONS = {
    "membership": {"delete_membership"},
    "room": {"delete_room", "delete_membership"},
    "user": {"delete_user", "delete_membership"},
}


@pytest.mark.parametrize("model", DELETIONS)
def test_what_is_chosen_in_a_list_is_deleted_for_who_may_delete_all_of_it_and_for_nobody_else(
    rows: dict[str, str], aws: Any, alice: Any, model: str
) -> None:
    app, needed = "auth" if model == "user" else "notifications", DELETIONS[model]
    there = reverse(f"admin:{app}_{model}_changelist")
    form = {"action": "delete_selected", "_selected_action": rows.get(model, str(alice.pk)), "post": "yes"}
    enough = {f"view_{model}", *needed}
    member = Client()
    member.force_login(alice)
    refused = [Client(), member, staff(), *(staff(*enough - {each}) for each in enough), staff(*set(SINGLE) - needed)]
    for client in refused:
        client.post(there, form)
    assert (Membership.objects.count(), Room.objects.count()) == (1, 1)
    assert User.objects.filter(pk=alice.pk).exists()
    staff(*enough).post(there, form)
    assert not Membership.objects.exists()
    assert Room.objects.exists() == (model != "room")
    assert User.objects.filter(pk=alice.pk).exists() == (model != "user")
    assert {entry.content_type.model for entry in LogEntry.objects.all()} == {model}  # type: ignore[union-attr]


@pytest.mark.parametrize(("model", "action"), sorted(ACTIONS))
def test_an_action_is_in_the_log_with_who_what_and_when(
    rows: dict[str, str], done: list[str], model: str, action: str
) -> None:
    begun = datetime.now(UTC)
    client = staff(f"view_{model}", ACTIONS[model, action])
    act(client, model, action, rows)
    entry = LogEntry.objects.get()
    assert entry.user.username == User.objects.latest("pk").username
    assert (entry.content_type.model, entry.object_id) == (model, rows[model])  # type: ignore[union-attr]
    assert entry.get_change_message()
    assert begun <= entry.action_time <= datetime.now(UTC)
    assert "secret" not in entry.get_change_message()


def test_a_message_that_is_only_checked_is_shown_and_goes_nowhere(rows: dict[str, str], done: list[str]) -> None:
    client = staff("view_room", "send_message")
    page = reverse("admin:notifications_room_send_to_room", args=(rows["room"],))
    checked = {"stage": "production", "payload": '{"a": [1, "é"]}', "to": "7, 8", "key": "k-1", "check": "1"}
    response = client.post(page, checked)
    body = json.loads(response.context["body"])
    user = User.objects.latest("pk").pk
    assert body == {"user_id": user, "room_id": "acme", "data": {"a": [1, "é"]}, "to": ["7", "8"], "id": "k-1"}
    assert "would go to" in response.content.decode()
    assert done == []
    assert not LogEntry.objects.exists()


def test_a_message_that_is_only_checked_shows_no_id_but_what_will_be_sent(
    rows: dict[str, str], done: list[str]
) -> None:
    client = staff("view_room", "send_message")
    page = reverse("admin:notifications_room_send_to_room", args=(rows["room"],))
    checked = {"stage": "development", "payload": "1", "to": "", "key": "", "check": "1"}
    response = client.post(page, checked)
    assert "id" not in json.loads(response.context["body"])
    assert "Sending it adds an" in response.content.decode()


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"payload": "{"}, "This is not JSON"),
        ({"payload": '{"type": "hermes.forged"}'}, "Nothing was sent."),
        ({"payload": "NaN"}, "Nothing was sent."),
        ({"payload": "[" * 100_000}, "This is not JSON"),
        ({"payload": json.dumps("x" * 70_000)}, "too_large"),
        ({"payload": "1", "key": "\x07"}, "Nothing was sent."),
        ({"payload": "1", "stage": "nowhere"}, "Select a valid choice"),
        ({"payload": ""}, "This field is required"),
    ],
)
def test_a_message_that_the_relay_would_refuse_is_not_sent_and_the_page_says_why(
    rows: dict[str, str], done: list[str], form: dict[str, str], why: str
) -> None:
    client = staff("view_room", "send_message")
    page = reverse("admin:notifications_room_send_to_room", args=(rows["room"],))
    for button in ("check", "send"):
        response = client.post(page, {"stage": "development", "to": "", "key": "", **form, button: "1"})
        assert response.status_code == 200
        assert why in response.content.decode()
    assert done == []
    assert not LogEntry.objects.exists()


async def test_a_rooms_history_shows_whose_and_how_large_and_no_payload(rows: dict[str, str], valkey: Valkey) -> None:
    from asgiref.sync import sync_to_async

    history = History()
    await history.append("development", [Message("m-1", 42, "acme", '{"type":"invoice.paid","data":"secret"}')])
    await history.aclose()
    client = await sync_to_async(staff)("view_room")
    page = reverse("admin:notifications_room_history_of_room", args=(rows["room"],))
    text = (await sync_to_async(client.get)(page)).content.decode()
    assert "<td>invoice.paid</td>" in text
    assert "<td>42</td>" in text
    assert "secret" not in text
    other = (await sync_to_async(client.get)(page, {"stage": "production"})).content.decode()
    assert "no history in stage production yet" in other
    assert (await sync_to_async(client.get)(page, {"stage": "nowhere"})).status_code == 200
    valkey.stop()
    away = await sync_to_async(client.get)(page)
    assert away.status_code == 200
    assert "cannot be read now" in away.content.decode()
