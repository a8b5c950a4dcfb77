"""Who says what somebody may do in the admin: superusers. Whoever may edit users edits members, and nobody's rights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db
EDITS_USERS = ("view_user", "add_user", "change_user", "delete_user", "view_group")
EDITS_GROUPS = ("view_group", "add_group", "change_group", "delete_group")
NEW_PASSWORD = {"password1": "of-somebody-else-1", "password2": "of-somebody-else-1", "usable_password": "true"}


@pytest.fixture
def dana(client: Client) -> Callable[..., Client]:
    """Return a function that signs Dana of the staff in, with these permissions."""

    def sign_in(*permissions: str) -> Client:
        user = User.objects.create_user("dana", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return sign_in


def page(name: str, row: Any = None) -> str:
    return reverse(f"admin:auth_{name}", args=() if row is None else (row.pk,))


def edited(user: User, **more: Any) -> dict[str, Any]:
    """What the form of a user's page sends."""
    joined = {"date_joined_0": "2026-03-01", "date_joined_1": "12:00:00"}
    rooms = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    return {"username": user.username, "first_name": user.first_name, "is_active": "on", **joined, **rooms, **more}


def test_whoever_may_edit_users_edits_members_and_gives_nobody_rights(dana: Callable[..., Client], alice: Any) -> None:
    client, group = dana(*EDITS_USERS), Group.objects.create(name="operators")
    every = [each.pk for each in Permission.objects.all()]
    rights = {"is_staff": "on", "is_superuser": "on", "groups": [group.pk], "user_permissions": every}
    answer = client.post(page("user_change", alice), edited(alice, first_name="Alice", **rights))
    assert answer.status_code == 302
    alice.refresh_from_db()
    assert (alice.first_name, alice.is_staff, alice.is_superuser) == ("Alice", False, False)
    assert not alice.groups.exists()
    assert not alice.user_permissions.exists()


def test_whoever_may_make_users_makes_members(dana: Callable[..., Client]) -> None:
    rights = {"is_staff": "on", "is_superuser": "on"}
    answer = dana(*EDITS_USERS).post(page("user_add"), {"username": "charlie", **NEW_PASSWORD, **rights})
    assert answer.status_code == 302
    charlie = User.objects.get(username="charlie")
    assert (charlie.is_staff, charlie.is_superuser) == (False, False)


def test_nobody_of_the_staff_makes_themselves_a_superuser(dana: Callable[..., Client]) -> None:
    client = dana(*EDITS_USERS)
    me = User.objects.get(username="dana")
    assert client.get(page("user_change", me)).status_code == 200, "looking is another permission"
    assert client.post(page("user_change", me), edited(me, is_staff="on", is_superuser="on")).status_code == 403
    me.refresh_from_db()
    assert not me.is_superuser


@pytest.mark.parametrize("rights", [{"is_staff": True}, {"is_superuser": True}], ids=["staff", "superuser"])
def test_staff_and_superusers_are_edited_and_deleted_and_given_passwords_by_superusers_alone(
    dana: Callable[..., Client], rights: dict[str, bool]
) -> None:
    client = dana(*EDITS_USERS)
    erin = User.objects.create_user("erin", password="of-erin-alone-1", **rights)
    assert client.post(page("user_change", erin), edited(erin, first_name="E")).status_code == 403
    assert client.post(page("user_password_change", erin), NEW_PASSWORD).status_code == 403
    assert client.post(page("user_delete", erin), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(erin.pk)], "post": "yes"}
    client.post(page("user_changelist"), chosen)
    erin.refresh_from_db()
    assert erin.check_password("of-erin-alone-1")
    assert erin.first_name == ""


def test_a_member_who_was_never_staff_gets_a_new_password_from_whoever_may_edit_users(
    dana: Callable[..., Client], alice: Any
) -> None:
    assert dana(*EDITS_USERS).post(page("user_password_change", alice), NEW_PASSWORD).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(NEW_PASSWORD["password1"])


def test_groups_are_made_filled_and_deleted_by_superusers_alone(dana: Callable[..., Client]) -> None:
    client, group = dana(*EDITS_GROUPS), Group.objects.create(name="operators")
    every = [each.pk for each in Permission.objects.all()]
    assert client.get(page("group_change", group)).status_code == 200
    assert client.post(page("group_add"), {"name": "masters", "permissions": every}).status_code == 403
    filled = {"name": "operators", "permissions": every}
    assert client.post(page("group_change", group), filled).status_code == 403
    assert client.post(page("group_delete", group), {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(group.pk)], "post": "yes"}
    client.post(page("group_changelist"), chosen)
    assert [(each.name, each.permissions.count()) for each in Group.objects.all()] == [("operators", 0)]


def test_a_superuser_gives_rights(client: Client, alice: Any) -> None:
    client.force_login(User.objects.create_superuser("zoe"))
    group = Group.objects.create(name="operators")
    form = {"name": "operators", "permissions": [Permission.objects.get(codename="disconnect").pk]}
    assert client.post(page("group_change", group), form).status_code == 302
    answer = client.post(page("user_change", alice), edited(alice, is_staff="on", groups=[group.pk]))
    assert answer.status_code == 302
    assert User.objects.get(pk=alice.pk).has_perm("notifications.disconnect")
