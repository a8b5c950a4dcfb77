"""What SQL keeps says what it means, and the migrations say the same as the models."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from notifications.models import Connection, Membership, Room, Server


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.parametrize("code", ["acme\n", "\x00", "a\x7fb"])
def test_a_room_that_no_message_could_be_addressed_to_is_refused(code: str) -> None:
    with pytest.raises(ValidationError, match="control characters"):
        Room(code=code).clean_fields()


def test_a_room_cannot_be_called_as_the_keys_of_revocations_are() -> None:
    with pytest.raises(ValidationError, match="cannot begin with"):
        Room(code="#revoked:acme").clean_fields()
    Room(code="acme#revoked:").clean_fields()


def test_a_room_is_named_by_its_name_or_else_its_code() -> None:
    Room(code="Ä/b c:1").clean_fields()
    assert str(Room(code="acme")) == "acme"
    assert str(Room(code="acme", name="Acme Inc.")) == "Acme Inc."


@pytest.mark.django_db
def test_a_user_is_a_member_of_a_room_once(alice: Any) -> None:
    membership = Membership.objects.get(user=alice)
    assert str(membership) == "alice in acme"
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.create(room=membership.room, user=alice)


def test_a_server_is_named_by_host_and_process_and_a_connection_by_its_id() -> None:
    now = timezone.now()
    assert str(Server(server_id="a", host="web-1", pid=42, started_at=now, lease_until=now)) == "web-1:42"
    assert str(Connection(connection_id="abc")) == "abc"
