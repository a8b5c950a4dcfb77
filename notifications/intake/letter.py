"""Letter: one dead letter: why it is dead, what it says, and what is sent in its place. Made by dead_letters.

Pure. The rules are envelope's; marks finds the place that breaks one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum

from notifications.exceptions import MessageRefused
from notifications.intake import envelope, marks
from notifications.intake.received import ERROR_ATTRIBUTE, MAX_BYTES, REASON_BYTES, Received
from notifications.stream.message import Message, load_json

READ_CHARACTERS = 65_536  # of a body that is not a message: where its sender and room are looked for
REASON = 1_000  # characters: ours has less, and whoever can write to that queue may have written more
BEFORE, MARKED, AFTER = 4_000, 2_000, 2_000  # characters of a body that a page shows
UNKNOWN = "SQS gave it up: it was received too many times and never delivered."


@dataclass(frozen=True, slots=True)
class Letter:
    """A message in a dead-letter queue, in flight while somebody looks at it.

    Args:
        received: as SQS gave it.
        sent_at: when it was put on a queue, in unix seconds by SQS's clock; None where SQS does not say.
        receives: how often it was received; looking counts.
        gone_wrong: whether the relay would refuse its body today, and why; else None.
        message: what the relay would make of its body; None where it would refuse.
    """

    received: Received = field(repr=False)
    sent_at: float | None
    receives: int
    gone_wrong: MessageRefused | None
    message: Message | None = field(repr=False)

    @property
    def id(self) -> str:
        """The SQS MessageId."""
        return self.received.id

    @property
    def reason(self) -> str:
        """Why it is dead, as the relay wrote it; that SQS gave it up where nobody wrote anything."""
        written = self.received.attributes.get(ERROR_ATTRIBUTE, {}).get("StringValue")
        if not written and self.gone_wrong and self.size > MAX_BYTES - REASON_BYTES:
            return f"{self.gone_wrong} Its body left no room for the reason."
        return clean(str(written or UNKNOWN)[:REASON])

    @property
    def is_given_up(self) -> bool:
        """Whether SQS moved it, and no relay refused it."""
        return self.reason == UNKNOWN

    @property
    def room(self) -> str:
        """The room that it names, where that can be read."""
        return marks.read(self.received.body[:READ_CHARACTERS], "room_id")

    @property
    def sender(self) -> str:
        """Whom it is from, where that can be read."""
        return marks.read(self.received.body[:READ_CHARACTERS], "user_id")

    @property
    def size(self) -> int:
        """Its body's size, in bytes of UTF-8."""
        return len(self.received.body.encode("utf-8", "surrogatepass"))

    def has_expired(self, now: float) -> bool:
        """Tell whether nobody would be shown it any more, because of its own ``expires_at``."""
        expires_at = self.message.expires_at if self.message else None
        return expires_at is not None and expires_at <= now


class Outcome(StrEnum):
    """What became of a dead letter."""

    SENT = "sent again"
    LEFT = "sent again, and not deleted"
    REFUSED = "refused"
    MISSING = "not found"
    FAILED = "failed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one dead letter.

    Args:
        id: its SQS MessageId.
        outcome: in one word.
        why: in a sentence, where it is not what was asked for; never holds the payload.
        is_mended: whether another body than its own was sent.
    """

    id: str
    outcome: Outcome
    why: str = ""
    is_mended: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A dead letter in a list, without its body.

    Args:
        id: its SQS MessageId.
        reason: why it is dead.
        is_given_up: whether SQS gave it up, and no relay refused it.
        gone_wrong: why the relay would refuse it today; empty where it would not.
        room, sender: as far as they can be read.
        size: of its body, in bytes.
        sent_at: in unix seconds.
        receives: how often it was received.
    """

    id: str
    reason: str
    is_given_up: bool
    gone_wrong: str
    room: str
    sender: str
    size: int
    sent_at: float | None
    receives: int

    @classmethod
    def of(cls, letter: Letter) -> Row:
        """Keep of a letter what a list shows."""
        return cls(
            id=letter.id,
            reason=letter.reason,
            is_given_up=letter.is_given_up,
            gone_wrong=str(letter.gone_wrong or ""),
            room=letter.room,
            sender=letter.sender,
            size=letter.size,
            sent_at=letter.sent_at,
            receives=letter.receives,
        )


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the queue.

    Args:
        rows: what was received.
        waiting: how many were visible before the look, as SQS counts: about.
        in_hand: how many were in flight then: somebody else was looking.
        not_given_back: how many of the rows could not be given back, and come back by themselves.
    """

    rows: list[Row]
    waiting: int
    in_hand: int
    not_given_back: int

    @property
    def about(self) -> int:
        """How many the queue holds, about: never less than were seen."""
        return max(self.waiting + self.in_hand, len(self.rows))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A body as a page shows it: what is marked, and what stands around it, all of it text that UTF-8 can carry.

    Args:
        before, marked, after: the text.
        cut_before, cut_marked, cut_after: how many characters are left out there.
        line, column: where what is marked begins, from 1; 0 where nothing is marked.
    """

    before: str
    marked: str
    after: str
    cut_before: int
    cut_marked: int
    cut_after: int
    line: int
    column: int


def open_letter(received: Received, sent_at: float | None, receives: int, *, max_bytes: int) -> Letter:
    """Judge a dead letter by today's rules.

    Args:
        received: as SQS gave it.
        sent_at: in unix seconds.
        receives: how often it was received.
        max_bytes: the largest body, in bytes of UTF-8.
    """
    try:
        message = envelope.decode(received.body, received.id, max_bytes=max_bytes)
    except MessageRefused as refusal:
        return Letter(received, sent_at, receives, refusal, None)
    return Letter(received, sent_at, receives, None, message)


def successor(body: str, message_id: str, *, max_bytes: int) -> str:
    """Return what is sent in a dead letter's place: the body, with an idempotency key if it has none.

    SQS gives the successor a MessageId of its own. Without a key in the body, what was sent again twice would be shown
    twice, and what was in the history when SQS gave it up would be shown again.

    Args:
        body: the dead letter's own, or as it was mended.
        message_id: the dead letter's.
        max_bytes: the largest body, in bytes of UTF-8.

    Raises:
        MessageRefused: the relay would refuse it.
    """
    envelope.decode(body, message_id, max_bytes=max_bytes)
    fields = load_json(body)
    if fields.get("id") is not None:
        return body
    key = json.dumps(message_id)
    span = marks.find(body, "id")
    start = body.index("{") + 1
    keyed = body[:start] + f'"id": {key}, ' + body[start:] if span is None else body[: span[0]] + key + body[span[1] :]
    try:
        envelope.decode(keyed, message_id, max_bytes=max_bytes)
    except MessageRefused as refusal:
        detail = f"With the id that keeps it from being shown twice, {refusal.detail[0].lower()}{refusal.detail[1:]}"
        raise MessageRefused(refusal.code, detail) from refusal
    return keyed


def excerpt(body: str, refusal: MessageRefused | None, *, max_bytes: int) -> Excerpt:
    """Return what a page shows of a body of any size: its beginning, or what surrounds its error.

    Args:
        body: any text.
        refusal: how the relay refuses it; None where it does not.
        max_bytes: the largest body, in bytes of UTF-8.
    """
    span = marks.locate(body, refusal, max_bytes=max_bytes) if refusal else None
    if span is None:
        shown = BEFORE + MARKED + AFTER
        return Excerpt(clean(body[:shown]), "", "", 0, 0, max(len(body) - shown, 0), 0, 0)
    start, end = span
    first, last = max(start - BEFORE, 0), min(start + MARKED, end)
    return Excerpt(
        before=clean(body[first:start]),
        marked=clean(body[start:last]),
        after=clean(body[end : end + AFTER]),
        cut_before=first,
        cut_marked=end - last,
        cut_after=max(len(body) - end - AFTER, 0),
        line=body.count("\n", 0, start) + 1,
        column=start - (body.rfind("\n", 0, start) + 1) + 1,
    )


def clean(text: str) -> str:
    """Return a text that UTF-8 can carry: half a surrogate pair becomes a question mark in a diamond."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
