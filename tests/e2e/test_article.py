"""What the article's own issuer and producer do works unchanged; its browser code is in tests/browser."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import bcrypt
import pytest

from tests.e2e.client import Client
from tests.e2e.conftest import Server
from tests.processes import Hermes

USER = 4711
ROOM = "acme"


def issue(hermes: Hermes, cost: int, user: int = USER) -> str:
    """Make a token and its row as the article's Ruby does; return the token."""
    command = ["node", str(Path(__file__).with_name("article_issuer.mjs")), str(user), ROOM]
    made = subprocess.run(
        [*command, hermes.env["HERMES_PASSCODE"], hermes.env["HERMES_JWT_SECRET"], "3600"],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    answer = json.loads(made.stdout)
    hashed = bcrypt.hashpw(answer["digest"].encode(), bcrypt.gensalt(cost, prefix=b"2a")).decode()
    assert hashed.startswith(f"$2a${cost}$")
    row = {"user_id": {"S": str(user)}, "room_id": {"S": ROOM}, "token": {"S": hashed}}
    hermes.client("dynamodb").put_item(TableName="hermesTokens", Item=row)
    return str(answer["token"])


@pytest.mark.parametrize("cost", [10, 12])
async def test_a_token_made_the_articles_way_is_accepted(hermes: Hermes, server: Server, cost: int) -> None:
    token = await asyncio.to_thread(issue, hermes, cost)
    async with Client(hermes, token=token, article=True, url=server.ws_url) as ruby:
        # A client without hermes.v1 is told nothing when it joins, so its own message says that it is there.
        await ruby.send({"action": "sendMessage", "data": "from the article"})
        await ruby.until(lambda: ruby.entries)
        assert ruby.frames == ruby.entries
        assert ruby.received == ["from the article"]
        assert str(ruby.entries[0]["user_id"]) == str(USER)


async def test_sqs_bodies_as_its_ruby_makes_them_are_relayed(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        body = '{"user_id":42,"room_id":"acme","data":{"type":"danger","data":"Backup failed"}}'
        await asyncio.to_thread(hermes.send_body, body)
        await alice.until(lambda: alice.entries)
        assert alice.received == [{"type": "danger", "data": "Backup failed"}]
        assert alice.entries[0]["user_id"] == 42
