"""Which web pages may open a WebSocket: exactly those that the setting names, and what is no web page at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from notifications.access.origins import OriginGuard, is_allowed, parse_origin

ALLOWED = ["https://hermes.example", "http://localhost:8000", "http://[::1]:8000", "https://plain.example:443"]


def allowed(origin: bytes) -> bool:
    """Judge a handshake with one Origin."""
    return is_allowed([(b"host", b"hermes.example"), (b"origin", origin)], ALLOWED)


@pytest.mark.parametrize(
    "origin",
    [
        b"https://hermes.example",
        b"https://hermes.example:443",
        b"HTTPS://Hermes.Example",
        b"http://localhost:8000",
        b"http://[::1]:8000",
        b"https://plain.example",
    ],
)
def test_an_origin_of_the_list_is_allowed(origin: bytes) -> None:
    assert allowed(origin)


@pytest.mark.parametrize(
    "origin",
    [
        b"http://hermes.example",
        b"https://hermes.example:8443",
        b"https://hermes.example:80",
        b"https://hermes.example:0",
        b"https://evil.example",
        b"https://hermes.example.evil.example",
        b"https://evil-hermes.example",
        b"https://sub.hermes.example",
        b"https://hermes.example.",
        b"http://localhost",
        b"https://localhost:8000",
        b"ws://localhost:8000",
        b"null",
        b"",
        b" ",
        b"hermes.example",
        b"//hermes.example",
        b"https://",
        b"https://hermes.example/",
        b"https://hermes.example?x",
        b"https://hermes.example#x",
        b"https://hermes.example?",
        b"https://hermes.example#",
        b"https://hermes\t.example",
        b"https://hermes.example:0443",
        b"http://localhost:08000",
        b"https://hermes.example ",
        b"https://hermes.example:443:443",
        b"https://alice@hermes.example",
        b"https://@hermes.example",
        b"http://[",
        b"http://[::1",
        b"http://localhost:99999",
        b"http://localhost:-1",
        b"http://localhost:eight",
        b"http://localhost:8000, https://hermes.example",
        b"https://hermes.example https://evil.example",
        b"\xff\xfe",
        b"file://",
    ],
)
def test_any_other_is_not(origin: bytes) -> None:
    assert not allowed(origin)


def test_who_names_no_origin_is_no_browser_and_is_let_on() -> None:
    assert is_allowed([(b"host", b"hermes.example")], ALLOWED)
    assert is_allowed([], [])


def test_two_origins_are_none() -> None:
    twice = [(b"origin", b"https://hermes.example"), (b"origin", b"https://hermes.example")]
    assert not is_allowed(twice, ALLOWED)


def test_a_malformed_origin_does_not_match_a_malformed_setting() -> None:
    assert not is_allowed([(b"origin", b"null")], ["null", "http://["])


def test_default_ports_count_as_written() -> None:
    assert parse_origin("http://a") == parse_origin("http://A:80") == ("http", "a", 80)
    assert parse_origin("https://a") == ("https", "a", 443)


@hypothesis_settings(deadline=None)  # a laden machine is no mistake
@given(
    st.binary(max_size=60)
    | st.from_regex(re.compile(r"https?://[\w\[\]:@.%/?#-]{0,20}", re.ASCII), fullmatch=True).map(str.encode)
)
def test_no_origin_raises(origin: bytes) -> None:
    assert allowed(origin) in (True, False)


class Handshake:
    """One handshake through the guard: what the guard sent, and whether it let the handshake on."""

    def __init__(self, path: str = "/ws/development") -> None:
        self.path = path
        self.sent: list[Any] = []
        self.let_on = False

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.let_on = True

    async def receive(self) -> Any:
        return {"type": "websocket.connect"}

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    async def go(self, *headers: tuple[bytes, bytes]) -> None:
        scope = {"path": self.path, "headers": list(headers)}
        await OriginGuard(self.application)(scope, self.receive, self.send)


async def test_the_guard_closes_before_it_accepts(settings: Any) -> None:
    settings.HERMES_ALLOWED_ORIGINS = ALLOWED
    charlie = Handshake()
    await charlie.go((b"origin", b"https://evil.example"))
    assert charlie.sent == [{"type": "websocket.close", "code": 4403}]
    assert not charlie.let_on


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/ws/development", {"stage": "development", "reason": "origin"}),
        ("/ws/of-somebodys-own", {"reason": "origin"}),
        ("/", {"reason": "origin"}),
    ],
)
async def test_the_line_of_a_refusal_has_the_stage_and_the_reason_and_nothing_that_somebody_made_up(
    path: str, told: dict[str, str], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.HERMES_ALLOWED_ORIGINS = ALLOWED
    with caplog.at_level("INFO"):
        await Handshake(path).go((b"origin", b"https://evil.example"))
    (record,) = caplog.records
    assert {name: getattr(record, name) for name in ("stage", "reason") if hasattr(record, name)} == told
    assert "evil.example" not in str(vars(record))


async def test_the_guard_lets_the_sites_own_pages_on(settings: Any) -> None:
    settings.HERMES_ALLOWED_ORIGINS = ALLOWED
    alice = Handshake()
    await alice.go((b"origin", b"https://hermes.example"))
    assert alice.let_on
    assert alice.sent == []
