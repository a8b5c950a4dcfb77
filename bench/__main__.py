"""`python -m bench`: run the benchmark, print its table, keep everything in var/bench. Hands to run and table.

python -m bench                                                            everything, three rounds
python -m bench --quick                                                    a short round, within three minutes
python -m bench --smoke --only hermes                                      whether it works, and no numbers
python -m bench --scenario fanout-gentle --only hermes,nchan --rounds 3    parts
"""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from bench.helper import ROOT
from bench.peers import NAMES
from bench.plans import QUICK, SMOKE, WHOLE, choose, omitted
from bench.run import DIRECTORY, Order, run
from bench.table import render

# Of the three minutes: when nothing new is begun, and when what has begun is cut off. The rest is for stopping it all.
QUICK_SECONDS, QUICK_OVER_SECONDS = 150.0, 160.0


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Hermes beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round of most scenarios, within three minutes")
    parser.add_argument("--smoke", action="store_true", help="every scene once, a second each: whether it works")
    parser.add_argument("--scenario", default="", help="only these, separated by commas; growth, sweep: all of theirs")
    parser.add_argument("--only", default="", help=f"only these contestants: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=0, help="how often (3; quick: 1)")
    parser.add_argument("--within", type=float, default=0.0, help="seconds after which nothing new is begun")
    parser.add_argument("--over", type=float, default=0.0, help="seconds after which what has begun is cut off")
    parser.add_argument("--into", type=Path, default=DIRECTORY, help="where results are kept (var/bench)")
    arguments = parser.parse_args()

    began = time.monotonic()
    is_short = arguments.quick or arguments.smoke
    plans = SMOKE if arguments.smoke else QUICK if arguments.quick else WHOLE
    names = tuple(name for name in arguments.only.split(",") if name) or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"there is no contestant {unknown[0]}; there are {', '.join(NAMES)}")
    try:
        chosen = choose(plans, [name for name in arguments.scenario.split(",") if name])
    except KeyError as error:
        parser.error(f"there is no scenario {error}; there are {', '.join(plan.name for plan in plans)}")
    signal.signal(signal.SIGTERM, interrupt)
    order = Order(
        plans=chosen,
        names=names,
        rounds=arguments.rounds or (1 if is_short else 3),
        within=arguments.within or (QUICK_SECONDS if arguments.quick else math.inf),
        over=arguments.over or (QUICK_OVER_SECONDS if arguments.quick else math.inf),
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        is_patient=not is_short,
        omitted=omitted(plans) if arguments.quick and not arguments.scenario else (),
        directory=arguments.into.resolve(),
    )
    try:
        report, path = run(order, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("Stopped. What was measured until then is in var/bench.", file=sys.stderr)
        return 130
    print()
    print(render(report))
    print(f"\nEverything is in {shown(path)}.")
    write_page(path)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"It took {minutes} min {seconds:02d} s.")
    return 1 if any(result.wrong for result in report.results) else 0


def write_page(path: Path) -> None:
    """Write the page and the pictures of a run beside its file of results, in a folder of its name."""
    folder = path.with_suffix("")
    command = [sys.executable, "-m", "bench.report", "--out", str(folder), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        print(f"Its page could not be written: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    else:
        print(f"Page and pictures are in {shown(folder)}.")


def shown(path: Path) -> str:
    """Return a path as one types it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
