"""Follower: finds the entries whose hints did not come. Owned by hub; reads stream.history's activity, fills feeds.

Its cost follows what happened: one read per partition and second, however many rooms are idle; the partition of the
commands is read twice as often. Where the activity stream was overrun or lost, and after every failure of Redis, it
compares the heads of all rooms it may have missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from django.conf import settings

from notifications.exceptions import HistoryUnavailable
from notifications.sockets.feed import Feed
from notifications.sockets.feeds import Feeds
from notifications.stream import keys
from notifications.stream.history import History
from notifications.stream.position import Position

logger = logging.getLogger(__name__)

HEADS_A_READ = 500
COMMAND_SECONDS = 0.5  # a revocation whose hint is lost must close connections within a second (guarantee 6)
OVERTAKEN_SECONDS = 0.1  # an activity entry is often seen before its hint; wait this long before reading a history


class Follower:
    """Follows the activity of the partitions that this process has rooms in.

    Args:
        feeds: the process's rooms.
        history: where the activity streams are.
    """

    def __init__(self, feeds: Feeds, history: History) -> None:
        self._feeds = feeds
        self._history = history
        self._cursors: dict[tuple[str, int], bytes] = {}
        self._must_compare = False

    def compare_soon(self) -> None:
        """Compare every head at the next look: hints may have been lost for longer than activity reaches back."""
        self._must_compare = True

    async def run(self) -> None:
        """Look every `HERMES_FOLLOW_SECONDS`, and more often for commands, for ever."""
        while True:
            for _ in range(round(settings.HERMES_FOLLOW_SECONDS / COMMAND_SECONDS) - 1):
                await asyncio.sleep(COMMAND_SECONDS)
                await self._look_for_commands()
            await asyncio.sleep(COMMAND_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Look once, and begin to fill the feeds that lack something."""
        must_compare, self._must_compare = self._must_compare, False
        new = self._feeds.take_new()
        try:
            await self._compare_heads(self._feeds if must_compare else new)
            for stage in settings.HERMES_STAGES:
                await self._look_at(stage)
            self._feeds.fill_again()
        except HistoryUnavailable as error:
            if not must_compare:
                logger.warning("The hub cannot look at the histories: %s", error)
            self._must_compare = True
        except Exception:
            self._must_compare = True  # whatever it was, what this look would have found is not lost
            raise

    async def _look_for_commands(self) -> None:
        try:
            for stage in settings.HERMES_STAGES:
                if self._feeds.get((stage, keys.CONTROL_ROOM)) is not None:
                    await self._read(stage, {keys.partition(keys.CONTROL_ROOM)})
        except HistoryUnavailable:
            self._must_compare = True  # the next whole look complains, if it fails too
        except Exception:
            self._must_compare = True
            raise

    async def _look_at(self, stage: str) -> None:
        partitions = keys.partitions(feed.room_id for feed in self._feeds if feed.stage == stage)
        for gone in [key for key in self._cursors if key[0] == stage and key[1] not in partitions]:
            del self._cursors[gone]
        if partitions:
            await self._read(stage, partitions)

    async def _read(self, stage: str, partitions: set[int]) -> None:
        """Read the activity of some partitions, and fill the feeds that it shows to lack something."""
        cursors = {partition: self._cursors.get((stage, partition)) for partition in partitions}
        suspects: list[tuple[Feed, Position]] = []
        uncertain: set[int] = set()
        for partition, activity in (await self._history.activity(stage, cursors)).items():
            if cursors[partition] is None or activity.overrun:  # nothing is known of what was before
                uncertain.add(partition)
            self._cursors[(stage, partition)] = activity.cursor
            for room_id, head in activity.heads.items():
                feed = self._feeds.get((stage, room_id))
                if feed is not None and not feed.agrees_with(head):
                    suspects.append((feed, head))
        if suspects:
            await asyncio.sleep(OVERTAKEN_SECONDS)
            for feed, head in suspects:
                if not feed.agrees_with(head):
                    self._feeds.fill(feed)
        if uncertain:
            await self._compare_heads(
                feed for feed in self._feeds if feed.stage == stage and keys.partition(feed.room_id) in uncertain
            )

    async def _compare_heads(self, feeds: Iterable[Feed]) -> None:
        by_stage: dict[str, list[Feed]] = {}
        for feed in feeds:
            by_stage.setdefault(feed.stage, []).append(feed)
        for stage, mine in by_stage.items():
            for start in range(0, len(mine), HEADS_A_READ):
                some = mine[start : start + HEADS_A_READ]
                known = [feed.head for feed in some]
                heads = await self._history.heads(stage, [feed.room_id for feed in some])
                for feed, before, head in zip(some, known, heads, strict=True):
                    # A head behind what we knew when we asked is a history that lost its end.
                    if head is None or head.seq < before.seq or not feed.agrees_with(head):
                        self._feeds.fill(feed)
