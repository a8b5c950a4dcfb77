"""Hub: carries entries from the histories to this process's connections. Woken by hints, owns feeds, tells registry.

The history is the truth and a hint only a wake-up call, so the hub works the same when hints are lost, repeated or out
of order: what follows is delivered, what is known is dropped, and for everything else the history is asked.

One task receives hints, one follows the histories, one keeps time, a few obey clients; none is per connection and none
per entry.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings

from notifications.access import token_store
from notifications.access.authorizer import Authorizer, Grant
from notifications.exceptions import Unavailable
from notifications.registry.connections import Registry
from notifications.sockets import protocol, vitals
from notifications.sockets.connection import Connection
from notifications.sockets.crowd import Crowd
from notifications.sockets.ear import Ear
from notifications.sockets.feed import Feed
from notifications.sockets.feeds import Feeds
from notifications.sockets.follower import Follower
from notifications.sockets.guard import Guard
from notifications.sockets.hints import Hints
from notifications.sockets.inbox import WORKERS, Inbox
from notifications.sockets.outbound import Batch
from notifications.sockets.ring import Ring
from notifications.sockets.wheel import Wheel
from notifications.stream.history import History
from notifications.stream.keys import CONTROL_ROOM
from notifications.stream.position import Lost, Position, Resume
from notifications.stream.publish import Publisher

logger = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
JOIN_SECONDS = 10.0
RECENT_SECONDS = 5.0  # a worker of the inbox waits meanwhile
STOP_SECONDS = 8.0
CANCELLATIONS = 5


class Hub:
    """The one object per server process that carries entries to its connections. Belongs to one event loop."""

    def __init__(self) -> None:
        self._layer: Any = get_channel_layer()
        self._history = History()
        self._connections: set[Connection] = set()
        self.wheel = Wheel(self._ping)
        self._crowd = Crowd()
        self._ear = Ear(self._layer)
        self._tasks: list[asyncio.Task[None]] = []
        self.inbox = Inbox()
        self.publisher = Publisher(self._history)
        self.authorizer = Authorizer()
        self._guard = Guard(lambda: list(self._connections), self._of_member, self.authorizer)
        self._feeds = Feeds(self._history, self._layer, self._guard.make_feed)
        self._follower = Follower(self._feeds, self._history)
        self._hints = Hints(self._layer, self._feeds, self._ear)
        self.registry = Registry(f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}")
        self.is_draining = False

    async def start(self) -> None:
        """Begin to receive, follow and keep time; succeeds also while Redis, SQL or DynamoDB do not answer."""
        await asyncio.gather(asyncio.to_thread(token_store.prepare), self.registry.start())
        self._ear.open()
        vitals.show(lambda: len(self._connections), lambda: len(self._feeds))
        listening = asyncio.Event()

        def on_listening() -> None:
            self._follower.compare_soon()
            listening.set()

        loops = {
            "receive": lambda: self._hints.run(on_listening),
            "follow": self._follower.run,
            "ear": lambda: self._ear.mend(self._follower.compare_soon),
            "time": self.wheel.run,
            "guard": self._keep_guard,
            "rooms": self._keep_rooms,
            **{f"obey-{number}": self.inbox.work for number in range(WORKERS)},
            **{f"hurry-{number}": self.inbox.hurry for number in range(WORKERS)},
        }
        self._tasks = [asyncio.create_task(_forever(name, loop), name=f"hermes-{name}") for name, loop in loops.items()]
        try:  # so that the first connection finds the channel layer subscribed
            async with asyncio.timeout(RESTART_SECONDS):
                await listening.wait()
        except TimeoutError:
            logger.warning("The channel layer does not answer yet; joins are told to come back until it does.")

    async def stop(self) -> None:
        """End every task, close the registry's rows and let go of Redis."""
        self.is_draining = True
        self._ear.close()
        await _end(self._tasks)
        await self._feeds.stop()
        await self.registry.stop(STOP_SECONDS)
        await self.authorizer.aclose()
        await self._history.aclose()

    async def join(self, connection: Connection, position: Position | None, *, malformed: bool = False) -> None:
        """Let a connection have its room's entries: what it missed, then what comes.

        Args:
            connection: accepted, with its outbound.
            position: where it left off.
            malformed: it showed a position that means nothing; it is told `lost(epoch)`.

        Raises:
            Unavailable: the room's history cannot be opened or read now.
            TooManyConnections: its user or its address has as many as one may have.
        """
        grant = connection.grant
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                while True:
                    # Commands first: nobody joins whom a command could not reach, or has not before we were there.
                    await self._feeds.reach((grant.stage, CONTROL_ROOM), None, is_whole=True)
                    await self._guard.look_again(connection)
                    if connection.is_closing:
                        return
                    key, ring = (grant.stage, grant.room_id), None
                    feed = await self._feeds.reach(key, position, is_whole=malformed)
                    if feed.ring.is_full_of_others(position, connection.user):
                        older = (await self._feeds.read_whole(feed)).entries
                        feed = await self._feeds.reach(key, position)
                        ring = feed.ring.with_older(older)
                    if self._guard.is_trusted(connection):
                        break
        except TimeoutError as error:
            raise Unavailable(f"room {grant.room_id!r}: its history did not answer in time") from error
        # From here on nothing waits, so that no entry can slip between the replay and what comes live.
        self._crowd.admit(connection)
        # A revocation since the verdict is found here, a later one finds us registered.
        self._guard.check_joined(connection)
        if connection.is_closing:
            return
        feed.prepare()  # what has come is for those who were here; it is part of what this one missed
        if malformed:
            how = Resume(after=feed.ring.before.seq, lost=Lost.EPOCH)
        else:
            how = feed.resume(position, ring) or Resume(after=feed.ring.before.seq, lost=Lost.UNAVAILABLE)
        if connection.speaks_v1:
            how = self._greet(connection, feed, how, ring)
        feed.add(connection)
        self._connections.add(connection)
        self.wheel.add(connection)
        self._crowd.add(connection)
        self.registry.opened(connection.record, connection.outbound)
        vitals.joined(how if connection.speaks_v1 else None)
        logger.debug("joined", extra=connection.fields)

    def leave(self, connection: Connection, code: int | None) -> None:
        """Forget a connection; a second time does nothing.

        Args:
            code: why it ended, if Hermes had no reason of its own.
        """
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self.wheel.remove(connection)
        self._crowd.remove(connection)
        feed = self._feed_of(connection)
        if feed is not None:  # the time-keeper closes empty feeds a little later: a reload comes right back
            feed.remove(connection)
        code = connection.close_code if connection.is_closing else code
        self.registry.closed(connection.id, code)
        vitals.closed(code)
        logger.debug("left", extra={**connection.fields, "code": code})

    def refresh(self, connection: Connection, grant: Grant) -> None:
        """Let a connection stay, by a grant that ends at another time."""
        # As in a join: a revocation since the verdict found a connection with the old grant.
        self._guard.check_joined(connection, grant)
        if connection.is_closing:
            return
        connection.refresh(grant)
        if connection in self._connections:
            self.wheel.add(connection)

    async def recent(self, connection: Connection, limit: int) -> list[bytes]:
        """Return the texts of the last entries of a connection's room that its member may see, oldest first.

        Raises:
            Unavailable: the history cannot be read now.
        """
        key = (connection.grant.stage, connection.grant.room_id)
        try:
            async with asyncio.timeout(RECENT_SECONDS):
                feed = await self._feeds.reach(key, None, is_whole=True)
        except TimeoutError as error:
            raise Unavailable(f"room {key[1]!r}: its history did not answer in time") from error
        return feed.recent(connection.user, limit)

    def drain(self, connection: Connection, slot_seconds: float) -> None:
        """Tell a connection that this process goes away, and when to come back."""
        self.is_draining = True
        feed = self._feed_of(connection)
        # Who is still joining has not been given what it missed: the room's position would take it past that, untold.
        if feed is not None and connection in self._connections:
            feed.flush()
            connection.goodbye(feed.head, slot_seconds)

    def _feed_of(self, connection: Connection) -> Feed | None:
        return self._feeds.get((connection.grant.stage, connection.grant.room_id))

    def _of_member(self, stage: str, room_id: str, user: str) -> list[Connection]:
        feed = self._feeds.get((stage, room_id))
        return [] if feed is None else list(feed.by_user.get(user, ()))

    def _greet(self, connection: Connection, feed: Feed, how: Resume, ring: Ring | None) -> Resume:
        how, start, texts = feed.replay(how, connection.user, ring)
        greeting = protocol.hello(
            how,
            start,
            len(texts),
            ping_s=settings.HERMES_PING_SECONDS,
            expires_in_s=max(0, int(connection.grant.expires_at - time.time())),
            connection_id=connection.id,
            user_id=connection.grant.user_id,
            room_id=connection.grant.room_id,
        )
        # The last entries may have been for others: the ping takes this member to the room's position all the same.
        end = [] if start == feed.head else [protocol.ping(feed.head)]
        batch = Batch([greeting, *texts, *end])
        connection.outbound.write(batch)
        vitals.TALLY.written(len(texts), batch.size)
        return how

    async def _keep_rooms(self) -> None:
        """Once a second: leave the rooms that nobody is in."""
        while True:
            await asyncio.sleep(1.0)
            await self._feeds.close_empty()

    async def _keep_guard(self) -> None:
        """Once a second: look whether it is time to read everybody's row."""
        while True:
            await asyncio.sleep(1.0)
            await self._guard.sweep()

    def _ping(self, connections: Iterable[Connection]) -> None:
        """Tell connections the position of their room, behind the entries that it counts."""
        by_feed: dict[Feed, list[Connection]] = {}
        for connection in connections:
            feed = self._feed_of(connection)
            if feed is None or connection.is_closing:
                continue
            if connection.speaks_v1:
                by_feed.setdefault(feed, []).append(connection)
            else:
                connection.outbound.ping()
        for feed, pinged in by_feed.items():
            feed.ping(pinged)
            self._feeds.mark(feed)


async def _forever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    """Run a loop that must not end; an error in it is logged, and it begins again."""
    while True:
        try:
            await loop()
        except Exception:
            logger.exception("The hub's %s loop failed and begins again.", name)
        await asyncio.sleep(RESTART_SECONDS)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a library's clean-up may swallow a cancellation, and go on for ever."""
    for _ in range(CANCELLATIONS):
        for task in tasks:
            task.cancel()
        if not tasks or not (await asyncio.wait(tasks, timeout=1.0))[1]:
            return
    logger.error("Not every task of the hub has ended: %s", [task.get_name() for task in tasks if not task.done()])


class HubOfLoop:
    """One hub per event loop, begun by whoever comes first: a lifespan, or a connection where the server has none."""

    def __init__(self) -> None:
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    async def running(self) -> Hub:
        """Return the running loop's hub, started."""
        loop = asyncio.get_running_loop()
        if loop not in self._hubs:
            async with self._locks.setdefault(loop, asyncio.Lock()):
                if loop not in self._hubs:
                    hub = Hub()
                    await hub.start()
                    self._hubs[loop] = hub
        return self._hubs[loop]

    async def stop(self) -> None:
        """Stop the running loop's hub, if it has one."""
        loop = asyncio.get_running_loop()
        hub = self._hubs.pop(loop, None)
        self._locks.pop(loop, None)
        if hub is not None:
            await hub.stop()
