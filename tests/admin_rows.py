"""A busy site's rows, made by the database itself, and the admin's pages that show them. Used by the tests of speed."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from notifications.models import Connection, Membership, Room, Server

CONNECTIONS, ROOMS, MEMBERS, SERVERS, LOG_LINES = 100_000, 10_000, 20_000, 20, 100_000
OPEN_SHARE = 50  # one of so many is open
BUSY = 200  # members of one room, and rooms of one user
DAYS = 30


def fill() -> None:
    """Make 100,000 connections of the last 30 days, as many lines of the log, 10,000 rooms, 20,000 members, 20 servers.

    One room has 200 members more, and Alice is in 200 rooms.
    """
    user = User.objects.create_user("alice")
    now = timezone.now()
    second = DAYS * 86_400 / CONNECTIONS
    if connection.vendor == "sqlite":
        numbers = "WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < %s - 1) "
        tail = " FROM s"
        moment = f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-' || ((n + {{0}}) * {second}) || ' seconds')"
    else:
        numbers, tail = "", " FROM generate_series(0, %s - 1) AS s(n)"
        moment = f"now() - ((n + {{0}}) * {second}) * interval '1 second'"
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO notifications_connection (connection_id, stage, room_id, user_id, server_id, opened_at,"
            f" closed_at, close_code, frames_sent, bytes_sent, bytes_waiting) {numbers}"
            f"SELECT 'c-' || n, 'development', 'room-' || (n * 7919 %% {ROOMS}), '' || (n %% 5000),"
            f" 'server-' || (n %% {SERVERS}), {moment.format(1)},"
            f" CASE WHEN n %% {OPEN_SHARE} = 0 THEN NULL ELSE {moment.format(0)} END, 1001, 12, 4000, 0{tail}",
            [CONNECTIONS],
        )
        cursor.execute(
            f"INSERT INTO notifications_room (code, name, allow_client_send) {numbers}"
            f"SELECT 'room-' || n, 'Company ' || n, {'1' if connection.vendor == 'sqlite' else 'true'}{tail}",
            [ROOMS],
        )
        cursor.execute(
            f"INSERT INTO auth_user (username, password, is_superuser, first_name, last_name, email, is_staff,"
            f" is_active, date_joined) {numbers}SELECT 'member-' || n, '', {_false()}, '', '', '', {_false()},"
            f" {_false()}, {moment.format(0)}{tail}",
            [MEMBERS],
        )
        cursor.execute(
            "INSERT INTO notifications_membership (room_id, user_id) SELECT r.id, u.id FROM auth_user u"  # noqa: S608
            f" JOIN notifications_room r ON r.code = 'room-' || (CAST(substr(u.username, 8) AS integer) %% {ROOMS})"
            " WHERE u.username LIKE 'member-%%' AND u.id <> %s",
            [user.pk],
        )
        rooms, members = Room.objects.order_by("pk"), User.objects.filter(username__startswith="member-").order_by("pk")
        busy = [Membership(room=room, user=user) for room in rooms[:BUSY]]
        busy += [Membership(room=rooms.get(code="room-4711"), user=member) for member in members[:BUSY]]
        Membership.objects.bulk_create(busy)
        for number in range(SERVERS):
            Server.objects.create(
                server_id=f"server-{number}",
                host=f"web-{number}",
                pid=number,
                started_at=now,
                lease_until=now + timedelta(hours=1),
                open_connections=CONNECTIONS // OPEN_SHARE // SERVERS,
                load=0.5,
            )
        erin, rooms_kind = User.objects.create_user("erin"), ContentType.objects.get_for_model(Room)
        cursor.execute(
            "INSERT INTO django_admin_log (action_time, user_id, content_type_id, object_id, object_repr, action_flag,"
            f" change_message) {numbers}"
            f"SELECT {moment.format(0)}, {erin.pk}, {rooms_kind.pk}, '' || n, 'Company ' || n, 2, 'Sent.'{tail}",
            [LOG_LINES],
        )
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")
    assert Connection.objects.count() == CONNECTIONS


def _false() -> str:
    return "0" if connection.vendor == "sqlite" else "false"


def pages(letter: str) -> dict[str, str]:
    """Return the admin's pages over those rows, by what they are called.

    Args:
        letter: the id of a dead letter of the first stage.
    """
    room, alice = Room.objects.get(code="room-4711").pk, User.objects.get(username="alice").pk
    connections = reverse("admin:notifications_connection_changelist")
    log = reverse("admin:admin_logentry_changelist")
    choices = reverse("admin:autocomplete") + "?app_label=notifications"
    today = timezone.now()
    day = f"opened_at__year={today.year}&opened_at__month={today.month}&opened_at__day={today.day}"
    return {
        "dashboard": reverse("admin:index"),
        "what the dashboard fetches": reverse("admin:notifications_live"),
        "connections": connections,
        "connections, the last page of the first hundred": f"{connections}?p=100",
        "connections of a room": f"{connections}?room=room-4711",
        "connections of a user": f"{connections}?user=42",
        "connections, open": f"{connections}?state=open",
        "connections, closed": f"{connections}?state=closed",
        "connections of a stage": f"{connections}?stage=development",
        "connections of a stage without any": f"{connections}?stage=production",
        "connections, with what each filter would find": f"{connections}?_facets=True",
        "connections of a day": f"{connections}?{day}",
        "connections, searched": f"{connections}?q=c-4711",
        "a connection": reverse("admin:notifications_connection_change", args=("c-4711",)),
        "rooms": reverse("admin:notifications_room_changelist"),
        "rooms, searched": reverse("admin:notifications_room_changelist") + "?q=4711",
        "a room": reverse("admin:notifications_room_change", args=(room,)),
        "rooms by their members": reverse("admin:notifications_room_changelist") + "?o=-3",
        "a room that is to be deleted": reverse("admin:notifications_room_delete", args=(room,)),
        "a room's history": reverse("admin:notifications_room_history_of_room", args=(room,)),
        "a message to a room": reverse("admin:notifications_room_send_to_room", args=(room,)),
        "memberships": reverse("admin:notifications_membership_changelist"),
        "memberships, searched": reverse("admin:notifications_membership_changelist") + "?q=4711",
        "users": reverse("admin:auth_user_changelist"),
        "rooms, with what each filter would find": reverse("admin:notifications_room_changelist") + "?_facets=True",
        "users, with what each filter would find": reverse("admin:auth_user_changelist") + "?_facets=True",
        "users, searched": reverse("admin:auth_user_changelist") + "?q=4711",
        "a user": reverse("admin:auth_user_change", args=(alice,)),
        "a user who is to be deleted": reverse("admin:auth_user_delete", args=(alice,)),
        "groups": reverse("admin:auth_group_changelist"),
        "users to choose from": f"{choices}&model_name=membership&field_name=user&term=4711",
        "rooms to choose from": f"{choices}&model_name=membership&field_name=room&term=4711",
        "the log": log,
        "the log, its last page": f"{log}?p=200",
        "the log of a user": f"{log}?user=erin",
        "the log of rooms": f"{log}?kind=notifications.room",
        "what was done to a room": reverse("admin:notifications_room_history", args=(room,)),
        "dead letters": reverse("admin:notifications_deadletter_changelist"),
        "a dead letter": reverse("admin:notifications_deadletter_change", args=(f"development.{letter}",)),
        "what was done to a dead letter": reverse(
            "admin:notifications_deadletter_history", args=(f"development.{letter}",)
        ),
        "servers": reverse("admin:notifications_server_changelist"),
        "relays": reverse("admin:notifications_relays"),
    }
