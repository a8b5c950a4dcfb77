"""deploy/nginx/hermes.conf on a real nginx: TLS, WebSockets, static files, addresses, and logs without tokens."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hermes_site.engines import HOST, free_port
from notifications.conf import Environment
from notifications.sockets import http as limits
from tests.deploy.deployment import Deployment
from tests.deploy.front import Front
from tests.documents import read
from tests.e2e.client import Client
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def trusted(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the local authority, as a browser does the world's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))


def get(deployed: Deployment, url: str, path: str, **headers: str) -> http.client.HTTPResponse:
    """Return the response to a GET; its body is read."""
    connection = deployed.connection(url)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@pytest.mark.parametrize("article", [False, True], ids=["hermes.v1", "the article's way"])
async def test_a_member_signs_in_joins_and_hears_through_tls(deployed: Deployment, front: Front, article: bool) -> None:
    """With the page's own origin, cookies over TLS alone, and Django's CSRF check of the proxied scheme and host."""
    token = await asyncio.to_thread(deployed.token, "alice", front.url)
    logged = front.logged().count('GET "/ws/production" 101')
    async with Client(deployed, token=token, url=front.ws_url, origin="https://localhost", article=article) as alice:
        # A client without hermes.v1 is told nothing when it joins, so its own message says that it is there.
        own = {"type": "info", "data": f"from the page {article}"}
        await alice.send({"action": "sendMessage", "data": own})
        await alice.until(lambda: own in alice.received)
        sent = {"type": "info", "data": f"through TLS {article}"}
        await asyncio.to_thread(deployed.send, "acme", sent)
        await alice.until(lambda: sent in alice.received)

    wait_until(lambda: front.logged().count('GET "/ws/production" 101') > logged, what="its line in the access log")
    assert not {part for part in token.split(".") if part in front.logged()}


async def test_a_page_of_another_origin_is_refused_through_it(deployed: Deployment, front: Front) -> None:
    token = await asyncio.to_thread(deployed.token, "alice", front.url)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{front.ws_url}?token={token}", origin="https://evil.example", proxy=None):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == 403
    request_id = wait_until(lambda: re.findall(r'"/ws/production" 403 .* ([0-9a-f]{32})\n', front.logged()))[-1]
    (line,) = wait_until(lambda: lines_about(deployed, request_id))
    assert (line["stage"], line["reason"]) == ("production", "origin")


async def test_an_error_under_ws_is_logged_without_the_token(deployed: Deployment, front: Front) -> None:
    """nginx writes the request line beside every error of its own: here, that nobody listens behind it."""
    token = await asyncio.to_thread(deployed.token, "alice", front.url)
    alone = Front(deployed, deployed.directory / "alone", free_port())
    deployed.certificates = alone.authority
    try:
        alone.start()
        response = get(
            deployed, alone.url, f"/ws/production?token={token}", Referer=f"https://localhost/?token={token}"
        )
        assert response.status == 502
        assert get(deployed, alone.url, "/healthz").status == 502
    finally:
        deployed.certificates = front.authority
        alone.stop()
    logged = alone.logged()
    assert 'GET "/ws/production" 502' in logged
    assert '"GET /healthz HTTP/1.1"' in logged, "other errors are told in full"
    assert not {part for part in token.split(".") if part in logged}


@pytest.fixture
def heard(deployed: Deployment, front: Front) -> Iterator[tuple[str, list[Message]]]:
    """An nginx of its own before a server that only listens: its URL, and the headers that come through."""
    requests: list[Message] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.headers)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Listener)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    nginx = Front(deployed, deployed.directory / f"listening-{server.server_port}", server.server_port)
    deployed.certificates = nginx.authority
    try:
        nginx.start()
        yield nginx.url, requests
    finally:
        deployed.certificates = front.authority
        nginx.stop()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", ["/sign-in/", "/ws/production"])
def test_a_client_is_who_nginx_sees_and_not_who_it_says(
    deployed: Deployment, heard: tuple[str, list[Message]], path: str
) -> None:
    """HERMES_TRUSTED_PROXIES believes nginx; so nginx passes on nothing that a client claims of itself."""
    url, requests = heard
    claimed = {
        "X_Forwarded_For": "192.0.2.1",
        "X_Forwarded_Host": "evil.example",
        "X_Forwarded_Proto": "http",
        "X_Request_ID": "1",
    }
    get(deployed, url, path, Forwarded="for=192.0.2.1", Sec_WebSocket_Protocol="hermes.v1", Upgrade="h2c", **claimed)
    (headers,) = requests
    assert headers.get_all("X-Forwarded-For") == [HOST]
    assert headers.get_all("X-Forwarded-Proto") == ["https"]
    assert headers.get_all("Host") == [url.removeprefix("https://")]
    assert headers.get_all("Sec-WebSocket-Protocol") == ["hermes.v1"]
    assert re.fullmatch(r"[0-9a-f]{32}", headers["X-Request-ID"])
    assert "X-Forwarded-Host" not in headers
    assert "Forwarded" not in headers
    # Nothing else is upgraded, whatever a client asks for.
    upgraded = ("websocket", "upgrade") if path.startswith("/ws/") else (None, None)
    assert (headers["Upgrade"], headers["Connection"]) == upgraded


def test_a_request_is_found_by_its_id_in_both_logs(deployed: Deployment, front: Front) -> None:
    request_id = get(deployed, front.url, "/nowhere", X_Request_ID="a-claim").headers["X-Request-ID"]
    wait_until(lambda: f" {request_id}\n" in front.logged(), what="its line in the access log")
    (line,) = wait_until(lambda: lines_about(deployed, request_id))
    assert line["message"] == "Not Found: /nowhere"


def lines_about(deployed: Deployment, request_id: str) -> list[dict[str, Any]]:
    """Return what Hermes has logged about a request or a handshake."""
    return [json.loads(line) for line in deployed.log_text().splitlines() if f'"request_id": "{request_id}"' in line]


def test_plain_http_leads_to_tls_and_browsers_remember(deployed: Deployment, front: Front) -> None:
    response = get(deployed, f"http://localhost:{front.plain_port}", "/sign-in/?next=/")
    assert (response.status, response.headers["Location"]) == (301, "https://localhost/sign-in/?next=/")
    for path in ("/sign-in/", "/healthz", "/static/hermes/hermes.js"):
        assert get(deployed, front.url, path).headers["Strict-Transport-Security"] == "max-age=31536000", path


def test_the_authority_s_question_is_answered_over_plain_http(deployed: Deployment, front: Front) -> None:
    (front.directory / "www/.well-known/acme-challenge/proof").write_text("it is ours")
    response = get(deployed, f"http://localhost:{front.plain_port}", "/.well-known/acme-challenge/proof")
    assert response.status == 200


def test_static_files_are_nginx_s_compressed_and_for_every_page(deployed: Deployment, front: Front) -> None:
    plain = get(deployed, front.url, "/static/hermes/hermes.js", Accept_Encoding="gzip")
    assert plain.status == 200
    assert plain.headers["Content-Type"].partition(";")[0] in ("text/javascript", "application/javascript")
    assert plain.headers["Content-Encoding"] == "gzip"
    assert plain.headers["Cache-Control"] == "max-age=60"
    assert plain.headers["Access-Control-Allow-Origin"] == "*"
    assert plain.headers["X-Content-Type-Options"] == "nosniff"
    (hashed,) = (deployed.opt / "var/static/hermes").glob("hermes.????????????.js")
    kept = get(deployed, front.url, f"/static/hermes/{hashed.name}")
    assert (kept.status, kept.headers["Cache-Control"]) == (200, "max-age=315360000")
    assert get(deployed, front.url, "/static/../hermes_site/settings.py").status == 404
    assert get(deployed, front.url, "/static../../etc/hermes.env").status == 404


def test_its_limits_and_times_fit_hermes_s() -> None:
    site = read("deploy/nginx/hermes.conf")

    def seconds(name: str) -> list[int]:
        return [int(value) for value in re.findall(rf"^ +{name} (\d+)s;", site, flags=re.MULTILINE)]

    page, socket = seconds("proxy_read_timeout")
    ping = Environment({}).integer("HERMES_PING_SECONDS", 25)
    assert socket > 2 * ping + 5, "clients give up first"
    assert page < limits.BODY_SECONDS
    assert int(re.findall(r"client_max_body_size (\d+)m;", site)[0]) * 1024 * 1024 == limits.BODY_BYTES
    buffers, size = re.findall(r"large_client_header_buffers (\d+) (\d+)k;", site)[0]
    assert int(buffers) * int(size) * 1024 == limits.HEAD_BYTES
    assert seconds("client_header_timeout") == [limits.HEAD_SECONDS]
