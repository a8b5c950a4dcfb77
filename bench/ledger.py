"""Ledger: whether a socket got what it should: all of it, each once, in order. Used by load, on top of marks. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bench import marks


class Ledger:
    """The books of one socket whose room's messages are numbered from 1.

    Args:
        done: called once for each goal, when it is reached or when something was wrong.
    """

    __slots__ = ("_done", "_is_done", "_tags", "at", "goal", "next", "wrong")

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._is_done = True
        self._tags = marks.tags(0)
        self.at = -1  # where the mark stands in a frame; the same in all frames of a socket
        self.goal = 0
        self.next = 1
        self.wrong = ""

    def expect(self, goal: int) -> None:
        """Say up to which number messages will come; ``done`` may be called at once."""
        self._tags = marks.tags(goal)
        self.goal, self._is_done = goal, False
        if self.wrong or self.next > goal:
            self._finish()

    def take(self, payload: bytes) -> None:
        """Take a frame that arrived. It is called hundreds of thousands of times a second, and does little."""
        number, at = self.next, self.at
        if number <= self.goal and payload[at : at + 9] == self._tags[number]:
            self.next = number + 1
            if number == self.goal:
                self._finish()
        else:
            self._odd(payload, number)

    def reach(self, number: int) -> None:
        """Take it from somebody else who has looked: all up to a number came, each once and in order."""
        self.next = number + 1
        if number == self.goal:
            self._finish()

    def _odd(self, payload: bytes, due: int) -> None:
        at = marks.find(payload)
        if at < 0:
            self.complain(f"a frame without a number: {payload[:80]!r}")
            return
        if at != self.at:  # the first frame of all; or frames whose beginnings differ in length
            self.at = at
            if due <= self.goal and payload[at : at + 9] == self._tags[due]:
                self.take(payload)
                return
        number = marks.number(payload, at)
        self.complain(f"{number} came where {due} was due" + (", after the last" if due > self.goal else ""))
        self.next = max(self.next, min(number, self.goal) + 1)

    def complain(self, wrong: str) -> None:
        """Note what was wrong, if it is the first time."""
        self.wrong = self.wrong or wrong
        self._finish()

    def _finish(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._done()


class Tally:
    """The books of one socket whose messages may come in any order, each once: SQS's standard queues promise none.

    Args:
        done: as for a `Ledger`.
    """

    __slots__ = ("_done", "_is_done", "at", "goal", "seen", "taken", "wrong")

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._is_done = True
        self.at = -1
        self.goal = 0
        self.seen: dict[int, int] = {}
        self.taken = 0  # doubles included
        self.wrong = ""

    def expect(self, goal: int) -> None:
        """Say how many will come in all."""
        self.goal, self._is_done = goal, False
        self._look()

    def take(self, payload: bytes) -> None:
        """Take a frame that arrived, with one message or many."""
        for number, at in marks.find_all(payload):
            self.taken += 1
            if number in self.seen:
                self.complain(f"{number} came twice")
            self.seen[number] = at
        self._look()

    def complain(self, wrong: str) -> None:
        """Note what was wrong, if it is the first time."""
        self.wrong = self.wrong or wrong
        self._look()

    def _look(self) -> None:
        if not self._is_done and (self.wrong or len(self.seen) >= self.goal):
            self._is_done = True
            self._done()
