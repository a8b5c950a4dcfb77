"""Recall: what access remembers, work that many wait for and one does, questions asked together.

Used by authorizer and verdicts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar, cast

from notifications.exceptions import Unavailable

_K = TypeVar("_K", bound=Hashable)
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

    def put(self, key: Hashable, value: _T) -> _T | None:
        """Remember a value as the newest; returns the value that was forgotten for it."""
        self._items.pop(key, None)
        self._items[key] = value
        return self._items.pop(next(iter(self._items))) if len(self._items) > self._size else None

    def drop(self, key: Hashable) -> None:
        """Forget one."""
        self._items.pop(key, None)


class Trust:
    """Since when rows count that other processes have read: of everybody, and of those who were revoked.

    Args:
        size: how many of the latter it remembers.
    """

    def __init__(self, size: int) -> None:
        # Monotonic seconds.
        self.since = float("-inf")
        self._ended: Recent[float] = Recent(size)
        # Who the first of them were is not known any more: they may be anybody.
        self._forgotten_at = float("-inf")

    def end(self, member: Hashable, moment: float) -> None:
        """Trust no row of a member that was read before a moment."""
        forgotten = self._ended.put(member, moment)
        if forgotten is not None:
            self._forgotten_at = max(self._forgotten_at, forgotten)

    def reaches(self, member: Hashable, read_at: float) -> bool:
        """Whether a member's row counts that was read at a moment."""
        return read_at >= max(self.since, self._ended.get(member) or self._forgotten_at)


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
        if not landed.cancelled():
            landed.exception()  # nobody may be left who wants to know, and asyncio would complain of that
        if self._under_way.get(key) is landed:
            del self._under_way[key]


class Batches(Generic[_K, _T]):
    """Questions that come while others are being answered, and are then asked together.

    Who comes alone is asked for at once; who comes with thousands shares a question with as many as it holds.

    Args:
        ask: answers many keys; all of them.
        size: keys in one question, at most.
        askers: questions under way at once.
        waiting: keys that may wait for their turn.
    """

    def __init__(
        self, ask: Callable[[list[_K]], Awaitable[Mapping[_K, _T]]], *, size: int, askers: int, waiting: int
    ) -> None:
        self._question = ask
        self._size = size
        self._askers = askers
        self._longest = waiting
        self._waiting: list[tuple[_K, asyncio.Future[_T]]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def ask(self, key: _K) -> asyncio.Future[_T]:
        """Return what will be the answer for a key, from a question asked after this call.

        Raises:
            Unavailable: too many wait, or it is closed.
        """
        if self._is_closed:
            raise Unavailable("the authorizer is closed")
        if len(self._waiting) >= self._longest:
            raise Unavailable("too many joins wait for an answer")
        answered: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answered))
        if len(self._asking) < self._askers:
            self._asking.add(asyncio.create_task(self._ask_on(), name="hermes-asking"))
        return answered

    def cancel(self) -> None:
        """Give everything up, and take nothing more."""
        self._is_closed = True
        for asking in list(self._asking):
            asking.cancel()
        while self._waiting:
            self._waiting.pop()[1].cancel()

    async def _ask_on(self) -> None:
        try:
            await self._take_turns()
        finally:
            # Not by a callback: that comes after who has just got an answer, and who asks again would wait for nobody.
            self._asking.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _take_turns(self) -> None:
        while self._waiting:
            turn, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            try:
                answers = await self._question([key for key, _ in turn])
            except BaseException as error:
                for _, answered in turn:
                    if not answered.done():
                        if isinstance(error, Exception):
                            answered.set_exception(error)
                        else:
                            answered.cancel()
                if not isinstance(error, Exception):
                    raise
            else:
                for key, answered in turn:
                    if not answered.done():
                        answered.set_result(answers[key])
