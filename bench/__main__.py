"""`python -m bench`: run the benchmark, print its table, keep everything in var/bench. Hands to run and table.

python -m bench                                                            everything, three rounds
python -m bench --quick                                                    a short round, within three minutes
python -m bench --scenario fanout-gentle --only hermes,nchan --rounds 3    parts
"""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
from types import FrameType

from bench.helper import ROOT
from bench.peers import NAMES
from bench.plans import QUICK, WHOLE, choose
from bench.run import Order, run
from bench.table import render

QUICK_SECONDS = 165.0  # the rest of the three minutes is for what has begun by then


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Hermes beside its peers.")
    parser.add_argument("--quick", action="store_true", help="one short round of most scenarios, within three minutes")
    parser.add_argument("--scenario", default="", help="only these, separated by commas; growth is all of its sizes")
    parser.add_argument("--only", default="", help=f"only these contestants: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=0, help="how often (3; quick: 1)")
    parser.add_argument("--within", type=float, default=0.0, help="seconds after which nothing new is begun")
    arguments = parser.parse_args()

    plans = QUICK if arguments.quick else WHOLE
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
        rounds=arguments.rounds or (1 if arguments.quick else 3),
        within=arguments.within or (QUICK_SECONDS if arguments.quick else math.inf),
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
    )
    try:
        report, path = run(order, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("Stopped. What was measured until then is in var/bench.", file=sys.stderr)
        return 130
    print()
    print(render(report))
    print(
        f"\nEverything is in {path.relative_to(ROOT)}; python -m bench.report {path.relative_to(ROOT)} makes the page."
    )
    return 1 if any(result.wrong for result in report.results) else 0


def interrupt(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
