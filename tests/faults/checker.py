"""Checker: reads what a run of the fault suite wrote down, and says what broke a guarantee. Called by run; pure.

It trusts nobody's own judgement: what a member should have seen is worked out from the histories as the tap read them,
and what it did see from every frame that reached it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any

from tests.faults import recorder
from tests.faults.authority import Authority
from tests.faults.order import Order
from tests.faults.windows import Windows, is_clock_behind, is_of_redis
from tests.faults.witness import Member, Place

Event = dict[str, Any]

HISTORY_ENTRIES = 1000  # the settings' defaults, which the suite leaves as they are
REPLAY_BYTES = 1024 * 1024
# An entry's time is Valkey's and a deletion's the proxy's: two programs that read one clock, Valkey to the millisecond.
SAME_CLOCK_SECONDS = 0.001
CLOCK_SECONDS = 1.5  # between a server's look at the clock and a member's
# After Redis has been kept from a server: its joins wait ten seconds at most, and a look finds what it missed.
REDIS_SECONDS = 12.0


class Checker:
    """Judges one run. `violations` says what broke, in sentences; `counts` what there was of each event; `acked` and
    `dead` which messages left the queue, and which are dead letters."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self._produced: dict[str, Event] = {}
        self._by_mid: dict[str, Event] = {}
        # When each message was first in a dead-letter queue, and first had a place, in unix seconds.
        self.dead: dict[str, float] = {}
        self._placed: dict[str, float] = {}
        self.acked: set[str] = set()
        self._ids: set[tuple[str, str, str]] = set()
        # Room, epoch, seq: every entry that ever stood there; more than one where the history forked.
        self._history: dict[tuple[str, str], dict[str, dict[int, list[Event]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        self._standing: dict[tuple[str, str], dict[str, tuple[str, int]]] = defaultdict(dict)
        self._has_forked = False
        self._members: dict[str, Member] = {}
        self._windows = Windows()
        self.authority = Authority(self._windows, self._broken)
        self.order = Order(self._broken)
        # What a restart or a promotion took, by its place in the record; and what was confirmed by then.
        self._taken: dict[int, list[tuple[str, str, str]]] = {}
        self._confirmed: set[tuple[str, str, str]] = set()
        self._id_of: dict[str, set[tuple[str, str, str]]] = defaultdict(set)

    def check(self, events: Iterable[Event]) -> Checker:
        """Judge a whole run; events are in the order in which they were written down."""
        everything = list(events)
        for event in everything:
            self.counts[event["event"]] += 1
            getattr(self, f"_learn_{event['event']}", _nothing)(event)
        for event in everything:
            getattr(self, f"_judge_{event['event']}", _nothing)(event)
        for n, produced in self._produced.items():
            if produced["by"] == "sqs" and n not in self._placed and n not in self.dead:
                self._broken(f"message {n} is neither in a history nor in the dead-letter queue")
            if produced["refused"] and n in self._placed:
                self._broken(f"message {n} must be refused, and has a place")
        return self

    def _broken(self, sentence: str) -> None:
        self.violations.append(sentence)

    # ── What there was ───────────────────────────────────────────────────────────────────────────────────────────────
    def _learn_produced(self, event: Event) -> None:
        self._produced[event["n"]] = event
        self.order.learn(event)
        for mid in event.get("mids", ()):
            self._by_mid[mid] = event

    def _learn_dead(self, event: Event) -> None:
        # Of what only lay there at the end nobody knows since when.
        self.dead[event["n"]] = min(self.dead.get(event["n"], inf), event.get("unix", inf))

    def _learn_acked(self, event: Event) -> None:
        self.acked.add(event["mid"])

    def _learn_appended(self, event: Event) -> None:
        key = (event["stage"], event["room"])
        self._placed[event["n"]] = min(self._placed.get(event["n"], inf), event["at"])
        self._ids.add((*key, event["id"]))
        self._id_of[event["n"]].add((*key, event["id"]))
        self._history[key][event["epoch"]][event["seq"]].append(event)
        place = (event["epoch"], event["seq"])
        before = self._standing[key].get(event["id"])
        if before is not None and before[0] == event["epoch"] and before != place:
            self._broken(f"id {event['id']} of {key} has two places: {before} and {place}")
        self._standing[key][event["id"]] = place

    def _learn_life(self, event: Event) -> None:
        """Redis came back: what no longer stands may get another place."""
        for name, (epoch, seq) in event["heads"].items():
            stage, room = name.split("/")
            standing = self._standing[stage, room]
            for id_, place in list(standing.items()):
                if place[0] != epoch or place[1] > seq:
                    del standing[id_]
                    self._taken.setdefault(id(event), []).append((stage, room, id_))

    def _learn_fault(self, event: Event) -> None:
        self._windows.learn(event)

    def _learn_load(self, event: Event) -> None:
        self.authority.learn_load(event)

    def _learn_revoked(self, event: Event) -> None:
        self.authority.learn_revocation(event)

    # ── Producers, relay, registry ───────────────────────────────────────────────────────────────────────────────────
    def _judge_appended(self, event: Event) -> None:
        self.order.judge(event)
        produced = self._produced.get(event["n"])
        if produced is None:
            self._broken(f"nobody produced {event['n']}, which has a place in {event['room']}")
        elif any(produced[name] != event[name] for name in ("stage", "room", "to", "expires")):
            self._broken(f"message {event['n']} was produced for somebody else than it was appended for")

    def _judge_life(self, event: Event) -> None:
        self._has_forked = self._has_forked or event["how"] in ("older", "promoted")
        for key in self._taken.get(id(event), ()) if event.get("durable") else ():
            if key in self._confirmed:
                self._broken(f"{key} was confirmed when a replica had it, and is gone with its primary")

    def _judge_acked(self, event: Event) -> None:
        produced = self._by_mid.get(event["mid"])
        if produced is None:
            return
        n = produced["n"]
        since = min(self._placed.get(n, inf), self.dead.get(n, inf))
        if since > event["unix"] + SAME_CLOCK_SECONDS:
            late = "" if since == inf else f": it was {since - event['unix']:.3f} s later"
            self._broken(f"message {n} was deleted from SQS and was in no history and no dead-letter queue{late}")
        self._confirmed |= self._id_of[n]

    def _judge_sent(self, event: Event) -> None:
        member = self._members[event["client"]]
        if (*member.key, event["id"]) not in self._ids:
            self._broken(f"{event['client']} was told that {event['id']} was sent, and it is in no history")
        self._confirmed.add((*member.key, event["id"]))

    def _judge_registry(self, event: Event) -> None:
        if not event["ok"] or event["seconds"] > event["limit"]:
            late = f"after {event['seconds']:.1f} s, and {event['limit']:.1f} s are allowed after {event['after']}"
            self._broken(f"the {event['store']} was not right {late}: {event['detail']}")

    def _judge_unsettled(self, event: Event) -> None:
        self._broken(f"it did not settle: {event['what']}")

    def _judge_died(self, event: Event) -> None:
        self._broken(f"{event['process']} ended by itself with {event['code']}")

    def _judge_unexpected(self, event: Event) -> None:
        self._broken(f"{event['process']} logged {event['count']} times: {event['what']}")

    # ── Members ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def _judge_joining(self, event: Event) -> None:
        member = self._members.setdefault(event["client"], Member((event["stage"], event["room"]), event["user"]))
        member.joined_at, member.server = event["unix"], event.get("server", "")
        self.authority.joining(event)
        shows = tuple(event["position"]) if event["position"] else None
        if shows != member.position:
            self._broken(f"{event['client']} shows the position {shows} and has {member.position}")

    def _judge_hello(self, event: Event) -> None:
        member, who, at = self._members[event["client"]], event["client"], _place(event)
        status = event["status"]
        self.authority.greeted(event)
        if status == "lost":
            self._judge_told(event)
        elif member.position is None:
            if status != "fresh":
                self._broken(f"{who} came without a position and was greeted with {status}")
        elif status == "fresh":
            self._broken(f"{who} came with a position and was greeted as if it had none")
        elif at[0] != member.position[0] or at[1] < member.position[1]:
            self._broken(f"{who} was at {member.position} and is said to be recovered from {at}")
        else:
            self._require_nothing_between(member, who, at, including=True)
        member.position = at

    def _judge_received(self, event: Event) -> None:
        member, who, at = self._members[event["client"]], event["client"], _place(event)
        known = [e for e in self._history[member.key][at[0]].get(at[1], ()) if e["id"] == at[2]]
        if not known or event["room"] != member.key[1]:
            self._broken(f"{who} of {member.key} received {at} of room {event['room']}, which its history never held")
            return
        entry = known[0]
        if entry["n"] != event["n"]:
            self._broken(f"{who} received {event['n']} at {at}, where {entry['n']} stands")
        if entry["to"] is not None and member.user not in entry["to"]:
            self._broken(f"{who} received {at}, which is for {entry['to']}")
        self.authority.received(event, entry["at"])
        t = event.get("t", 0.0)
        behind = self._windows.overlap(is_clock_behind, t - 20, t, member.server)
        late = max(member.joined_at, entry["at"])
        if entry["expires"] is not None and entry["expires"] + CLOCK_SECONDS < late and not behind:
            self._broken(f"{who} received {at}, which had expired before it came back, or before the entry had a place")
        if member.position is not None:
            if at[0] != member.position[0]:
                self._broken(f"{who} was at {member.position} and received {at} of another epoch, untold")
            elif at[1] <= member.position[1]:
                self._broken(f"{who} was at {member.position} and received {at}: out of order, or again")
            elif at[1] == member.position[1] + 1 and all(e["prev"] != member.position[2] for e in known):
                self._broken(f"{who} was at {member.position} and received {at}, which follows {entry['prev']}")
            else:
                self._require_nothing_between(member, who, at, including=False)
        if event["shown"] == (at[2] in member.shown):
            how = "shown again" if event["shown"] else "dropped, and had never been shown"
            self._broken(f"{who}: {at} was {how}")
        member.shown.add(at[2])
        member.position = at

    def _judge_ping(self, event: Event) -> None:
        member, at = self._members[event["client"]], _place(event)
        if member.position is None or at[0] != member.position[0] or at[1] <= member.position[1]:
            return
        self._require_nothing_between(member, event["client"], at, including=True)
        member.position = at

    _judge_goodbye = _judge_ping

    def _judge_lost(self, event: Event) -> None:
        self._judge_told(event)
        self._members[event["client"]].position = _place(event)

    _judge_gap = _judge_lost

    def _judge_refreshed(self, event: Event) -> None:
        self.authority.refreshed(event)

    def _judge_closed(self, event: Event) -> None:
        self.authority.closed(event)

    def _judge_settled(self, event: Event) -> None:
        """Everything is still: each member has seen all that there is."""
        for who in event["clients"]:
            member = self._members[who]
            self.authority.still_connected(who, event.get("unix", 0.0))
            head = tuple(event["heads"]["/".join(member.key)])
            if member.position is None or member.position[0] != head[0]:
                self._broken(f"{who} is at {member.position} while its room is at {head}")
            else:
                self._require_nothing_between(member, who, head, including=True)

    def _require_nothing_between(self, member: Member, who: str, at: tuple[Any, ...], *, including: bool) -> None:
        """Nothing that this member must see stands between where it is and where it is taken to."""
        if member.position is None:
            return
        epoch, seq, _ = member.position
        places = self._history[member.key][epoch]
        for missed in range(seq + 1, at[1] + including):
            entries = places.get(missed, ())
            if entries and all(_must_see(entry, member.user) for entry in entries):
                self._broken(f"{who} was taken from {member.position} to {at} past {missed}, untold")

    def _judge_told(self, event: Event) -> None:
        """Saying that something is lost needs a reason, too."""
        member, who, at, reason = self._members[event["client"]], event["client"], _place(event), event["reason"]
        if member.position is None:
            self._broken(f"{who} came without a position and was told that it lost something: {reason}")
            return
        epoch, seq, _ = member.position
        t = event.get("t", 0.0)
        after = [entry for place, found in self._history[member.key][epoch].items() if place > seq for entry in found]
        good = {
            "epoch": at[0] != epoch,
            "fork": self._has_forked,
            "trimmed": max((entry["seq"] for entry in after), default=0) - seq > HISTORY_ENTRIES,
            "too_far": len(after) >= HISTORY_ENTRIES or sum(entry["size"] for entry in after) > REPLAY_BYTES,
            "unavailable": self._windows.overlap(is_of_redis, t - REDIS_SECONDS, t),
        }
        if not good.get(reason, False):
            self._broken(f"{who} at {member.position} was told {event['event']}({reason}) for no reason, from {at} on")


def _nothing(_: Event) -> None:
    pass


def _place(event: Event) -> Place:
    return event["epoch"], event["seq"], event["id"]


def _must_see(entry: Event, user: str) -> bool:
    # What expires may have expired before it could be delivered.
    return entry["expires"] is None and (entry["to"] is None or user in entry["to"])


def check(path: Path) -> Checker:
    """Judge the run whose file this is."""
    return Checker().check(recorder.read(path))
