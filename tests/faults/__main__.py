"""`python -m tests.faults`: runs the fault suite and prints its table. Hands to run."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.run import Result, Run


def table(result: Result) -> str:
    """Return a result as docs/guarantees.md shows it."""
    judged = result.judged
    counts, told = judged.counts, result.told
    lost = {name: count for name, count in sorted(told.items()) if name.split()[0] in ("lost", "gap")}
    hellos = {name: count for name, count in sorted(told.items()) if name.startswith("hello")}
    told_lost = {name: count for name, count in hellos.items() if name not in ("hello fresh", "hello recovered")}
    rows = [("Faults", sum(result.faults.values()))]
    rows += [(f"· {name}", count) for name, count in sorted(result.faults.items())]
    rows += [
        ("Messages produced", counts["produced"]),
        ("Deleted from SQS (acked)", len(judged.acked)),
        ("Dead letters", len(judged.dead)),
        ("Entries appended", counts["appended"]),
        ("Entries received by 8 members", counts["received"]),
        ("· shown", told["shown"]),
        ("Connections greeted", counts["hello"]),
        ("· recovered", told["hello recovered"]),
        *((f"· lost, {name.split()[1]}", count) for name, count in told_lost.items()),
        *((f"Told while connected: {name}", count) for name, count in lost.items()),
        ("Calms in which all came right", counts["settled"]),
        ("Registry and mirror right after, at most", f"{max(result.registry_seconds, default=0):.1f} s"),
        ("Violations", len(judged.violations)),
    ]
    minutes, seconds = divmod(round(result.seconds), 60)
    head = f"Seed `{result.seed}`, {minutes} min {seconds} s."
    return "\n".join([head, "", "| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> int:
    """Parse, run, print; 1 where a guarantee was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", default="", help="makes the same choices again; one is made up without it")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
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
    try:
        result = asyncio.run(Run(directory, seed, arguments.minutes * 60, arguments.only, say).run())
    except KeyboardInterrupt:
        say("Stopped; nothing was judged.")
        return 130
    say(f"\n{table(result)}")
    say(f"\nMemory in MiB: {result.memory[0] if result.memory else {}} → {result.memory[-1] if result.memory else {}}")
    say(f"Tracebacks in the logs: {result.tracebacks}")
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
