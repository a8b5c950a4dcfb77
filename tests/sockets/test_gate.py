"""Gate: how many handshakes are judged at once, and what becomes of the others."""

from __future__ import annotations

import asyncio

import pytest

from notifications.sockets import gate as module
from notifications.sockets.gate import Gate
from tests.waiting import eventually


class Guest:
    """One who comes, and notes what it was told."""

    def __init__(self, name: str, told: list[str]) -> None:
        self.name, self._told = name, told

    def admit(self) -> None:
        self._told.append(f"{self.name} in")

    def send_away(self) -> None:
        self._told.append(f"{self.name} away")


@pytest.fixture
def told() -> list[str]:
    """What the guests were told, in order."""
    return []


async def turns() -> None:
    """Let the loop do what it was asked to do soon."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_so_many_are_admitted_and_the_next_when_one_has_left(told: list[str]) -> None:
    gate = Gate(inside=2)
    alice, bob, charlie = (Guest(name, told) for name in ("alice", "bob", "charlie"))
    for guest in (alice, bob, charlie):
        gate.enter(guest)
    await turns()
    assert told == ["alice in", "bob in"]
    assert len(gate) == 1
    gate.leave(alice)
    await turns()
    assert told[2:] == ["charlie in"]
    assert len(gate) == 0


async def test_of_those_who_wait_the_newest_is_admitted_first(told: list[str]) -> None:
    gate = Gate(inside=1)
    alice, bob, charlie = (Guest(name, told) for name in ("alice", "bob", "charlie"))
    for guest in (alice, bob, charlie):
        gate.enter(guest)
    for guest in (alice, charlie):
        gate.leave(guest)
        await turns()
    assert told == ["alice in", "charlie in", "bob in"]


async def test_who_leaves_the_line_is_never_admitted_and_leaving_twice_frees_one_place(told: list[str]) -> None:
    gate = Gate(inside=1)
    alice, bob, charlie, dora = (Guest(name, told) for name in ("alice", "bob", "charlie", "dora"))
    for guest in (alice, bob, charlie, dora):
        gate.enter(guest)
    gate.leave(dora)
    gate.leave(alice)
    gate.leave(alice)
    await turns()
    assert told == ["alice in", "charlie in"]


async def test_who_has_waited_for_too_long_is_sent_away_a_few_in_a_turn(
    told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SENT_AWAY", 2)
    gate = Gate(inside=1, patience=0.05)
    guests = [Guest(str(number), told) for number in range(6)]
    for guest in guests:
        gate.enter(guest)
    await eventually(lambda: len(told) == 6)
    assert told == ["0 in", "1 away", "2 away", "3 away", "4 away", "5 away"]
    late = Guest("late", told)
    gate.enter(late)
    await eventually(lambda: told[-1] == "late away")
    gate.leave(guests[0])
    again = Guest("again", told)
    gate.enter(again)
    await turns()
    assert told[-1] == "again in"
