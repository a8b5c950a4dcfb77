"""Who may not join is refused with the right code on both servers; no token is ever logged."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import bcrypt
import jwt
import pytest
import websockets

from tests.e2e.client import Client
from tests.e2e.conftest import Server
from tests.processes import Hermes

ROOM = "acme"
# One user each, so that no verdict of another test is remembered.
_users = iter(range(90_000, 99_999))


class Claims:
    """A token that would be accepted, and its row, for a test to spoil."""

    def __init__(self, hermes: Hermes) -> None:
        self.hermes = hermes
        self.user = next(_users)
        self.secret = hermes.env["HERMES_JWT_SECRET"]
        self.algorithm: str | None = "HS512"
        passcode = hermes.env["HERMES_PASSCODE"]
        digest = hashlib.sha256(f"{self.user}{passcode}{ROOM}".encode()).hexdigest()
        now = int(time.time())
        self.payload: dict[str, Any] = {
            "user_id": self.user,
            "room_id": ROOM,
            "token": digest,
            "exp": now + 600,
            "iat": now,
            "jti": f"jti-{self.user}",
        }
        self.row: str | None = digest
        self.table = "hermesTokens"

    def write(self) -> str:
        """Put the row into its table and return the token."""
        if self.row is not None:
            hashed = bcrypt.hashpw(self.row.encode(), bcrypt.gensalt(5)).decode()
            self.put({"room_id": {"S": ROOM}, "token": {"S": hashed}})
        return jwt.encode(self.payload, self.secret if self.algorithm else None, self.algorithm)  # type: ignore[arg-type]

    def put(self, attributes: dict[str, Any]) -> None:
        """Put one of the user's rows into the table."""
        item = {"user_id": {"S": str(self.user)}, **attributes}
        self.hermes.client("dynamodb").put_item(TableName=self.table, Item=item)


def revoke(claims: Claims) -> None:
    """Write the row that a revocation is, a second after the token was made."""
    claims.put({"room_id": {"S": f"#revoked:{ROOM}"}, "not_before": {"N": str(claims.payload["iat"] + 1)}})


SPOILED: dict[str, tuple[Callable[[Claims], Any], int]] = {
    "alg none": (lambda claims: setattr(claims, "algorithm", None), 4401),
    "HS256": (lambda claims: setattr(claims, "algorithm", "HS256"), 4401),
    "a wrong key": (lambda claims: setattr(claims, "secret", "another secret of enough bytes " * 3), 4401),
    "no exp": (lambda claims: claims.payload.pop("exp"), 4401),
    "exp as a string": (lambda claims: claims.payload.update(exp=str(claims.payload["exp"])), 4401),
    "expired": (lambda claims: claims.payload.update(exp=int(time.time()) - 1), 4401),
    "too far in the future": (lambda claims: claims.payload.update(exp=int(time.time()) + 10**6), 4401),
    "another stage's token": (
        lambda claims: setattr(claims, "secret", claims.hermes.env["HERMES_JWT_SECRET_PRODUCTION"]),
        4401,
    ),
    "a missing row": (lambda claims: setattr(claims, "row", None), 4401),
    "a wrong digest": (lambda claims: setattr(claims, "row", "0" * 64), 4401),
    "an iat older than not_before": (revoke, 4403),
    "no room": (lambda claims: claims.payload.pop("room_id"), 4401),
}


@pytest.mark.parametrize("name", SPOILED)
async def test_a_spoiled_token_is_refused_with_its_code(hermes: Hermes, server: Server, name: str) -> None:
    spoil, code = SPOILED[name]
    claims = Claims(hermes)
    spoil(claims)
    token = await asyncio.to_thread(claims.write)
    async with Client(hermes, token=token, url=server.ws_url) as client:
        await client.until(lambda: client.close_codes)
        assert client.close_codes == [code]
        assert not client.entries
        assert not client.control("hello")
    assert token not in server.process.log_text()
    assert "Traceback" not in server.process.log_text()


async def test_the_token_that_was_not_spoiled_is_accepted(hermes: Hermes, server: Server) -> None:
    token = await asyncio.to_thread(Claims(hermes).write)
    async with Client(hermes, token=token, url=server.ws_url) as client:
        assert (await client.hello())["room_id"] == ROOM


@pytest.mark.parametrize("rubbish", ["", "rubbish", "a.b.c", "ü", "x" * 5000])
@pytest.mark.parametrize("article", [True, False])
async def test_rubbish_is_no_token(hermes: Hermes, server: Server, rubbish: str, article: bool) -> None:
    if not article and (not rubbish.isascii() or not rubbish):
        pytest.skip("no subprotocol can hold it")
    async with Client(hermes, token=rubbish, article=article, url=server.ws_url) as client:
        await client.until(lambda: client.close_codes)
        assert client.close_codes in ([4401], [4400])
        assert not client.entries


async def test_without_a_token_nobody_joins(hermes: Hermes, server: Server) -> None:
    async with websockets.connect(server.ws_url, proxy=None) as socket:
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)
        assert socket.close_code == 4401


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:{port}.evil.example",
        "rubbish",
    ],
)
async def test_a_foreign_origin_is_refused_before_the_socket_is_accepted(
    hermes: Hermes, server: Server, origin: str
) -> None:
    port = server.url.rsplit(":", 1)[1]
    token = await asyncio.to_thread(hermes.token, "alice")
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with Client(hermes, token=token, url=server.ws_url, origin=origin.format(port=port)):
            pass
    # What is no origin at all Daphne refuses by itself, before Hermes is asked.
    malformed = server.name == "runserver" and origin in ("rubbish", "http://127.0.0.1:{port}.evil.example")
    assert refusal.value.response.status_code == (400 if malformed else 403)


async def test_the_sites_own_origin_is_let_in(hermes: Hermes, server: Server) -> None:
    async with Client(hermes, "alice", url=server.ws_url, origin=server.url) as alice:
        assert (await alice.hello())["status"] == "fresh"


@pytest.mark.parametrize("article", [True, False])
async def test_a_token_that_is_accepted_reaches_no_log(hermes: Hermes, server: Server, article: bool) -> None:
    token = await asyncio.to_thread(hermes.token, "alice")
    async with Client(hermes, token=token, article=article, url=server.ws_url) as alice:
        await alice.send({"action": "sendMessage", "data": "here"})
        await alice.until(lambda: alice.entries)
    signature = token.rsplit(".", 1)[1]
    for text in (server.process.log_text(), hermes.log_text()):
        assert signature not in text
        assert hermes.env["HERMES_JWT_SECRET"] not in text
        assert hermes.env["HERMES_PASSCODE"] not in text


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "x",
        "[]",
        "null",
        "1",
        '{"action": "dance"}',
        '{"action": ["sendMessage"]}',
        "{" * 1000,
        json.dumps({"action": "sendMessage"}),
    ],
)
async def test_a_frame_that_makes_no_sense_gets_an_error_frame_and_the_socket_stays(
    hermes: Hermes, server: Server, frame: str
) -> None:
    async with Client(hermes, "alice", url=server.ws_url) as alice:
        await alice.hello()
        await alice.send(frame)
        await alice.until(lambda: alice.control("error"))
        await asyncio.to_thread(hermes.send, ROOM, "still here")
        await alice.until(lambda: "still here" in alice.received)
        assert alice.close_codes == []
    assert "Traceback" not in server.process.log_text()
