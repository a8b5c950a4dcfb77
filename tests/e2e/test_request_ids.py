"""Each HTTP request has an id: in its response, and in every line that the servers write about it; handshakes' too."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hermes_site.request_ids import AddRequestId, handshake_ids, request_ids
from tests.e2e.conftest import Measured, Server
from tests.processes import Hermes
from tests.waiting import eventually, wait_until

MADE = re.compile(r"[0-9a-f]{32}")


def answered(hermes: Hermes, url: str, path: str, claimed: str | None = None) -> str | None:
    """Return the id that the response to a GET has."""
    connection = hermes.connection(url)
    try:
        connection.request("GET", path, headers={} if claimed is None else {"X-Request-ID": claimed})
        response = connection.getresponse()
        response.read()
        return response.headers["X-Request-ID"]
    finally:
        connection.close()


def test_the_id_that_a_proxy_gives_is_in_the_response_and_in_the_line(hermes: Hermes, server: Server) -> None:
    given = f"{server.name}-{secrets.token_hex(8)}"
    assert answered(hermes, server.url, "/nowhere", given) == given
    line = wait_until(lambda: [line for line in server.process.log_text().splitlines() if given in line])[0]
    assert "Not Found: /nowhere" in line
    assert f" request_id={given}" in line


def test_a_request_without_an_id_gets_one_and_no_two_the_same(hermes: Hermes, server: Server) -> None:
    ids = [answered(hermes, server.url, "/healthz") for _ in range(3)]
    assert all(MADE.fullmatch(each or "") for each in ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("claimed", ["", "of two words", "x" * 65, 'a"quote', "a;b=c", "täst", "a\tb"])
def test_an_id_that_could_be_anything_is_not_taken(hermes: Hermes, server: Server, claimed: str) -> None:
    claimed = claimed.encode().decode("latin-1")
    found = answered(hermes, server.url, "/healthz", claimed)
    assert MADE.fullmatch(found or "")


def test_in_json_the_id_is_a_field_of_every_line_about_the_request(measured: Measured) -> None:
    hermes = measured.hermes
    cookies = hermes.sign_in("alice")
    given = secrets.token_hex(8)
    headers = {
        "Content-Type": "application/json",
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "X-CSRFToken": cookies["csrftoken"],
        "X-Request-ID": given,
    }
    assert hermes.request("POST", "/notifications/token", "{}", headers)[0] == 200
    assert hermes.request("POST", "/notifications/token", json.dumps({"room": "not-mine"}), headers)[0] == 403

    def lines() -> list[tuple[str, str | None]]:
        mine = [line for line in measured.logged("server") if line.get("request_id") == given]
        return [(line["message"], line.get("room_id")) for line in mine]

    wait_until(lambda: ("Forbidden: /notifications/token", None) in lines())
    assert ("A token was given", "acme") in lines(), "by a thread that works for the request"
    others = [line for line in measured.logged("server") if line["message"] == "joined"]
    assert not [line for line in others if line.get("request_id") == given], "a socket's line is about no request"


async def shake(url: str, *protocols: str, request_id: str = "", origin: str | None = None) -> str:
    """Make a handshake, and hear the server's first words, if it has any; return why it was refused, else nothing."""
    headers = {"X-Request-ID": request_id} if request_id else {}
    try:
        async with connect(url, subprotocols=protocols, additional_headers=headers, origin=origin) as socket:
            await socket.recv()
    except InvalidStatus as refused:
        return str(refused.response.status_code)
    except ConnectionClosed as closed:
        return closed.rcvd.reason if closed.rcvd else ""
    return ""


async def test_a_handshake_is_found_by_the_id_that_a_proxy_gave_it_refused_or_not(measured: Measured) -> None:
    hermes = measured.hermes
    token = await asyncio.to_thread(hermes.token, "alice")
    protocols = ("hermes.v1", f"hermes.token.{token}")
    given = {what: f"{what}-{secrets.token_hex(8)}" for what in ("joined", "token", "origin", "made-up id")}
    assert await shake(hermes.ws_url, *protocols, request_id=given["joined"]) == ""
    assert await shake(hermes.ws_url, "hermes.v1", request_id=given["token"]) == "no_token"
    evil = {"origin": "https://evil.example", "request_id": given["origin"]}
    assert await shake(hermes.ws_url, *protocols, **evil) == "403"
    assert await shake(hermes.ws_url, "hermes.v1", request_id=f"{given['made-up id']} of two words") == "no_token"

    def lines(what: str) -> list[dict[str, Any]]:
        return [line for line in measured.logged("server") if line.get("request_id") == given[what]]

    (joined,) = await eventually(lambda: lines("joined"))
    assert (joined["message"], joined["stage"], joined["room_id"]) == ("joined", hermes.stage, "acme")
    assert joined["connection_id"]
    (refused,) = await eventually(lambda: lines("token"))
    assert refused["message"] == "A token was refused: no_token"
    assert (refused["stage"], refused["code"], refused["reason"]) == (hermes.stage, 4401, "no_token")
    (foreign,) = await eventually(lambda: lines("origin"))
    assert (foreign["stage"], foreign["reason"]) == (hermes.stage, "origin")
    log = await asyncio.to_thread(hermes.processes["server"].log_text)
    assert given["made-up id"] not in log
    assert token not in log


async def test_what_a_handshake_starts_for_everybody_has_not_its_id() -> None:
    def told() -> str | None:
        record = logging.makeLogRecord({})
        AddRequestId().filter(record)
        return getattr(record, "request_id", None)

    async def later() -> str | None:
        return told()

    seen: list[str | None] = []

    async def application(*_: Any) -> None:
        seen.append(told())
        seen.append(await asyncio.create_task(later()))
        seen.append(await asyncio.to_thread(told))

    handshake: Any = {"headers": [(b"x-request-id", b"id-1")]}
    nothing: Any = None
    await asyncio.create_task(handshake_ids(application)(handshake, nothing, nothing))
    assert seen == ["id-1", None, None]


async def test_requests_at_the_same_time_keep_their_own_ids() -> None:
    seen: dict[str, set[str]] = {}

    async def view(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        seen.setdefault(request.path, set()).add(request.request_id)  # type: ignore[attr-defined]
        return HttpResponse()

    ask = request_ids(view)  # type: ignore[arg-type]
    wishes = [RequestFactory().get(f"/{at}", headers={"X-Request-ID": f"id-{at}"}) for at in range(20)]
    responses = await asyncio.gather(*(ask(wish) for wish in wishes))  # type: ignore[arg-type]
    assert seen == {f"/{at}": {f"id-{at}"} for at in range(20)}
    assert [response.headers["X-Request-ID"] for response in responses] == [f"id-{at}" for at in range(20)]
