"""Causes: why a goal is missed where it is: what the profile shows, and what was tried. Used by report. Pure.

Written by hand, from profiles, and shown beside a goal that a report's numbers miss. The numbers of the goals are the
program's; those in here are the profiles' and of the day on which they were taken.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a goal is missed.

    Args:
        why: the cause, as far as it is known.
        profile: what a profile shows; empty where none was taken.
        tried: what was done about it, and what came of it; empty where nothing was.
    """

    why: str
    profile: str = ""
    tried: str = ""

    def told(self) -> str:
        """Return all of it in words; what is lacking is said as well."""
        profile = f"The profile: {self.profile}" if self.profile else "No profile of it was taken."
        tried = f"Tried: {self.tried}" if self.tried else "Nothing has been tried."
        return f"{self.why} {profile} {tried}"


UNKNOWN = "No cause is known yet."

# By the goal's title, and by what it is measured against, as a verdict has them.
CAUSES: dict[tuple[str, str], Cause] = {
    ("saturated fan-out, deliveries/s", "≥ 3 × Nchan"): Cause(
        "Hermes delivers all that the scenario offers, 800,000 deliveries a second, with its core just full. Where "
        "Nchan delivers more than a third of that, three times as much cannot be shown by this offer. How much Nchan "
        "delivers depends on the machine more than the others do: on slower and busier ones it was 200,000 to 221,000.",
        tried="offering both five times as much: that is the goal below.",
    ),
    **dict.fromkeys(
        [("gentle fan-out, p99, ms", f"≤ {peer}") for peer in ("Nchan", "Socket.IO", "Centrifugo")],
        Cause(
            "An entry is 2,000 writes, one after the other, and the last socket waits for all of them: the p99 is "
            "2,000 times the cost of a delivery, for everybody. Before the first write there is 1 ms more than "
            "Nchan's: an entry is in the history, and has a place, before anybody is told. And the load client takes "
            "7 to 9 µs for a frame: where that is more than the server takes, its core is what the last socket waits "
            "for. Beside the client in C, an hour later, the two p99 are nearer to each other (see below).",
            "the kernel's part of a write, with the receiving side of loopback in it, is the same for all; what is "
            "left is Python against C.",
            "writing at once instead of at the end of the loop's turn (no difference); two Python calls a delivery "
            "instead of three (kept, 0.1 µs of 6); another congestion control (cubic for bbr: no difference); writing "
            "past the event loop's transport (0.4 µs of 6, not kept: it would have to know of every way in which a "
            "socket ends).",
        ),
    ),
    ("many rooms, deliveries/s per core", "≥ Socket.IO"): Cause(
        "Five sockets share what a message costs by itself, and a message of Hermes has a place in a history, a "
        "chain and an activity stream that its hub checks; Socket.IO's has none.",
        "37 % in the kernel's writes, 8 % in epoll, 6 % in reading Redis, and of the rest most in reading hints and "
        "activity.",
        "hints that come in one read taken in one go (28 → 26 µs a delivery), a wheel that looks at nobody who is "
        "idle (→ 24), activity read as Redis gives it, and no queue between Redis's socket and the members' (24 → "
        "23). All are kept.",
    ),
    ("relay, messages/s", "≥ Centrifugo"): Cause(
        "Both are held back by the other core, which the SQS endpoint and Redis share and nearly fill. The endpoint "
        "takes as long for a message of ours as for one of theirs; Redis takes 27 µs for ours and 18 for theirs. Ours "
        "has a key by which it comes once, a chain, an activity stream, and its hint is a command of its own.",
        "the relay uses three quarters of its core: 75 µs a message, of which a tenth signs what is asked of SQS, a "
        "seventh decodes and a quarter appends.",
        "one to eight pollers (no difference); an endpoint that does not go through all of a queue for dead letters, "
        "of which theirs had none (0.54 → 0.8 ×); a script of fewer commands, and numbers made text once (Redis 25 → "
        "21 µs an append, alone); receiving and deleting without threads (the relay 80 → 75 µs); the appends of all "
        "pollers in one round trip (no difference, because they seldom meet: not kept).",
    ),
    **dict.fromkeys(
        [(f"end to end{what}, p50, ms", "≤ Centrifugo") for what in ("", ", the call itself included")],
        Cause(
            "A message makes one hop more: Hermes's relay is a process of its own, which appends to the history, then "
            "hints, and shares one core with the server here; Centrifugo's consumer is inside its server, and one "
            "script stores and publishes. The hint follows the append because only the append knows the entry's place, "
            "and so Redis, whose core the SQS endpoint shares, is waited for twice.",
            "of 0.94 ms, by stamps in the relay, 0.10 were from SQS's answer in a poller's thread to the event loop, "
            "0.04 decoding, 0.36 the append's way to Redis and back, and 0.15 the hint's.",
            "no queue between Redis's socket and the members' (no difference at 100 messages a second); a round trip "
            "without a task of its own, and AWS's answers read in C (1.00 → 0.94 ms, kept); SQS without threads, and "
            "an append that costs Redis less (1.38 → 1.10 × theirs, kept). Not tried: a hint sent by the script that "
            "appends. It would save the second wait; a room would have as many hints as a batch has messages for it.",
        ),
    ),
    **dict.fromkeys(
        [(f"end to end{what}, p99, ms", "≤ Centrifugo") for what in ("", ", the call itself included")],
        Cause(
            "The hop of the p50; and two event loops in Python, the relay's and the server's, take turns on one core, "
            "each with some tenths of a millisecond of work for a message.",
            tried="the same as for the p50, and a relay that gives way to the server before it deletes (3.3 → 2.4 ms "
            "on a slower day).",
        ),
    ),
    ("growth, cost of a delivery by sockets, 100 to 10,000", "< 15% over the range"): Cause(
        "Where a delivery grows dearer towards 10,000 sockets, its work does not grow: it is one write of the same "
        "bytes at every size (`tests/sockets/test_costs.py` counts them). What grows is what the writes touch: each "
        "goes to another socket, whose structures in the kernel and in the server are less likely to be in the core's "
        "caches the more sockets there are. That is concluded from the numbers of the peers, which share the kernel "
        "with Hermes and no code; they are under Growth.",
    ),
}
