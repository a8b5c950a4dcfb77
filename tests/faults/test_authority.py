"""What tokens allow: the checker accepts what was obeyed in time, and rejects every token that outlived its end."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.checker import Checker, Event
from tests.faults.test_checker import CLOSED, appended, hello, produced, received, settled, told
from tests.faults.test_checker import joining as joining_anyhow

# The run began at 1000 by everybody's clock; Alice's token is good for a hundred seconds.
BEGAN, EXP = 1000, 1100


def joining(t: float = 0.0, exp: int = EXP, iat: int = BEGAN) -> Event:
    return {**joining_anyhow(), "t": t, "unix": BEGAN + t, "iat": iat, "exp": exp, "server": "server-0"}


def greeted(t: float = 0.1) -> Event:
    return {**hello(0, "fresh"), "t": t, "unix": BEGAN + t}


def entry(t: float) -> list[Event]:
    """An entry appended and received so many seconds after the run began."""
    return [produced(1), appended(1, at=BEGAN + t), {**received(1), "t": t + 0.1}]


def closed(t: float, code: int) -> Event:
    return {**CLOSED, "t": t, "unix": BEGAN + t, "code": code}


def revoked(begin: float, end: float, **about: Any) -> Event:
    whose = {"stage": "development", "room": "acme", "user": "alice", "not_before": int(BEGAN + begin)}
    moments = {"begin": BEGAN + begin, "end": BEGAN + end}
    return {"event": "revoked", "t": end, "done": True, "told": True, **whose, **moments, **about}


def fault(kind: str, begin: float, end: float, part: str = "server-0") -> list[Event]:
    about = {"event": "fault", "kind": kind, "part": part}
    return [{**about, "phase": "begin", "t": begin}, {**about, "phase": "end", "t": end}]


def violations(*events: Event | list[Event]) -> list[str]:
    flat = [each for event in events for each in (event if isinstance(event, list) else [event])]
    return Checker().check(flat).violations


def test_a_token_that_ends_and_is_closed_in_time_is_accepted() -> None:
    assert violations(joining(), greeted(), entry(100.5), closed(101.5, 4401)) == []


def test_a_token_refreshed_in_place_goes_on() -> None:
    refreshed = {"event": "refreshed", "client": "alice-1", "t": 90.0, "unix": 1090, "iat": 1090, "exp": 1200}
    assert violations(joining(), greeted(), refreshed, entry(150)) == []
    assert any("after its token had ended" in found for found in violations(joining(), greeted(), entry(150)))


def test_a_revocation_that_is_obeyed_in_time_is_accepted() -> None:
    assert violations(joining(), greeted(), revoked(10, 11), entry(11.5), closed(12, 4403)) == []


def test_a_new_token_is_good_after_a_revocation() -> None:
    again = {**joining(13, iat=BEGAN + 13), "position": ["e1", 0, ""]}
    after = [closed(12, 4403), again, {**hello(0), "t": 13.1, "unix": BEGAN + 13.1}, *entry(60)]
    assert violations(joining(), greeted(), revoked(10, 11), after) == []


CORRUPTIONS: dict[str, tuple[list[Event], str]] = {
    "an entry after a token's end": ([joining(), greeted(), *entry(106)], "after its token had ended"),
    "let in with a token that has ended": (
        [joining(110), greeted(110.1)],
        "was let in 10.0 s after its token had ended",
    ),
    "still connected after a token's end": (
        [joining(), greeted(), {**settled(0), "heads": {"development/acme": ["e1", 0, ""]}, "unix": BEGAN + 130}],
        "is connected 30.0 s after its token had ended",
    ),
    "closed as expired too early": ([joining(), greeted(), closed(50, 4401)], "before its token ends"),
    "closed as expired while another server's clock was ahead": (
        [*fault("clock +1 h", 40, 60, "server-1"), joining(), greeted(), closed(50, 4401)],
        "before its token ends",
    ),
    "closed as expired after the clock was right again": (
        [*fault("clock +1 h", 10, 20), joining(40), greeted(40.1), closed(50, 4401)],
        "before its token ends",
    ),
    "closed as revoked though nobody did": ([joining(), greeted(), closed(50, 4403)], "nobody revoked"),
    "closed as revoked with a newer token": (
        [joining(iat=BEGAN + 20), greeted(), revoked(10, 11), closed(50, 4403)],
        "nobody revoked",
    ),
    "an entry after a revocation": (
        [joining(), greeted(), revoked(10, 11), *entry(15)],
        "after its token had been revoked",
    ),
    "closed late after a revocation": (
        [joining(), greeted(), revoked(10, 11), closed(15, 4403)],
        "was closed 4.0 s after its token had been revoked",
    ),
    "let in with a token that was revoked": (
        [joining(30), greeted(30.1), revoked(10, 11)],
        "was let in 19.0 s after its token had been revoked",
    ),
    "an entry a minute after a revocation that nobody was told of": (
        [joining(), greeted(), revoked(10, 11, told=False), *entry(80)],
        "after its token had been revoked",
    ),
    "an entry long after Redis was back": (
        [*fault("Redis link: cut", 9, 12), joining(), greeted(), revoked(10, 11), *entry(40)],
        "after its token had been revoked",
    ),
    "refused for good with a good token": ([joining(), greeted(), closed(50, 4400)], "its token is good"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_token_that_was_not_obeyed_is_rejected(name: str) -> None:
    events, expected = CORRUPTIONS[name]
    found = violations(events)
    assert any(expected in each for each in found), found


EXCUSES: dict[str, list[Event]] = {
    "its server's clock was ahead": [*fault("clock +1 h", 40, 60), joining(), greeted(), closed(50, 4401)],
    "its server's clock was ahead, and its link slow": [
        joining(),
        greeted(),
        *fault("clock +1 h", 30, 40),
        *fault("client link: black hole", 38, 50),
        closed(50, 4401),
    ],
    "it came as its server's clock was put right, which the process had not read yet, and heard it late": [
        *fault("clock +1 h", 30, 40),
        *fault("client link: black hole down", 38, 50),
        joining(40.1),
        closed(50, 4401),
    ],
    "its server's clock was behind": [*fault("clock -1 h", 90, 120), joining(), greeted(), *entry(110)],
    "its server was suspended": [*fault("server SIGSTOP", 98, 108), joining(), greeted(), *entry(107)],
    "redis was kept from a server": [
        *fault("Redis link: black hole", 10, 16),
        joining(),
        greeted(),
        revoked(10, 11),
        *entry(17),
        closed(18, 4403),
    ],
    "nobody could be told": [joining(), greeted(), revoked(10, 11, told=False), *entry(40), closed(70, 4403)],
    "a revocation that may not have been done": [joining(), greeted(), revoked(10, 11, done=False), *entry(40)],
    "a revocation that was done though nobody heard of it": [
        joining(),
        greeted(),
        revoked(10, 11, done=False),
        closed(50, 4403),
    ],
}


@pytest.mark.parametrize("name", EXCUSES)
def test_what_could_not_be_obeyed_in_time_is_excused(name: str) -> None:
    assert violations(EXCUSES[name]) == []


def test_a_ping_counts_as_no_entry() -> None:
    assert violations(joining(), greeted(), {**told("ping", 0), "t": 150.0}) == []
