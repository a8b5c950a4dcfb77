"""Relay: from SQS to the rooms; receive, decode, publish, delete last. Run by `manage.py relay_sqs`, hands to publish.

A message is deleted only when it is in a history or in the dead-letter queue. Dying anywhere in between costs a second
delivery by SQS, and the history knows the message's id. What is in hand is kept from coming again (hold), and goes to
the histories in lines: on a FIFO queue each group's messages one after another, else all of them at once.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings

from notifications.exceptions import HistoryUnavailable, MessageRefused, QueueUnavailable
from notifications.intake import envelope, vitals
from notifications.intake.heartbeat import Tally
from notifications.intake.hold import Complaints, Hold
from notifications.intake.lines import Line, lines
from notifications.intake.outage import AWAY_SECONDS, Outage
from notifications.intake.queue import BATCH, Queue
from notifications.intake.received import Received
from notifications.intake.vitals import Vitals
from notifications.stream import trace
from notifications.stream.message import Message
from notifications.stream.publish import PROBE, Publisher

logger = logging.getLogger(__name__)

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds; full jitter between 0 and the current one
LONGEST_RETRY = 5.0  # the same for Redis, whose messages are in hand
DELETE_ATTEMPTS = 3
POLLERS = 8
GRACE_SECONDS = 20.0  # shorter than the 30 s that Kubernetes and ECS wait before they kill
RELEASE_SECONDS = 3.0  # of the grace, for giving back what could not be finished
# Pollers beyond these wait until a queue is deep: each would be a request every few seconds to an empty one, for ever.
STEADY_POLLERS = 2
DEEP = BATCH // 2  # messages in one answer of SQS, which often gives less than a batch though more wait
STOPPED_GROUP_SECONDS = 10  # at once, its redelivery would burn its receive count in moments
_T = TypeVar("_T")
_give_way: Callable[[], None] = getattr(os, "sched_yield", lambda: None)  # not every system has it


class Relay:
    """Carries one stage's messages, on one event loop.

    Args:
        stage: its name.
        queue: where from.
        publisher: where to.
        pollers: how many batches are in flight at most.
        grace_seconds: how long stopping may take; what is not finished by then is given back.
    """

    def __init__(
        self,
        stage: str,
        queue: Queue,
        publisher: Publisher,
        *,
        pollers: int = POLLERS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._stage = stage
        self._queue = queue
        self._publisher = publisher
        self._pollers = pollers
        self._grace = grace_seconds
        self._stopping = asyncio.Event()
        self._deep = asyncio.Event()
        # What the loop cannot wait for itself (queue, wire) is one thing at a time for each poller; one more keeps what
        # they hold, and one gives it back when all hang.
        self._asked: set[Future[Any]] = set()
        self._threads = ThreadPoolExecutor(max_workers=pollers + 2, thread_name_prefix="hermes-sqs")
        self.complaints = Complaints()
        self.tally = Tally()
        self.hold = Hold(queue, self._in_thread, self.complaints)
        self._vitals = Vitals(stage, lambda: len(self.hold))
        # Nothing may be in hand then, and it must be seen all the same that this lasts.
        lasts = functools.partial(self._vitals.retried, vitals.APPEND)
        self._outage = Outage(self._redis_takes_others, self._pause, self._stopping, lasts)

    @property
    def is_hung(self) -> bool:
        """Whether a thread still waits for an answer of SQS, which nobody else does after `run`."""
        return any(asked.running() for asked in list(self._asked))

    def stop(self) -> None:
        """Finish what is in flight, or give it back within the grace period, and receive nothing more."""
        self._stopping.set()
        self._deep.set()

    async def run(self) -> None:
        """Carry messages until `stop`; outages of SQS and Redis are waited out."""
        pollers = [
            asyncio.create_task(self._poll(is_spare=number >= STEADY_POLLERS), name="hermes-poller")
            for number in range(self._pollers)
        ]
        helpers: list[asyncio.Task[Any]] = [
            asyncio.create_task(self.hold.keep(), name="hermes-hold"),
            asyncio.create_task(self._stopping.wait(), name="hermes-stopping"),
        ]
        try:
            # Neither a poller nor the hold ends by itself; one that does has failed, and the relay ends with its error.
            await asyncio.wait([*helpers, *pollers], return_when=asyncio.FIRST_COMPLETED)
            self.stop()
            await asyncio.wait(pollers, timeout=max(self._grace - RELEASE_SECONDS, 0))
        finally:
            tasks = [*pollers, *helpers]
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await self._let_go()
            self._threads.shutdown(wait=False, cancel_futures=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def turn(self) -> int:
        """Receive once and carry what came.

        Returns:
            How many messages came.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        received = await self._queue.receive(self._in_thread)
        self._vitals.received(len(received))
        if not received:
            self.hold.emptied = time.monotonic()
            return 0
        if self._outage.is_on:  # it was a long poll, under way when another poller found that Redis is away
            await self._give_back(received, after_seconds=self._outage.seconds_away(AWAY_SECONDS))
            return len(received)
        self.hold.take(received)
        received_at = time.time()
        deadline = time.monotonic() + 0.7 * settings.HERMES_VISIBILITY_SECONDS
        decoded = [(message, self._decode(message)) for message in received]
        refused = [(message, result) for message, result in decoded if isinstance(result, MessageRefused)]
        accepted = [(message, result) for message, result in decoded if isinstance(result, Message)]
        done = await self._publish(lines(accepted, is_fifo=self._queue.is_fifo), deadline)
        for message, refusal in refused:
            if await self._bury(message, refusal):
                done.append(message)
        # What is neither done nor given back comes again when its visibility ends.
        self.hold.drop(received)
        if done:
            self.tally.carried(done, received_at, time.time())
            # A server on this core has just been told, and would wait until the deletion is under way, which can wait.
            _give_way()
        await self._delete(done)
        return len(received)

    async def _poll(self, *, is_spare: bool) -> None:
        backoff = FIRST_BACKOFF
        while not self._stopping.is_set():
            if is_spare and not self._deep.is_set():
                await self._deep.wait()
                continue
            await self._outage.wait_out()
            if self._stopping.is_set():
                return
            try:
                came = await self.turn()
                backoff = FIRST_BACKOFF
                if came >= DEEP:
                    self._deep.set()
                elif not came and not self._stopping.is_set():
                    self._deep.clear()
            except QueueUnavailable as error:
                self._vitals.retried(vitals.RECEIVE)
                self.complaints.make("queue", "%s; trying again with back-off.", error)
                await self._pause(random.uniform(0, backoff))  # noqa: S311  jitter, not a secret
                backoff = min(2 * backoff, LONGEST_BACKOFF)

    def _decode(self, message: Received) -> Message | MessageRefused:
        try:
            return envelope.decode(
                message.body,
                message.id,
                max_bytes=settings.HERMES_MESSAGE_MAX_BYTES,
                sent_at=message.sent_at,
                trace=message.trace,
            )
        except MessageRefused as refusal:
            return refusal

    async def _publish(self, waiting: list[Line], deadline: float) -> list[Received]:
        """Publish until Redis has taken everything, wave by wave; while it is away no poller receives anything."""
        done: list[Received] = []
        backoff = FIRST_BACKOFF
        while waiting:
            refused = await self._publish_wave(waiting, done)
            waiting = [line for line in waiting if line.rest]
            if not refused:
                self._outage.end()
                backoff = FIRST_BACKOFF
                continue
            takes_others = await self._outage.has_ended()
            for line in refused:
                line.refusals = line.refusals + 1 if takes_others else 0
                if line.refusals > 1:  # not once: Redis may just have come back
                    waiting.remove(line)
                    await self._stop_line(line)
            if waiting and (self._stopping.is_set() or time.monotonic() > deadline):
                rest = [message for line in waiting for message in line.received]
                self.hold.owe(rest)
                # Not to a long poll of our own that is still under way.
                await self._give_back(rest, after_seconds=self._outage.seconds_away(settings.HERMES_WAIT_SECONDS))
                await self._outage.wait_out()
                self.hold.settle(rest)
                break
            if waiting:
                await self._pause(random.uniform(0, backoff))  # noqa: S311  jitter, not a secret
                backoff = min(2 * backoff, LONGEST_RETRY)
        return done

    async def _publish_wave(self, waiting: Sequence[Line], done: list[Received]) -> list[Line]:
        """Publish the first of each line; returns the lines whose first was not taken."""
        wave = [line.rest[0][1] for line in waiting]
        try:
            results = await self._publisher.publish(self._stage, wave)
        except HistoryUnavailable as error:
            results = [error] * len(wave)
        refused: list[Line] = []
        for line, result in zip(waiting, results, strict=True):
            if isinstance(result, HistoryUnavailable):
                refused.append(line)
                self._vitals.retried(vitals.APPEND)
                self.complaints.make("history", "%s; what is in flight is kept and tried again.", result)
            else:
                done.append(line.rest[0][0])
                self._vitals.placed(*line.rest.popleft(), result)
                line.refusals = 0
        return refused

    async def _stop_line(self, line: Line) -> None:
        """Leave a line whose first message Redis refuses while it takes others: it must hold nobody else up.

        A message alone comes again when its visibility ends. A group is given back together, so that none of it can
        overtake another; in the end the redrive policy has what is refused.
        """
        if self._queue.is_fifo:
            await self._give_back(line.received, after_seconds=STOPPED_GROUP_SECONDS)
        else:
            self.hold.drop(line.received)

    async def _give_back(self, messages: Sequence[Received], *, after_seconds: int = 0) -> None:
        self._vitals.settled(vitals.GIVEN_BACK, len(messages))
        await self.hold.give_back(messages, after_seconds=after_seconds)

    async def _let_go(self) -> None:
        """Give back what could not be finished within the grace period."""
        if not len(self.hold):
            return
        logger.warning("%d messages were not finished within the grace period and are given back.", len(self.hold))
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                self._vitals.settled(vitals.GIVEN_BACK, len(self.hold))
                await self.hold.give_back()
        except TimeoutError:
            logger.warning("SQS does not answer; they come back when their visibility ends.")

    async def _redis_takes_others(self) -> bool:
        try:
            (result,) = await self._publisher.publish(self._stage, [PROBE])
        except HistoryUnavailable:
            return False
        return not isinstance(result, HistoryUnavailable)

    async def _bury(self, message: Received, refusal: MessageRefused) -> bool:
        """Put a refused message into the dead-letter queue; returns whether it may be deleted."""
        fields = {"stage": self._stage, "message_id": message.id, **trace.fields(message.trace)}
        logger.warning("Message %s was refused: %s", message.id, refusal, extra={**fields, "reason": refusal.code})
        try:
            if await self._in_thread(self._queue.dead_letter, message, refusal):
                self._vitals.buried(refusal.code)
                return True
            self.complaints.make(
                "dlq", "There is no dead-letter queue; refused messages are left to the redrive policy."
            )
        except QueueUnavailable as error:
            logger.warning("Message %s stays in the queue: %s", message.id, error, extra=fields)
        self._vitals.settled(vitals.REFUSED)
        return False

    async def _delete(self, done: Sequence[Received]) -> None:
        """Delete what is safely elsewhere; what cannot be deleted comes again and is recognised by its id."""
        rest = list(done)
        for attempt in range(DELETE_ATTEMPTS):
            try:
                rest = await self._queue.delete_here(rest, self._in_thread)
            except QueueUnavailable as error:
                self.complaints.make("delete", "%s; it will come again and be recognised.", error)
            if not rest:
                return
            self._vitals.retried(vitals.DELETE)
            await self._pause(random.uniform(0, FIRST_BACKOFF * 2**attempt))  # noqa: S311  jitter, not a secret

    async def _pause(self, seconds: float) -> None:
        """Wait, but not once stopping has begun."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({stopping}, timeout=seconds)
        finally:
            stopping.cancel()

    async def _in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        asked = self._threads.submit(work, *arguments)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        return await asyncio.wrap_future(asked)
