"""Crosscheck: the load client beside another one, a C program that is given, on the same work. Referee reads it.

    python -m bench.referee wsload.c [--only hermes,nchan] [--rounds 3]

That program is called with host, port, a file with a line for each socket (path, tab, subprotocols), how many sockets,
how many frames, and seconds. It prints `UP` when all are open, counts the frames that have `"t":<unix seconds>`, and
prints how many came, how fast, and how late. The two take turns, each with a new server, gentle and saturated; what
they say should be the same. Everything goes to var/bench as JSON, too, which `python -m bench.report --referee` takes.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from bench.dialects import DIALECTS
from bench.ground import HOST, Ground
from bench.helper import ROOT
from bench.peers import make
from bench.peers.contestant import Contestant
from bench.plans import WHOLE, Plan, choose
from bench.run import DIRECTORY
from bench.scenes.crew import OPEN_SECONDS, Crew, seats
from bench.scenes.fanout import PATIENCE_SECONDS, PAUSE_SECONDS, WARM_UP, WARM_UP_SECONDS, fanout
from bench.table import aligned, markdown, significant
from hermes_site.engines import free_port

OURS, REFEREE = "load client", "referee"
_UP = re.compile(r"UP (\d+) err (\d+)")
_SAID = re.compile(r"RESULT .*got (\d+)/(\d+) .*rate (\S+)/s p50 (\S+)ms p99 (\S+)ms")


@dataclass(frozen=True, slots=True)
class Line:
    """What one client says of one run.

    Args:
        contestant, scenario, client, round: which.
        got, expected: frames.
        per_s: deliveries a second, from the first publish to the last delivery.
        p50_ms, p99_ms: of the latency.
        wrong: what was not as it should be.
    """

    contestant: str
    scenario: str
    client: str
    round: int
    got: int
    expected: int
    per_s: float
    p50_ms: float
    p99_ms: float
    wrong: str = ""


def ours(crew: Crew, contestant: Contestant, plans: Sequence[Plan], number: int) -> Iterator[Line]:
    """Let our own client do it, as in the benchmark."""
    for result in fanout(crew, contestant, plans):
        found, sent = result.numbers, round(result.numbers.get("deliveries", 0))
        per_s, p50, p99 = (found.get(name, 0.0) for name in ("per_s", "p50_ms", "p99_ms"))
        got = 0 if result.wrong else sent
        yield Line(contestant.name, result.scenario, OURS, number, got, sent, per_s, p50, p99, result.wrong)


def referee(crew: Crew, contestant: Contestant, plans: Sequence[Plan], number: int, program: Path) -> Iterator[Line]:
    """Let the other one do the same."""
    contestant.start()
    dialect, lines = DIALECTS[contestant.dialect], []
    for member in contestant.members(seats(plans[0])):
        protocols = dialect.headers(member).get("Sec-WebSocket-Protocol", "")
        lines.append("\t".join(filter(None, (dialect.path(member, None), protocols))))
    file = crew.ground.directory / "referee.sockets"
    file.write_text("\n".join(lines) + "\n")
    crew.open_talk()
    contestant.calm()
    said, sockets = 0, plans[0].sockets
    with listening(program, contestant.port, file, sockets, WARM_UP * sockets, WARM_UP_SECONDS):
        said += crew.publish(plans[0], 1, WARM_UP, 10.0, WARM_UP_SECONDS)["sent"]
    for plan in plans:
        time.sleep(PAUSE_SECONDS)
        count, patience = round(plan.rate * plan.seconds), plan.seconds + PATIENCE_SECONDS
        with listening(program, contestant.port, file, sockets, count * sockets, patience) as heard:
            time.sleep(PAUSE_SECONDS)
            crew.publish(plan, said + 1, count, plan.rate, patience)
        said += count
        yield heard_by(contestant.name, plan.name, number, heard[0])


def heard_by(contestant: str, scenario: str, number: int, said: str) -> Line:
    """Read what the other client printed.

    Args:
        contestant, scenario, number: which run it was.
        said: all that came after `UP`.

    Raises:
        RuntimeError: it did not say how it went.
    """
    found = _SAID.search(said)
    if found is None:
        raise RuntimeError(f"the referee said: {said or 'nothing'}")
    got, expected = int(found[1]), int(found[2])
    wrong = "" if got == expected else f"{got} of {expected} came"
    per_s, p50, p99 = (float(found[at]) for at in (3, 4, 5))
    return Line(contestant, scenario, REFEREE, number, got, expected, per_s, p50, p99, wrong)


@contextmanager
def listening(program: Path, port: int, file: Path, sockets: int, frames: int, seconds: float) -> Iterator[list[str]]:
    """Have the other client's sockets open; afterwards the list has what it printed.

    Raises:
        RuntimeError: it did not get its sockets open.
    """
    command = [str(program), HOST, str(port), f"@{file}", str(sockets), str(frames), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None  # noqa: S101
        too_long = threading.Timer(OPEN_SECONDS + seconds, process.kill)
        too_long.start()
        try:
            first = process.stdout.readline()
            up = _UP.match(first)
            if up is None or up.groups() != (str(sockets), "0"):
                raise RuntimeError(f"the referee said: {first or 'nothing'}")
            heard: list[str] = []
            yield heard
            heard.append(
                process.stdout.read()
            )  # not communicate, which does not have what was read with the first line
        finally:
            too_long.cancel()
            process.kill()


def build(source: Path, directory: Path) -> Path:
    """Compile the other client."""
    program = directory / "referee"
    subprocess.run(["cc", "-O2", "-w", "-o", str(program), str(source)], check=True, timeout=60)
    return program


def grid(lines: Sequence[Line], titles: dict[str, str]) -> list[list[str]]:
    """Return a table of medians: what each client says, and the other's number as a multiple of ours."""
    rows = [["", "client", "frames", "deliveries/s", "p50, ms", "p99, ms"]]
    for contestant, scenario in dict.fromkeys((line.contestant, line.scenario) for line in lines):
        medians: dict[str, list[float]] = {}
        for client in (OURS, REFEREE):
            runs = [
                line
                for line in lines
                if (line.contestant, line.scenario, line.client) == (contestant, scenario, client)
            ]
            if not runs:
                continue
            columns = zip(*((line.per_s, line.p50_ms, line.p99_ms) for line in runs), strict=True)
            medians[client] = [statistics.median(column) for column in columns]
            frames = " ".join(f"{line.got:,}/{line.expected:,}" for line in runs if line.got != line.expected)
            title = f"{titles[contestant]}, {scenario.removeprefix('fanout-')}" if client == OURS else ""
            rows.append([title, client, frames or f"{runs[0].got:,}", *map(significant, medians[client])])
        if len(medians) == 2 and all(medians[OURS]):
            ratios = (f"{b / a:.2f} ×" for a, b in zip(medians[OURS], medians[REFEREE], strict=True))
            rows.append(["", "referee ÷ ours", "", *ratios])
    return rows


def medians(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return what `bench.referee.read` wants: each contestant and scenario that both have run, by medians."""
    runs = []
    for contestant, scenario in dict.fromkeys((line.contestant, line.scenario) for line in lines):
        run: dict[str, Any] = {"contestant": contestant, "scenario": scenario}
        for side, client in (("ours", OURS), ("referee", REFEREE)):
            its = [one for one in lines if (one.contestant, one.scenario, one.client) == (contestant, scenario, client)]
            if its:
                columns = zip(*((one.per_s, one.p50_ms, one.p99_ms) for one in its), strict=True)
                run[side] = dict(zip(("rate", "p50_ms", "p99_ms"), map(statistics.median, columns), strict=True))
                run[side]["frames"] = min(one.got for one in its)  # a run that lost some must not get lost
        if "ours" in run and "referee" in run:
            runs.append(run)
    return runs


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(prog="python -m bench.referee", description="Our load client beside another one.")
    parser.add_argument("source", type=Path, help="the other client, a C file")
    parser.add_argument("--only", default="hermes,nchan", help="contestants whose sockets need no words: hermes, nchan")
    parser.add_argument("--scenario", default="fanout-gentle,fanout-saturated", help="fan-outs to the same sockets")
    parser.add_argument("--rounds", type=int, default=3, help="how often each takes its turn")
    arguments = parser.parse_args()
    plans, started = choose(WHOLE, arguments.scenario.split(",")), datetime.now(UTC)
    path, lines = DIRECTORY / f"{started:%Y%m%d-%H%M%S}-referee.json", list[Line]()
    machine.raise_open_files()
    machine.pin_ourselves()
    with Ground(DIRECTORY / "work") as ground:
        program = build(arguments.source, ground.directory)
        contestants = make(tuple(arguments.only.split(",")), ground)
        titles = {contestant.name: contestant.title for contestant in contestants}
        for contestant in contestants:
            if obstacle := contestant.obstacle():
                print(f"{contestant.title} does not run: {obstacle}")
                return 1
            contestant.prepare()
        for number in range(1, arguments.rounds + 1):
            for contestant in contestants:
                for client in (OURS, REFEREE):
                    contestant.port = free_port()
                    with Crew(ground, contestant) as crew:
                        more = (plans, number) if client == OURS else (plans, number, program)
                        said = list((ours if client == OURS else referee)(crew, contestant, *more))
                    lines += said
                    for line in said:
                        print(line, flush=True)
                    report = {
                        "started": f"{started:%Y-%m-%d %H:%M} UTC",
                        "machine": machine.describe(),
                        "runs": medians(lines),
                        "lines": [asdict(one) for one in lines],
                    }
                    path.write_text(json.dumps(report, indent=1) + "\n")
    table = grid(lines, titles)
    print("", *aligned(table), "", *markdown(table), f"\nIt is in {path.relative_to(ROOT)}.", sep="\n")
    return 1 if any(line.wrong for line in lines) else 0
