"""The load client beside another one: what that is called with and says, and what both come to."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from bench import marks, referee
from bench.crosscheck import OURS, REFEREE, Line, grid, heard_by, listening, medians

SAYS = """#!/bin/sh
echo "$@" >called
echo "UP 3 err 0 in 0.01s"
echo "RESULT conns 3 got 29/30 err 0 wall 1.000 rate 30/s p50 1.50ms p99 2.50ms max 3.00ms loaderCPU 0.01"
"""


def program(folder: Path, text: str) -> Path:
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_the_other_client_is_called_as_it_wants_and_its_line_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with listening(program(tmp_path, SAYS), 8000, tmp_path / "sockets", 3, 30, 5.0) as heard:
        pass
    assert (tmp_path / "called").read_text().split() == ["127.0.0.1", "8000", f"@{tmp_path}/sockets", "3", "30", "5.0"]
    line = heard_by("nchan", "fanout-gentle", 2, heard[0])
    assert line == Line("nchan", "fanout-gentle", REFEREE, 2, 29, 30, 30.0, 1.5, 2.5, "29 of 30 came")


def test_a_client_that_does_not_get_its_sockets_open_ends_the_run(tmp_path: Path) -> None:
    path = program(tmp_path, "#!/bin/sh\necho 'UP 2 err 1 in 0.01s'\n")
    with (
        pytest.raises(RuntimeError, match="UP 2 err 1"),
        listening(path, 8000, tmp_path / "sockets", 3, 30, 5.0),
    ):
        pass


def test_both_are_put_side_by_side_by_their_medians() -> None:
    lines = [
        Line("hermes", "fanout-gentle", client, number, 30, 30, per_s * number, p50, 4.0)
        for number in (1, 2, 3)
        for client, per_s, p50 in ((OURS, 10.0, 2.0), (REFEREE, 11.0, 1.0))
    ]
    table = grid(lines, {"hermes": "Hermes"})
    assert table[1:] == [
        ["Hermes, gentle", OURS, "30", "20.0", "2.00", "4.00"],
        ["", REFEREE, "30", "22.0", "1.00", "4.00"],
        ["", "referee ÷ ours", "", "1.10 ×", "0.50 ×", "1.00 ×"],
    ]


def test_the_page_takes_what_it_writes(tmp_path: Path) -> None:
    lines = [Line("hermes", "fanout-gentle", client, 1, 30, 30, 10.0, 2.0, 4.0) for client in (OURS, REFEREE)]
    path = tmp_path / "referee.json"
    path.write_text(
        json.dumps({"runs": medians([*lines, Line("nchan", "fanout-gentle", OURS, 1, 3, 3, 1.0, 1.0, 1.0)])})
    )
    (run,) = referee.read(path)
    assert run["ours"] == run["referee"] == {"frames": 30, "rate": 10.0, "p50_ms": 2.0, "p99_ms": 4.0}
    assert "They counted the same frames in every run" in " ".join(referee.section([run], {"hermes": "Hermes"}))


def test_one_run_that_lost_frames_is_not_lost_among_the_others() -> None:
    lines = [
        Line(
            "hermes",
            "fanout-gentle",
            client,
            number,
            29 if (client, number) == (REFEREE, 2) else 30,
            30,
            10.0,
            2.0,
            4.0,
        )
        for number in (1, 2, 3)
        for client in (OURS, REFEREE)
    ]
    runs = medians(lines)
    assert runs[0]["referee"]["frames"] == 29
    assert "In 1 of 1 rows they counted different numbers of frames" in " ".join(referee.section(runs, {}))


def test_a_payload_has_the_time_that_the_referee_reads() -> None:
    now = time.time()
    found = re.search(r'"t":(\d+\.\d{6}),', marks.write(1, time.monotonic_ns(), 140))
    assert found
    assert float(found[1]) == pytest.approx(now, abs=1.0)
