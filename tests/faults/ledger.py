"""Ledger: whether SQL and DynamoDB hold exactly the live connections, and how soon after what. Called by run, on world.

Four things may be wrong with a store, each with a time of its own:

- ``dead``: it holds connections of a server that is no more;
- ``missing``: it lacks the connection of a member who has been greeted;
- ``left``: it holds connections whose client is gone, at a server that lives: they were cut off without a word;
- ``unaudited``: connections have gone from it without a word, or with two, in the audit table: those that DynamoDB ever
  took, and those that a server greeted which lives on. What a killed server had told nobody is known to nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.faults.member import Member
from tests.faults.recorder import Recorder
from tests.faults.times import Times
from tests.faults.world import World

KILL = "a kill"  # with nothing else broken
LOOK_SECONDS = 0.25  # to look costs both cores, and those who are watched share them
# Guarantee 8, after which nothing is waited for.
GIVE_UP_SECONDS = 90.0
# What a machine adds to a round's end that runs all of this on two cores; the more the more it is laden by others.
BUSY_SECONDS = 2.0
# A client that vanished is noticed by the ping that it does not take: it is cut 10 s later, at the next look or the one
# after that.
CUT_SECONDS = 12.0


def bounds(times: Times, busy: float) -> dict[str, float]:
    """Return within how many seconds each thing must be right.

    What a killed server left is gone within its lease: `notifications.registry.records` says how. After an outage of a
    store its keeper comes back within a tenth of a lease and a retry of the AWS client's own (a second), and must have
    seen the store answer for four tenths of a lease before it buries anybody.

    Args:
        times: the constants of the servers.
        busy: what the machine may add, in seconds; nothing after a kill with nothing else broken, where the lease is
            what is promised.
    """
    left = times.ping + CUT_SECONDS + busy
    return {"dead": times.lease + busy, "missing": times.lease + busy, "left": left, "unaudited": left}


def load() -> float:
    """Return how many times more than its cores can do this machine is asked for; 1 where it is not."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a store at a moment, by connection."""

    dead: frozenset[str]
    missing: frozenset[str]
    left: frozenset[str]
    unaudited: frozenset[str] = frozenset()


class Ledger:
    """Compares both stores with reality.

    Args:
        world: whose stores.
        members: who is connected.
        recorder: where it writes.
    """

    def __init__(self, world: World, members: Sequence[Member], recorder: Recorder) -> None:
        self._world, self._members, self._recorder = world, members, recorder
        # (after what, store, what) → seconds, for the summary.
        self.seconds: dict[tuple[str, str, str], list[float]] = {}

    async def watch(self, after: str, since: float) -> None:
        """Look until all is right, and write down when each thing was.

        Args:
            after: what for: "a round" or `KILL`.
            since: monotonic seconds from which each bound counts.
        """
        limits = bounds(self._world.times, 0.0 if after == KILL else BUSY_SECONDS * load())
        stores: dict[str, Callable[[], dict[str, str]]] = {
            "registry": self._world.open_rows,
            "mirror": self._world.live_items,
        }
        asked = [(store, what) for store in stores for what in limits if (store, what) != ("registry", "unaudited")]
        right: dict[tuple[str, str], float] = {}
        detail: dict[tuple[str, str], str] = {}
        looked_at = dict.fromkeys(stores, time.monotonic())
        blind = dict.fromkeys(stores, 0.0)
        while len(right) < len(asked) and time.monotonic() < since + GIVE_UP_SECONDS:
            for store, read in stores.items():
                booked = self._greeted() | self._world.aws_proxy.booked
                rows = await asyncio.to_thread(read)
                now = time.monotonic()
                blind[store], looked_at[store] = max(blind[store], now - looked_at[store]), now
                wrong = self._wrong(rows)
                if store == "mirror" and not (wrong.dead or wrong.missing or wrong.left):
                    # Once nothing else is wrong: it reads all that has ever ended.
                    wrong = replace(wrong, unaudited=await self._unaudited(booked - rows.keys()))
                elif store == "mirror":
                    wrong = replace(wrong, unaudited=frozenset({"not looked for"}))
                for what in (what for of, what in asked if of == store):
                    ids: frozenset[str] = getattr(wrong, what)
                    if ids:
                        right.pop((store, what), None)
                        detail[store, what] = f"{what}: {sorted(ids)}"
                    else:
                        right.setdefault((store, what), max(0.0, now - self._since(what, since)))
            await asyncio.sleep(LOOK_SECONDS)
        for store, what in asked:
            seconds = round(right.get((store, what), GIVE_UP_SECONDS), 2)
            self.seconds.setdefault((after, store, what), []).append(seconds)
            # What came right between two looks is seen at the second one, however long it was in coming.
            about = {"after": after, "seconds": seconds, "limit": round(limits[what] + blind[store], 2)}
            ok = (store, what) in right
            self._recorder.write(
                "registry", store=store, what=what, ok=ok, detail=detail.get((store, what), ""), **about
            )

    def _greeted(self) -> set[str]:
        """Return the connections that were greeted by servers that live on."""
        greetings = [each for member in self._members for each in member.greetings.items()]
        return {each for each, (server, at) in greetings if self._world.has_lived_since(server, at)}

    async def _unaudited(self, gone: set[str]) -> frozenset[str]:
        """Return those of the connections that have gone from the mirror which have no audit, or two."""
        gone -= {member.connection_id for member in self._members if member.is_open}
        times = Counter(await asyncio.to_thread(self._world.audits))
        return frozenset(each for each in gone if times[each] != 1)

    def _since(self, what: str, since: float) -> float:
        # Nobody can be in the books before being greeted, or out of them before leaving.
        if what == "missing":
            since = max([since, *(member.greeted_at for member in self._members)])
        if what in ("left", "unaudited"):
            since = max([since, *(member.closed_at for member in self._members)])
        return since

    def _wrong(self, rows: dict[str, str]) -> Wrong:
        alive = self._world.server_pids()
        want = {member.connection_id for member in self._members if member.is_open}
        absent = len(want) < len(self._members)
        dead = {each for each, server in rows.items() if not any(f"-{pid}-" in server for pid in alive)}
        return Wrong(
            dead=frozenset(dead),
            missing=frozenset(want - rows.keys()) | ({"a member is not connected"} if absent else frozenset()),
            left=frozenset(rows.keys() - dead - want),
        )
