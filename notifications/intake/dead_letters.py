"""Dead letters: a stage's dead-letter queue, looked at, sent again, discarded. Used by admin_dead_letters; asks SQS.

SQS has no peek. Who looks receives, and what is received is in flight: it is given back at the end of the look, and
comes back by itself after `HOLD_SECONDS` if that fails. So a look takes nothing away, two at once see a part each, and
all it changes is the receive count, which counts for nothing in a queue that has no dead-letter queue of its own.

Nothing leaves the queue before its successor is in the stage's queue: it is sent first, and deleted then. Whatever goes
wrong in between leaves two, which have one idempotency key.

Synchronous, with short timeouts: for the threads of views.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from django.conf import settings

from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.intake.letter import Done, Letter, Look, Outcome, Row, open_letter, successor
from notifications.intake.queue import BATCH, Queue
from notifications.intake.received import Received, own_attributes
from notifications.intake.sqs import clients

logger = logging.getLogger(__name__)

SHOWN = 50  # letters in one look
SEARCHED = 1_000  # letters that are looked through for those that somebody has chosen
HOLD_SECONDS = 30  # visibility of what is in hand
POLL_SECONDS = 1  # a short poll of SQS asks some of its servers only
READ_SECONDS = 3  # for an answer; a page waits for it
LOOK_SECONDS = 5.0  # for all polls of one look
ACT_SECONDS = 10.0  # for sending all again; then who asked for it is told how far it came


class DeadLetters(Queue):
    """A stage's dead-letter queue, for people.

    Args:
        stage: whose.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__(replace(stage, queue_name=stage.dlq_name))
        self._client, self._wire = clients(READ_SECONDS)
        self._successors = stage.queue_name

    # ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def look(self) -> Look:
        """Look at some of the letters, and give them back.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses, or there is no such queue.
        """
        waiting, in_hand = self._count()
        rows: dict[str, Row] = {}
        held: list[Received] = []
        try:
            for letters in self._gather(SHOWN, waiting):
                held += [replace(letter.received, body="") for letter in letters]
                rows |= {letter.id: Row.of(letter) for letter in letters}
        finally:
            not_given_back = self._give_back(held)
        return Look(list(rows.values()), waiting, in_hand, not_given_back)

    def open(self, message_id: str) -> Letter | None:
        """Look at one letter, and give it back.

        Returns:
            The letter; None where it is not among the first `SEARCHED` that are in nobody else's hands.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses, or there is no such queue.
        """
        letters = self._take([message_id])
        self._give_back([letter.received for letter in letters])
        return letters[0] if letters else None

    # ── Acting ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def send_again(self, chosen: Sequence[str], body: str | None = None) -> Iterator[Done]:
        """Send letters again, in the order in which SQS gives them, for `ACT_SECONDS` at most.

        Args:
            chosen: their MessageIds.
            body: what is sent instead of their own, its lines ended by one character; None for their own.

        Returns:
            What became of each, as it becomes so; the first failure ends it.

        Raises:
            QueueUnavailable: SQS did not answer while they were looked for; nothing was sent.
        """
        letters = self._take(chosen)
        yield from self._work([letters], lambda letter: self._send(letter, body))
        yield from _missing(chosen, letters)

    def send_all(self) -> Iterator[Done]:
        """Send again whatever the relay would take, for `ACT_SECONDS` at most; the rest stays.

        Returns:
            What became of each, as it becomes so; the first failure ends it.

        Raises:
            QueueUnavailable: SQS did not answer while more were looked for; what was sent before that was told.
        """
        waiting, _ = self._count()
        batches = self._gather(SEARCHED, waiting, ACT_SECONDS)
        yield from self._work(batches, self._send)

    def discard(self, chosen: Sequence[str]) -> Iterator[Done]:
        """Delete letters for good, for `ACT_SECONDS` at most.

        Args:
            chosen: their MessageIds.

        Returns:
            What became of each, as it becomes so; the first failure ends it.

        Raises:
            QueueUnavailable: SQS did not answer while they were looked for; nothing was deleted.
        """
        letters = self._take(chosen)
        yield from self._work([letters], self._discard)
        yield from _missing(chosen, letters)

    # ── How ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _work(self, batches: Iterable[list[Letter]], act: Callable[[Letter], Done]) -> Iterator[Done]:
        """Act on letters one after another until one fails; what is still there in the end is given back."""
        until = time.monotonic() + ACT_SECONDS
        held: dict[str, Received] = {}
        try:
            for letters in batches:
                held |= {letter.id: replace(letter.received, body="") for letter in letters}
                for letter in letters:
                    late = time.monotonic() > until
                    done = Done(letter.id, Outcome.FAILED, f"{ACT_SECONDS:g} s are over") if late else act(letter)
                    if done.outcome in (Outcome.SENT, Outcome.DISCARDED):
                        del held[letter.id]
                    yield done
                    if done.outcome is Outcome.FAILED:
                        return
        finally:
            self._give_back(list(held.values()))

    def _send(self, letter: Letter, body: str | None = None) -> Done:
        """Send its successor, and only then delete it."""
        own = letter.received.body
        # A form gives each end of line as two characters, and a page makes one of them.
        is_mended = body is not None and body != own.replace("\r\n", "\n")
        try:
            text = successor(
                own if body is None or not is_mended else body, letter.id, max_bytes=settings.HERMES_MESSAGE_MAX_BYTES
            )
        except MessageRefused as refusal:
            return Done(letter.id, Outcome.REFUSED, str(refusal))
        request: dict[str, Any] = {"MessageBody": text, "MessageAttributes": own_attributes(letter.received)}
        if letter.received.group:
            request["MessageGroupId"] = letter.received.group
        if self.is_fifo:
            # Not as it was first sent: within five minutes SQS would take it, and drop it as a duplicate.
            key = f"{letter.id}:{text}".encode("utf-8", "surrogatepass")
            request["MessageDeduplicationId"] = hashlib.sha256(key).hexdigest()
        try:
            with self._errors(f"send again to {self._successors}"):
                self._put(self._url(self._successors), request)
        except QueueUnavailable as error:
            return Done(letter.id, Outcome.FAILED, str(error))
        try:
            failed = self.delete([letter.received])
        except QueueUnavailable as error:
            return Done(letter.id, Outcome.LEFT, str(error), is_mended)
        if failed:
            return Done(letter.id, Outcome.LEFT, "SQS did not delete it", is_mended)
        return Done(letter.id, Outcome.SENT, is_mended=is_mended)

    def _discard(self, letter: Letter) -> Done:
        try:
            failed = self.delete([letter.received])
        except QueueUnavailable as error:
            return Done(letter.id, Outcome.FAILED, str(error))
        return (
            Done(letter.id, Outcome.FAILED, "SQS did not delete it") if failed else Done(letter.id, Outcome.DISCARDED)
        )

    def _take(self, chosen: Collection[str]) -> list[Letter]:
        """Receive until the chosen letters are in hand, and give the others back."""
        waiting, _ = self._count()
        found: dict[str, Letter] = {}
        others: list[Received] = []
        try:
            for letters in self._gather(SEARCHED, waiting):
                found |= {letter.id: letter for letter in letters if letter.id in chosen}
                others += [replace(each.received, body="") for each in letters if each.id not in chosen]
                if len(found) == len(set(chosen)):
                    break
        except QueueUnavailable:
            others += [letter.received for letter in found.values()]
            raise
        finally:
            self._give_back(others)
        return list(found.values())

    def _gather(self, most: int, waiting: int, seconds: float = LOOK_SECONDS) -> Iterator[list[Letter]]:
        """Receive up to so many letters, until there are no more or the time is over."""
        until = time.monotonic() + seconds
        seen = 0
        while seen < most and time.monotonic() < until:
            # Once all that SQS has counted are there, a poll that waits would only cost the page a second.
            letters = self._receive_letters(min(BATCH, most - seen), POLL_SECONDS if seen < waiting else 0)
            if not letters:
                return
            seen += len(letters)
            yield letters

    def _receive_letters(self, most: int, wait_seconds: int) -> list[Letter]:
        with self._errors("be looked at"):
            answer = self._client.receive_message(
                QueueUrl=self._dead_letter_url(),
                MaxNumberOfMessages=most,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=HOLD_SECONDS,
                MessageSystemAttributeNames=["MessageGroupId", "SentTimestamp", "ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
            )
        return [_letter(message) for message in answer.get("Messages", [])]

    def _count(self) -> tuple[int, int]:
        """Return how many letters are visible and in flight, about."""
        with self._errors("be counted"):
            answer = self._client.get_queue_attributes(
                QueueUrl=self._dead_letter_url(),
                AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
            )["Attributes"]
        return int(answer["ApproximateNumberOfMessages"]), int(answer["ApproximateNumberOfMessagesNotVisible"])

    def _dead_letter_url(self) -> str:
        try:
            return self._url(self._stage.dlq_name)
        except self._client.exceptions.QueueDoesNotExist as error:
            name = self._stage.dlq_name
            raise QueueUnavailable(
                f"There is no queue {name!r}: make it with manage.py provision, or name another in HERMES_DLQ_NAME"
            ) from error

    def _give_back(self, messages: Sequence[Received]) -> int:
        """Let letters be received again; returns how many come back only after `HOLD_SECONDS`."""
        try:
            return len(self.hold(messages, 0))
        except QueueUnavailable as error:
            logger.warning("%s; %d dead letters come back within %d s.", error, len(messages), HOLD_SECONDS)
            return len(messages)


def _letter(message: Any) -> Letter:
    attributes = message.get("Attributes", {})
    received = Received(
        id=message["MessageId"],
        receipt=message["ReceiptHandle"],
        body=message.get("Body", ""),
        group=attributes.get("MessageGroupId"),
        attributes=dict(message.get("MessageAttributes", {})),
    )
    return open_letter(
        received,
        int(attributes.get("SentTimestamp", 0)) / 1000 or None,
        int(attributes.get("ApproximateReceiveCount", 0)),
        max_bytes=settings.HERMES_MESSAGE_MAX_BYTES,
    )


def _missing(chosen: Sequence[str], found: Sequence[Letter]) -> Iterator[Done]:
    there = {letter.id for letter in found}
    return (Done(each, Outcome.MISSING) for each in dict.fromkeys(chosen) if each not in there)
