"""`python -m tests.faults`: runs the fault suite and prints its table. Hands to run."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.run import Run
from tests.faults.summary import table
from tests.faults.times import SCALED, SHIPPED
from tests.faults.world import false_clocks


def main() -> int:
    """Parse, run, print; 1 where a guarantee was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default="", help="makes the same choices again; one is made up without it")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    parser.add_argument("--shipped", action="store_true", help="lease, visibility and pings as they are shipped")
    parser.add_argument("--report", type=Path, help="write the table there, too")
    parser.add_argument(
        "--directory",
        type=Path,
        help="for logs and the history; without it a new one, which stays only if something was broken",
    )
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="hermes-faults-"))
    directory.mkdir(parents=True, exist_ok=True)
    seed = arguments.seed or secrets.token_hex(4)
    say(f"Seed {seed}; everything is written to {directory}")
    times = SHIPPED if arguments.shipped else SCALED
    if false_clocks() is None and os.environ.get("CI") == "true":
        say("There is no libfaketime here, and CI leaves nothing out: apt-get install faketime.")
        return 2
    try:
        result = asyncio.run(Run(directory, seed, arguments.minutes * 60, arguments.only, times, say).run())
    except KeyboardInterrupt:
        say("Stopped; nothing was judged.")
        return 130
    text = table(result)
    say(f"\n{text}")
    if arguments.report:
        arguments.report.write_text(f"{text}\n", encoding="utf-8")
    say(f"\nMemory in MiB: {result.memory[0] if result.memory else {}} → {result.memory[-1] if result.memory else {}}")
    say(f"Tracebacks in the logs: {result.tracebacks}")
    if result.missed:
        say(f"missed: {', '.join(result.missed)}")
    for violation in result.judged.violations[:50]:
        say(f"VIOLATION: {violation}")
    if result.judged.violations:
        return 1
    if arguments.directory is None:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def say(line: str) -> None:
    """Print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
