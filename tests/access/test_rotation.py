"""Secrets and passcodes are rotated while members stay: the steps of docs/security.md, on two servers in turn.

Each server is an authorizer and the stage as its environment says it; the tokens table and Redis are shared and real.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import bcrypt
import jwt
import pytest

from hermes_site.engines import Valkey
from notifications.access import token_store, tokens
from notifications.access.authorizer import Authorizer
from notifications.conf import Environment, Stage
from notifications.exceptions import TokenRefused
from tests.conftest import Aws

ALICE, BOB = 42, 43
OLD = {"HERMES_JWT_SECRET": "the old secret " * 5, "HERMES_PASSCODE": "the old passcode " * 2}
NEW = {"HERMES_JWT_SECRET": "the new secret " * 5, "HERMES_PASSCODE": "the new passcode " * 2}
Variables = dict[str, str]


def both(first: Variables, second: Variables) -> Variables:
    """The first signs and makes digests, the second is accepted."""
    return first | {f"{name}_2": value for name, value in second.items()}


# As docs/security.md numbers them; 0 is where it begins. Between 2 and 3 the tokens of before end.
STEPS: list[Variables] = [OLD, both(OLD, NEW), both(NEW, OLD), NEW]


class Server:
    """One server process: what it was started with, and what it remembers."""

    def __init__(self) -> None:
        self.authorizer: Authorizer | None = None
        self.stage = Stage("none")

    async def restart(self, variables: Variables) -> None:
        await self.stop()
        self.stage = Environment(variables).stages()["development"]
        self.authorizer = Authorizer()

    async def stop(self) -> None:
        if self.authorizer is not None:
            await self.authorizer.aclose()

    async def give(self, user: int) -> str:
        """Give a token as POST /notifications/token does: the row first."""
        digest = tokens.make_digest(user, self.stage.passcode, "acme")
        await asyncio.to_thread(token_store.save, self.stage, str(user), "acme", digest)
        return tokens.issue(self.stage, user, "acme", now=time.time(), ttl=600)

    async def admits(self, token: str) -> bool:
        assert self.authorizer is not None
        try:
            await self.authorizer.authorize(self.stage, token)
        except TokenRefused:
            return False
        return True


async def give_like_the_article(variables: Variables, user: int, cost: int = 4) -> str:
    """Give a token as the article's Ruby does: no kid, no iat, and the row replaced whatever it was."""
    digest = tokens.make_digest(user, variables["HERMES_PASSCODE"], "acme")
    hashed = bcrypt.hashpw(digest.encode(), bcrypt.gensalt(cost, prefix=b"2a")).decode()
    item: Any = {"user_id": {"S": str(user)}, "room_id": {"S": "acme"}, "token": {"S": hashed}}
    await asyncio.to_thread(token_store._put, Environment(variables).stages()["development"], item)
    claims = {"user_id": user, "room_id": "acme", "token": digest, "exp": int(time.time()) + 600}
    return jwt.encode(claims, variables["HERMES_JWT_SECRET"], "HS512")


@pytest.fixture
async def servers(aws: Aws, valkey: Valkey) -> AsyncIterator[list[Server]]:
    """Two servers that have not begun to rotate."""
    made = [Server(), Server()]
    for server in made:
        await server.restart(STEPS[0])
    yield made
    for server in made:
        await server.stop()


async def refused(servers: list[Server], live: list[str]) -> list[tuple[int, int]]:
    """Return which server refuses which of the live tokens; each is asked twice, the second time from memory."""
    return [
        (number, at)
        for _ in range(2)
        for number, server in enumerate(servers)
        for at, token in enumerate(live)
        if not await server.admits(token)
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("what", ["HERMES_JWT_SECRET", "HERMES_PASSCODE", "both"])
async def test_no_live_member_is_refused_in_a_rotation(
    servers: list[Server], what: str, order: tuple[int, int]
) -> None:
    """Alice has many sessions, each with the token of its hour; Bob's are given by the article's program."""
    kept = {name: OLD[name] for name in OLD if what not in (name, "both")}

    def step(number: int) -> Variables:
        return {name: value for name, value in STEPS[number].items() if name.removesuffix("_2") not in kept} | kept

    live = [await server.give(ALICE) for server in servers] + [await give_like_the_article(step(0), BOB)]
    assert await refused(servers, live) == []
    for number in (1, 2):
        for at in order:
            await servers[at].restart(step(number))
            assert await refused(servers, live) == [], (number, at)
            # Both give tokens, the one that is ahead and the one that is behind; each rewrites the row as its own.
            for server in servers:
                live.append(await server.give(ALICE))
                assert await refused(servers, live) == [], (number, at)
        if number == 2:
            live.append(await give_like_the_article(step(2), BOB))
            assert await refused(servers, live) == []
    # The tokens of before have ended, and every session has one that was given since.
    live = [await server.give(ALICE) for server in servers] + [await give_like_the_article(step(2), BOB)]
    for at in order:
        await servers[at].restart(step(3))
        assert await refused(servers, live) == [], at
        live.append(await servers[at].give(ALICE))
    assert await refused(servers, live) == []


async def test_a_row_of_the_old_passcode_accepts_tokens_of_both_ages_and_so_does_a_row_of_the_new(
    servers: list[Server],
) -> None:
    old = await servers[0].give(ALICE)
    row = await asyncio.to_thread(token_store.read, servers[0].stage, str(ALICE), "acme")
    await servers[0].restart(STEPS[2])
    new = tokens.issue(servers[0].stage, ALICE, "acme", now=time.time(), ttl=600)
    assert await refused(servers[:1], [old, new]) == []
    given = await servers[0].give(ALICE)
    assert await asyncio.to_thread(token_store.read, servers[0].stage, str(ALICE), "acme") != row
    await servers[0].restart(STEPS[2])
    assert await refused(servers[:1], [old, new, given]) == []


@pytest.mark.parametrize("name", ["HERMES_JWT_SECRET", "HERMES_PASSCODE"])
async def test_a_verdict_that_is_remembered_does_not_let_a_removed_key_live_on(
    servers: list[Server], name: str, count: Callable[[Any, str], list[Any]]
) -> None:
    """The verdict on the row is in memory and in Redis, and the row still holds the old passcode's digest."""
    first, token = servers[0], await servers[0].give(ALICE)
    assert await first.admits(token)
    reads, hashes = count(token_store, "_read_some"), count(token_store, "matches")
    first.stage = Environment(OLD | {name: NEW[name]}).stages()["development"]  # the very authorizer that has let it in
    assert not await first.admits(token)
    await first.restart(OLD | {name: NEW[name]})
    assert not await first.admits(token)
    assert (reads, hashes) == ([], [])


async def test_a_flood_of_unknown_keys_costs_no_hash_and_no_read(
    servers: list[Server], count: Callable[[Any, str], list[Any]]
) -> None:
    reads, hashes = count(token_store, "_read_some"), count(token_store, "matches")
    forged = Environment(NEW).stages()["development"]
    flood = [tokens.issue(forged, user, "acme", now=time.time(), ttl=600) for user in range(200)]
    flood += [jwt.encode({"user_id": user}, NEW["HERMES_JWT_SECRET"], "HS512") for user in range(200)]
    await servers[0].restart(both(OLD, {"HERMES_JWT_SECRET": "another secret " * 5}))
    assert [await servers[0].admits(token) for token in flood] == [False] * 400
    assert (reads, hashes) == ([], [])
