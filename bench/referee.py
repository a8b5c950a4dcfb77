"""Referee: the load client beside a program in C that heard the same servers. Read by report. Pure but for reading.

    python -m bench.referee wsload.c       makes the file, as crosscheck tells

The file is ``{"runs": [{"contestant", "scenario", "ours": {…}, "referee": {…}}, …]}``, and either side has ``frames``,
``rate`` (frames a second), ``p50_ms`` and ``p99_ms``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.table import markdown, significant

_NUMBERS = (("frames", "frames"), ("rate", "frames/s"), ("p50_ms", "p50, ms"), ("p99_ms", "p99, ms"))


def read(path: Path) -> list[dict[str, Any]]:
    """Return the runs of a file.

    Raises:
        ValueError: it has another shape.
    """
    runs = json.loads(path.read_text())["runs"]
    for run in runs:
        for side in ("ours", "referee"):
            if lacking := [name for name, _ in _NUMBERS if name not in run.get(side, {})]:
                raise ValueError(f"{path.name} has no {lacking[0]} of {side}.")
    return list(runs)


def section(runs: list[dict[str, Any]], titles: dict[str, str]) -> list[str]:
    """Return the page's section; nothing where there is no run.

    Args:
        runs: as `read` returns them.
        titles: of the contestants.
    """
    if not runs:
        return []
    rows = [["", *(f"{title}, {who}" for _, title in _NUMBERS for who in ("ours", "referee"))]]
    for run in runs:
        cells = [_written(name, run[side][name]) for name, _ in _NUMBERS for side in ("ours", "referee")]
        rows.append([f"{titles.get(run['contestant'], run['contestant'])}, {run['scenario']}", *cells])
    lost = sum(run["ours"]["frames"] != run["referee"]["frames"] for run in runs)
    counts = (
        f"In {lost} of {len(runs)} rows they counted different numbers of frames"
        if lost
        else ("They counted the same frames in every run")
    )
    furthest = max(
        abs(run["ours"]["rate"] / run["referee"]["rate"] - 1) if run["referee"]["rate"] else 1 for run in runs
    )
    return [
        "## The load client, checked",
        "",
        "A client in C, which shares no code with the load client, heard the same work on the same machine. "
        f"{counts}; their rates differ by {furthest:.1%} at most. A latency of the load client has the time in it that "
        "Python needs for each frame, and that is the difference of the latencies.",
        "",
        *markdown(rows),
        "",
    ]


def _written(name: str, value: float) -> str:
    return f"{value:,.0f}" if name == "frames" else significant(value)


if __name__ == "__main__":
    import sys

    from bench.crosscheck import main

    sys.exit(main())
