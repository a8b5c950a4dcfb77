"""HTTP requests that nobody should make, and their answers. Made by test_bad_inputs.

``{host}`` is the server's host, ``{cookie}`` and ``{csrf}`` are a signed-in member's; each ends its connection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UNTRIED = -1  # a server without that limit would wait for as long as we do


@dataclass(frozen=True)
class Request:
    """A request as text, so that it may be none, and its status on `serve` and on `runserver`.

    Args:
        line: method, path and version.
        status: expected; 0 for a connection that is closed without an answer.
        runserver: where it differs there.
        error: the code in the body of a JSON refusal.
        signed_in: add the member's cookies and the CSRF token; "cookie" adds the cookies alone.
        headers: besides Host, Connection and, where there is a body, Content-Length.
    """

    line: str
    status: int
    runserver: int | None = None
    error: str = ""
    signed_in: bool | str = False
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    as_admin: bool = False

    def on(self, server: str) -> int:
        """Return the status expected of a server."""
        return self.status if server == "serve" or self.runserver is None else self.runserver


def token(body: bytes | str, status: int, error: str = "", **options: object) -> Request:
    """Ask for a token, signed in."""
    raw = body.encode() if isinstance(body, str) else body
    options = {"signed_in": True, "headers": {"Content-Type": "application/json"}} | options
    return Request("POST /notifications/token HTTP/1.1", status, error=error, body=raw, **options)  # type: ignore[arg-type]


def get(path: str, status: int, method: str = "GET", **options: object) -> Request:
    """Ask for a page."""
    return Request(f"{method} {path} HTTP/1.1", status, **options)  # type: ignore[arg-type]


def admin(path: str, status: int, **options: object) -> Request:
    """Ask for a page of the admin, signed in as somebody who may."""
    return Request(f"GET /admin/{path} HTTP/1.1", status, signed_in="cookie", as_admin=True, **options)  # type: ignore[arg-type]


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def form(path: str, status: int, body: bytes, **options: object) -> Request:
    """Send a form."""
    headers = FORM | {"Accept": "application/json"}
    return Request(f"POST {path} HTTP/1.1", status, headers=headers, body=body, **options)  # type: ignore[arg-type]


REQUESTS: dict[str, Request] = {
    # ── POST /notifications/token: bodies ────────────────────────────────────────────────────────────────────────────
    "token: a word": token("rubbish", 400, "not_json"),
    "token: cut off": token('{"room": "ac', 400, "not_json"),
    "token: a list": token("[]", 400, "not_json"),
    "token: null": token("null", 400, "not_json"),
    "token: a string": token('"acme"', 400, "not_json"),
    "token: a number": token("1", 400, "not_json"),
    "token: no UTF-8": token(b'{"room": "\xff"}', 400, "not_json"),
    "token: a byte order mark alone": token(b"\xef\xbb\xbf", 400, "not_json"),
    "token: a form": token("room=acme", 400, "not_json", headers=FORM),
    "token: depth 100,000": token("[" * 100_000, 400, "not_json"),
    "token: depth 50,000 of objects": token('{"a":' * 50_000, 400, "not_json"),
    "token: 5,000 digits": token('{"room": ' + "9" * 5000 + "}", 400, "not_json"),
    "token: a room that is a number": token('{"room": 7}', 400, "bad_field"),
    "token: a room that is true": token('{"room": true}', 400, "bad_field"),
    "token: a room that is a list": token('{"room": ["acme"]}', 400, "bad_field"),
    "token: a room that is an object": token('{"room": {"code": "acme"}}', 400, "bad_field"),
    "token: a stage that is a number": token('{"stage": 1}', 400, "bad_field"),
    "token: a room of others": token('{"room": "globex"}', 403, "not_a_member"),
    "token: a room of nobody's": token('{"room": "nowhere"}', 403, "not_a_member"),
    "token: an empty room": token('{"room": ""}', 403, "not_a_member"),
    "token: a room with a NUL": token('{"room": "acme\\u0000"}', 403, "not_a_member"),
    "token: a lone surrogate": token('{"room": "\\ud800"}', 403, "not_a_member"),
    "token: a room of 100,000 letters": token('{"room": "' + "r" * 100_000 + '"}', 403, "not_a_member"),
    "token: SQL": token('{"room": "acme\' OR 1=1 --"}', 403, "not_a_member"),
    "token: the room of a revocation": token('{"room": "#revoked:acme"}', 403, "not_a_member"),
    "token: the control room": token('{"room": "\\u0000control"}', 403, "not_a_member"),
    "token: a room in capitals": token('{"room": "ACME"}', 403, "not_a_member"),
    "token: a room with a blank": token('{"room": "acme "}', 403, "not_a_member"),
    "token: an unknown stage": token('{"stage": "staging"}', 404, "unknown_stage"),
    "token: an empty stage": token('{"stage": ""}', 404, "unknown_stage"),
    "token: a stage of Python's": token('{"stage": "__class__"}', 404, "unknown_stage"),
    "token: 3 MB": token('{"room": "' + "r" * 3_000_000 + '"}', 413, "too_large"),
    # ── POST /notifications/token: who asks ──────────────────────────────────────────────────────────────────────────
    "token: nobody": token("{}", 403, signed_in=False),
    "token: no CSRF token": token("{}", 403, signed_in="cookie"),
    "token: an empty CSRF token": token("{}", 403, signed_in="cookie", headers={"X-CSRFToken": ""}),
    "token: a wrong CSRF token": token("{}", 403, signed_in="cookie", headers={"X-CSRFToken": "x" * 64}),
    "token: a CSRF token of other letters": token("{}", 403, signed_in="cookie", headers={"X-CSRFToken": "!" * 64}),
    "token: a CSRF token of 8,000 letters": token("{}", 403, signed_in="cookie", headers={"X-CSRFToken": "x" * 8000}),
    "token: a page of another site": token("{}", 403, headers={"Origin": "http://evil.example"}),
    "token: a page of another port": token("{}", 403, headers={"Origin": "http://127.0.0.1:1"}),
    "token: a page of nowhere": token("{}", 403, headers={"Origin": "null"}),
    "token: a page whose origin is none": token("{}", 403, headers={"Origin": "http://["}),
    "token: a session of nobody's": token(
        "{}", 401, "not_signed_in", signed_in="csrf", headers={"Cookie": "sessionid=" + "a" * 32}
    ),
    "token: a session with SQL": token(
        "{}", 401, "not_signed_in", signed_in="csrf", headers={"Cookie": "sessionid=' OR 1=1 --"}
    ),
    "token: a session of 4,000 letters": token(
        "{}", 401, "not_signed_in", signed_in="csrf", headers={"Cookie": "sessionid=" + "a" * 4000}
    ),
    "token: a signed session": token(
        "{}", 401, "not_signed_in", signed_in="csrf", headers={"Cookie": "sessionid=e30:1abcde:x"}
    ),
    "token: a bearer token": token("{}", 403, signed_in=False, headers={"Authorization": "Bearer x"}),
    # ── methods and paths ────────────────────────────────────────────────────────────────────────────────────────────
    "token by GET": get("/notifications/token", 405, signed_in=True),
    "token by HEAD": get("/notifications/token", 405, "HEAD", signed_in=True),
    "token by PUT": get("/notifications/token", 405, "PUT", signed_in=True),
    "token by PATCH": get("/notifications/token", 405, "PATCH", signed_in=True),
    "token by DELETE": get("/notifications/token", 405, "DELETE", signed_in=True),
    "token by OPTIONS": get("/notifications/token", 405, "OPTIONS", signed_in=True),
    "token by TRACE": get("/notifications/token", 405, "TRACE"),
    "token with a slash": get("/notifications/token/", 404),
    "healthz by POST": get("/healthz", 403, "POST"),
    "healthz by PUT": get("/healthz", 403, "PUT"),
    "healthz by DELETE, signed in": get("/healthz", 405, "DELETE", signed_in=True),
    "readyz by POST, signed in": get("/readyz", 405, "POST", signed_in=True),
    "readyz by OPTIONS": get("/readyz", 405, "OPTIONS"),
    "metrics without a token": get("/metrics", 401),
    "metrics with an empty token": get("/metrics", 401, headers={"Authorization": "Bearer "}),
    "metrics with a wrong token": get("/metrics", 401, headers={"Authorization": "Bearer rubbish"}),
    "metrics with basic authentication": get("/metrics", 401, headers={"Authorization": "Basic bWV0cmljczo="}),
    "metrics with a token of other letters": get("/metrics", 401, headers={"Authorization": "Bearer é"}),
    "metrics with its token as a parameter": get("/metrics?token=the-metrics-token", 401),
    "metrics by POST": get("/metrics", 405, "POST", signed_in=True),
    "metrics by TRACE": get("/metrics", 405, "TRACE"),
    "a method of nobody's": get("/healthz", 400, "DANCE", signed_in=True, runserver=405),
    "WebDAV": get("/healthz", 405, "PROPFIND", signed_in=True),
    "nowhere": get("/nowhere", 404),
    "a dot file": get("/.env", 404),
    "the demo's secrets": get("/var/demo.env", 404),
    "a path with a NUL": get("/%00", 404),
    "a path that is no UTF-8": get("/%ff%fe", 404),
    "a path of 8,000 letters": get("/" + "a" * 8000, 404),
    "a path upwards from the toolkit": get("/static/../hermes_site/settings.py", 404),
    "the same in percents": get("/static/%2e%2e/hermes_site/settings.py", 404),
    "the same in percents twice": get("/static/%252e%252e/hermes_site/settings.py", 404),
    "the same with backslashes": get("/static/..%5c..%5cmanage.py", 404),
    "an absolute path in the toolkit": get("/static//etc/passwd", 404),
    "a toolkit's file with a NUL": get("/static/hermes/hermes.js%00.png", 404),
    "the toolkit by POST": get("/static/hermes/hermes.js", 405, "POST", signed_in=True),
    "a socket's address without an upgrade": get("/ws/development", 404),
    "a socket's address with a token and without an upgrade": get(
        "/ws/development?token=eyJhbGciOiJIUzUxMiJ9.e30.x", 404
    ),
    # ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────
    "the page of nobody": get("/", 302),
    "the page with a room that has a NUL": get("/?room=%00", 200, signed_in=True),
    "the page with a room of others": get("/?room=globex", 200, signed_in=True),
    "the page by POST": get("/", 405, "POST", signed_in=True),
    "sending without a form": Request(
        "POST /send/ HTTP/1.1", 400, signed_in=True, headers={"Accept": "application/json"}
    ),
    "sending to a room of others": form("/send/", 403, b"room=globex&type=info&title=x&text=x", signed_in=True),
    "sending another kind": form("/send/", 400, b"room=acme&type=hermes.lost&title=x&text=x", signed_in=True),
    "sending a NUL": form("/send/", 400, b"room=ac%00me&type=info&title=x&text=x", signed_in=True),
    "sending without a CSRF token": form("/send/", 403, b"room=acme&type=info&title=x&text=x", signed_in="cookie"),
    "signing in without a CSRF token": form("/sign-in/", 403, b"username=alice&password=x"),
    "signing in with a NUL": form("/sign-in/", 200, b"username=a%00b&password=x", signed_in="csrf"),
    "signing in with a name of 100,000 letters": form(
        "/sign-in/", 200, b"password=x&username=" + b"a" * 100_000, signed_in="csrf"
    ),
    "signing in with bytes that are no UTF-8": form(
        "/sign-in/", 200, b"username=%ff%fe&password=%ff", signed_in="csrf"
    ),
    "signing in with 2,000 fields": form(
        "/sign-in/", 400, "&".join(f"f{number}=x" for number in range(2000)).encode(), signed_in="csrf"
    ),
    "signing in with a form without its boundary": Request(
        "POST /sign-in/ HTTP/1.1", 400, signed_in="csrf", headers={"Content-Type": "multipart/form-data"}, body=b"x"
    ),
    "signing in and on to another site": Request(
        "GET /sign-in/?next=https://evil.example/ HTTP/1.1", 302, signed_in=True
    ),
    "signing out by GET": get("/sign-out/", 405, signed_in=True),
    "signing out without a CSRF token": Request("POST /sign-out/ HTTP/1.1", 403, signed_in="cookie"),
    # ── the admin ────────────────────────────────────────────────────────────────────────────────────────────────────
    "the admin of nobody": get("/admin/notifications/connection/", 302),
    "the admin of a member": get("/admin/notifications/connection/", 302, signed_in=True),
    "a room that is not there": admin("notifications/room/999999/change/", 302),
    "a room whose number is a word": admin("notifications/room/abc/change/", 302),
    "a room whose number is 5,000 digits": admin(f"notifications/room/{'9' * 5000}/change/", 302),
    "a connection that is not there": admin("notifications/connection/nobody/change/", 302),
    "a search for a NUL": admin("notifications/connection/?q=%00", 200),
    "a search for a lone surrogate": admin("notifications/connection/?q=%ed%a0%80", 200),
    "a filter with a NUL": admin("notifications/connection/?room=%00", 200),
    "a filter that is not there": admin("notifications/connection/?password=x", 302),
    "a state that is none": admin("notifications/connection/?state=rubbish", 200),
    "a stage that is none": admin("notifications/connection/?stage=rubbish", 200),
    "a year that is a word": admin("notifications/connection/?opened_at__year=soon", 302),
    "a month 13": admin("notifications/connection/?opened_at__year=2026&opened_at__month=13", 302),
    "a year 99,999": admin("notifications/connection/?opened_at__year=99999", 302),
    "a page that is a word": admin("notifications/connection/?p=abc", 200),
    "a page 999,999": admin("auth/user/?p=999999", 200),
    "an order that is none": admin("notifications/connection/?o=99.-99.x", 200),
    "users with a NUL": admin("auth/user/?q=%00", 200),
    "a room's members with a NUL": admin("notifications/room/?q=%00", 200),
    "adding a connection": admin("notifications/connection/add/", 403),
    "an autocompletion of nothing": admin("autocomplete/", 403),
    "an autocompletion of a column that is none": admin(
        "autocomplete/?app_label=notifications&model_name=room&field_name=password", 403
    ),
    # ── HTTP itself ──────────────────────────────────────────────────────────────────────────────────────────────────
    "rubbish": Request("rubbish", 400),
    "no version": Request("GET /healthz", 200, 400),
    "another version": Request("GET /healthz HTTP/9.9", 400),
    "HTTP 2": Request("PRI * HTTP/2.0", 400),
    "a TLS greeting": Request("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a proxy's request": Request("GET http://evil.example/ HTTP/1.1", 302, 404),
    "CONNECT": Request("CONNECT 127.0.0.1:22 HTTP/1.1", 400, 404),
    "a foreign host": Request("GET / HTTP/1.1", 400, headers={"Host": "evil.example"}),
    "a host with rubbish": Request("GET / HTTP/1.1", 400, headers={"Host": "127.0.0.1:port"}),
    "a host with a path": Request("GET / HTTP/1.1", 400, headers={"Host": "127.0.0.1/x"}),
    "a host with an @": Request("GET / HTTP/1.1", 400, headers={"Host": "127.0.0.1@evil.example"}),
    "an empty host": Request("GET / HTTP/1.1", 400, headers={"Host": ""}),
    "a proxy's word for a foreign host": Request("GET / HTTP/1.1", 302, headers={"X-Forwarded-Host": "evil.example"}),
    "a length that is a word": Request("POST /notifications/token HTTP/1.1", 400, headers={"Content-Length": "x"}),
    "a negative length": Request("POST /notifications/token HTTP/1.1", 400, headers={"Content-Length": "-1"}),
    "two lengths": Request(
        "POST /notifications/token HTTP/1.1", 400, headers={"Content-Length": "1", "content-length": "2"}, body=b"{}"
    ),
    "a length and chunks": Request(
        "POST /notifications/token HTTP/1.1",
        400,
        headers={"Content-Length": "2", "Transfer-Encoding": "chunked"},
        body=b"0\r\n\r\n",
    ),
    "chunks that are none": Request(
        "POST /notifications/token HTTP/1.1", 400, headers={"Transfer-Encoding": "chunked"}, body=b"zz\r\n{}\r\n"
    ),
    "an encoding that nobody knows": Request(
        "POST /notifications/token HTTP/1.1", 400, headers={"Transfer-Encoding": "rubbish"}, body=b"{}"
    ),
    "a header without a colon": Request("GET /healthz HTTP/1.1\r\nrubbish", 400),
    "a header with a blank in its name": Request("GET /healthz HTTP/1.1\r\nX A: x", 400),
    "a header with a NUL": Request("GET /healthz HTTP/1.1", 400, headers={"X-A": "a\0b"}),
    "a folded header": Request("GET /healthz HTTP/1.1\r\nX-A: a\r\n b: c", 400, 200),
    "a cookie of rubbish": get("/", 302, headers={"Cookie": ";;;=;=;\xff;sessionid"}),
    "a megabyte in a header": Request("GET /healthz HTTP/1.1", 431, 0, headers={"X-A": "a" * 1_000_000}),
    "an address of a megabyte": Request(f"GET /{'a' * 1_000_000} HTTP/1.1", 431, 0),
    "a length of 10 GB": Request("POST /healthz HTTP/1.1", 413, UNTRIED, headers={"Content-Length": "10000000000"}),
    "4 MB": token("x" * 4_000_000, 413),
}
