"""Letters: what the workbench shows of dead letters, as text. Made of intake.letter, used by admin_dead_letters."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.utils.timesince import timesince

from notifications.intake.letter import Letter, Row, clean, excerpt
from notifications.intake.received import own_attributes

EDITABLE = 262_144  # characters: a form may have 2.5 MiB, and three bytes for each byte of the text


def shown_row(key: str, row: Row) -> dict[str, Any]:
    """Return what the list shows of a letter, whose page has this key."""
    return {
        "letter": row,
        "key": key,
        "code": "given up" if row.is_given_up else row.reason.partition(": ")[0][:40],
        "sentence": row.reason if row.is_given_up else row.reason.partition(": ")[2],
        "room": clean(row.room)[:80],
        "sender": clean(row.sender)[:80],
        "sent_at": _moment(row.sent_at),
        "age": _age(row.sent_at),
    }


def shown_letter(letter: Letter) -> dict[str, Any]:
    """Return what a letter's own page shows of it."""
    body = letter.received.body
    is_whole = len(body) <= EDITABLE and clean(body) == body
    return {
        "excerpt": excerpt(body, letter.gone_wrong, max_bytes=settings.HERMES_MESSAGE_MAX_BYTES),
        "text": body if is_whole else None,
        "sent_at": _moment(letter.sent_at),
        "age": _age(letter.sent_at),
        "room": clean(letter.room)[:200],
        "sender": clean(letter.sender)[:200],
        "has_expired": letter.has_expired(time.time()),
        "attributes": [clean(name) for name in own_attributes(letter.received)],
    }


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _age(sent_at: float | None) -> str:
    if sent_at is None:
        return ""
    seconds = max(int(time.time() - sent_at), 0)  # SQS's clock may be ahead of ours
    return f"{seconds}\N{NO-BREAK SPACE}s" if seconds < 60 else timesince(datetime.fromtimestamp(sent_at, UTC), depth=1)
