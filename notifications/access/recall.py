"""Recall: what the authorizer remembers, and work that many wait for and one does. Used by authorizer alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from notifications.exceptions import Unavailable

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """A mapping that forgets its oldest entry when it is full.

    Args:
        size: how many entries it remembers.
    """

    def __init__(self, size: int) -> None:
        self._items: dict[Hashable, _T] = {}
        self._size = size

    def get(self, key: Hashable) -> _T | None:
        """Return what was put, or ``None``."""
        return self._items.get(key)

    def put(self, key: Hashable, value: _T) -> None:
        """Remember a value as the newest."""
        self._items.pop(key, None)
        self._items[key] = value
        if len(self._items) > self._size:
            del self._items[next(iter(self._items))]

    def drop(self, key: Hashable) -> None:
        """Forget one."""
        self._items.pop(key, None)


class Flights(Generic[_T]):
    """Work under way, by key: who asks for the same meanwhile gets the same answer, or the same error."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[_T]] = {}

    async def join(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Return what the work under way returns; begin it if there is none. A waiter that leaves stops nothing.

        Raises:
            Unavailable: it was given up.
        """
        flight = self._under_way.get(key)
        if flight is None:
            flight = self._under_way[key] = asyncio.ensure_future(work())
            flight.add_done_callback(lambda landed: self._land(key, landed))
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            waiter = asyncio.current_task()
            if not flight.cancelled() or (waiter is not None and waiter.cancelling()):
                raise  # it is the waiter who leaves
            raise Unavailable("what was asked for was given up") from None

    def drop(self, key: Hashable) -> None:
        """Let the next one who asks begin anew; those who wait already get the old answer."""
        self._under_way.pop(key, None)

    def drop_all(self) -> None:
        """Let everybody who asks begin anew."""
        self._under_way.clear()

    def cancel(self) -> None:
        """Give everything up."""
        for flight in list(self._under_way.values()):
            flight.cancel()

    def _land(self, key: Hashable, landed: asyncio.Task[_T]) -> None:
        if self._under_way.get(key) is landed:
            del self._under_way[key]
