"""Publish: the one door through which every entry of every room goes. Called by intake.relay and sockets.consumer.

Nothing else appends to a history or sends entries to a group; tests/stream/test_publish.py holds that. First the
history (the truth), then the hint (a wake-up call that may be lost: the hubs follow the histories as well).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from channels.layers import get_channel_layer

from notifications.exceptions import HistoryUnavailable
from notifications.stream.entry import Entry, to_hint
from notifications.stream.history import History
from notifications.stream.keys import group_name
from notifications.stream.message import Message
from notifications.stream.replies import Appended

logger = logging.getLogger(__name__)

HINT_SECONDS = 3.0  # a hint later than that is worth nothing: by then the hubs have followed the history
COMPLAIN_SECONDS = 60.0


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
        await self._hint(stage, entries, heads)
        return results

    async def _hint(self, stage: str, entries: dict[str, list[Entry]], heads: dict[str, int]) -> None:
        try:
            async with asyncio.timeout(HINT_SECONDS):
                for room_id, seq in heads.items():
                    hint = to_hint(stage, room_id, entries.get(room_id, []), seq)
                    await self._layer.group_send(group_name(stage, room_id), hint)
        except Exception as error:
            # The entries are in the history; the hubs find them within seconds. Any error of the layer's library
            # must not make the caller publish again.
            if time.monotonic() - self._complained_at >= COMPLAIN_SECONDS:
                self._complained_at = time.monotonic()
                logger.warning("A hint was not sent, delivery waits for the hubs' own look: %s", type(error).__name__)
