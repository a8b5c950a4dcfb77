"""Looks: parts that may hang, asked in threads of their own with one deadline. Used by dashboard and its tiles.

A part that hangs costs one thread, and whoever shows it says that it does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from notifications.exceptions import HermesError

DEADLINE_SECONDS = 1.2
CACHE_SECONDS = 2.0
SILENT = "does not answer"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a look brought nothing, for operators."""

    reason: str


class Looks:
    """Asks parts that may hang, each in a thread of its own; who asks meanwhile shares the answer.

    Args:
        parts: a blocking function for each; what it raises is an answer, too.
        deadline: how long anybody waits, in seconds.
        cached: how long an answer stays good, in seconds.
    """

    def __init__(
        self,
        parts: Mapping[str, Callable[[], Any]],
        *,
        deadline: float = DEADLINE_SECONDS,
        cached: float = CACHE_SECONDS,
    ) -> None:
        self._parts = parts
        self._deadline = deadline
        self._cached = cached
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="hermes-dashboard")
        self._asked: dict[str, tuple[float, Future[Any]]] = {}
        self._before: dict[str, Future[Any]] = {}
        self._here_lock = threading.Lock()
        self._here: tuple[float, Any] = (float("-inf"), None)

    def answers(self) -> dict[str, Any]:
        """Return each part's answer; `Refused` where it failed or did not come in time."""
        now = time.monotonic()
        with self._lock:
            for part, look in self._parts.items():
                since, asked = self._asked.get(part, (float("-inf"), None))
                if asked is None or (asked.done() and now - since >= self._cached):
                    if asked is not None:
                        self._before[part] = asked
                    self._asked[part] = (now, self._threads.submit(look))
            running = dict(self._asked)
        # Who has hung for longer than that is not waited for again by every page.
        wait([asked for since, asked in running.values() if now - since < self._deadline], timeout=self._deadline)
        return {part: _answer(asked) for part, (_, asked) in running.items()}

    def here(self, look: Callable[[], Any]) -> Any:
        """Return what is looked at in the caller's own thread, or what another caller has just found.

        Args:
            look: what is always the same question; what it raises is raised, and remembered by nobody.
        """
        with self._here_lock:
            since, found = self._here
            if time.monotonic() - since >= self._cached:
                found = look()
                self._here = (time.monotonic(), found)
            return found

    def known(self, part: str) -> Any:
        """Return a part's last answer without asking again; ``None`` where there is none, or it was refused."""
        with self._lock:
            _, asked = self._asked.get(part, (0.0, None))
            if asked is None or not asked.done():
                asked = self._before.get(part)
        return None if asked is None or asked.exception() else asked.result()

    def close(self) -> None:
        """End the threads; one that hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _answer(asked: Future[Any]) -> Any:
    if not asked.done():
        return Refused(SILENT)
    error = asked.exception()
    if error is None:
        return asked.result()
    return Refused(str(error) if isinstance(error, HermesError) else type(error).__name__)
