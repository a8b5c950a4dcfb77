"""Senders: how a message gets into each contestant. Used by talk; the dialects are the other end.

Each takes what has fallen due as one batch, in order, as a relay would.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Batch = Sequence[tuple[str, str]]  # room and payload, which is JSON text


class Sender(ABC):
    """One way in.

    Args:
        settings: the contestant's, as its `sender` gives them.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    @abstractmethod
    async def open(self) -> None:
        """Make connections."""

    @abstractmethod
    async def send(self, batch: Batch) -> None:
        """Send messages in order; when it returns, they are with the contestant."""

    async def aclose(self) -> None:
        """Close connections; there may be nothing to close."""
        return


class HermesSender(Sender):
    """Through the product's own door, as its relay: append to the histories, then hint."""

    async def open(self) -> None:
        """Read Hermes' settings."""
        import django

        django.setup()
        from notifications.stream.history import History
        from notifications.stream.message import Message
        from notifications.stream.publish import Publisher

        self._history = History()
        self._publisher = Publisher(self._history)
        self._message = Message
        # Ids that no earlier sender of this run has used, or its messages would be taken for theirs. It counts ten
        # thousand a second, and nobody sends as many.
        self._sent = time.time_ns() // 10**5

    async def send(self, batch: Batch) -> None:
        """Publish."""
        messages = []
        for room, payload in batch:
            self._sent += 1
            messages.append(self._message(id=f"{self._sent % 10**8:08d}", user_id=0, room_id=room, data=payload))
        for result in await self._publisher.publish("development", messages):
            if isinstance(result, Exception):
                raise result

    async def aclose(self) -> None:
        """Close connections."""
        await self._history.aclose()


class ChannelsSender(Sender):
    """The channel layer's group_send, a call for each message."""

    async def open(self) -> None:
        """Connect."""
        from channels_redis.pubsub import RedisPubSubChannelLayer

        self._layer = RedisPubSubChannelLayer(hosts=[self.settings["redis"]])

    async def send(self, batch: Batch) -> None:
        """Send to the groups."""
        for room, payload in batch:
            await self._layer.group_send(room, {"type": "notify", "text": payload})


class SocketIoSender(Sender):
    """What @socket.io/redis-emitter publishes, byte for byte: [uid, packet, options] in MessagePack.

    It is done here so that the clock that paces all contestants is one.
    """

    async def open(self) -> None:
        """Connect."""
        import redis.asyncio

        self._redis = redis.asyncio.Redis.from_url(self.settings["redis"])

    async def send(self, batch: Batch) -> None:
        """Publish a batch in one round trip."""
        import msgpack

        pipeline = self._redis.pipeline(transaction=False)
        for room, payload in batch:
            packet = {"type": 2, "data": ["message", json.loads(payload)], "nsp": "/"}
            options = {"rooms": [room], "except": [], "flags": {}}
            pipeline.publish(f"socket.io#/#{room}#", msgpack.packb(["emitter", packet, options]))
        await pipeline.execute()

    async def aclose(self) -> None:
        """Close connections."""
        await self._redis.aclose()


class HttpSender(Sender):
    """POST requests on one connection, those of a batch without waiting in between."""

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.settings["port"])

    def requests(self, batch: Batch) -> list[tuple[str, str, bytes]]:
        """Return path, more headers and body of each request."""
        raise NotImplementedError

    async def send(self, batch: Batch) -> None:
        """Write the requests, read the answers."""
        requests = self.requests(batch)
        for path, headers, body in requests:
            head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
            self._writer.write(head.encode() + body)
        for _ in requests:
            await self._answer()

    async def _answer(self) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head[9:12].startswith(b"2"):
            raise ConnectionError(head.decode(errors="replace").splitlines()[0])
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body, size = b"", -1
            while size:
                size = int(await self._reader.readline(), 16)
                body += (await self._reader.readexactly(size + 2))[:-2]
        else:
            length = lower.partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await self._reader.readexactly(int(length or 0))
        if b'"error"' in body:
            raise ConnectionError(body.decode(errors="replace"))

    async def aclose(self) -> None:
        """Close the connection."""
        self._writer.close()


class NchanSender(HttpSender):
    """A POST to the channel for each message."""

    def requests(self, batch: Batch) -> list[tuple[str, str, bytes]]:
        """Return one for each."""
        return [(f"/pub/{room}", "Content-Type: application/json\r\n", payload.encode()) for room, payload in batch]


class CentrifugoSender(HttpSender):
    """The batch method of Centrifugo's HTTP API, in order."""

    def requests(self, batch: Batch) -> list[tuple[str, str, bytes]]:
        """Return one for all."""
        commands = ",".join(f'{{"publish":{{"channel":"{room}","data":{payload}}}}}' for room, payload in batch)
        headers = f"Content-Type: application/json\r\nX-API-Key: {self.settings['key']}\r\n"
        return [("/api/batch", headers, f'{{"commands":[{commands}],"parallel":false}}'.encode())]


class SqsSender(Sender):
    """SendMessage, a call for each message, as a back end does; notes when each call returned."""

    async def open(self) -> None:
        """Make a client and the threads that use it."""
        import boto3

        self._sqs: Any = boto3.client("sqs", endpoint_url=self.settings["endpoint"], region_name="eu-west-1")
        self._pool = ThreadPoolExecutor(4)

    async def send(self, batch: Batch) -> None:
        """Send them, some at a time."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._pool, self._send, *message) for message in batch))

    async def fill(self, messages: Batch) -> None:
        """Put many on the queue, ten a call."""
        loop = asyncio.get_running_loop()
        chunks = [messages[start : start + 10] for start in range(0, len(messages), 10)]
        await asyncio.gather(*(loop.run_in_executor(self._pool, self._send_ten, chunk) for chunk in chunks))

    def _send(self, room: str, payload: str) -> None:
        self._sqs.send_message(QueueUrl=self.settings["queue"], **self._message(room, payload))

    def _send_ten(self, chunk: Batch) -> None:
        entries = [{"Id": str(at), **self._message(*message)} for at, message in enumerate(chunk)]
        answer = self._sqs.send_message_batch(QueueUrl=self.settings["queue"], Entries=entries)
        if answer.get("Failed"):
            raise ConnectionError(str(answer["Failed"]))

    def _message(self, room: str, payload: str) -> dict[str, Any]:
        if self.settings["shape"] == "hermes":
            return {"MessageBody": f'{{"user_id":0,"room_id":"{room}","data":{payload}}}'}
        attribute = {"DataType": "String", "StringValue": room}
        return {"MessageBody": payload, "MessageAttributes": {"centrifugo-channels": attribute}}

    async def aclose(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
        self._sqs.close()


SENDERS: dict[str, type[Sender]] = {
    "hermes": HermesSender,
    "channels": ChannelsSender,
    "socketio": SocketIoSender,
    "nchan": NchanSender,
    "centrifugo": CentrifugoSender,
    "sqs": SqsSender,
}
