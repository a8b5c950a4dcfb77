"""Hint layer: Channels' pub/sub layer, many groups in one round trip, many hints in one turn. Called by publish, hints.

`group_send` waits for Redis's answer under a lock, group after group: the ten rooms of one batch would be ten round
trips, and the pollers of a relay would stand in line for them. `get_message` takes a deadline, a retry and the books of
a meter for each hint, and hints come in crowds: what one read of the socket has brought is taken at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis
import redis
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection

from notifications.stream.redis_client import layer_client
from notifications.stream.round_trips import RoundTrips

logger = logging.getLogger(__name__)

WAITING = 10_000  # messages in a channel that is not listened to; a layer may drop what is too much for a reader
LOOK_SECONDS = 0.1  # channels_redis's own: how soon a receiver sees that there is something to subscribe to
RESTART_SECONDS = 1.0  # channels_redis's own
COMPLAIN_SECONDS = 60.0


class _Shard(RedisSingleShardConnection):  # type: ignore[misc]
    """One Redis of the layer, over connections of ours: its own know neither our authority nor sentinels' URLs."""

    _complained_at = -COMPLAIN_SECONDS

    def _ensure_redis(self) -> None:
        if self._redis is not None:  # type: ignore[has-type]
            return
        if "address" in self.host:
            client = layer_client(**self.host)
            # redis-py's own handler makes a text of every push for a log of level DEBUG, whoever reads it.
            self._redis, self._pubsub = client, client.pubsub(push_handler_func=_as_it_came)
        super()._ensure_redis()
        self.round_trips = RoundTrips(self._redis)  # type: ignore[arg-type]

    async def renew(self) -> None:
        """End the subscription's connection; the receiver connects, and subscribes to all again."""
        async with self._lock:
            connection = getattr(self._pubsub, "connection", None)
            if connection is not None:
                await connection.disconnect(nowait=True)

    async def _do_receiving(self) -> None:
        """Receive for ever, as the library does, and read by ourselves while there is something to be read."""
        while True:
            try:
                pubsub: Any = self._pubsub
                if pubsub is None or not pubsub.subscribed:
                    await asyncio.sleep(LOOK_SECONDS)
                    continue
                # This one connects, subscribes again after a failure, and waits.
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=LOOK_SECONDS)
                if message is not None:
                    await self._read_on(pubsub, message)
                elif _has_failed(pubsub.connection):
                    await pubsub.connection.disconnect(nowait=True)
            except (redis.RedisError, OSError) as error:  # the follower says so in words
                logger.debug("The channel layer's subscription does not answer: %s", type(error).__name__)
                await asyncio.sleep(RESTART_SECONDS)
            except Exception as error:
                self._complain("The channel layer's subscription failed and begins again: %s", type(error).__name__)
                await asyncio.sleep(RESTART_SECONDS)

    async def _read_on(self, pubsub: Any, message: Mapping[str, Any]) -> None:
        """Take what has come with a message, and what comes after it for a moment, without the library's own way.

        That one takes as long for a message as its way to five sockets: a deadline, a retry and a look at its books.
        """
        heard: dict[str, list[bytes]] = {}
        self._deliver(message["channel"], message["data"], heard)
        connection = pubsub.connection
        parser: Any = getattr(connection, "_parser", None)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                while pubsub.connection is connection and await self._take_all(pubsub, parser, heard):
                    self._tell(heard)
                    await parser.read_from_socket()
        except (OSError, redis.ConnectionError):
            pass  # the moment is over, or the connection: the library's own way finds out, and connects again
        finally:
            self._tell(heard)

    async def _take_all(self, pubsub: Any, parser: Any, heard: dict[str, list[bytes]]) -> bool:
        """Take what the last read of the socket has brought; waits for nothing.

        Returns:
            Whether more may come; if not, another task has closed the connection.
        """
        while (reader := getattr(parser, "_reader", None)) is not None and parser._connected:
            reply = reader.gets(False)
            if isinstance(reply, list) and reply[0] == b"message":
                self._deliver(reply[1], reply[2], heard)
            elif isinstance(reply, list | bytes):  # what the library keeps books of
                is_push = isinstance(reply, hiredis.PushNotification)
                reply = await parser.handle_push_response(reply) if is_push else reply
                await pubsub.handle_message(reply, ignore_subscribe_messages=True)
            elif isinstance(reply, redis.RedisError):
                raise reply
            else:  # half of a reply, whose rest is still to come, or nothing
                return True
        return False

    def _deliver(self, name: bytes | str, data: bytes, heard: dict[str, list[bytes]]) -> None:
        """Put what was published into the channel that has this name, or into those of the group that has it.

        What goes to a channel that somebody listens to is put into ``heard`` instead.
        """
        layer = self.channel_layer
        name = name.decode() if isinstance(name, bytes) else name
        for channel in (name,) if name in layer.channels else layer.groups.get(name, ()):
            queue = layer.channels.get(channel)
            if queue is None:
                continue
            if channel in layer.listeners:
                heard.setdefault(channel, []).append(data)
            elif queue.qsize() < WAITING:
                queue.put_nowait(data)
            else:
                self._complain("%d messages wait in a channel that nobody reads; further ones are dropped.", WAITING)

    def _tell(self, heard: dict[str, list[bytes]]) -> None:
        """Tell those who listen what one read has brought them."""
        for channel, published in heard.items():
            try:
                self.channel_layer.listeners[channel](published)
            except Exception:  # a listener's error is no reason to receive nothing more
                logger.exception("What came over the channel layer could not be handled.")
        heard.clear()

    def _complain(self, text: str, *arguments: object) -> None:
        if time.monotonic() - self._complained_at >= COMPLAIN_SECONDS:
            self._complained_at = time.monotonic()
            logger.warning(text, *arguments)


def _has_failed(connection: Any) -> bool:
    """Whether a connection has ended in a way that the library does not see.

    The kernel's ETIMEDOUT is Python's TimeoutError: it is taken for the deadline of each read, at once and without end,
    and the event loop would do nothing else any more.
    """
    stream = getattr(connection, "_reader", None)
    return stream is not None and stream.exception() is not None


async def _as_it_came(push: Any) -> Any:
    return push


class HintLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """The channel layer of Hermes; on the wire it is `RedisPubSubChannelLayer`."""

    def _get_layer(self) -> Any:
        is_new = asyncio.get_running_loop() not in self._layers
        layer = super()._get_layer()
        if is_new:
            layer._shards = [_Shard(shard.host, layer) for shard in layer._shards]
            layer.listeners = {}
        return layer

    async def new_channel(self, prefix: str = "specific.") -> str:
        """Return a channel's name; where Redis does not answer nothing is kept of it, and it may be asked for again."""
        layer = self._get_layer()
        channel = f"{layer.prefix}{prefix}{uuid.uuid4().hex}"
        try:
            await layer._subscribe_to_channel(channel)
        except BaseException:
            layer.channels.pop(channel, None)
            raise
        return channel

    def listen(self, channel: str, hear: Callable[[Sequence[bytes]], None]) -> None:
        """Have what comes to a channel told at once, and not kept for `receive`.

        Args:
            channel: of this event loop.
            hear: called with all that one read of the socket has brought, packed; `deserialize` reads each.
        """
        self._get_layer().listeners[channel] = hear

    async def renew(self) -> None:
        """Make the subscriptions' connections anew: they hear nothing, and nobody has told them that they are over."""
        for shard in self._get_layer()._shards:
            await shard.renew()

    async def group_send_many(self, messages: Mapping[str, dict[str, Any]]) -> None:
        """Send a message to each of many groups.

        Args:
            messages: by group.

        Raises:
            redis.RedisError: Redis does not answer, or refuses.
        """
        layer = self._get_layer()
        by_shard: defaultdict[Any, list[tuple[str, bytes]]] = defaultdict(list)
        for group, message in messages.items():
            channel = layer._get_group_channel_name(group)
            by_shard[layer._get_shard(channel)].append((channel, self.serialize(message)))
        for shard, publications in by_shard.items():
            async with shard._lock:
                shard._ensure_redis()
            # A round trip has a connection of its own, and nothing of the shard's to guard.
            replies = await shard.round_trips.make([("PUBLISH", channel, data) for channel, data in publications])
            for reply in replies:
                if isinstance(reply, redis.RedisError):
                    raise reply
