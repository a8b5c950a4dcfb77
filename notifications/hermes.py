"""For Django code: `from notifications import hermes`, then `hermes.notify("acme", {...})`. Hands to intake.queue."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from notifications.conf import Stage
from notifications.intake import envelope
from notifications.intake.queue import Queue
from notifications.stream import trace

SYSTEM_USER = "hermes"  # a message that no user has caused is from here


def notify(
    room: str,
    data: Any,
    to: Sequence[str | int] | None = None,
    id: str | None = None,
    *,
    user: str | int | None = None,
    stage: str | None = None,
    traceparent: str | None = None,
) -> None:
    """Put a message on the queue once the current transaction has committed; at once where there is none.

    It is checked now, so that a mistake is an exception here and not a dead letter later.

    Args:
        room: the room's code.
        data: anything JSON can say; ``{"type": "info", "data": {"title": …, "text": …}}`` is shown as a toast.
        to: the members who may see it; by default the whole room.
        id: the idempotency key: whatever is sent with it again within an hour is dropped. By default a new one.
        user: who it is from.
        stage: by default the first.
        traceparent: W3C's, of what has caused it: logs of relay and servers name its trace; a malformed one is ignored.

    Raises:
        MessageRefused: it could never be delivered.
        TypeError: data is nothing that JSON can say.
        ValueError: data holds NaN or infinity.
        KeyError: there is no such stage.
        QueueUnavailable: SQS does not answer (after a commit it is Django that logs or raises it).
    """
    body = compose(room, data, to, id, user=user, stage=stage)
    transaction.on_commit(lambda: _send(_stage(stage), body, trace.parse(traceparent)))


def compose(
    room: str,
    data: Any,
    to: Sequence[str | int] | None = None,
    id: str | None = None,
    *,
    user: str | int | None = None,
    stage: str | None = None,
) -> str:
    """Make and check the body that `notify` would put on the queue, and put it nowhere.

    Args:
        room, data, to, id, user, stage: as `notify` takes them.

    Returns:
        JSON text that the relay takes.

    Raises:
        MessageRefused, TypeError, ValueError, KeyError: as `notify` does.
    """
    _stage(stage)
    addressees = None if to is None else list(to)
    # With a key of its own, a retried SQS call cannot make two toasts of one.
    key = uuid.uuid4().hex if id is None else id
    body = envelope.encode(SYSTEM_USER if user is None else user, room, data, to=addressees, id=key)
    envelope.decode(body, key, max_bytes=settings.HERMES_MESSAGE_MAX_BYTES)
    return body


def _stage(name: str | None) -> Stage:
    stages: dict[str, Stage] = settings.HERMES_STAGES
    return next(iter(stages.values())) if name is None else stages[name]


def _send(stage: Stage, body: str, traceparent: str) -> None:
    Queue(stage).send(body, traceparent)
