"""Vitals: what `/metrics` and the log say of one stage's relay. Counted by relay, read by exposition."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from prometheus_client import Counter, Gauge, Histogram

from notifications.intake.received import Received
from notifications.stream import trace
from notifications.stream.message import Message
from notifications.stream.replies import Appended

logger = logging.getLogger(__name__)

BATCHES = Counter("hermes_relay_batches", "Answers of SQS that held messages.", ["stage"])
MESSAGES = Counter("hermes_relay_messages", "Messages that a relay is done with, by outcome.", ["stage", "outcome"])
DEAD_LETTERS = Counter("hermes_relay_dead_letters", "Messages put into the dead-letter queue.", ["stage", "reason"])
RETRIES = Counter("hermes_relay_retries", "Times that something did not succeed and is tried again.", ["stage", "step"])
IN_HAND = Gauge("hermes_relay_in_hand", "Messages received and not done with.", ["stage"])
ANSWERED = Gauge(
    "hermes_relay_answered_timestamp_seconds", "When SQS last answered, with messages or without.", ["stage"]
)
APPEND_SECONDS = Histogram(
    "hermes_relay_append_seconds",
    "From SQS's SentTimestamp to the place in the history, by two clocks.",
    ["stage"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)

# What became of a message: it has a place, or had one; it is a dead letter, or should be and there is no queue for it;
# it was given back, to come again.
APPENDED, DUPLICATE, DEAD_LETTER, REFUSED, GIVEN_BACK = OUTCOMES = (
    "appended",
    "duplicate",
    "dead_letter",
    "refused",
    "given_back",
)
RECEIVE, APPEND, DELETE = STEPS = ("receive", "append", "delete")


class Vitals:
    """The numbers of one stage's relay.

    Args:
        stage: its name.
        in_hand: returns how many messages it has in hand.
    """

    def __init__(self, stage: str, in_hand: Callable[[], int]) -> None:
        self._stage = stage
        IN_HAND.labels(stage).set_function(in_hand)
        ANSWERED.labels(stage).set(time.time())  # else it would have been silent since 1970
        self._append_seconds = APPEND_SECONDS.labels(stage)
        BATCHES.labels(stage)
        self._settled = {outcome: MESSAGES.labels(stage, outcome) for outcome in OUTCOMES}
        for step in STEPS:
            RETRIES.labels(stage, step)

    def received(self, messages: int) -> None:
        """Count an answer of SQS."""
        ANSWERED.labels(self._stage).set(time.time())
        if messages:
            BATCHES.labels(self._stage).inc()

    def settled(self, outcome: str, messages: int = 1) -> None:
        """Count messages that are done with."""
        self._settled[outcome].inc(messages)

    def placed(self, received: Received, message: Message, appended: Appended) -> None:
        """Count a message that has its place, and log it."""
        outcome = APPENDED if appended.entry else DUPLICATE
        self.settled(outcome)
        if appended.entry and message.sent_at:
            self._append_seconds.observe(max(0.0, time.time() - message.sent_at / 1000))
        level = trace.level(message.trace)
        if logger.isEnabledFor(level):
            ids = {"room_id": message.room_id, "message_id": message.id, "sqs_message_id": received.id}
            more = {"stage": self._stage, "outcome": outcome, "seq": appended.seq, **trace.fields(message.trace)}
            logger.log(level, "relayed", extra={**ids, **more})

    def buried(self, reason: str) -> None:
        """Count a dead letter.

        Args:
            reason: the code of its `MessageRefused`.
        """
        self.settled(DEAD_LETTER)
        DEAD_LETTERS.labels(self._stage, reason).inc()

    def retried(self, step: str, times: int = 1) -> None:
        """Count what is tried again."""
        RETRIES.labels(self._stage, step).inc(times)
