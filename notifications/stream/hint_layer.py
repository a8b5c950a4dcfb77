"""Hint layer: Channels' pub/sub layer, which can also send to many groups in one round trip. Called by publish.

`group_send` waits for Redis's answer under a lock, group after group: the ten rooms of one batch would be ten round
trips, and the pollers of a relay would stand in line for them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import redis
from channels_redis.pubsub import RedisPubSubChannelLayer, RedisSingleShardConnection

from notifications.stream.redis_client import layer_client
from notifications.stream.round_trips import RoundTrips


class _Shard(RedisSingleShardConnection):  # type: ignore[misc]
    """One Redis of the layer, over connections of ours: its own know neither our authority nor sentinels' URLs."""

    def _ensure_redis(self) -> None:
        if self._redis is not None:  # type: ignore[has-type]
            return
        if "address" in self.host:
            client = layer_client(**self.host)
            self._redis, self._pubsub = client, client.pubsub()
        super()._ensure_redis()
        self.round_trips = RoundTrips(self._redis)  # type: ignore[arg-type]


class HintLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """The channel layer of Hermes; on the wire it is `RedisPubSubChannelLayer`."""

    def _get_layer(self) -> Any:
        is_new = asyncio.get_running_loop() not in self._layers
        layer = super()._get_layer()
        if is_new:
            layer._shards = [_Shard(shard.host, layer) for shard in layer._shards]
        return layer

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
