"""What SQL keeps: rooms and members (edited in the admin), servers and connections (by registry). Dead letters by name.

A dead letter is in SQS, and has a name here for permissions and for the admin's log.
"""

from __future__ import annotations

import re

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

# Room codes stand in JWTs, SQS bodies and DynamoDB keys; the same rule is applied to messages in stream.message.
IDENTIFIER_MAX_LENGTH = 128
_REVOKED_PREFIX = "#revoked:"  # access.tokens has it from DynamoDB's tokens table
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


def validate_code(value: str) -> None:
    """Refuse a room code that a message could never be addressed to.

    Raises:
        ValidationError: it holds control characters, or begins as the keys of revocations do.
    """
    if _CONTROL_CHARACTERS.search(value):
        raise ValidationError("A room's code cannot hold control characters.", code="control_characters")
    if value.startswith(_REVOKED_PREFIX):
        raise ValidationError(f"A room's code cannot begin with {_REVOKED_PREFIX!r}.", code="reserved")


class Room(models.Model):
    """A tenant or company. Messages reach a room whether or not it has a row; members need one to get tokens."""

    code = models.CharField(
        max_length=IDENTIFIER_MAX_LENGTH,
        unique=True,
        validators=[validate_code],
        help_text="What messages are addressed to.",
    )
    name = models.CharField(max_length=200, blank=True)
    allow_client_send = models.BooleanField(
        default=True, help_text="Whether browsers of this room may send to it with the sendMessage action."
    )

    class Meta:
        ordering = ["code"]
        permissions = [("send_message", "Can send a message to a room")]

    def __str__(self) -> str:
        return self.name or self.code


class Membership(models.Model):
    """That a user may join a room."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")

    class Meta:
        ordering = ["room", "user"]
        permissions = [("revoke", "Can revoke a member's tokens")]
        constraints = [models.UniqueConstraint(fields=["room", "user"], name="one_membership_per_room_and_user")]

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"


class Server(models.Model):
    """One server process and its lease; when it is not renewed, any process may close what it left open."""

    server_id = models.CharField(primary_key=True, max_length=64)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    # By the database's clock, for people; processes judge by whether it changes, so that no clock decides who is alive.
    lease_until = models.DateTimeField(db_index=True)
    # As the process said at its last heartbeat; null from a release that does not say.
    open_connections = models.PositiveIntegerField(null=True)
    load = models.FloatField("load average", null=True)

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Connection(models.Model):
    """One accepted WebSocket, from joined to closed. Written by the registry; the admin only shows it."""

    connection_id = models.CharField(primary_key=True, max_length=64)
    stage = models.CharField(max_length=20)
    room_id = models.CharField("room", max_length=IDENTIFIER_MAX_LENGTH)
    user_id = models.CharField("user", max_length=IDENTIFIER_MAX_LENGTH)
    # No foreign key: a connection may be written before its server's row, and outlives it.
    server_id = models.CharField("server", max_length=64)
    opened_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)
    close_code = models.PositiveIntegerField(null=True, blank=True)
    # Written once a minute while it is open, and when it closes; null where nobody counted.
    frames_sent = models.PositiveBigIntegerField(null=True, blank=True)
    bytes_sent = models.PositiveBigIntegerField(null=True, blank=True)
    bytes_waiting = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="What its reader has not taken yet; 0: it is where its room is."
    )

    class Meta:
        ordering = ["-opened_at"]
        permissions = [("disconnect", "Can close a connection")]
        indexes = [
            models.Index(fields=["-opened_at"], name="connection_opened"),
            models.Index(fields=["room_id", "-opened_at"], name="connection_room"),
            models.Index(fields=["user_id", "-opened_at"], name="connection_user"),
            models.Index(fields=["server_id"], condition=models.Q(closed_at=None), name="connection_open_by_server"),
            models.Index(fields=["closed_at"], name="connection_closed"),
            models.Index(fields=["stage", "-opened_at"], name="connection_stage"),
            models.Index(fields=["-opened_at"], condition=models.Q(closed_at=None), name="connection_open_by_time"),
        ]

    def __str__(self) -> str:
        return self.connection_id


class DeadLetter(models.Model):
    """A message in a stage's dead-letter queue, of which the admin's permissions and log speak. No table has it."""

    key = models.CharField(primary_key=True, max_length=150, help_text="The stage, a dot, and the SQS MessageId.")

    class Meta:
        managed = False
        default_permissions = ("view",)
        permissions = [("redrive", "Can send dead letters again"), ("discard", "Can discard dead letters")]

    def __str__(self) -> str:
        stage, _, message_id = self.key.partition(".")
        return f"Dead letter {message_id} in {stage}"
