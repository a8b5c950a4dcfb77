"""History: a room's ordered log in Redis, the truth that hints point at. Called by publish (append) and hub (read).

One Lua script appends, so that a place in the log, the idempotency key and the activity stream cannot disagree.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from django.conf import settings

from notifications.exceptions import HistoryUnavailable
from notifications.stream import keys
from notifications.stream.entry import Entry, frame, frame_head
from notifications.stream.message import Message
from notifications.stream.position import Position
from notifications.stream.redis_client import async_client
from notifications.stream.replies import Activity, Appended, Page, seq_of, to_activity, to_entry, to_position
from notifications.stream.round_trips import RoundTrips

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("append.lua").read_text(encoding="utf-8")
_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
# Heads outlive their entries, so that a client that was away for days is told `trimmed`, or that it missed nothing.
HEAD_SECONDS = 30 * 24 * 3600
ACTIVITY_LENGTH = 1_000  # per partition; a hub that falls further behind compares its heads


Command = tuple[Any, ...]  # a Redis command and its arguments


class History:
    """The rooms' histories of every stage, on one event loop.

    Args:
        client: a Redis client; by default one of our own with our deadlines, which `aclose` closes.
    """

    def __init__(self, client: redis.asyncio.Redis | None = None) -> None:
        self._redis = client or async_client()
        self._round_trips = RoundTrips(self._redis)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def append(self, stage: str, messages: Sequence[Message]) -> list[Appended | HistoryUnavailable]:
        """Append messages in order, each once, in one round trip.

        The chosen durability holds for the whole batch: it is awaited once, on the same connection.

        Args:
            stage: whose rooms.
            messages: for any rooms.

        Returns:
            A result for each message: its place, or why this one has none (it can be appended again).

        Raises:
            HistoryUnavailable: Redis did not answer, or did not confirm the durability; any of the messages may
                have been appended, and appending them again is harmless.
        """
        heads = [frame_head(message) for message in messages]
        calls = [script_arguments(stage, message, head) for message, head in zip(messages, heads, strict=True)]
        replies = await self._run(calls, durable=True)
        results: list[Appended | HistoryUnavailable] = []
        for message, head, reply in zip(messages, heads, replies, strict=True):
            if isinstance(reply, Exception):
                results.append(HistoryUnavailable(f"room {message.room_id!r}: Redis refused the append: {reply}"))
                continue
            status, epoch, seq, prev = reply[0], reply[1].decode(), int(reply[2]), reply[3].decode()
            if status == b"dup":
                results.append(Appended(seq, None))
                continue
            to = None if message.to is None else frozenset(message.to)
            text, origin = frame(head, epoch, seq), (message.sent_at, message.trace)
            entry = Entry(epoch, seq, message.id, prev, text, to, message.expires_at, int(reply[4]), *origin)
            results.append(Appended(seq, entry))
        return results

    async def open(self, stage: str, room_id: str) -> Position:
        """Return a room's last position, beginning its history if it has none.

        Raises:
            HistoryUnavailable: Redis did not answer.
        """
        (reply,) = await self._run([script_arguments(stage, None, b"", room_id)], durable=False)
        if isinstance(reply, Exception):
            raise HistoryUnavailable(f"room {room_id!r}: Redis refused to open it: {reply}")
        position = to_position(reply[1:])
        if position is None:
            raise HistoryUnavailable(f"room {room_id!r}: Redis gave no position: is append.lua another release's?")
        return position

    async def heads(self, stage: str, room_ids: Sequence[str]) -> list[Position | None]:
        """Return the last positions of rooms, ``None`` for those without a history.

        Raises:
            HistoryUnavailable: Redis did not answer.
        """
        replies = await self._send([_head(stage, room_id) for room_id in room_ids])
        return [to_position(reply) for reply in replies]

    async def read(self, stage: str, room_id: str, after: int = 0) -> Page:
        """Read the entries after a seq, with the head they belong to.

        Args:
            after: a seq; 0 reads all that is retained.

        Raises:
            HistoryUnavailable: Redis did not answer.
        """
        log = keys.log_key(stage, room_id)
        commands: list[Command] = [
            _head(stage, room_id),
            ("XRANGE", log, f"{after + 1}-0", "+", "COUNT", settings.HERMES_HISTORY_ENTRIES),
            ("XRANGE", log, "-", "+", "COUNT", 1),
            ("TIME",),
        ]
        head_reply, items, first, (seconds, _) = await self._send(commands, transaction=True)
        head = to_position(head_reply)
        if head is None:
            return Page(None, [], 1)
        cutoff = (int(seconds) - settings.HERMES_HISTORY_SECONDS) * 1000
        live = [to_entry(head.epoch, item) for item in items if int(item[1][b"at"]) >= cutoff]
        if first and int(first[0][1][b"at"]) >= cutoff:
            oldest = seq_of(first[0])
        elif live:
            oldest = live[0].seq
        else:  # all that is left is too old, or there is nothing
            oldest = head.seq + 1
        return Page(head, live, oldest, int(seconds) * 1000)

    async def activity(self, stage: str, cursors: Mapping[int, bytes | None]) -> dict[int, Activity]:
        """Say what happened in partitions since the cursors of an earlier call.

        The stream is read from the cursor's own entry on: if that is not the first one found, entries were trimmed
        or the stream was lost, and the caller must compare heads.

        Args:
            stage: whose partitions.
            cursors: by partition; ``None`` to begin at the end.

        Raises:
            HistoryUnavailable: Redis did not answer.
        """
        commands: list[Command] = []
        for partition, cursor in cursors.items():
            key = keys.activity_key(stage, partition)
            if cursor is None:
                commands.append(("XREVRANGE", key, "+", "-", "COUNT", 1))
            else:
                commands.append(("XRANGE", key, cursor or "-", "+", "COUNT", ACTIVITY_LENGTH * 2))
        replies = await self._send(commands, raw=True)
        found = {}
        for (partition, cursor), items in zip(cursors.items(), replies, strict=True):
            if isinstance(items, redis.RedisError):
                raise HistoryUnavailable(f"Redis refuses to say what happened: {type(items).__name__}: {items}")
            last = items[-1][0] if items else b""
            if cursor is None:
                found[partition] = Activity(last, {}, overrun=False)
                continue
            overrun = bool(cursor) and (not items or items[0][0] != cursor)
            # From an empty stream on, all that is there is new; it was overrun if it has been trimmed already.
            overrun = overrun or (not cursor and len(items) >= ACTIVITY_LENGTH)
            fresh = items[1:] if cursor and not overrun else items
            if fresh:
                await asyncio.sleep(0)  # thousands of rooms may have had entries, and hints wait behind all of them
            found[partition] = Activity(last, dict(map(to_activity, fresh)), overrun)
        return found

    async def _run(self, calls: list[tuple[Any, ...]], *, durable: bool) -> list[Any]:
        """Run the script once per call in one pipeline; a reply may be an exception of its own."""
        replies: list[Any] = [redis.exceptions.NoScriptError()] * len(calls)
        for attempt in range(2):
            missing = [i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
            if not missing:
                break
            # Redis was restarted, or has never seen the script.
            load: list[Command] = [("SCRIPT", "LOAD", SCRIPT)] if attempt else []
            commands = [*load, *(("EVALSHA", _SHA, 4, *calls[i]) for i in missing)]
            durability = settings.HERMES_DURABILITY if durable else "memory"
            milliseconds = settings.HERMES_DURABILITY_SECONDS * 1000
            if durability == "replica":
                commands.append(("WAIT", settings.HERMES_REPLICAS, milliseconds))
            elif durability == "fsync":
                commands.append(("WAITAOF", 1, 0, milliseconds))
            answers = (await self._send(commands, raw=True))[len(load) :]
            if durability != "memory":
                _require_durable(durability, answers.pop())
            for i, answer in zip(missing, answers, strict=True):
                replies[i] = answer
        return replies

    async def _send(self, commands: Sequence[Command], *, transaction: bool = False, raw: bool = False) -> list[Any]:
        """Send commands in one round trip.

        A connection that broke while nobody used it is noticed only now, so a broken one is tried once more with a
        new one: every command here can be repeated, the append because of its idempotency key.

        Args:
            commands: in their order.
            transaction: whether nobody else's may come between them.
            raw: replies as `RoundTrips.make` gives them, and an exception only for its command.
        """
        try:
            return await self._send_once(commands, transaction, raw)
        except (redis.ConnectionError, OSError):
            await self._redis.connection_pool.disconnect(inuse_connections=False)
        except redis.RedisError as error:
            raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}: {error}") from error
        try:
            return await self._send_once(commands, transaction, raw)
        except (redis.RedisError, OSError) as error:
            raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}: {error}") from error

    async def _send_once(self, commands: Sequence[Command], transaction: bool, raw: bool) -> list[Any]:
        if raw:
            return await self._round_trips.make(commands)
        pipeline = self._redis.pipeline(transaction=transaction)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute()
        return replies


def script_arguments(stage: str, message: Message | None, head: bytes, room_id: str = "") -> tuple[Any, ...]:
    """Return KEYS and ARGV of append.lua; without a message it only opens the room."""
    room_id = message.room_id if message else room_id
    message_id = message.id if message else ""
    return (
        *keys.of_append(stage, room_id, message_id),
        message_id,
        head,
        json.dumps(message.to) if message and message.to is not None else "",
        message.expires_at if message and message.expires_at is not None else "",
        secrets.token_hex(6),
        settings.HERMES_HISTORY_ENTRIES,
        settings.HERMES_HISTORY_SECONDS * 1000,
        settings.HERMES_IDEMPOTENCY_SECONDS * 1000,
        max(HEAD_SECONDS, 2 * settings.HERMES_HISTORY_SECONDS) * 1000,
        ACTIVITY_LENGTH,
        room_id,
        message.sent_at or "" if message else "",
        message.trace if message else "",
    )


def _require_durable(durability: str, answer: Any) -> None:
    if isinstance(answer, Exception):
        raise HistoryUnavailable(f"durability {durability!r}: Redis refused to wait: {answer}")
    reached, wanted = (answer, settings.HERMES_REPLICAS) if durability == "replica" else (answer[0], 1)
    if reached < wanted:
        raise HistoryUnavailable(f"durability {durability!r}: {reached} of {wanted} confirmed in time.")


def _head(stage: str, room_id: str) -> Command:
    return ("HMGET", keys.head_key(stage, room_id), "epoch", "seq", "id")
