"""Relay: from SQS to the rooms; receive, decode, publish, delete last. Run by `manage.py relay_sqs`, hands to publish.

A message is deleted only when it is in a history or in the dead-letter queue. Dying anywhere in between costs a second
delivery by SQS, and the history knows the message's id.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from django.conf import settings

from notifications.exceptions import HistoryUnavailable, MessageRefused, QueueUnavailable
from notifications.intake import envelope
from notifications.intake.queue import Queue, Received
from notifications.stream.message import Message
from notifications.stream.publish import Publisher

logger = logging.getLogger(__name__)

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds; full jitter between 0 and the current one
COMPLAIN_SECONDS = 60.0
# Asks whether Redis takes entries at all; no message can name this room, because of its control character.
PROBE = Message(id="probe", user_id="hermes", room_id="\x00probe", data="null")
DELETE_ATTEMPTS = 3
_T = TypeVar("_T")


class Relay:
    """Carries one stage's messages, on one event loop.

    Args:
        stage: its name.
        queue: where from.
        publisher: where to.
        pollers: how many batches are in flight at once.
    """

    def __init__(self, stage: str, queue: Queue, publisher: Publisher, *, pollers: int = 2) -> None:
        self._stage = stage
        self._queue = queue
        self._publisher = publisher
        self._pollers = pollers
        self._stopping = asyncio.Event()
        self._threads = ThreadPoolExecutor(max_workers=2 * pollers, thread_name_prefix="hermes-sqs")
        self._complained: dict[str, float] = {}

    def stop(self) -> None:
        """Finish what is in flight and receive nothing more."""
        self._stopping.set()

    async def run(self) -> None:
        """Carry messages until `stop`; outages of SQS and Redis are waited out."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._pollers):
                    group.create_task(self._poll(), name="hermes-poller")
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def turn(self) -> int:
        """Receive once and carry what came.

        Returns:
            How many messages came.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        received = await self._in_thread(self._queue.receive)
        if not received:
            return 0
        deadline = time.monotonic() + 0.7 * settings.HERMES_VISIBILITY_SECONDS
        decoded = [(message, self._decode(message)) for message in received]
        refused = [(message, result) for message, result in decoded if isinstance(result, MessageRefused)]
        accepted = [(message, result) for message, result in decoded if isinstance(result, Message)]
        done = await self._publish(accepted, deadline)
        for message, refusal in refused:
            if await self._bury(message, refusal):
                done.append(message)
        await self._delete(done)
        return len(received)

    async def _poll(self) -> None:
        backoff = FIRST_BACKOFF
        while not self._stopping.is_set():
            try:
                await self.turn()
                backoff = FIRST_BACKOFF
            except QueueUnavailable as error:
                self._complain("queue", "%s; trying again with back-off.", error)
                await self._pause(random.uniform(0, backoff))  # noqa: S311  jitter, not a secret
                backoff = min(2 * backoff, LONGEST_BACKOFF)

    def _decode(self, message: Received) -> Message | MessageRefused:
        try:
            return envelope.decode(message.body, message.id, max_bytes=settings.HERMES_MESSAGE_MAX_BYTES)
        except MessageRefused as refusal:
            return refusal

    async def _publish(self, accepted: Sequence[tuple[Received, Message]], deadline: float) -> list[Received]:
        """Publish until Redis has taken everything; this poller receives nothing meanwhile.

        An outage of Redis must not burn receive counts, or it would carry the queue into the dead-letter queue.
        """
        done: list[Received] = []
        backoff, refused_alone = FIRST_BACKOFF, 0
        rest = list(accepted)
        while rest:
            try:
                results = await self._publisher.publish(self._stage, [message for _, message in rest])
            except HistoryUnavailable as error:
                results = [error] * len(rest)
            failed = []
            for pair, result in zip(rest, results, strict=True):
                if isinstance(result, HistoryUnavailable):
                    failed.append(pair)
                    self._complain("history", "%s; what is in flight is kept and tried again.", result)
                else:
                    done.append(pair[0])
            rest = failed
            if not rest:
                break
            refused_alone = refused_alone + 1 if await self._redis_takes_others() else 0
            if refused_alone > 1:  # not once: Redis may just have come back
                break  # what is refused while others are taken is left to the redrive policy, and holds nobody up
            if self._stopping.is_set() or time.monotonic() > deadline:
                await self._give_back([message for message, _ in rest])
                await self._until_redis_answers()
                break
            await self._pause(random.uniform(0, backoff))  # noqa: S311  jitter, not a secret
            backoff = min(2 * backoff, 5.0)
        return done

    async def _until_redis_answers(self) -> None:
        """Receive nothing while Redis is down."""
        while not self._stopping.is_set() and not await self._redis_takes_others():
            await self._pause(random.uniform(0.5, 2.0))  # noqa: S311  jitter, not a secret

    async def _redis_takes_others(self) -> bool:
        try:
            (result,) = await self._publisher.publish(self._stage, [PROBE])
        except HistoryUnavailable:
            return False
        return not isinstance(result, HistoryUnavailable)

    async def _bury(self, message: Received, refusal: MessageRefused) -> bool:
        """Put a refused message into the dead-letter queue; returns whether it may be deleted."""
        logger.warning("Message %s was refused: %s", message.id, refusal)
        try:
            if await self._in_thread(self._queue.dead_letter, message, refusal):
                return True
            self._complain("dlq", "There is no dead-letter queue; refused messages are left to the redrive policy.")
        except QueueUnavailable as error:
            logger.warning("Message %s stays in the queue: %s", message.id, error)
        return False

    async def _delete(self, done: Sequence[Received]) -> None:
        """Delete what is safely elsewhere; what cannot be deleted comes again and is recognised by its id."""
        rest = list(done)
        for attempt in range(DELETE_ATTEMPTS):
            try:
                rest = await self._in_thread(self._queue.delete, rest)
            except QueueUnavailable as error:
                self._complain("delete", "%s; it will come again and be recognised.", error)
            if not rest:
                return
            await self._pause(random.uniform(0, FIRST_BACKOFF * 2**attempt))  # noqa: S311  jitter, not a secret

    async def _give_back(self, messages: Sequence[Received]) -> None:
        try:
            await self._in_thread(self._queue.release, messages)
        except QueueUnavailable as error:
            self._complain("release", "%s; they come back when their visibility ends.", error)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not once stopping has begun."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({stopping}, timeout=seconds)
        finally:
            stopping.cancel()

    def _complain(self, what: str, text: str, *arguments: object) -> None:
        """Log a lasting trouble once a minute."""
        now = time.monotonic()
        if now - self._complained.get(what, -COMPLAIN_SECONDS) >= COMPLAIN_SECONDS:
            self._complained[what] = now
            logger.warning(text, *arguments)

    async def _in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
