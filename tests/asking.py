"""Asking SQS from where there is no event loop, and standing in for a queue's answers where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from notifications.intake.queue import Queue
from notifications.intake.received import Received


def receive(queue: Queue) -> list[Received]:
    """Receive as a relay does; not from a thread that runs an event loop."""
    return asyncio.run(queue.receive(asyncio.to_thread))


def in_thread(stands_in: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Return what may take the place of a queue's `receive` or `delete_here`: it runs in a thread of the relay.

    Args:
        stands_in: takes what they take, without the way into a thread; it may block.
    """

    async def asked(*arguments: Any) -> Any:
        *given, thread = arguments
        return await thread(stands_in, *given)

    return asked
