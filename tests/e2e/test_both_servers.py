"""`serve` (uvicorn) and `runserver` (Daphne) serve the same: pages, tokens, sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.e2e.client import Client
from tests.e2e.conftest import Server
from tests.processes import Hermes


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", 200), ("/readyz", 200), ("/sign-in/", 200), ("/", 302), ("/admin/login/", 200), ("/nowhere", 404)],
)
def test_pages_are_served(hermes: Hermes, server: Server, path: str, status: int) -> None:
    assert hermes.status(path, server.url) == status


def test_the_toolkit_is_served_as_a_module(hermes: Hermes, server: Server) -> None:
    status, body, _ = hermes.request("GET", "/static/hermes/hermes.js", url=server.url)
    assert status == 200
    assert "export" in body


async def test_a_member_signs_in_gets_a_token_and_receives(hermes: Hermes, server: Server) -> None:
    answer = await asyncio.to_thread(hermes.token_response, "alice", server.url)
    assert answer["room_id"] == "acme"
    assert answer["stage"] == "development"
    assert answer["url"].endswith("/ws/development")
    async with Client(hermes, token=answer["token"], url=answer["url"]) as alice:
        await alice.hello()
        await asyncio.to_thread(hermes.send, "acme", {"type": "info", "data": server.name})
        await alice.until(lambda: alice.received)
        assert alice.received == [{"type": "info", "data": server.name}]


def test_a_token_needs_a_session_and_its_csrf_token(hermes: Hermes, server: Server) -> None:
    headers = {"Content-Type": "application/json"}
    assert hermes.request("POST", "/notifications/token", "{}", headers, url=server.url)[0] == 403
    cookies = hermes.sign_in("alice", server.url)
    headers["Cookie"] = f"sessionid={cookies['sessionid']}"
    assert hermes.request("POST", "/notifications/token", "{}", headers, url=server.url)[0] == 403


def test_nobody_gets_a_token_for_a_room_of_others(hermes: Hermes, server: Server) -> None:
    cookies = hermes.sign_in("charlie", server.url)
    headers = {
        "Content-Type": "application/json",
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "X-CSRFToken": cookies["csrftoken"],
    }
    body = json.dumps({"room": "acme"})
    assert hermes.request("POST", "/notifications/token", body, headers, url=server.url)[0] == 403


async def test_members_on_different_servers_see_the_same_entries(hermes: Hermes, daphne: Server) -> None:
    async with Client(hermes, "alice") as alice, Client(hermes, "bob", url=daphne.ws_url) as bob:
        await alice.hello()
        await bob.hello()
        await alice.send({"action": "sendMessage", "data": "across"})
        await asyncio.to_thread(hermes.send_many, "acme", list(range(50)))
        await alice.until(lambda: len(alice.entries) == 51)
        await bob.until(lambda: len(bob.entries) == 51)
        assert alice.entries == bob.entries
