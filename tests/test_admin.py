"""The admin as people use it: who may see and do what, filters that find, actions that go through SQS."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape, strip_tags

from hermes_site.engines import HOST, free_port
from notifications.exceptions import QueueUnavailable, StoreUnavailable
from notifications.intake.queue import Queue
from notifications.models import Connection, Membership, Room, Server

pytestmark = pytest.mark.django_db
CONNECTIONS = "admin:notifications_connection_changelist"
ROOMS = "admin:notifications_room_changelist"
USERS_PAGES = ("auth_user_change", "auth_user_delete")


@pytest.fixture
def staff(client: Client) -> Callable[..., Client]:
    """Return a function that signs in a member of staff with these permissions; ``None``: with all."""

    def sign_in(*permissions: str | None) -> Client:
        user = User.objects.create_user("dana", is_staff=True, is_superuser=permissions == (None,))
        user.user_permissions.set(Permission.objects.filter(codename__in=[each for each in permissions if each]))
        client.force_login(user)
        return client

    return sign_in


@pytest.fixture
def connected() -> None:
    """Alice and Bob in acme, Alice gone; Charlie in globex, in production."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    rows = [("alice", "acme", "development"), ("bob", "acme", "development"), ("charlie", "globex", "production")]
    for number, (user, room, stage) in enumerate(rows):
        Connection.objects.create(
            connection_id=f"connection-of-{user}",
            stage=stage,
            room_id=room,
            user_id=user,
            server_id="server-a",
            opened_at=begin + timedelta(days=number),
            closed_at=begin + timedelta(days=9) if user == "alice" else None,
            close_code=1001 if user == "alice" else None,
        )


def shown(client: Client, **query: str) -> set[str]:
    """Return the users whose connections the list shows."""
    response = client.get(reverse(CONNECTIONS), query)
    assert response.status_code == 200
    return {connection.user_id for connection in response.context["cl"].result_list}


@pytest.mark.parametrize(
    ("query", "users"),
    [
        ({}, {"alice", "bob", "charlie"}),
        ({"state": "open"}, {"bob", "charlie"}),
        ({"state": "closed"}, {"alice"}),
        ({"room": "acme"}, {"alice", "bob"}),
        ({"room": " acme "}, {"alice", "bob"}),
        ({"room": "acm"}, set()),
        ({"user": "charlie"}, {"charlie"}),
        ({"stage": "production"}, {"charlie"}),
        ({"room": "acme", "state": "open"}, {"bob"}),
        ({"q": "globex"}, {"charlie"}),
        ({"q": "connection-of-bob"}, {"bob"}),
        ({"q": "nobody"}, set()),
        ({"opened_at__year": "2026", "opened_at__month": "3", "opened_at__day": "2"}, {"bob"}),
    ],
)
def test_connections_are_found_by_room_user_state_stage_and_day(
    staff: Callable[..., Client], connected: None, query: dict[str, str], users: set[str]
) -> None:
    assert shown(staff("view_connection"), **query) == users


@pytest.mark.parametrize(
    ("days", "links"),
    [
        ([date(2026, 3, 1), date(2026, 3, 3)], ["day=1", "day=2", "day=3"]),
        ([date(2026, 2, 28), date(2026, 4, 1)], ["month=2", "month=3", "month=4"]),
        ([date(2024, 12, 31), date(2026, 1, 1)], ["year=2024", "year=2025", "year=2026"]),
        ([date(2024, 1, 31), date(2024, 12, 1)], [f"month={number}" for number in range(1, 13)]),
        ([date(2026, 3, 1)], ["day=1"]),
        ([], []),
    ],
)
def test_the_date_hierarchy_lists_the_periods_from_the_first_to_the_last(
    staff: Callable[..., Client], days: list[date], links: list[str]
) -> None:
    for number, day in enumerate(days):
        begin = datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)
        Connection.objects.create(connection_id=f"c-{number}", room_id="acme", user_id="alice", opened_at=begin)
    page = staff("view_connection").get(reverse(CONNECTIONS)).content.decode()
    assert [
        link for link in re.findall(r"opened_at__(day=\d+|month=\d+|year=\d+)", page) if link[0] == (links or "d")[0][0]
    ] == links


def test_connections_are_shown_and_never_edited_not_even_by_a_superuser(
    staff: Callable[..., Client], connected: None
) -> None:
    client, row = staff(None), ("connection-of-bob",)
    page = client.get(reverse("admin:notifications_connection_change", args=row))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert client.get(reverse("admin:notifications_connection_add")).status_code == 403
    assert client.post(reverse("admin:notifications_connection_change", args=row), {}).status_code == 403
    assert client.post(reverse("admin:notifications_connection_delete", args=row), {"post": "yes"}).status_code == 403
    assert b"delete_selected" not in client.get(reverse(CONNECTIONS)).content
    client.post(reverse(CONNECTIONS), {"action": "delete_selected", "_selected_action": [*row], "post": "yes"})
    assert Connection.objects.count() == 3


@pytest.mark.parametrize("model", ["connection", "server", "room", "membership"])
def test_a_page_is_for_who_may_view_it(staff: Callable[..., Client], model: str) -> None:
    page = reverse(f"admin:notifications_{model}_changelist")
    client = staff(f"view_{model}")
    assert client.get(page).status_code == 200
    client.force_login(User.objects.create_user("erin", is_staff=True))
    assert client.get(page).status_code == 403


@pytest.mark.parametrize(
    "page",
    [
        "admin:index",
        "admin:auth_user_changelist",
        "admin:auth_user_add",
        "admin:auth_group_changelist",
        "admin:notifications_room_add",
        "admin:notifications_membership_add",
    ],
)
def test_every_page_opens(staff: Callable[..., Client], page: str) -> None:
    assert staff(None).get(reverse(page)).status_code == 200


def test_the_list_costs_as_many_queries_for_many_connections_as_for_few(
    staff: Callable[..., Client], connected: None, django_assert_max_num_queries: Any
) -> None:
    client = staff("view_connection")
    rows = [
        Connection(connection_id=f"c-{n}", stage="development", room_id=f"r{n}", user_id=f"u{n}", server_id="s")
        for n in range(300)
    ]
    Connection.objects.bulk_create(rows)
    with django_assert_max_num_queries(10):
        assert client.get(reverse(CONNECTIONS)).status_code == 200


def test_a_row_of_a_list_costs_no_more_than_one_template(staff: Callable[..., Client]) -> None:
    """Its labels, its checkbox and the words of the list's headers are made once, and not once a row."""
    client = staff("view_connection", "disconnect")

    def rendered(rows: int) -> int:
        Connection.objects.all().delete()
        Connection.objects.bulk_create(
            Connection(connection_id=f"c-{n}", stage="development", room_id="r", user_id="u", server_id="s")
            for n in range(rows)
        )
        return len(client.get(reverse(CONNECTIONS)).templates)

    rendered(1)
    assert rendered(21) - rendered(1) <= 20


def test_a_rows_checkbox_has_the_rows_key_and_nothing_else_of_it(staff: Callable[..., Client]) -> None:
    key = '"><script>alert(1)</script>'
    Connection.objects.create(connection_id=key, stage="development", room_id="r", user_id="u", server_id="s")
    page = staff("view_connection", "disconnect").get(reverse(CONNECTIONS)).content.decode()
    assert key not in page
    assert f'value="{escape(key)}"' in page


def test_a_server_is_shown_with_its_lease_and_its_open_connections(staff: Callable[..., Client]) -> None:
    for server_id, left, said in (("server-a", 30, 2), ("server-b", -30, None)):
        until = Now() + timedelta(seconds=left)
        Server.objects.create(
            server_id=server_id, host="web-1", pid=42, started_at=Now(), lease_until=until, open_connections=said
        )
    response = staff("view_server").get(reverse("admin:notifications_server_changelist"))
    admin = response.context["cl"].model_admin
    servers = {server.server_id: server for server in response.context["cl"].result_list}
    shown = {name: (strip_tags(admin.lease(each)).strip(), admin.connections(each)) for name, each in servers.items()}
    assert shown == {"server-a": ("alive", "2"), "server-b": ("run out", "–")}


def removal(acme: Room, user: Any) -> dict[str, str]:
    """Return the form of a room's page that removes a member."""
    membership = Membership.objects.get(user=user)
    return {
        "code": "acme",
        "name": "Acme Inc.",
        "memberships-TOTAL_FORMS": "1",
        "memberships-INITIAL_FORMS": "1",
        "memberships-0-id": str(membership.pk),
        "memberships-0-room": str(acme.pk),
        "memberships-0-user": str(user.pk),
        "memberships-0-DELETE": "on",
    }


def test_a_room_is_listed_with_its_members_and_edited_with_them(
    staff: Callable[..., Client], aws: Any, alice: Any, bob: Any, charlie: Any
) -> None:
    Room.objects.create(code="empty")
    client = staff(None)
    rooms = client.get(reverse(ROOMS)).context["cl"].result_list
    assert {room.code: room.members for room in rooms} == {"acme": 2, "globex": 1, "empty": 0}
    acme = Room.objects.get(code="acme")
    page = reverse("admin:notifications_room_change", args=(acme.pk,))
    shown = client.get(page).content.decode()
    assert all(f">{user}</a>" in shown for user in (alice, bob))
    assert f">{charlie}</a>" not in shown
    assert client.post(page, removal(acme, bob)).status_code == 302
    acme.refresh_from_db()
    assert (acme.name, acme.allow_client_send, acme.memberships.count()) == ("Acme Inc.", False, 1)
    added = {**removal(acme, alice), "memberships-TOTAL_FORMS": "2", "memberships-1-user": str(charlie.pk)}
    del added["memberships-0-DELETE"]
    assert client.post(page, added).status_code == 302
    assert {membership.user for membership in acme.memberships.all()} == {alice, charlie}


def test_a_membership_cannot_be_made_another_on_a_rooms_page(
    staff: Callable[..., Client], alice: Any, bob: Any, charlie: Any
) -> None:
    acme = Room.objects.get(code="acme")
    kept = removal(acme, alice)
    del kept["memberships-0-DELETE"]
    page = reverse("admin:notifications_room_change", args=(acme.pk,))
    assert staff(None).post(page, {**kept, "memberships-0-user": str(charlie.pk)}).status_code == 302
    assert {membership.user for membership in acme.memberships.all()} == {alice, bob}


@pytest.mark.django_db(transaction=True)
def test_while_the_token_store_is_away_no_member_seems_gone_who_is_not(
    staff: Callable[..., Client], alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise StoreUnavailable("DynamoDB does not answer")

    monkeypatch.setattr("notifications.access.token_store.revoke", refuse)
    client, acme, membership = staff(None), Room.objects.get(code="acme"), Membership.objects.get(user=alice)
    pages = {
        reverse("admin:notifications_room_change", args=(acme.pk,)): removal(acme, alice),
        reverse("admin:notifications_membership_delete", args=(membership.pk,)): {"post": "yes"},
        reverse("admin:notifications_membership_changelist"): {
            "action": "delete_selected",
            "_selected_action": [str(membership.pk)],
            "post": "yes",
        },
    }
    for page, form in pages.items():
        response = client.post(page, form, follow=True)
        assert ["Nothing was changed" in str(message) for message in response.context["messages"]] == [True]
        assert Membership.objects.filter(user=alice).exists()
        assert not LogEntry.objects.exists(), "the log does not say that it was done"
    acme.refresh_from_db()
    assert acme.name == ""


def test_a_room_with_a_control_character_is_refused_by_the_form(staff: Callable[..., Client]) -> None:
    form = {"code": "ac\x07me", "memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    response = staff(None).post(reverse("admin:notifications_room_add"), form)
    assert response.status_code == 200
    assert not Room.objects.exists()


def send_test(client: Client, *rooms: Room) -> Any:
    """Choose rooms in the list and run the action."""
    form = {"action": "send_test_message", "_selected_action": [str(room.pk) for room in rooms], "post": "yes"}
    return client.post(reverse(ROOMS), form, follow=True)


@pytest.mark.django_db(transaction=True)
def test_a_test_message_goes_through_sqs_and_into_the_log(
    staff: Callable[..., Client], aws: Any, stage: Any, alice: Any
) -> None:
    room = Room.objects.get(code="acme")
    response = send_test(staff("view_room", "send_message"), room)
    assert [str(message) for message in response.context["messages"]] == ["A test message is on its way to acme."]
    url = aws.sqs.get_queue_url(QueueName=stage.queue_name)["QueueUrl"]
    (message,) = aws.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    body = json.loads(message["Body"])
    dana = User.objects.get(username="dana")
    assert (body["room_id"], body["user_id"], body["data"]["type"]) == ("acme", dana.pk, "info")
    assert "dana" in body["data"]["data"]["text"]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id, entry.get_change_message()) == (dana, str(room.pk), "Sent a test message.")


@pytest.mark.django_db(transaction=True)
def test_only_who_may_send_messages_can_send_a_test_message(
    staff: Callable[..., Client], aws: Any, stage: Any, alice: Any
) -> None:
    client = staff("view_room", "change_room")
    assert b"send_test_message" not in client.get(reverse(ROOMS)).content
    send_test(client, Room.objects.get(code="acme"))
    url = aws.sqs.get_queue_url(QueueName=stage.queue_name)["QueueUrl"]
    assert "Messages" not in aws.sqs.receive_message(QueueUrl=url)
    assert not LogEntry.objects.exists()


def test_many_rooms_are_named_in_short(staff: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = [Room.objects.create(code=f"room-{number}") for number in range(7)]
    monkeypatch.setattr("notifications.hermes._send", lambda stage, body: None)
    response = send_test(staff(None), *rooms)
    assert "and 2 more" in str(next(iter(response.context["messages"])))


def test_a_queue_that_does_not_answer_is_an_error_on_the_page_and_not_a_crash(
    staff: Callable[..., Client], alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Queue, body: str, traceparent: str) -> None:
        raise QueueUnavailable("SQS does not answer")

    monkeypatch.setattr(Queue, "send", refuse)
    monkeypatch.setattr("django.db.transaction.on_commit", lambda send: send())
    response = send_test(staff(None), Room.objects.get(code="acme"))
    assert [str(message) for message in response.context["messages"]] == [
        "Nothing was sent to acme: QueueUnavailable. Stopped there."
    ]
    assert not LogEntry.objects.exists()


def test_a_users_rooms_are_on_the_users_page(staff: Callable[..., Client], alice: Any) -> None:
    page = staff(None).get(reverse("admin:auth_user_change", args=(alice.pk,)))
    assert page.status_code == 200
    assert f">{Room.objects.get()}</a>" in page.content.decode()


@pytest.mark.parametrize("page", ["notifications_room_change", "notifications_room_delete", *USERS_PAGES])
def test_a_page_with_many_memberships_costs_as_many_queries_as_one_with_few(
    staff: Callable[..., Client], page: str
) -> None:
    client, alice, acme = staff(None), User.objects.create_user("alice"), Room.objects.create(code="acme")
    there = reverse(f"admin:{page}", args=(alice.pk if page in USERS_PAGES else acme.pk,))

    def asked(memberships: int) -> int:
        for number in range(memberships):
            room = Room.objects.get_or_create(code=f"room-{number}")[0] if page in USERS_PAGES else acme
            user = alice if page in USERS_PAGES else User.objects.get_or_create(username=f"member-{number}")[0]
            Membership.objects.get_or_create(room=room, user=user)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(there).status_code == 200
        return len(queries)

    asked(1)  # what is remembered once is remembered
    few = asked(2)
    assert asked(30) == few


def test_what_goes_along_with_a_room_is_named_and_needs_its_own_permission(
    staff: Callable[..., Client], alice: Any
) -> None:
    page = reverse("admin:notifications_room_delete", args=(Room.objects.get(code="acme").pk,))
    shown = staff("view_room", "delete_room").get(page).content.decode()
    assert "permission to delete the following types of objects" in " ".join(shown.split())
    User.objects.get(username="dana").user_permissions.add(Permission.objects.get(codename="delete_membership"))
    shown = Client()
    shown.force_login(User.objects.get(username="dana"))
    assert "Membership: alice in " in shown.get(page).content.decode()


def test_who_has_done_something_is_not_deleted_and_neither_is_the_log_of_it(
    staff: Callable[..., Client], alice: Any, bob: Any
) -> None:
    LogEntry.objects.log_actions(alice.pk, [bob], 2, change_message="Revoked the tokens.")
    client = staff(None)
    page = reverse("admin:auth_user_delete", args=(alice.pk,))
    shown = client.get(page).content.decode()
    assert "lines of the log of what was done here: 1" in shown
    client.post(page, {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [str(alice.pk)], "post": "yes"}
    client.post(reverse("admin:auth_user_changelist"), chosen)
    assert User.objects.filter(pk=alice.pk).exists()
    assert LogEntry.objects.get(user=alice).get_change_message() == "Revoked the tokens."


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Note what would be revoked and disconnected."""
    calls: list[tuple[str, ...]] = []
    for name in ("revoke", "disconnect"):
        monkeypatch.setattr(f"notifications.access.revocation.{name}", lambda *arguments: calls.append(arguments))
    return calls


def test_open_connections_are_closed_by_who_may_and_it_is_logged(
    staff: Callable[..., Client], connected: None, told: list[tuple[str, ...]]
) -> None:
    ids = ["connection-of-alice", "connection-of-bob", "connection-of-charlie"]
    client = staff("view_connection", "disconnect")
    form = {"action": "disconnect", "_selected_action": ids, "post": "yes"}
    response = client.post(reverse(CONNECTIONS), form, follow=True)
    assert sorted(told) == [("development", "connection-of-bob"), ("production", "connection-of-charlie")]
    assert [str(message) for message in response.context["messages"]] == ["Connections that are being closed: 2."]
    assert {entry.object_id for entry in LogEntry.objects.all()} == {"connection-of-bob", "connection-of-charlie"}


def test_a_connection_that_nobody_can_be_told_to_close_is_named_and_not_logged(
    staff: Callable[..., Client], connected: None, settings: Any
) -> None:
    """No row says that it is to be closed: a command that is lost would close nothing."""
    settings.REDIS_URL = f"redis://{HOST}:{free_port()}/0"
    form = {"action": "disconnect", "_selected_action": ["connection-of-bob"], "post": "yes"}
    response = staff("view_connection", "disconnect").post(reverse(CONNECTIONS), form, follow=True)
    assert [str(message) for message in response.context["messages"]] == [
        "The connection connection-of-bob is not closed: HistoryUnavailable. Stopped there."
    ]
    assert not LogEntry.objects.exists()


def test_a_connection_of_a_stage_that_this_process_does_not_have_is_named_with_the_reason_and_not_logged(
    staff: Callable[..., Client], connected: None, settings: Any
) -> None:
    settings.HERMES_STAGES = {name: stage for name, stage in settings.HERMES_STAGES.items() if name != "production"}
    ids = ["connection-of-charlie", "connection-of-bob"]
    form = {"action": "disconnect", "_selected_action": ids, "post": "yes"}
    response = staff("view_connection", "disconnect").post(reverse(CONNECTIONS), form, follow=True)
    assert sorted(str(message) for message in response.context["messages"]) == [
        "Connections that are being closed: 1.",
        "The connection connection-of-charlie is not closed: HERMES_STAGES does not have the stage 'production'.",
    ]
    assert [entry.object_id for entry in LogEntry.objects.all()] == ["connection-of-bob"]


def test_who_may_only_look_disconnects_nobody(
    staff: Callable[..., Client], connected: None, told: list[tuple[str, ...]]
) -> None:
    form = {"action": "disconnect", "_selected_action": ["connection-of-bob"], "post": "yes"}
    staff("view_connection", "send_message", "revoke").post(reverse(CONNECTIONS), form)
    assert told == []


def test_a_members_tokens_are_revoked_by_who_may(
    staff: Callable[..., Client], alice: Any, told: list[tuple[str, ...]]
) -> None:
    page, membership = reverse("admin:notifications_membership_changelist"), Membership.objects.get()
    form = {"action": "revoke_tokens", "_selected_action": [str(membership.pk)], "post": "yes"}
    client = staff("view_membership", "change_membership", "delete_membership")
    client.post(page, form)
    assert told == []
    User.objects.get(username="dana").user_permissions.add(Permission.objects.get(codename="revoke"))
    response = client.post(page, form, follow=True)
    assert told == [(str(alice.pk), "acme")]
    assert str(list(response.context["messages"])[-1]) == "The tokens of alice in acme are revoked."
    assert LogEntry.objects.get().get_change_message() == "Revoked the tokens."


def test_tokens_that_could_not_be_revoked_are_named(
    staff: Callable[..., Client], alice: Any, bob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise StoreUnavailable("DynamoDB does not answer")

    monkeypatch.setattr("notifications.access.revocation.revoke", refuse)
    keys = [str(each.pk) for each in Membership.objects.all()]
    form = {"action": "revoke_tokens", "_selected_action": keys, "post": "yes"}
    response = staff(None).post(reverse("admin:notifications_membership_changelist"), form, follow=True)
    assert [str(message) for message in response.context["messages"]] == [
        "The tokens of alice in acme are not revoked in every stage: StoreUnavailable. Stopped there, before 1 more."
    ]
    assert not LogEntry.objects.exists()


@pytest.fixture
def many(alice: Any) -> dict[str, list[str]]:
    """More rows of each list than a page has; returns their keys."""
    acme = Room.objects.get(code="acme")
    users = User.objects.bulk_create(User(username=f"member-{number}") for number in range(30))
    Membership.objects.bulk_create(Membership(room=acme, user=user) for user in users)
    Room.objects.bulk_create(Room(code=f"room-{number}") for number in range(30))
    Connection.objects.bulk_create(
        Connection(connection_id=f"c-{number}", stage="development", room_id="acme", user_id=str(number))
        for number in range(30)
    )
    models = {"connection": Connection, "membership": Membership, "room": Room}
    return {name: [str(each.pk) for each in model.objects.all()] for name, model in models.items()}


ACTS = [("connection", "disconnect"), ("membership", "revoke_tokens"), ("room", "send_test_message")]


@pytest.fixture
def sent(told: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Note what would be sent as well."""
    monkeypatch.setattr("notifications.hermes._send", lambda stage, body, trace: told.append((body,)))
    return told


@pytest.mark.parametrize(("model", "action"), ACTS)
def test_an_action_is_for_the_rows_of_a_page_and_never_for_all_that_there_are(
    staff: Callable[..., Client], many: dict[str, list[str]], sent: list[Any], model: str, action: str
) -> None:
    client, page = staff(None), reverse(f"admin:notifications_{model}_changelist")
    assert "select the objects across all pages" not in client.get(page).content.decode()
    forged = {"action": action, "_selected_action": many[model][:1], "select_across": "1", "post": "yes"}
    too_many = {"action": action, "_selected_action": [str(number) for number in range(201)], "post": "yes"}
    for form in (forged, too_many):
        response = client.post(page, form, follow=True)
        assert [str(message) for message in response.context["messages"]] == [
            "Nothing was done: an action takes the rows that are chosen on a page, 200 at most."
        ]
    assert sent == []
    assert not LogEntry.objects.exists()


def test_users_and_groups_are_not_chosen_all_at_once_either(staff: Callable[..., Client], many: Any) -> None:
    client = staff(None)
    for page in ("auth_user", "auth_group"):
        there = reverse(f"admin:{page}_changelist")
        assert "select the objects across all pages" not in client.get(there).content.decode()
        client.post(there, {"action": "delete_selected", "select_across": "1", "post": "yes"})
    assert User.objects.filter(username__startswith="member-").count() == 30


@pytest.mark.parametrize(
    ("model", "action", "question"),
    [
        (*ACTS[0], "Close 7 open connections?"),
        (*ACTS[1], "Revoke the tokens of 7 memberships?"),
        (*ACTS[2], "Send a test message to 7 rooms?"),
    ],
)
def test_an_action_first_asks_how_many_are_meant_and_then_says_what_it_did_in_one_message(
    staff: Callable[..., Client],
    many: dict[str, list[str]],
    sent: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    action: str,
    question: str,
) -> None:
    monkeypatch.setattr("django.db.transaction.on_commit", lambda send: send())
    client, page = staff(None), reverse(f"admin:notifications_{model}_changelist")
    asked = client.post(page, {"action": action, "_selected_action": many[model][:7]})
    assert asked.status_code == 200
    text = asked.content.decode()
    assert question in text
    assert sent == []
    hidden = dict.fromkeys(re.findall(r'name="_selected_action" value="([^"]+)"', text))
    assert sorted(hidden) == sorted(many[model][:7])
    done = client.post(page, {"action": action, "_selected_action": [*hidden], "post": "yes"}, follow=True)
    assert len(sent) == LogEntry.objects.count() == 7
    assert len(list(done.context["messages"])) == 1


def test_connections_that_have_ended_are_not_asked_about(
    staff: Callable[..., Client], connected: None, told: list[tuple[str, ...]]
) -> None:
    form = {"action": "disconnect", "_selected_action": ["connection-of-alice"]}
    response = staff("view_connection", "disconnect").post(reverse(CONNECTIONS), form, follow=True)
    assert [str(message) for message in response.context["messages"]] == ["None of these is open any more."]
    assert told == []


def test_a_queue_that_does_not_answer_is_asked_once_and_not_once_a_room(
    staff: Callable[..., Client], many: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def refuse(self: Queue, body: str, traceparent: str) -> None:
        tried.append(json.loads(body)["room_id"])
        if len(tried) == 3:
            raise QueueUnavailable("SQS does not answer")

    monkeypatch.setattr(Queue, "send", refuse)
    monkeypatch.setattr("django.db.transaction.on_commit", lambda send: send())
    response = send_test(staff(None), *Room.objects.filter(code__startswith="room-")[:8])
    assert len(tried) == 3
    assert [str(message) for message in response.context["messages"]] == [
        f"Nothing was sent to {tried[2]}: QueueUnavailable. Stopped there, before 5 more.",
        f"A test message is on its way to {tried[0]}, {tried[1]}.",
    ]
    assert LogEntry.objects.count() == 2


def test_members_without_a_membership_are_revoked_from_their_connections_once_each(
    staff: Callable[..., Client], connected: None, told: list[tuple[str, ...]]
) -> None:
    Connection.objects.create(connection_id="second", stage="development", room_id="acme", user_id="bob")
    Connection.objects.create(connection_id="old", stage="gone", room_id="acme", user_id="bob")
    keys = ["connection-of-alice", "connection-of-bob", "second", "old"]
    client, form = staff("view_connection", "revoke"), {"action": "revoke_tokens", "_selected_action": keys}
    asked = client.post(reverse(CONNECTIONS), form).content.decode()
    assert "Revoke the tokens of 2 members?" in asked
    assert "alice in acme (stage development)" in asked
    assert told == []
    response = client.post(reverse(CONNECTIONS), {**form, "post": "yes"}, follow=True)
    assert sorted(told) == [("alice", "acme", ["development"]), ("bob", "acme", ["development"])]
    (message,) = response.context["messages"]
    assert "in acme (stage development)" in str(message)
    assert {entry.get_change_message() for entry in LogEntry.objects.all()} == {"Revoked the member's tokens."}


def test_a_connections_page_asks_before_its_members_tokens_are_revoked(
    staff: Callable[..., Client], connected: None, told: list[tuple[str, ...]]
) -> None:
    client = staff("view_connection", "revoke")
    page = reverse("admin:notifications_connection_change", args=("connection-of-bob",))
    there = reverse("admin:notifications_connection_revoke_tokens_of_it", args=("connection-of-bob",))
    assert there in client.get(page).content.decode()
    asked = client.get(there).content.decode()
    assert "Revoke the tokens of 1 member?" in asked
    assert told == [], "looking at a page revokes nothing"
    client.get(there, {"post": "yes"})
    assert told == []
    assert client.post(there, {"post": "yes"}).headers["Location"] == page
    assert told == [("bob", "acme", ["development"])]
    nowhere = reverse("admin:notifications_connection_revoke_tokens_of_it", args=("nobody",))
    assert client.post(nowhere, {"post": "yes"}).status_code == 404


@pytest.mark.parametrize(
    ("query", "said", "offers_all"),
    [
        ({}, "5,000 or more connections", False),
        ({"p": "2"}, "5,000 or more connections", False),
        ({"room": "busy"}, "5,000 or more connections", False),
        ({"room": "quiet"}, "3 connections", True),
        ({"q": "quiet"}, "3 connections", True),
        ({"room": "nobody's"}, "0 connections", True),
    ],
)
def test_a_list_says_how_many_rows_there_are_only_as_far_as_it_has_counted(
    staff: Callable[..., Client], query: dict[str, str], said: str, offers_all: bool
) -> None:
    Connection.objects.bulk_create(
        Connection(connection_id=f"c-{number}", room_id="quiet" if number < 3 else "busy", user_id="1")
        for number in range(5_010)
    )
    page = " ".join(staff("view_connection").get(reverse(CONNECTIONS), query).content.decode().split())
    assert said in page
    assert ("Show all</a>)" in page) is offers_all
    assert "5000 results" not in page


def test_a_short_list_says_its_number_and_offers_no_more(staff: Callable[..., Client], connected: None) -> None:
    page = " ".join(staff("view_connection").get(reverse(CONNECTIONS)).content.decode().split())
    assert "3 connections" in page
    assert "Show all</a>)" not in page


def test_a_connections_page_says_all_of_it_in_words_to_the_second_and_leads_on(
    staff: Callable[..., Client], alice: Any
) -> None:
    Server.objects.create(server_id="s-1", host="web-1", pid=42, started_at=Now(), lease_until=Now())
    begin = datetime(2026, 3, 1, 9, 15, 27, tzinfo=UTC)
    Connection.objects.create(
        connection_id="cc51b1",
        stage="development",
        room_id="acme",
        user_id=str(alice.pk),
        server_id="s-1",
        opened_at=begin,
        closed_at=begin + timedelta(seconds=4),
        close_code=4108,
    )
    client = staff("view_connection", "disconnect")
    html = client.get(reverse("admin:notifications_connection_change", args=("cc51b1",))).content.decode()
    page = strip_tags(html)
    for words in (
        "01\u00a0Mar\u00a02026\u00a009:15:27",
        "01\u00a0Mar\u00a02026\u00a009:15:31",
        "4108 its reader did not keep up",
    ):
        assert words in page
    assert "Cc51b1" not in page
    acme = Room.objects.get(code="acme")
    for link in (("notifications_room", acme.pk), ("auth_user", alice.pk), ("notifications_server", "s-1")):
        assert reverse(f"admin:{link[0]}_change", args=(link[1],)) in html


@pytest.mark.parametrize(
    ("counted", "sent", "behind"),
    [
        ((None, None, None), "not yet", "not yet"),
        ((12, 4_800, 0), "12\u00a0frames, 4.7\u00a0KiB", "no"),
        ((1_200, 480_000, 16_000), "1\u202f200\u00a0frames, 469\u00a0KiB", "≈\u00a040\u00a0frames, 15.6\u00a0KiB"),
        ((12, 4_800, 3), "12\u00a0frames, 4.7\u00a0KiB", "≈\u00a01\u00a0frame, 3\u00a0B"),
        ((12, 4_800, 4_900), "12\u00a0frames, 4.7\u00a0KiB", "≈\u00a012\u00a0frames, 4.8\u00a0KiB"),
    ],
    ids=["not counted yet", "where its room is", "behind", "by a part of a frame", "by all, pings and all"],
)
def test_a_connection_says_what_it_was_sent_and_how_far_it_is_behind_its_room(
    staff: Callable[..., Client], counted: tuple[int | None, ...], sent: str, behind: str
) -> None:
    frames, volume, waiting = counted
    Connection.objects.create(
        connection_id="c-1",
        stage="development",
        room_id="acme",
        user_id="1",
        server_id="s-1",
        frames_sent=frames,
        bytes_sent=volume,
        bytes_waiting=waiting,
    )
    client = staff("view_connection")
    (row,) = re.findall(
        r"<tr[ >].*?</tr>", client.get(reverse(CONNECTIONS)).content.decode().partition("<tbody")[2], re.S
    )
    page = client.get(reverse("admin:notifications_connection_change", args=("c-1",))).content.decode()
    for words in (sent, behind):
        assert words in strip_tags(row)
        assert words in strip_tags(page)


def test_a_connection_of_strangers_to_sql_has_a_page_too(staff: Callable[..., Client], alice: Any) -> None:
    """Another issuer's user has a number of its own: it is not Django's user of that number."""
    key = "<b>of-another</b>"
    Connection.objects.create(
        connection_id=key, stage="development", room_id="elsewhere", user_id=str(alice.pk), server_id="gone"
    )
    html = staff("view_connection").get(reverse("admin:notifications_connection_change", args=(quote(key),)))
    page = html.content.decode()
    assert key not in page
    assert reverse("admin:auth_user_change", args=(alice.pk,)) not in page
    assert page.count("not yet") == 2


def test_a_connections_page_closes_it_while_it_is_open(
    staff: Callable[..., Client], connected: None, told: list[tuple[str, ...]]
) -> None:
    client = staff("view_connection", "disconnect")
    offered = {}
    for name in ("alice", "bob"):
        key = f"connection-of-{name}"
        button = reverse("admin:notifications_connection_disconnect_it", args=(key,))
        page = reverse("admin:notifications_connection_change", args=(key,))
        offered[name] = button in client.get(page).content.decode()
        assert client.get(button).status_code == (200 if name == "bob" else 302)
        assert told == []
    assert offered == {"alice": False, "bob": True}
    assert client.post(button, {"post": "yes"}).headers["Location"] == page


def test_a_server_is_shown_to_the_second_and_its_load_in_short(staff: Callable[..., Client]) -> None:
    until = datetime(2026, 3, 1, 9, 15, 27, tzinfo=UTC)
    Server.objects.create(
        server_id="s-1", host="web-1", pid=42, started_at=until, lease_until=until, load=2.28076171875
    )
    client = staff("view_server")
    one = reverse("admin:notifications_server_change", args=("s-1",))
    for there in (reverse("admin:notifications_server_changelist"), one):
        page = strip_tags(client.get(there).content.decode())
        assert "2.28076" not in page
        assert "2.28" in page
        assert page.count("01\u00a0Mar\u00a02026\u00a009:15:27") == 2
