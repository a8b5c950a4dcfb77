"""The scene of access's tests: members' rows as another program writes them, and tokens for them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import bcrypt
import pytest

from hermes_site.engines import Valkey
from notifications.access import tokens
from notifications.access.authorizer import Authorizer
from notifications.conf import Stage
from tests.conftest import Aws

PutRow = Callable[..., str]
Token = Callable[..., str]


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    from hermes_site.engines import free_port

    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
def put_row(aws: Aws, stage: Stage) -> PutRow:
    """Return a function that puts a member's row as the article's program does, replacing what was there."""

    def put(user: Any = 42, room: str = "acme", *, token: str | None = None, cost: int = 5) -> str:
        digest = tokens.make_digest(user, stage.passcode, room)
        hashed = token or bcrypt.hashpw(digest.encode(), bcrypt.gensalt(cost, prefix=b"2a")).decode()
        item = {"user_id": {"S": str(user)}, "room_id": {"S": room}, "token": {"S": hashed}}
        aws.dynamodb.put_item(TableName=stage.tokens_table, Item=item)
        return hashed

    return put


@pytest.fixture
def make_token(stage: Stage) -> Token:
    """Return a function that makes a token of ours."""

    def make(user: Any = 42, room: str = "acme", **options: Any) -> str:
        return tokens.issue(options.pop("stage", stage), user, room, **{"now": time.time(), "ttl": 600, **options})

    return make


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[Any]]:
    """Return a function that lets a module's real function be called as ever and lists its calls."""

    def wrap(module: Any, name: str) -> list[Any]:
        calls: list[Any] = []
        real = getattr(module, name)

        def counted(*arguments: Any) -> Any:
            calls.append(arguments)
            return real(*arguments)

        monkeypatch.setattr(module, name, counted)
        return calls

    return wrap


@pytest.fixture
async def make_authorizer(valkey: Valkey) -> AsyncIterator[Callable[[], Authorizer]]:
    """Return a function that makes authorizers, as two processes have one each."""
    made: list[Authorizer] = []

    def make() -> Authorizer:
        made.append(Authorizer())
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
def authorizer(make_authorizer: Callable[[], Authorizer]) -> Authorizer:
    """The authorizer of one process."""
    return make_authorizer()
