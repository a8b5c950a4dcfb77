"""Hints: what the channel layer brings, taken by the rooms of this process. Run by hub; feeds feeds, tells ear.

What one read of the layer's socket has brought is taken and written in one go: between that read and the sockets stand
no queue, no task and no further turn of the event loop, unless a large room is being written to: then a room has its
part of the next turn (feeds). A layer of another kind brings its hints one by one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis

from notifications.sockets.ear import Ear
from notifications.sockets.feed import Feed
from notifications.sockets.feeds import Feeds
from notifications.stream.entry import from_hint

logger = logging.getLogger(__name__)

HINTS_A_TURN = 32  # of a layer that brings them one by one; then others on the loop have their turn


class Hints:
    """Has the rooms take what is sent to this process over the channel layer.

    Args:
        layer: Channels' channel layer.
        feeds: the process's rooms.
        ear: is told what was sent to see whether it arrives.
    """

    def __init__(self, layer: Any, feeds: Feeds, ear: Ear) -> None:
        self._layer = layer
        self._feeds = feeds
        self._ear = ear
        self._channel = ""

    async def run(self, on_listening: Callable[[], None]) -> None:
        """Take hints, for ever; returns where the channel layer does not answer.

        Args:
            on_listening: called when the layer has subscribed: what was sent before may be lost.
        """
        try:
            # One for all tries: the layer would keep each.
            channel = self._channel = self._channel or await self._layer.new_channel()
            await self._feeds.listen_on(channel)
        except (redis.RedisError, OSError) as error:  # tried again every second; the follower complains in words
            logger.debug("The channel layer does not answer: %s", type(error).__name__)
            return
        if hasattr(self._layer, "listen"):
            self._layer.listen(channel, self._take_all)
        self._ear.listen_on(channel)
        on_listening()
        count = 0
        while True:
            try:
                # Never with a deadline around it: a cancelled receive unsubscribes the channel, also where nothing
                # comes this way because it is listened to.
                feed = self._take(await self._layer.receive(channel))
                if feed is not None:
                    self._feeds.mark(feed)
            except Exception as error:
                _wonder(error)
                await asyncio.sleep(0)
            count += 1
            if count % HINTS_A_TURN == 0:
                await asyncio.sleep(0)

    def _take_all(self, published: Sequence[bytes]) -> None:
        """Take what one read has brought, and write what follows from it."""
        feeds: dict[Feed, None] = {}
        for data in published:
            try:
                feed = self._take(self._layer.deserialize(data))
            except Exception as error:
                _wonder(error)
                continue
            if feed is not None:
                feeds[feed] = None
        self._feeds.write(feeds)

    def _take(self, hint: Mapping[str, Any]) -> Feed | None:
        """Have a room take its hint; return it, if this process has it."""
        if "pulse" in hint:
            self._ear.heard(hint["pulse"])
            return None
        feed = self._feeds.get((hint["stage"], hint["room"]))
        if feed is not None and not feed.take(from_hint(hint), hint["seq"]):
            self._feeds.fill(feed)
        return feed


def _wonder(error: Exception) -> None:
    # Another release's hint, perhaps, or no hint at all; the follower finds what it spoke of. A new channel would
    # leave this one behind in the layer, filling up with hints that nobody reads.
    logger.warning("A hint was not understood and is ignored: %s", type(error).__name__)
