"""Heap: Python's search for cycles, tuned to a process that holds ten thousand sockets. Called by asgi at its start.

By default Python looks through its youngest objects whenever 700 more of them were made than let go, and through all
others again and again while their number grows. A storm of handshakes makes millions that stay, and few cycles: half of
what a socket cost was that search.
"""

from __future__ import annotations

import gc

# New objects until the young are looked through; such looks until the middle-aged are; such looks until all are.
# Measured by `python -m bench --scenario storm`: 3.1 ms of CPU for each socket at Python's own 700, 10, 10.
THRESHOLDS = (20_000, 20, 50)


def settle() -> None:
    """Search once, leave out from then on what is there now (the program itself), and search seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
