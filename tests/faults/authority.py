"""Authority: what a run's tokens allowed, and whether it was obeyed (guarantee 6). Owned by checker; pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.faults.windows import (
    Windows,
    is_clock_ahead,
    is_clock_behind,
    is_of_redis,
    is_slow_to_hear,
    is_suspended_server,
)

Event = dict[str, Any]
Whose = tuple[str, str, str]  # stage, room, user

# A token's end is obeyed within a second, spread over another one.
END_SECONDS = 2.0
# A revocation is obeyed within a second; where Redis was kept from somebody, a reader's deadline of five seconds passes
# before the next look.
OBEY_SECONDS, REDIS_SECONDS = 1.0, 6.0
# Redis was not there to tell the servers: they look at the rows, within a minute.
SWEEP_SECONDS = 60.0
# Between a moment and the frame or the close that follows from it, on two cores; the more the more they are laden.
BUSY_SECONDS = 2.0
LATE_SECONDS = 16.0  # the longest that a link or a reader keeps a frame
CLOCK_CACHE_SECONDS = 3.0  # a process reads its false clock once a second


@dataclass
class Held:
    """What a client shows for itself on its present connection.

    Args:
        whose: stage, room, user.
        iat, exp: unix seconds.
        server: the one it is at.
        t, unix: when it joined, in the run's seconds and in unix seconds.
    """

    whose: Whose
    iat: float
    exp: float
    server: str
    t: float
    unix: float

    def moment(self, unix: float) -> float:
        """Return a unix time in the run's seconds."""
        return unix - self.unix + self.t


class Authority:
    """Tokens and revocations of one run.

    Args:
        windows: the run's faults.
        broken: called with a sentence for each violation.
    """

    def __init__(self, windows: Windows, broken: Callable[[str], None]) -> None:
        self._windows, self._broken = windows, broken
        self._busy = BUSY_SECONDS
        self._revocations: dict[Whose, list[Event]] = defaultdict(list)
        self._held: dict[str, Held] = {}
        self.counts: Counter[str] = Counter()
        self.obeyed_after: list[float] = []

    def learn_load(self, event: Event) -> None:
        """Take note of how laden the machine was: 1 where it could do what it was asked for."""
        self._busy = max(self._busy, BUSY_SECONDS * event["load"])

    def learn_revocation(self, event: Event) -> None:
        """Take note of a revocation: when it began and ended, and whether it was done and told to the servers."""
        self._revocations[event["stage"], event["room"], event["user"]].append(event)

    def joining(self, event: Event) -> None:
        """A client shows its token."""
        if "exp" in event:
            whose = (event["stage"], event["room"], event["user"])
            self._held[event["client"]] = Held(
                whose, event["iat"], event["exp"], event["server"], event["t"], event["unix"]
            )

    def refreshed(self, event: Event) -> None:
        """A client's connection goes on with another token."""
        held = self._held[event["client"]]
        held.iat, held.exp = event["iat"], event["exp"]
        self.counts["refreshed in place"] += 1

    def greeted(self, event: Event) -> None:
        """A client was let in."""
        if held := self._held.get(event["client"]):
            # When it asked, not when it heard: its link may be slow.
            self._judge(event["client"], held, held.unix, "was let in")

    def received(self, event: Event, at: float) -> None:
        """A client received an entry that was appended at a unix time; when it arrived its link alone knows."""
        if held := self._held.get(event["client"]):
            self._judge(event["client"], held, at, f"received {event['n']}, appended")

    def closed(self, event: Event) -> None:
        """A client was closed."""
        who, code, held = event["client"], event["code"], self._held.pop(event["client"], None)
        if code is None or not 4400 <= code <= 4499:
            return
        if held is None:
            self._broken(f"{who} was closed with {code}, and its token is good")
            return
        unix = event["unix"]
        if code == 4401:
            self.counts["closed or refused with 4401"] += 1
            if unix < held.exp - 0.5 and not self._was_ahead(held, unix):
                self._broken(f"{who} was closed with 4401 {held.exp - unix:.1f} s before its token ends")
        elif code == 4403:
            self.counts["closed or refused with 4403"] += 1
            found = [
                each for each in self._revocations[held.whose] if each["end"] >= held.iat and each["begin"] <= unix
            ]
            if not found:
                self._broken(f"{who} was closed with 4403, and nobody revoked its token")
            elif held.unix < found[0]["begin"]:  # not one that was shown when it was revoked already
                self._judge(who, held, unix, "was closed")
                if found[0]["done"] and found[0]["told"]:
                    self.obeyed_after.append(max(0.0, unix - found[0]["end"]))
        else:
            self._broken(f"{who} was closed with {code}, and its token is good")

    def still_connected(self, who: str, unix: float) -> None:
        """Everything is still: nobody is connected whose authority has ended."""
        if held := self._held.get(who):
            self._judge(who, held, unix, "is connected")

    def _judge(self, who: str, held: Held, unix: float, what: str) -> None:
        """At this time the token must still have been good, or its end too new to be obeyed."""
        stopped = self._disturbed(is_suspended_server, held, unix, END_SECONDS + self._busy)
        behind = self._disturbed(is_clock_behind, held, unix, CLOCK_CACHE_SECONDS + END_SECONDS)
        if unix > held.exp + END_SECONDS + self._busy and not stopped and not behind:
            self._broken(f"{who} {what} {unix - held.exp:.1f} s after its token had ended")
        for revocation in self._revocations[held.whose]:
            if not revocation["done"] or held.iat > revocation["not_before"]:
                continue
            end = revocation["end"]
            allowed = OBEY_SECONDS + self._busy if revocation["told"] else SWEEP_SECONDS + REDIS_SECONDS
            if unix <= end + allowed:
                continue
            if self._disturbed(is_of_redis, held, unix, REDIS_SECONDS + self._busy, anywhere=True):
                continue
            if self._disturbed(is_suspended_server, held, unix, OBEY_SECONDS + self._busy):
                continue
            self._broken(f"{who} {what} {unix - end:.1f} s after its token had been revoked")
            return

    def _was_ahead(self, held: Held, unix: float) -> bool:
        """Whether its server's clock was ahead when it closed it, which its client may have heard later."""
        at = held.moment(unix)
        if self._disturbed(is_clock_ahead, held, unix, CLOCK_CACHE_SECONDS):
            return True
        is_late = self._windows.overlap(is_slow_to_hear, at - LATE_SECONDS, at)
        return is_late and self._windows.overlap(is_clock_ahead, held.t - CLOCK_CACHE_SECONDS, at, held.server)

    def _disturbed(
        self, kind: Callable[[str], bool], held: Held, unix: float, seconds: float, *, anywhere: bool = False
    ) -> bool:
        """Whether such a fault was under way at its server, or anywhere, at a unix time or some seconds before."""
        at, part = held.moment(unix), None if anywhere else held.server
        return self._windows.overlap(kind, at - seconds, at, part)
