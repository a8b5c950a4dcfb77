"""Examine: is a stage's queue there, does it give up on what fails, and may we use it. Called by doctor; asks queue.

Every function raises ``QueueUnavailable`` where SQS does not answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

from django.conf import settings

from notifications.conf import Stage
from notifications.exceptions import QueueUnavailable
from notifications.findings import Finding, Role, clock, fail, ok, permitted, warn
from notifications.intake import queue

_ROLES = "docs/settings.md, 'What AWS must permit', has what each role needs; --role asks for one of them alone."
_PROVISION = "manage.py provision sets it, or set it yourself"


def answers(stage: Stage) -> Iterator[Finding]:
    """Find whether the queue is there and answers."""
    there = queue.attributes(stage, stage.queue_name)
    if not there:
        yield _missing(stage.queue_name, "HERMES_QUEUE_NAME")
        return
    waiting = there.get("ApproximateNumberOfMessages", "0")
    flying = there.get("ApproximateNumberOfMessagesNotVisible", "0")
    yield ok(f"queue {stage.queue_name}: {waiting} waiting, {flying} in flight")


def dead_letters(stage: Stage) -> Iterator[Finding]:
    """Find whether the dead-letter queue is there, keeps what comes, and is where the redrive policy points."""
    there, dead = queue.attributes(stage, stage.queue_name), _dead_letter_queue(stage)
    found = [_missing(stage.queue_name, "HERMES_QUEUE_NAME")]
    if there:
        found = [*_policy(stage, there, (dead or {}).get("QueueArn"))]
    if dead is None:
        found += [warn(f"this role may not look at {stage.dlq_name}", _ROLES)]
    else:
        found += [*_keeping(stage, there, dead)] if dead else [_missing(stage.dlq_name, "HERMES_DLQ_NAME")]
    yield from found
    if not found:
        yield ok(f"after {settings.HERMES_MAX_RECEIVES} receives to {stage.dlq_name}, which is empty")


def permissions(role: Role, stage: Stage) -> Iterator[Finding]:
    """Find which of a role's calls AWS does not permit; where the role is not known, it may be one that need not."""
    denied = queue.refused(stage, role)
    if denied and role is Role.ALL:
        yield warn(f"AWS does not permit {', '.join(denied)}", _ROLES)
    else:
        yield permitted(denied, f"queues {stage.queue_name} and {stage.dlq_name}")


def aws_clock(stage: Stage, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Hold AWS's clock against ours.

    Args:
        stage: whose queue is asked.
        now: this host's clock, in unix seconds.
    """
    before = now()
    date = queue.date(stage)
    after = now()
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except ValueError:
        yield warn("AWS's answer has no date", "Let the proxy at AWS_ENDPOINT_URL pass the header Date on.")
        return
    # A date is the beginning of a second that may be over already.
    yield clock("AWS", theirs - after, theirs + 1 - before)


def _dead_letter_queue(stage: Stage) -> dict[str, str] | None:
    """Return its attributes, empty where it is missing; None where this role may not look at it."""
    try:
        return queue.attributes(stage, stage.dlq_name)
    except QueueUnavailable as error:
        if "AccessDenied" in str(error):
            return None
        raise


def _missing(name: str, setting: str) -> Finding:
    return fail(f"there is no queue {name}", f"Make it with manage.py provision, or name another in {setting}.")


def _policy(stage: Stage, there: dict[str, str], dead: str | None) -> Iterator[Finding]:
    policy: dict[str, Any] = json.loads(there.get("RedrivePolicy") or "{}")
    if not policy:
        yield fail(
            f"queue {stage.queue_name} has no redrive policy: what always fails comes back until it is too old",
            f"{_PROVISION}: maxReceiveCount {settings.HERMES_MAX_RECEIVES} to {stage.dlq_name}.",
        )
        return
    target, count = str(policy.get("deadLetterTargetArn")), int(policy.get("maxReceiveCount", 0))
    if dead and target != dead:
        yield fail(
            f"queue {stage.queue_name} gives up on messages to {target.rpartition(':')[2]}, not to {stage.dlq_name}",
            f"{_PROVISION}; or name that queue in HERMES_DLQ_NAME.",
        )
    if count * settings.HERMES_VISIBILITY_SECONDS >= settings.HERMES_IDEMPOTENCY_SECONDS:
        yield fail(
            f"maxReceiveCount {count} × HERMES_VISIBILITY_SECONDS is longer than HERMES_IDEMPOTENCY_SECONDS: a message "
            "could show twice",
            f"{_PROVISION} to HERMES_MAX_RECEIVES ({settings.HERMES_MAX_RECEIVES}).",
        )
    elif count == 1:
        yield fail(
            "maxReceiveCount 1: any single failure sends a message to the dead letters", f"{_PROVISION} to 5 or more."
        )
    elif count != settings.HERMES_MAX_RECEIVES:
        yield warn(
            f"maxReceiveCount is {count}, HERMES_MAX_RECEIVES is {settings.HERMES_MAX_RECEIVES}",
            "Make them the same: the checks judge by the setting.",
        )


def _keeping(stage: Stage, there: dict[str, str], dead: dict[str, str]) -> Iterator[Finding]:
    kept = int(dead.get("MessageRetentionPeriod", queue.RETENTION_SECONDS))
    queued = int(there.get("MessageRetentionPeriod", 0))
    if kept < queued:
        yield warn(
            f"{stage.dlq_name} keeps messages for {kept} s, less than the queue's {queued} s",
            f"Set its MessageRetentionPeriod to {queue.RETENTION_SECONDS}: a dead letter is as old as its message.",
        )
    letters = int(dead.get("ApproximateNumberOfMessages", "0"))
    if letters:
        yield warn(
            f"{stage.dlq_name} holds dead letters: {letters}",
            "Look at each in the admin, which shows its hermes-error: mend its producer, send it again or discard it.",
        )
