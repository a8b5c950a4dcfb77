"""Machine: cores, CPU time, memory, and what this machine is. Used by the scenes and by run; Linux only."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

SERVER_CORE, OTHER_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_SCHED_CLOCK = 2  # of Linux's clock ids for processes: the scheduler's own, in nanoseconds


def has_two_cores() -> bool:
    """Whether server and load can have a core each."""
    return {SERVER_CORE, OTHER_CORE} <= os.sched_getaffinity(0) or (os.cpu_count() or 1) > 1


def pin_ourselves() -> None:
    """Keep this process, and what it starts from now on, off the server's core."""
    if has_two_cores():
        os.sched_setaffinity(0, {OTHER_CORE})


def on_server_core(command: Sequence[str]) -> list[str]:
    """Return a command that runs on the server's core from its first instruction on."""
    taskset = shutil.which("taskset")
    return [taskset, "-c", str(SERVER_CORE), *command] if taskset and has_two_cores() else list(command)


def raise_open_files() -> int:
    """Let this process, and what it starts, have as many sockets as the system allows; return how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def tree(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [pid]
    for known in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{known}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time, user and system, of processes and all that they have started.

    It is the sum that /proc/<pid>/stat gives, to the nanosecond: its ticks of 10 ms are too coarse for short runs.
    """
    total = 0.0
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError):
                total += time.clock_gettime(((~pid) << 3) | _SCHED_CLOCK)
    return total


def resident(pids: Sequence[int]) -> int:
    """Return the resident bytes of processes and all that they have started."""
    total = 0
    for root in pids:
        for pid in tree(root):
            with contextlib.suppress(OSError, IndexError):
                total += int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) * 1024
    return total


def core_seconds(core: int) -> tuple[float, float]:
    """Return for how long a core has worked since the machine started, and for how long its host worked for others."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _, _, irq, softirq, steal = (int(field) / _TICKS for field in fields[:8])
            return user + nice + system + irq + softirq, steal
    return 0.0, 0.0


def describe() -> dict[str, str]:
    """Return what this machine is."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    congestion = "unknown"
    with contextlib.suppress(OSError):
        congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "congestion": congestion,
        "python": platform.python_version(),
    }
