"""How a handshake is let in, and how it is refused."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.urls import path

from notifications.access import token_guard, token_store
from notifications.access.authorizer import Authorizer
from notifications.access.token_guard import TokenGuard, credentials
from notifications.conf import Stage
from tests.access.conftest import PutRow, Token
from tests.conftest import Aws

ALICE = 42


class Scene:
    """A guard with an application behind it that says whom it let in."""

    def __init__(self, authorizer: Authorizer) -> None:
        self.authorizer = authorizer
        self.scopes: list[Any] = []
        guard: Any = TokenGuard(self.application, self.get)
        self.routes = URLRouter([path("ws/<str:stage>", guard)])

    async def get(self) -> Authorizer:
        return self.authorizer

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None})

    async def shake(self, query: str = "", subprotocols: list[str] | None = None, stage: str = "development") -> Any:
        """Make a handshake; return the accepted subprotocol and what comes after it, ``None`` if it is let in."""
        client = WebsocketCommunicator(self.routes, f"/ws/{stage}{query}", subprotocols=subprotocols or [])
        accepted, subprotocol = await client.connect(timeout=10)
        assert accepted
        if self.scopes:
            await client.disconnect()
            return subprotocol, None
        closed = await client.receive_output(timeout=10)
        assert closed["type"] == "websocket.close"
        await client.disconnect()
        await client.wait()
        return subprotocol, (closed["code"], closed["reason"])


@pytest.fixture
def scene(authorizer: Authorizer) -> Scene:
    """Handshakes of members of acme."""
    return Scene(authorizer)


async def test_a_token_in_the_query_lets_in(scene: Scene, put_row: PutRow, make_token: Token) -> None:
    put_row(ALICE)
    assert await scene.shake(f"?epoch=1&token={make_token()}") == (None, None)
    assert scene.scopes[0]["hermes.grant"].user_id == ALICE
    assert scene.scopes[0]["hermes.v1"] is False


async def test_a_token_among_the_subprotocols_lets_in(scene: Scene, put_row: PutRow, make_token: Token) -> None:
    put_row(ALICE)
    await scene.shake(subprotocols=["hermes.v1", f"hermes.token.{make_token()}"])
    assert scene.scopes[0]["hermes.grant"].user_id == ALICE
    assert scene.scopes[0]["hermes.v1"] is True


async def test_a_refusal_is_accepted_first_and_only_hermes_v1_is_echoed(scene: Scene) -> None:
    assert await scene.shake(subprotocols=["hermes.token.x", "hermes.v1", "other"]) == (
        "hermes.v1",
        (4401, "malformed"),
    )
    assert await scene.shake(subprotocols=["hermes.token.x", "other"]) == (None, (4401, "malformed"))


@pytest.mark.parametrize(
    ("query", "subprotocols", "reason"),
    [
        ("", [], "no_token"),
        ("?token=", [], "no_token"),
        ("", ["hermes.token."], "no_token"),
        ("?Token=x", [], "no_token"),
        ("?token=x&token=y", [], "two_tokens"),
        ("?token=x", ["hermes.token.x"], "two_tokens"),
        ("", ["hermes.token.x", "hermes.token.y"], "two_tokens"),
        ("?token=%ff%00", [], "malformed"),
        (f"?token={'x' * 5000}", [], "too_long"),
    ],
)
async def test_without_exactly_one_token_nobody_gets_in(
    scene: Scene, query: str, subprotocols: list[str], reason: str
) -> None:
    assert (await scene.shake(query, subprotocols))[1] == (4401, reason)


async def test_a_stage_that_is_not_there_is_a_bad_request(scene: Scene, make_token: Token) -> None:
    assert (await scene.shake(f"?token={make_token()}", stage="staging"))[1] == (4400, "unknown stage")


async def test_a_revoked_token_has_a_code_of_its_own(
    scene: Scene, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE)
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", int(time.time()) + 1)
    assert (await scene.shake(f"?token={make_token()}"))[1] == (4403, "revoked")


async def test_without_dynamodb_a_handshake_is_told_to_come_back(
    scene: Scene, aws: Aws, make_token: Token, settings: Any, nowhere: str
) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    assert (await scene.shake(f"?token={make_token()}"))[1] == (4113, "unavailable")


async def test_a_token_of_another_stage_opens_no_door(
    scene: Scene, stage: Stage, production: Stage, put_row: PutRow, make_token: Token, settings: Any
) -> None:
    put_row(ALICE)
    settings.HERMES_STAGES = {**settings.HERMES_STAGES, "staging": replace(stage, name="staging", jwt_secret="x" * 64)}
    assert (await scene.shake(f"?token={make_token()}", stage="staging"))[1] == (4401, "unknown_key")


async def test_who_does_not_close_is_not_waited_for_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_guard, "GOODBYE_SECONDS", 0.05)
    client = WebsocketCommunicator(scene.routes, "/ws/development")
    await client.connect(timeout=10)
    assert (await client.receive_output(timeout=10))["code"] == 4401
    await client.send_to(text_data="and yet I speak")
    await client.wait(timeout=10)


async def test_a_refusal_reaches_the_log_without_the_token(
    scene: Scene, caplog: pytest.LogCaptureFixture, production: Stage, make_token: Token
) -> None:
    token = make_token(stage=production)
    with caplog.at_level("INFO"):
        await scene.shake(f"?token={token}")
    assert "A token was refused: unknown_key" in caplog.text
    (record,) = [record for record in caplog.records if "A token was refused" in record.message]
    assert fields_of(record) == {"stage": "development", "code": 4401, "reason": "unknown_key"}
    assert token not in str([vars(each) for each in caplog.records])


async def test_a_join_that_has_to_wait_is_in_the_log_with_its_stage_and_reason(
    scene: Scene, aws: Aws, caplog: pytest.LogCaptureFixture, make_token: Token, settings: Any, nowhere: str
) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    token = make_token()
    await scene.shake(f"?token={token}")
    (record,) = [record for record in caplog.records if "A join has to wait" in record.message]
    assert fields_of(record) == {"stage": "development", "code": 4113, "reason": "unavailable"}
    assert token not in str([vars(each) for each in caplog.records])


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a line's `extra` says of its handshake."""
    names = ("stage", "room_id", "connection_id", "code", "reason")
    return {name: getattr(record, name) for name in names if hasattr(record, name)}


def test_a_token_in_a_query_that_is_no_utf8_is_still_text() -> None:
    assert credentials({"subprotocols": [], "query_string": b"token=\xff"}) == "ÿ"
