"""The connection in a real browser: tokens that end, refusals, and networks that are no networks."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, BrowserContext

from hermes_site.engines import HOST
from tests.browser.tabs import open_tab, wait_for_seen, written
from tests.environment import secrets
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser


class Proxy:
    """A TCP proxy before a server; what it does with the next connections is its `mode`.

    Args:
        upstream: the server's port.
    """

    mode: str = "pass"

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        request = client.recv(65_536)
        if self.mode == "eat":
            # As an old proxy does that knows nothing of Upgrade.
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            client.close()
        elif self.mode == "pass":
            server = socket.create_connection((HOST, self._upstream))
            self._open.append(server)
            server.sendall(request)
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            _pump(client, server)
        # "swallow": it accepts, and nothing ever comes.

    def close(self) -> None:
        """Close the door and every connection."""
        self._socket.close()
        for each in self._open:
            each.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
    except OSError:
        pass
    for each in (source, sink):
        each.close()


@pytest.fixture
def profile(browser: Browser, own_hermes: Hermes) -> Iterator[BrowserContext]:
    """A browser profile in which Alice is signed in."""
    context = browser.new_context()
    cookies = [{"name": n, "value": v, "url": own_hermes.url} for n, v in own_hermes.sign_in("alice").items()]
    context.add_cookies(cookies)  # type: ignore[arg-type]
    yield context
    context.close()


@pytest.fixture
def proxy(own_hermes: Hermes) -> Iterator[Proxy]:
    """A proxy before the server."""
    running = Proxy(own_hermes.port)
    yield running
    running.close()


def minting(hermes: Hermes, seconds: float) -> Callable[[], dict[str, Any]]:
    """Return a function that gives Alice tokens which end after so many seconds."""
    claims = jwt.decode(hermes.token("alice"), options={"verify_signature": False})
    serial = iter(range(1_000_000))

    def mint() -> dict[str, Any]:
        now = int(time.time())
        fresh = {**claims, "iat": now, "exp": now + int(seconds), "jti": f"tests.{next(serial)}"}
        return {
            "token": jwt.encode(fresh, secrets()["HERMES_JWT_SECRET"], algorithm="HS512"),
            "expires_in": seconds,
            "url": hermes.ws_url,
        }

    return mint


def test_a_token_is_renewed_three_times_and_beyond_its_end_without_a_new_connection(
    profile: BrowserContext, own_hermes: Hermes
) -> None:
    profile.expose_function("mint", minting(own_hermes, 34))
    tabs = {name: open_tab(profile, own_hermes, name) for name in "ab"}
    start = time.monotonic()
    rows = wait_until(own_hermes.live_rows)
    wait_until(lambda: written(tabs["a"], "events").get("a", []).count("refreshed") >= 3, 40, "three refreshes")
    while time.monotonic() < start + 36:  # the first token has ended
        tabs["a"].wait_for_timeout(500)
    own_hermes.send("acme", {"type": "info", "data": "still here"})
    wait_for_seen(tabs.values(), 1)
    for states in written(tabs["a"], "states").values():
        assert [state for state, _, _ in states] == ["connecting", "open"]
    assert own_hermes.live_rows() == rows


def test_tokens_that_are_refused_twice_end_it_and_it_says_so(profile: BrowserContext, own_hermes: Hermes) -> None:
    asked = iter(range(1_000))

    def mint() -> dict[str, Any]:
        return {"token": f"{next(asked)}.no.token", "url": own_hermes.ws_url, "room_id": "acme", "user_id": 1}

    profile.expose_function("mint", mint)
    page = open_tab(profile, own_hermes, "a", state="closed")
    states = written(page, "states")["a"]
    assert [(state, code) for state, code, _ in states] == [
        ("connecting", 0),
        ("waiting", 4401),
        ("connecting", 0),
        ("closed", 4401),
    ]
    assert states[-1][2] == "malformed"
    page.wait_for_timeout(1500)
    assert next(asked) == 2
    assert len(written(page, "states")["a"]) == 4


def test_who_signs_out_is_told_in_every_tab_and_asks_no_more(profile: BrowserContext, own_hermes: Hermes) -> None:
    tabs = {name: open_tab(profile, own_hermes, name) for name in "ab"}
    cookies = {cookie["name"]: cookie["value"] for cookie in profile.cookies()}  # type: ignore[typeddict-item]
    own_hermes.request(
        "POST",
        "/sign-out/",
        "",
        {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "X-CSRFToken": cookies["csrftoken"],
            "Referer": own_hermes.url,
        },
    )
    own_hermes._cookies.clear()  # the session that it remembers has ended
    for page in tabs.values():
        page.wait_for_function("() => hermes.state === 'closed'", timeout=20_000)
    wait_until(lambda: not own_hermes.live_rows(), what="no socket is left")


@pytest.mark.parametrize("mode", ["eat", "swallow"])
def test_a_proxy_that_eats_sockets_is_no_refusal(
    profile: BrowserContext, own_hermes: Hermes, proxy: Proxy, mode: str
) -> None:
    proxy.mode = mode
    url = f"ws://{HOST}:{proxy.port}"
    token = own_hermes.token("alice")
    profile.expose_function("mint", lambda: {"token": token, "url": url})
    page = open_tab(profile, own_hermes, "a", state="waiting")
    proxy.mode = "pass"
    page.wait_for_function("() => hermes.state === 'open'", timeout=30_000)
    states = written(page, "states")["a"]
    assert ["waiting", 1006, "unreachable" if mode == "eat" else "silent"] in states
    assert states[-1][0] == "open"
    assert not any(code >= 4400 for _, code, _ in states)
