"""Processes: what `/metrics` says of this process itself: memory, processor, open files. Put on by exposition.

prometheus-client asks `/proc/stat` when the host was booted, and says nothing of a process where that is hidden, as
`ProcSubset=pid` hides it in our units. The clock of the host's uptime says the same.
"""

from __future__ import annotations

import sys
import time

from prometheus_client import PROCESS_COLLECTOR, REGISTRY, ProcessCollector

if sys.platform == "linux":

    class Processes(ProcessCollector):
        """The library's collector, which needs nothing of `/proc` but the process's own part."""

        def _boot_time(self) -> float:
            """Return when the host was booted, in unix seconds; asked once, by the library's own constructor."""
            return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    REGISTRY.unregister(PROCESS_COLLECTOR)
    Processes()
