"""Revocation: authority taken back, in the token store first and then from open connections. Called by Django code.

The row in the token store is the truth and is written before the change that causes it commits: if DynamoDB does not
answer, the change fails too, and nobody believes a member gone who is not. The command to the servers follows after the
commit; should it get lost with Redis, the hubs' own look at the rows closes the connections within 60 seconds.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import transaction

from notifications.access import commands, token_store, tokens
from notifications.access.commands import Command, Disconnect, Revoke, SignOut
from notifications.conf import Stage
from notifications.exceptions import HistoryUnavailable, StageNotConfigured
from notifications.models import Membership, Room
from notifications.stream import publish
from notifications.stream.keys import CONTROL_ROOM
from notifications.stream.message import Message

logger = logging.getLogger(__name__)


def revoke(user_id: str, room_id: str, stage_names: Iterable[str] | None = None, *, is_member: bool = True) -> None:
    """Refuse every token that a member has for a room, and close the connections made with them.

    Args:
        user_id, room_id: the member and the room; who is still a member gets a new token on asking.
        stage_names: by default every stage.
        is_member: if not any more, the row goes as well: the clock that stamped a token may be ahead of ours, and the
            token would be newer than its revocation.

    Raises:
        StoreUnavailable: DynamoDB does not answer. Nothing was revoked in the stage whose table it names, nor in those
            that `HERMES_STAGES` has after it; in those before it the tokens are revoked. To ask again does no harm.
        StageNotConfigured: one of the stages is none of this process's. Nothing was revoked.
    """
    not_before = int(time.time())
    for stage in _stages(stage_names):
        token_store.revoke(stage, user_id, room_id, not_before)
        if not is_member:
            token_store.empty(stage, user_id, room_id)
        _command(stage, Revoke(user_id, room_id, not_before))


def sign_out(session_key: str) -> None:
    """Close the connections of a session that ends, in every stage; its tokens live on until they expire.

    Args:
        session_key: Django's.
    """
    for stage in _stages(None):
        for tag in tokens.session_tags(session_key, stage):
            _command(stage, SignOut(tag))


def disconnect(stage_name: str, connection_id: str) -> None:
    """Close one connection, now; its client may come back at once.

    No row says it as well: a command that is lost would close nothing, so whoever asks is told.

    Raises:
        HistoryUnavailable: Redis does not answer; nobody was told to close it.
        StageNotConfigured: its row is of a stage that is none of this process's; nobody was told either.
    """
    for stage in _stages([stage_name]):
        async_to_sync(publish.publish_once)(stage.name, _message(Disconnect(connection_id)))


def on_membership_changed(instance: Membership, **signal: Any) -> None:
    """Receive Django's `pre_save`: a membership that becomes another user's or another room's ends the old one."""
    old = Membership.objects.filter(pk=instance.pk).select_related("room").first() if instance.pk else None
    if old is not None and (old.user_id, old.room_id) != (instance.user_id, instance.room_id):
        revoke(str(old.user_id), old.room.code, is_member=False)


def on_room_changed(instance: Room, **signal: Any) -> None:
    """Receive Django's `pre_save`: a room with another code is another room to every token and history."""
    old = Room.objects.filter(pk=instance.pk).first() if instance.pk else None
    if old is not None and old.code != instance.code:
        for membership in old.memberships.all():
            revoke(str(membership.user_id), old.code, is_member=False)


def on_membership_deleted(instance: Membership, **signal: Any) -> None:
    """Receive Django's `post_delete`: it is the one place that every way of removing a member passes."""
    revoke(str(instance.user_id), instance.room.code, is_member=False)


def on_user_saved(instance: Any, **signal: Any) -> None:
    """Receive Django's `post_save`: a user who is switched off loses all rooms."""
    if not instance.is_active:
        for membership in Membership.objects.filter(user_id=instance.pk).select_related("room"):
            revoke(str(instance.pk), membership.room.code, is_member=False)


def on_signed_out(request: Any, **signal: Any) -> None:
    """Receive Django's `user_logged_out`, sent while the session still has its key."""
    if request is not None and request.session.session_key:
        sign_out(request.session.session_key)


def _stages(names: Iterable[str] | None) -> list[Stage]:
    stages: dict[str, Stage] = settings.HERMES_STAGES
    if names is None:
        return list(stages.values())
    try:
        return [stages[name] for name in names]
    except KeyError as error:
        raise StageNotConfigured(f"HERMES_STAGES does not have the stage {error.args[0]!r}.") from error


def _message(command: Command) -> Message:
    return Message(uuid.uuid4().hex, "hermes", CONTROL_ROOM, commands.encode(command))


def _command(stage: Stage, command: Command) -> None:
    message = _message(command)
    transaction.on_commit(lambda: _publish(stage.name, message))


def _publish(stage_name: str, message: Message) -> None:
    try:
        async_to_sync(publish.publish_once)(stage_name, message)
    except HistoryUnavailable as error:
        logger.error(
            "Open connections are not told now: those of revoked tokens are closed when the hubs look at the rows, "
            "those of a session that signed out when their tokens end: %s",
            error,
        )
