"""The AWS endpoint's process: ministack, with what SQS does and ministack does not. Started by engines."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

from ministack.app import main
from ministack.services import sqs

# SQS has let bodies of 1 MiB in since 2025; ministack still holds every queue to the 256 KiB of before, and with that
# no test could show what becomes of a message that is too large for Hermes but not for SQS.
_MAX_BYTES = 1024 * 1024
# What makes a message visible without anybody's doing, such as the end of a visibility, is looked for this often.
_LOOK_SECONDS = 0.1
_BATCH = 10  # messages in one answer at most

Handler = Callable[[dict[str, Any], str], Any]


def _allow_large_messages() -> None:
    create = sqs._HANDLERS["CreateQueue"]

    def create_queue(data: dict[str, Any], url: str) -> Any:
        attributes = {"MaximumMessageSize": str(_MAX_BYTES), **(data.get("Attributes") or {})}
        return create({**data, "Attributes": attributes}, url)

    sqs._NUMERIC_ATTR_RANGES["MaximumMessageSize"] = (1024, _MAX_BYTES)
    sqs._HANDLERS["CreateQueue"] = create_queue


def _answer_who_waits_when_a_message_comes() -> None:
    """End a long poll when there is something; ministack looks ten times a second, and every toast would be as late."""
    waiting: set[asyncio.Event] = set()
    receive = sqs._HANDLERS["ReceiveMessage"]

    async def receive_message(data: dict[str, Any], url: str) -> Any:
        seconds = data.get("WaitTimeSeconds")
        if seconds is None:
            queue = sqs._get_q(data.get("QueueUrl", url))
            seconds = queue["attributes"].get("ReceiveMessageWaitTimeSeconds", "0")
        deadline = time.monotonic() + int(seconds)
        came = asyncio.Event()
        waiting.add(came)
        try:
            while True:
                came.clear()
                answer = await receive({**data, "WaitTimeSeconds": 0}, url)
                left = deadline - time.monotonic()
                if answer or left <= 0:
                    return answer
                await _wait(came, min(left, _LOOK_SECONDS))
        finally:
            waiting.discard(came)

    def telling(handler: Handler) -> Handler:
        async def told(data: dict[str, Any], url: str) -> Any:
            answer = handler(data, url)
            if inspect.isawaitable(answer):
                answer = await answer
            for each in waiting:
                each.set()
            return answer

        return told

    sqs._HANDLERS["ReceiveMessage"] = receive_message
    for name in ("SendMessage", "SendMessageBatch", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch"):
        sqs._HANDLERS[name] = telling(sqs._HANDLERS[name])


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return  # it is time to look


def _empty_long_queues_as_fast_as_short_ones() -> None:
    """Look at ten messages for ten; ministack goes through all of a queue to give some, and again to delete each.

    A queue in which 20,000 messages wait would be emptied at 400 a second, whoever empties it. Where it has dead
    letters, it is gone through once more, for those that have been received too often.
    """
    collect, sweep = sqs._collect_msgs, sqs._dlq_sweep

    def sweep_some(queue: dict[str, Any]) -> None:
        if queue["is_fifo"]:
            sweep(queue)
            return
        # What was received too often is only looked for up to where the next answer ends, at the tenth new message:
        # farther behind it is given to nobody, and found when it is its turn.
        now, held = time.time(), queue["messages"]
        is_new = (place for place, m in enumerate(held) if m["receive_count"] == 0 and m["visible_at"] <= now)
        end = next(islice(is_new, _BATCH - 1, None), len(held)) + 1
        queue["messages"] = near = held[:end]
        try:
            sweep(queue)
            if len(queue["messages"]) < len(near):
                held[:end] = queue["messages"]
        finally:
            queue["messages"] = held

    def collect_some(queue: dict[str, Any], at_most: int, visibility: int) -> Any:
        if queue["is_fifo"]:  # its groups must all be looked at
            return collect(queue, at_most, visibility)
        now = time.time()
        visible = (message for message in queue["messages"] if message.get("visible_at", 0) <= now)
        held, queue["messages"] = queue["messages"], list(islice(visible, at_most))
        try:
            return collect(queue, at_most, visibility)
        finally:
            queue["messages"] = held

    delete = sqs._HANDLERS["DeleteMessageBatch"]

    def delete_message_batch(data: dict[str, Any], url: str) -> Any:
        queue = sqs._get_q(data.get("QueueUrl", url))
        receipts = {entry.get("ReceiptHandle") for entry in data.get("Entries", [])} - {None, ""}
        held = queue["messages"]
        # Whoever has received them has received the oldest: they are near the front, however many wait behind.
        meant = (place for place, message in enumerate(held) if message["receipt_handle"] in receipts)
        places = list(islice(meant, len(receipts)))
        queue["messages"] = [held[place] for place in places]
        try:
            answer = delete(data, url)  # ministack's own, among the few that are meant
            kept = {id(message) for message in queue["messages"]}
        finally:
            queue["messages"] = held
        for place in reversed(places):
            if id(held[place]) not in kept:
                del held[place]
        return answer

    sqs._collect_msgs, sqs._dlq_sweep = collect_some, sweep_some
    sqs._HANDLERS["DeleteMessageBatch"] = delete_message_batch


if __name__ == "__main__":
    _allow_large_messages()
    _answer_who_waits_when_a_message_comes()
    _empty_long_queues_as_fast_as_short_ones()
    main()
