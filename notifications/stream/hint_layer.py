"""Hint layer: Channels' pub/sub layer, which can also send to many groups in one round trip. Called by publish.

`group_send` waits for Redis's answer under a lock, group after group: the ten rooms of one batch would be ten round
trips, and the pollers of a relay would stand in line for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer


class HintLayer(RedisPubSubChannelLayer):  # type: ignore[misc]
    """The channel layer of Hermes; on the wire it is `RedisPubSubChannelLayer`."""

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
                pipeline = shard._redis.pipeline(transaction=False)
            # A pipeline has a connection of its own, and nothing of the shard's to guard.
            for channel, data in publications:
                pipeline.publish(channel, data)
            await pipeline.execute()
