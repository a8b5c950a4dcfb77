"""Windows: when a run was disturbed by what; excuses hold then and never else. Used by checker, authority; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]


class Windows:
    """The faults of a run, each with its beginning and end, in the run's own seconds."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], float] = {}
        self._closed: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)

    def learn(self, event: Event) -> None:
        """Take note of a `fault` event: its kind, its part and its phase."""
        key, t = (event["kind"], event.get("part", "")), event.get("t", 0.0)
        if event["phase"] == "begin":
            self._open[key] = t
        else:
            self._closed[key].append((self._open.pop(key, t), t))

    def overlap(self, kind: Callable[[str], bool], since: float, until: float, part: str | None = None) -> bool:
        """Whether such a fault was under way at any time between two moments.

        Args:
            kind: says which kinds count.
            since, until: in the run's seconds.
            part: only of this part; of any by default.
        """
        for (name, where), spans in [*self._closed.items(), *((key, [(at, 1e9)]) for key, at in self._open.items())]:
            if not kind(name) or part not in (None, where):
                continue
            if any(begin <= until and end >= since for begin, end in spans):
                return True
        return False


def is_of_redis(kind: str) -> bool:
    """Whether a fault keeps Redis's answers from somebody."""
    return kind.startswith(("Valkey", "Redis link", "host"))


def is_suspended_server(kind: str) -> bool:
    """Whether a fault stops a server's own time."""
    return kind == "server SIGSTOP"


def is_slow_to_hear(kind: str) -> bool:
    """Whether a fault lets a client hear late what its server said in time."""
    return kind.startswith(("client link", "reader"))


def is_clock_ahead(kind: str) -> bool:
    """Whether a fault puts a wall clock forward."""
    return kind == "clock +1 h"


def is_clock_behind(kind: str) -> bool:
    """Whether a fault puts a wall clock back."""
    return kind == "clock -1 h"
