"""Sheets of several workers become one answer, whoever has ended; and a port of its own is not for everybody."""

from __future__ import annotations

import fcntl
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from prometheus_client import Counter, Gauge

from hermes_site.engines import HOST, free_port
from notifications import exposition
from notifications.exposition import Folder, Keeping, PortUnavailable, Sheet, add_up, all_of, counted
from tests.waiting import wait_until

COUNTER = Counter("exposition_tests", "Counts what these tests do.", ["what"])
GAUGE = Gauge("exposition_tests_now", "Shows what these tests set.")


def sheet(kind: str, name: str, *samples: tuple[str, dict[str, str], float]) -> Sheet:
    return [{"name": name, "type": kind, "documentation": "", "samples": [list(sample) for sample in samples]}]


def values(sheet: Sheet) -> dict[str, float]:
    """Return a sheet's samples as Prometheus writes their names."""
    return {
        name + ("{" + ",".join(f'{key}="{label}"' for key, label in labels.items()) + "}" if labels else ""): value
        for family in sheet
        for name, labels, value in family["samples"]
    }


# ── Adding up ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_numbers_of_the_same_name_and_labels_are_added_and_others_stand_beside_them() -> None:
    one = sheet("counter", "c", ("c_total", {"a": "1"}, 2), ("c_total", {"a": "2"}, 3))
    other = sheet("counter", "c", ("c_total", {"a": "2"}, 4), ("c_total", {"a": "3"}, 5))
    assert values(add_up([one, other])) == {'c_total{a="1"}': 2, 'c_total{a="2"}': 7, 'c_total{a="3"}': 5}


@pytest.mark.parametrize(("name", "expected"), [("hermes_ready", 0), ("hermes_registry_oldest_seconds", 1)])
def test_a_gauge_whose_sum_would_mean_nothing_is_the_worst_of_all(name: str, expected: float) -> None:
    sheets = [sheet("gauge", name, (name, {}, value)) for value in (1, 0, 1)]
    assert values(add_up(sheets)) == {name: expected}


def test_of_one_who_has_ended_only_what_was_counted_is_left() -> None:
    both = [*sheet("gauge", "g", ("g", {}, 1)), *sheet("histogram", "h", ("h_count", {}, 2))]
    assert values(counted(both)) == {"h_count": 2}


# ── A folder ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def keep(folder: Path, name: str, sheet: Sheet) -> None:
    (folder / f"{name}.sheet").write_text(json.dumps(sheet), encoding="utf-8")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Any]:
    """Another worker that lives, with a sheet; `close` ends it."""
    alive = (tmp_path / "other.alive").open("wb")
    fcntl.flock(alive, fcntl.LOCK_EX)
    keep(tmp_path, "other", [*sheet("counter", "c", ("c_total", {}, 3)), *sheet("gauge", "g", ("g", {}, 5))])
    yield alive
    alive.close()


def test_who_lives_counts_whole_and_who_has_ended_with_what_was_counted(tmp_path: Path, other: Any) -> None:
    assert values(all_of(tmp_path)) == {"c_total": 3, "g": 5}
    other.close()
    for _ in range(3):
        assert values(all_of(tmp_path)) == {"c_total": 3}
    assert not list(tmp_path.glob("other*")), "and its files are gone"


def test_a_counter_never_falls_while_workers_come_and_go(tmp_path: Path) -> None:
    before = 0.0
    for number in range(5):
        with (tmp_path / f"w{number}.alive").open("wb") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            keep(tmp_path, f"w{number}", sheet("counter", "c", ("c_total", {}, 2)))
            now = values(all_of(tmp_path))["c_total"]
            assert now == before + 2
        assert values(all_of(tmp_path))["c_total"] == now
        before = now


def test_a_process_that_is_killed_has_ended(tmp_path: Path) -> None:
    code = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'wb'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "w.alive"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            keep(tmp_path, "w", sheet("gauge", "g", ("g", {}, 1)))
            assert values(all_of(tmp_path)) == {"g": 1}
        finally:
            process.kill()
    assert values(all_of(tmp_path)) == {}


def test_a_worker_keeps_its_numbers_and_leaves_what_it_counted(tmp_path: Path) -> None:
    COUNTER.labels("kept").inc(2)
    GAUGE.set(7)
    mine = Folder(tmp_path)
    assert values(all_of(tmp_path)) == {}
    mine.keep()
    name, before = 'exposition_tests_total{what="kept"}', COUNTER.labels("kept")._value.get()
    assert values(all_of(tmp_path))[name] == before
    assert values(all_of(tmp_path))["exposition_tests_now"] == 7
    COUNTER.labels("kept").inc()
    mine.close()
    left = values(all_of(tmp_path))
    assert left[name] == before + 1
    assert "exposition_tests_now" not in left


def test_who_keeps_the_numbers_looks_at_what_the_process_needs_and_survives_a_look_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(exposition.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(exposition, "SHEET_SECONDS", 0.02)
    monkeypatch.setattr(exposition, "ASK_SECONDS", 0.02)
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise TimeoutError

    keeping = Keeping(look)
    keeping.start()
    try:
        wait_until(lambda: len(looks) > 2)
        GAUGE.set(8)
        assert b"exposition_tests_now 8.0" in keeping.answer()
    finally:
        keeping.stop()
    assert "exposition_tests_now" not in values(all_of(tmp_path))


def test_a_folder_that_is_gone_costs_the_numbers_and_not_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv(exposition.FOLDER_VARIABLE, str(folder))
    keeping = Keeping(lambda: None)
    keeping.start()
    wait_until(lambda: list(folder.glob("*.sheet")))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    keeping.stop()
    assert "metrics could not be written" in caplog.text


def test_one_process_answers_for_itself_and_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(exposition.FOLDER_VARIABLE, raising=False)
    keeping = Keeping(lambda: None)
    keeping.start()
    GAUGE.set(9)
    assert b"exposition_tests_now 9.0" in keeping.answer()
    keeping.stop()


# ── A port of its own ────────────────────────────────────────────────────────────────────────────────────────────────
def get(port: int, path: str = "/metrics", authorization: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return `exposition.serve`, whose servers end with the test."""
    made: list[Any] = []

    class Server(exposition._Server):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(exposition, "_Server", Server)
    yield exposition.serve
    for server in made:
        server.shutdown()
        server.server_close()


def test_this_host_may_ask_the_port_where_there_is_no_token(serve: Any, settings: Any) -> None:
    settings.HERMES_METRICS_TOKEN = ""
    port = serve(HOST, 0)
    status, text = get(port)
    assert (status, b"hermes_processes 1.0" in text) == (200, True)
    assert get(port, "/")[0] == get(port, "/metrics/../healthz")[0] == 404


def test_the_port_wants_the_token_where_there_is_one(serve: Any, settings: Any) -> None:
    settings.HERMES_METRICS_TOKEN = "tests-only-metrics"
    port = serve(HOST, 0)
    assert get(port)[0] == get(port, authorization="Bearer wrong")[0] == 401
    assert get(port, authorization="Bearer tests-only-metrics")[0] == 200


def test_each_answer_of_the_port_is_preceded_by_a_look_and_a_look_that_fails_does_no_harm(
    serve: Any, settings: Any
) -> None:
    settings.HERMES_METRICS_TOKEN = ""
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        raise TimeoutError

    port = serve(HOST, 0, look)
    assert [get(port)[0] for _ in range(2)] == [200, 200]
    assert len(looks) == 2


def test_who_asks_the_port_slowly_holds_nobody_up(serve: Any, settings: Any) -> None:
    settings.HERMES_METRICS_TOKEN = ""
    port = serve(HOST, 0)
    with socket.create_connection((HOST, port)) as slow:
        slow.sendall(b"GET /met")
        assert get(port)[0] == 200


def test_the_port_is_not_opened_to_everybody_without_a_token(settings: Any) -> None:
    settings.HERMES_METRICS_TOKEN = ""
    with pytest.raises(PortUnavailable, match="set HERMES_METRICS_TOKEN"):
        exposition.serve("0.0.0.0", 0)  # noqa: S104  which is refused


@pytest.mark.parametrize("arguments", [["relay_sqs"], ["serve", "--port", "0"]])
def test_a_port_that_is_taken_stops_the_process_with_a_sentence(arguments: list[str], settings: Any) -> None:
    with socket.create_server((HOST, free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"Cannot listen on {HOST}:{port} for metrics: Address already in use"):
            call_command(*arguments, "--metrics-port", str(port))
