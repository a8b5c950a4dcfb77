"""Causes: why a goal is missed where it is: what the profile shows, and what was tried. Used by report. Pure.

Written by hand, and shown beside a goal that a report's numbers miss; the numbers in it are those of the profiles.
"""

from __future__ import annotations

# By the goal's title, and by what it is measured against, as a verdict has them.
CAUSES: dict[tuple[str, str], str] = {
    ("saturated fan-out, deliveries/s", "≥ 3 × Nchan"): (
        "The scenario offers 800,000 deliveries a second, and Hermes delivers all of them with its core just full. "
        "Where Nchan, as here, delivers more than a third of that, three times as much cannot be shown. How much "
        "Nchan delivers depends on the machine more than the others do: on slower and busier ones it was 200,000 to "
        "221,000, a quarter of Hermes."
    ),
    ("gentle fan-out, p99, ms", "≤ Nchan"): (
        "An entry is 2,000 writes, one after the other, and the last socket waits for all of them: the p99 is 2,000 "
        "times the cost of a delivery, for everybody. Of that the kernel's part of a write, with the receiving side "
        "of loopback in it, is the same for both; what is left is Python against C. Tried: writing at once instead "
        "of at the end of the loop's turn (no difference), and 128 sockets of a room at a time, which other rooms "
        "need."
    ),
    ("many rooms, deliveries/s per core", "≥ Socket.IO"): (
        "Five sockets share what a message costs by itself, and a message of Hermes has a place in a history, a "
        "chain and an activity stream that its hub checks; Socket.IO's has none. The profile: 37 % in the kernel's "
        "writes, 8 % in epoll, 6 % in reading Redis, and of the rest most in reading hints and activity. Tried, and "
        "kept: hints that come in one read taken in one go (28 → 26 µs a delivery), a wheel that looks at nobody "
        "who is idle (→ 24), activity read as Redis gives it, and no queue between Redis's socket and the members' "
        "(24 → 23)."
    ),
    ("end to end, p50, ms", "≤ Centrifugo"): (
        "A message makes one hop more: Hermes's relay is a process of its own, which appends to the history, then "
        "hints, and shares one core with the server here; Centrifugo's consumer is inside its server, and one "
        "script stores and publishes. The hint follows the append because only the append knows the entry's place. "
        "Tried: no queue between Redis's socket and the members' (no difference at 100 messages a second)."
    ),
    ("end to end, p99, ms", "≤ Centrifugo"): (
        "As above; and two event loops in Python, the relay's and the server's, take turns on one core, each with "
        "some tenths of a millisecond of work for a message."
    ),
}
