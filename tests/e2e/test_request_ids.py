"""Each HTTP request has an id: in its response, and in every line that the servers write about it."""

from __future__ import annotations

import asyncio
import json
import re
import secrets

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from hermes_site.request_ids import request_ids
from tests.e2e.conftest import Measured, Server
from tests.processes import Hermes
from tests.waiting import wait_until

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
    assert not [line for line in others if "request_id" in line], "a socket's line is about no request"


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
