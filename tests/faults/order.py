"""Order: whether each group of a FIFO queue stands in its room's history as it was sent. Used by checker; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Group = tuple[str, str, str]  # stage, room, MessageGroupId


class Order:
    """Judges the first place of each message. A second one is given again where Redis lost the first, and comes later.

    Args:
        broken: told what is out of order.
    """

    def __init__(self, broken: Callable[[str], None]) -> None:
        self._broken = broken
        self._sent: dict[str, tuple[Group, int]] = {}
        self._placed: set[str] = set()
        self._last: dict[Group, tuple[int, str]] = {}

    @property
    def count(self) -> int:
        """How many messages of groups had a place."""
        return len(self._placed)

    def learn(self, event: Event) -> None:
        """Take note of a `produced` event; they stand in the order in which they were sent."""
        if event.get("group"):
            self._sent[event["n"]] = (event["stage"], event["room"], event["group"]), len(self._sent)

    def judge(self, event: Event) -> None:
        """Judge an `appended` event; those of a room stand in the order of its history."""
        n = event["n"]
        if n not in self._sent or n in self._placed:
            return
        self._placed.add(n)
        group, number = self._sent[n]
        last, before = self._last.get(group, (-1, ""))
        if number < last:
            self._broken(f"message {n} of group {group} was sent before {before}, and has its place after it")
        else:
            self._last[group] = number, n
