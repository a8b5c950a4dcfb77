"""Publish: the one door through which every entry of every room goes. Called by intake.relay and sockets.consumer.

Nothing else appends to a history or sends entries to a group; tests/stream/test_publish.py holds that. First the
history (the truth), then the hint (a wake-up call that may be lost: the hubs follow the histories as well).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis
from channels.layers import get_channel_layer

from notifications.exceptions import HistoryUnavailable
from notifications.stream import trace
from notifications.stream.entry import Entry, to_hint
from notifications.stream.history import History
from notifications.stream.keys import group_name
from notifications.stream.message import Message
from notifications.stream.replies import Appended

logger = logging.getLogger(__name__)

HINT_SECONDS = 3.0  # a hint later than that is worth nothing: by then the hubs have followed the history
COMPLAIN_SECONDS = 60.0
# A hint may be sent before Redis knows that somebody listens: the two go over different connections.
RESEND_SECONDS = 0.2
# Asks whether Redis takes entries at all; no message can name this room, because of its control character.
PROBE = Message(id="probe", user_id="hermes", room_id="\x00probe", data="null")


async def publish_once(stage: str, message: Message) -> None:
    """Publish one message with connections of its own, for code that has no event loop to keep them in.

    Args:
        stage: whose room.
        message: for any room.

    Raises:
        HistoryUnavailable: it was not published.
    """
    history = History()
    try:
        (result,) = await Publisher(history).publish(stage, [message])
    finally:
        await history.aclose()
    if isinstance(result, HistoryUnavailable):
        raise result


async def probe_layer(seconds: float) -> bool:
    """Send a hint over the channel layer to a group of our own and wait until it comes back.

    Only on an event loop that nobody else has: it leaves the layer there without any subscription.

    Args:
        seconds: how long it may take.

    Returns:
        Whether it came back in time.

    Raises:
        HistoryUnavailable: Redis does not answer.
    """
    layer: Any = get_channel_layer()
    group = f"probe.{secrets.token_hex(8)}"
    heard: asyncio.Task[Any] | None = None
    try:
        async with asyncio.timeout(seconds):
            channel = await layer.new_channel()
            await layer.group_add(group, channel)
            heard = asyncio.create_task(layer.receive(channel))
            while not heard.done():
                await layer.group_send(group, {"type": "hermes.probe"})
                await asyncio.wait([heard], timeout=RESEND_SECONDS)
            heard.result()
    except TimeoutError:
        return False
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"the channel layer does not answer: {type(error).__name__}") from error
    finally:
        if heard is not None:
            heard.cancel()
            await asyncio.wait([heard])
        await layer.flush()
    return True


class Publisher:
    """Appends messages and wakes the hubs, on one event loop.

    Args:
        history: where to append.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._layer: Any = get_channel_layer()
        self._complained_at = -COMPLAIN_SECONDS

    async def publish(self, stage: str, messages: Sequence[Message]) -> list[Appended | HistoryUnavailable]:
        """Append messages to their rooms' histories, in order, and send one hint per room.

        Args:
            stage: whose rooms.
            messages: for any rooms.

        Returns:
            A result for each message: its place, or why this one has none (it can be published again).

        Raises:
            HistoryUnavailable: nothing can be said of any of them; publish them again.
        """
        if not messages:
            return []
        results = await self._history.append(stage, messages)
        entries: defaultdict[str, list[Entry]] = defaultdict(list)
        heads: dict[str, int] = {}
        for message, result in zip(messages, results, strict=True):
            if isinstance(result, HistoryUnavailable):
                continue
            # A duplicate is hinted too: whoever appended it may have died before its own hint.
            heads[message.room_id] = max(result.seq, heads.get(message.room_id, 0))
            if result.entry is not None:
                entries[message.room_id].append(result.entry)
                trace.log(logger, "appended", stage, message.room_id, result.entry)
        await self._hint(stage, entries, heads)
        return results

    async def _hint(self, stage: str, entries: dict[str, list[Entry]], heads: dict[str, int]) -> None:
        try:
            async with asyncio.timeout(HINT_SECONDS):
                hints = {
                    group_name(stage, room_id): to_hint(stage, room_id, entries.get(room_id, []), seq)
                    for room_id, seq in heads.items()
                }
                if hasattr(self._layer, "group_send_many"):
                    await self._layer.group_send_many(hints)
                    return
                for group, hint in hints.items():  # a layer of another kind
                    await self._layer.group_send(group, hint)
        except Exception as error:
            # The entries are in the history; the hubs find them within seconds. Any error of the layer's library
            # must not make the caller publish again.
            if time.monotonic() - self._complained_at >= COMPLAIN_SECONDS:
                self._complained_at = time.monotonic()
                logger.warning("A hint was not sent, delivery waits for the hubs' own look: %s", type(error).__name__)
