"""The ledger says what is wrong with the books, and when it came right, or a lost audit would be nobody's fault."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults import ledger as ledger_module
from tests.faults.ledger import KILL, Ledger, bounds
from tests.faults.recorder import Recorder, read
from tests.faults.times import SCALED

SERVER = "host-7-abc"


class Books:
    """A world of one server, whose process is 7, with what stands in its stores."""

    def __init__(self) -> None:
        self.times = SCALED
        self.rows: dict[str, str] = {"alice-1": SERVER}
        self.items: dict[str, str] = {"alice-1": SERVER}
        self.ended: list[str] = []
        self.aws_proxy = SimpleNamespace(booked={"alice-1"})
        self.started = 0.0

    def open_rows(self) -> dict[str, str]:
        return self.rows

    def live_items(self) -> dict[str, str]:
        return self.items

    def audits(self) -> list[str]:
        return self.ended

    def server_pids(self) -> set[int]:
        return {7}

    def has_lived_since(self, server: str, moment: float) -> bool:
        return self.started <= moment


@pytest.fixture
def world() -> Books:
    return Books()


async def judged(world: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str = KILL) -> dict[str, Any]:
    """Watch with one member, who is connected as alice-1 and was as alice-0; return what was found, by its name."""
    monkeypatch.setattr(ledger_module, "GIVE_UP_SECONDS", 0.4)
    member: Any = SimpleNamespace(connection_id="alice-1", is_open=True, greeted_at=0.0, closed_at=0.0)
    member.greetings = {"alice-0": ("server-0", 5.0), "alice-1": ("server-0", 6.0)}
    recorder = Recorder(tmp_path / "history.jsonl")
    await Ledger(world, [member], recorder).watch(after, time.monotonic())  # type: ignore[arg-type]
    recorder.close()
    return {f"{event['store']} {event['what']}": event for event in read(recorder.path)}


async def test_books_that_are_right_are_found_right(
    world: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ended = ["alice-0"]
    found = await judged(world, tmp_path, monkeypatch)
    assert all(event["ok"] for event in found.values())
    assert {"mirror dead", "mirror missing", "mirror left", "mirror unaudited", "registry dead"} <= found.keys()


@pytest.mark.parametrize("ended", [[], ["alice-0", "alice-0"]])
async def test_who_ended_and_has_no_audit_or_two_is_found(
    world: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: list[str]
) -> None:
    world.ended = ended
    found = await judged(world, tmp_path, monkeypatch)
    assert [name for name, event in found.items() if not event["ok"]] == ["mirror unaudited"]
    assert "alice-0" in found["mirror unaudited"]["detail"]


async def test_whom_dynamodb_took_must_be_audited_though_the_server_died(
    world: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.started = 5.5
    found = await judged(world, tmp_path, monkeypatch)
    assert found["mirror unaudited"]["ok"], "a killed server had told nobody of alice-0"
    world.aws_proxy.booked.add("alice-0")
    found = await judged(world, tmp_path, monkeypatch)
    assert not found["mirror unaudited"]["ok"]


async def test_after_a_kill_nothing_is_allowed_beyond_the_lease_but_the_looks_themselves(
    world: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ended, world.rows = ["alice-0"], {**world.rows, "bob-1": "host-8-def"}
    found = await judged(world, tmp_path, monkeypatch)
    assert not found["registry dead"]["ok"]
    assert SCALED.lease < found["registry dead"]["limit"] < SCALED.lease + 3 * ledger_module.LOOK_SECONDS
    assert bounds(SCALED, 0.0)["dead"] == SCALED.lease
