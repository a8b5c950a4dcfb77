"""The admin's log: a list of what was done, for who may see it, which nobody can edit."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from notifications.models import DeadLetter, Room

pytestmark = pytest.mark.django_db
LOG = reverse("admin:admin_logentry_changelist")


@pytest.fixture
def reader(client: Client) -> Client:
    """Dana, who may see the log and nothing else."""
    dana = User.objects.create_user("dana", is_staff=True)
    dana.user_permissions.set(Permission.objects.filter(codename="view_logentry"))
    client.force_login(dana)
    return client


@pytest.fixture
def lines() -> Room:
    """Erin sent a message to a room and discarded a dead letter; Frank changed the room."""
    erin, frank = User.objects.create_user("erin"), User.objects.create_user("frank")
    room = Room.objects.create(code="acme")
    LogEntry.objects.log_actions(erin.pk, [room], CHANGE, change_message="Sent a test message.")
    LogEntry.objects.log_actions(erin.pk, [DeadLetter(key="development.m-1")], DELETION, change_message="Discarded.")
    LogEntry.objects.log_actions(frank.pk, [room], CHANGE, change_message=[{"changed": {"fields": ["Name"]}}])
    return room


def said(client: Client, **query: str) -> list[str]:
    """Return what the lines of the list say, in their order."""
    response = client.get(LOG, query)
    assert response.status_code == 200
    return [entry.get_change_message() for entry in response.context["cl"].result_list]


@pytest.mark.parametrize(
    ("query", "lines_said"),
    [
        ({}, ["Changed Name.", "Discarded.", "Sent a test message."]),
        ({"user": "erin"}, ["Discarded.", "Sent a test message."]),
        ({"user": "eri"}, []),
        ({"kind": "notifications.room"}, ["Changed Name.", "Sent a test message."]),
        ({"kind": "notifications.deadletter", "user": "erin"}, ["Discarded."]),
        ({"kind": "nothing.known"}, []),
        ({"_facets": "True"}, ["Changed Name.", "Discarded.", "Sent a test message."]),
    ],
)
def test_the_log_is_a_list_the_newest_first_by_who_and_by_kind(
    reader: Client, lines: Room, query: dict[str, str], lines_said: list[str]
) -> None:
    assert said(reader, **query) == lines_said


def test_a_line_says_who_did_what_when_and_to_what(reader: Client, lines: Room) -> None:
    page = reader.get(LOG).content.decode()
    assert reverse("admin:notifications_room_change", args=(lines.pk,)) in page
    assert reverse("admin:notifications_deadletter_change", args=("development.m-1",)) not in page, "it is gone"
    assert "Dead letter m-1 in development" in page
    when = LogEntry.objects.latest("pk").action_time
    assert when.strftime("%d\u00a0%b\u00a0%Y\u00a0%H:%M:%S") in page


def test_nobody_edits_the_log(client: Client, lines: Room) -> None:
    client.force_login(User.objects.create_superuser("root"))
    key = LogEntry.objects.earliest("pk").pk
    for page in ("change", "delete"):
        there = reverse(f"admin:admin_logentry_{page}", args=(key,))
        assert client.post(there, {"post": "yes", "change_message": "Nothing."}).status_code == 403
    client.post(LOG, {"action": "delete_selected", "_selected_action": [key], "post": "yes"})
    assert LogEntry.objects.count() == 3


def test_the_side_bar_leads_to_the_log_for_who_may_see_it(reader: Client, lines: Room) -> None:
    assert f'href="{LOG}"' in reader.get(reverse("admin:index")).content.decode()
    reader.force_login(User.objects.create_user("grace", is_staff=True))
    assert f'href="{LOG}"' not in reader.get(reverse("admin:index")).content.decode()
    assert reader.get(LOG).status_code == 403


def test_a_dead_letter_has_its_history_also_when_it_is_gone(client: Client, lines: Room, stage: Any) -> None:
    dana = User.objects.create_user("dana", is_staff=True)
    client.force_login(dana)
    there = reverse("admin:notifications_deadletter_history", args=("development.m-1",))
    assert client.get(there).status_code == 403
    dana.user_permissions.set(Permission.objects.filter(codename="view_deadletter"))
    page = client.get(there).content.decode()
    assert "Discarded." in page
    assert "erin" in page
    assert "Sent a test message." not in page
    assert client.get(reverse("admin:notifications_deadletter_history", args=("nowhere.m-1",))).status_code == 404
