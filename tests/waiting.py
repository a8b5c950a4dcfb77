"""Waiting for what happens in other threads and processes: polled with a deadline, never slept past."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any

# Generous: a deadline is only ever reached by a test that fails.
DEADLINE = 10.0
_POLL = 0.02


def wait_until(predicate: Callable[[], Any], deadline: float = DEADLINE, what: str = "") -> Any:
    """Poll ``predicate`` until it returns something true, and return that.

    Raises:
        AssertionError: ``deadline`` seconds passed first; names ``what``.
    """
    end = time.monotonic() + deadline
    while not (value := predicate()):
        assert time.monotonic() < end, f"not within {deadline:g} s: {what or predicate}"
        time.sleep(_POLL)
    return value


async def eventually(predicate: Callable[[], Any | Awaitable[Any]], deadline: float = DEADLINE, what: str = "") -> Any:
    """Do what ``wait_until`` does without blocking the event loop; ``predicate`` may be a coroutine function."""
    end = time.monotonic() + deadline
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline:g} s: {what or predicate}"
        await asyncio.sleep(_POLL)
