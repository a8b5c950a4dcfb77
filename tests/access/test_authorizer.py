"""Who may join: verdicts on tokens and rows, and what is remembered and shared."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import threading
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import redis

from hermes_site.engines import Valkey
from notifications.access import authorizer as module
from notifications.access import standing, token_store, tokens
from notifications.access.authorizer import Authorizer, judge_row
from notifications.access.token_store import Row
from notifications.conf import Stage
from notifications.exceptions import TokenRefused, Unavailable
from tests.access.conftest import PutRow, Token
from tests.conftest import Aws
from tests.waiting import eventually

ALICE = 42
Count = Callable[[Any, str], list[Any]]


class Gate:
    """Holds a real function's callers back, in their threads, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Any, name: str, *, after: bool = False) -> None:
        self.opened = threading.Event()
        self.calls: list[Any] = []
        real = getattr(target, name)

        def gated(*arguments: Any) -> Any:
            self.calls.append(arguments)
            answer = real(*arguments) if after else None
            assert self.opened.wait(10)
            return answer if after else real(*arguments)

        monkeypatch.setattr(target, name, gated)


async def refusal(authorizer: Authorizer, stage: Stage, token: str) -> TokenRefused:
    """Return why a token is refused."""
    with pytest.raises(TokenRefused) as caught:
        await authorizer.authorize(stage, token)
    return caught.value


# ── Verdicts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_token_of_ours_gives_its_grant(
    authorizer: Authorizer, aws: Aws, stage: Stage, make_token: Token
) -> None:
    await asyncio.to_thread(
        token_store.save, stage, str(ALICE), "acme", tokens.make_digest(ALICE, stage.passcode, "acme")
    )
    before = time.monotonic()
    grant = await authorizer.authorize(stage, make_token(ALICE, session="tag"))
    assert (grant.stage, grant.user_id, grant.user, grant.room_id) == ("development", ALICE, "42", "acme")
    assert (grant.session, grant.issued_at) == ("tag", int(grant.expires_at - 600))
    assert before <= grant.checked_at <= time.monotonic()


@pytest.mark.parametrize("cost", [10, 12])
async def test_a_token_and_a_row_made_the_articles_way_are_accepted(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, cost: int
) -> None:
    hashed = put_row(ALICE, "7", cost=cost)
    assert hashed.startswith(f"$2a${cost}$")
    claims = {
        "user_id": ALICE,
        "room_id": "7",
        "token": tokens.make_digest(ALICE, stage.passcode, "7"),
        "exp": int(time.time()) + 60,
    }
    grant = await authorizer.authorize(stage, jwt.encode(claims, stage.jwt_secret, "HS512"))
    assert (grant.user_id, grant.room_id, grant.issued_at) == (ALICE, "7", None)


async def test_a_missing_row_refuses(authorizer: Authorizer, aws: Aws, stage: Stage, make_token: Token) -> None:
    error = await refusal(authorizer, stage, make_token())
    assert (error.reason, error.close_code) == ("no_row", 4401)


async def test_a_wrong_digest_refuses(authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token) -> None:
    put_row(ALICE, token=put_row(43))
    assert (await refusal(authorizer, stage, make_token(ALICE))).reason == "digest"


async def test_a_row_of_cost_13_refuses(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE, token="$2b$13$" + "a" * 53)
    assert (await refusal(authorizer, stage, make_token(ALICE))).reason == "digest"


async def test_another_stages_token_refuses(
    authorizer: Authorizer, stage: Stage, production: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE)
    assert (await refusal(authorizer, stage, make_token(stage=production))).reason == "unknown_key"


async def test_a_token_issued_before_its_revocation_refuses_and_a_later_one_does_not(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE)
    now = int(time.time())
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", now - 10)
    for issued in (now - 20, now - 10):
        error = await refusal(authorizer, stage, make_token(now=issued))
        assert (error.reason, error.close_code) == ("revoked", 4403)
    assert (await authorizer.authorize(stage, make_token(now=now - 9))).issued_at == now - 9


def test_a_token_of_no_known_time_is_refused_once_anything_was_revoked() -> None:
    judge_row(Row("hash"), None)
    with pytest.raises(TokenRefused, match="revoked"):
        judge_row(Row("hash", 1), None)


async def shared(authorizer: Authorizer, count: int) -> Any:
    """Wait until so many keys are shared; return the cache."""
    cache = authorizer._standings.cache

    async def are_there() -> bool:
        return len(await cache.keys("*")) >= count

    await eventually(are_there)
    return cache


async def asked(authorizer: Authorizer) -> int:
    """Return how many scripts Redis has run."""
    stats = await authorizer._standings.cache.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


# ── What is remembered ───────────────────────────────────────────────────────────────────────────────────────────────
async def test_a_members_many_tabs_cost_one_read_and_one_hash(
    authorizer: Authorizer,
    stage: Stage,
    put_row: PutRow,
    make_token: Token,
    monkeypatch: pytest.MonkeyPatch,
    count: Count,
) -> None:
    put_row(ALICE)
    reads = Gate(monkeypatch, token_store, "read_many")
    hashes = count(token_store, "matches")
    tabs = [asyncio.create_task(authorizer.authorize(stage, make_token())) for _ in range(20)]
    await eventually(lambda: reads.calls)
    reads.opened.set()
    grants = await asyncio.gather(*tabs)
    assert len(reads.calls) == len(hashes) == 1
    assert len({grant.checked_at for grant in grants}) == 1
    await authorizer.authorize(stage, make_token())
    assert len(reads.calls) == len(hashes) == 1


async def test_another_process_finds_row_and_verdict_in_redis_by_one_question(
    make_authorizer: Callable[[], Authorizer], stage: Stage, put_row: PutRow, make_token: Token, count: Count
) -> None:
    put_row(ALICE)
    hashes, reads = count(token_store, "matches"), count(token_store, "read_many")
    first = make_authorizer()
    told = await first.authorize(stage, make_token())
    await shared(first, 2)
    other = make_authorizer()
    questions = await asked(other)
    grant = await other.authorize(stage, make_token())
    assert (len(hashes), len(reads), await asked(other) - questions) == (1, 1, 1)
    assert told.checked_at - 0.1 <= grant.checked_at <= told.checked_at + 0.1, "when the row was read, not when asked"


async def test_what_others_have_read_is_judged_like_a_row_of_our_own(
    make_authorizer: Callable[[], Authorizer], stage: Stage, put_row: PutRow, make_token: Token, count: Count
) -> None:
    """A revocation in it refuses what is older, after a look at the row itself, and only that."""
    put_row(ALICE)
    now = int(time.time())
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", now - 10)
    first = make_authorizer()
    await first.authorize(stage, make_token())
    await shared(first, 2)
    reads = count(token_store, "read_many")
    for issued in (None, now - 20):
        claims = jwt.decode(make_token(now=now - 20), options={"verify_signature": False})
        claims |= {"iat": issued} if issued else {}
        token = jwt.encode({k: v for k, v in claims.items() if issued or k != "iat"}, stage.jwt_secret, "HS512")
        assert (await refusal(make_authorizer(), stage, token)).reason == "revoked"
    assert len(reads) == 2
    await make_authorizer().authorize(stage, make_token())
    assert len(reads) == 2


@pytest.fixture
async def verdict(
    make_authorizer: Callable[[], Authorizer], stage: Stage, put_row: PutRow, make_token: Token
) -> tuple[redis.asyncio.Redis, str]:
    """Of Alice only the verdict is shared, until her token of 100 s ends: return where, and its key."""
    put_row(ALICE)
    first = make_authorizer()
    await first.authorize(stage, make_token(ttl=100))
    cache = await shared(first, 2)
    await cache.delete(*await cache.keys("*:row:*"))
    (key,) = await cache.keys("*:verdict:*")
    return cache, key


@pytest.mark.usefixtures("verdict")
async def test_a_row_that_ended_is_read_and_its_verdict_need_not_be_computed(
    make_authorizer: Callable[[], Authorizer], stage: Stage, make_token: Token, count: Count
) -> None:
    hashes, reads = count(token_store, "matches"), count(token_store, "read_many")
    await make_authorizer().authorize(stage, make_token())
    assert (len(hashes), len(reads)) == (0, 1)


async def test_a_row_that_outlives_its_time_because_a_clock_went_back_is_read_again(
    make_authorizer: Callable[[], Authorizer], aws: Aws, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE)
    first = make_authorizer()
    await first.authorize(stage, make_token())
    cache = await shared(first, 2)
    (name,) = await cache.keys("*:row:*")
    await cache.pexpire(name, 3_600_000)  # as it looks when Redis's clock has gone back by an hour
    key = {"user_id": {"S": str(ALICE)}, "room_id": {"S": "acme"}}
    aws.dynamodb.delete_item(TableName=stage.tokens_table, Key=key)
    assert (await refusal(make_authorizer(), stage, make_token())).reason == "no_row"


@pytest.mark.usefixtures("verdict")
async def test_who_comes_again_where_the_row_is_remembered_costs_no_hash_whoever_computed_it(
    make_authorizer: Callable[[], Authorizer], stage: Stage, make_token: Token, count: Count
) -> None:
    second, third = make_authorizer(), make_authorizer()
    await second.authorize(stage, make_token())  # reads the row, and was told the verdict
    await third.reread(stage, [(str(ALICE), "acme")])  # as the sweep does, which wants no verdict
    hashes = count(token_store, "matches")
    await second.authorize(stage, make_token())
    await third.authorize(stage, make_token())
    assert hashes == []


async def test_a_later_token_prolongs_what_the_others_know_also_where_it_was_another_that_told(
    authorizer: Authorizer, stage: Stage, make_token: Token, verdict: tuple[redis.asyncio.Redis, str]
) -> None:
    cache, key = verdict
    await authorizer.authorize(stage, make_token(ttl=100))
    assert await cache.ttl(key) <= 100
    await authorizer.authorize(stage, make_token(ttl=600))

    async def is_prolonged() -> bool:
        return await cache.ttl(key) > 500

    await eventually(is_prolonged)


async def test_a_shared_verdict_ends_with_its_token_and_tells_nothing(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    member = 4_242_424_242_424_242  # too long to stand in a digest by chance
    hashed = put_row(member)
    await authorizer.authorize(stage, make_token(member, ttl=100))
    cache = await shared(authorizer, 2)
    for key in await cache.keys("*"):
        longest = 100 if b":verdict:" in key else 45
        assert longest - 10 <= await cache.ttl(key) <= longest
        told = (key + b"=" + await cache.get(key)).decode()
        digest = tokens.make_digest(member, stage.passcode, "acme")
        for secret in (hashed, digest, stage.jwt_secret, "acme", f"{member}"):
            assert secret not in told.replace(key.decode().partition(":row:")[2] or "-", "")


async def test_a_verdict_planted_in_redis_opens_nothing(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, valkey: Valkey
) -> None:
    """Who writes to Redis may know row and digest and see a verdict: its name says nothing of another's."""
    await asyncio.to_thread(put_row, 43)
    await authorizer.authorize(stage, make_token(43))
    cache = await shared(authorizer, 2)
    (real,) = await cache.keys("*:verdict:*")
    tag = await cache.get(real)
    hashed = put_row(ALICE, token=put_row(43))
    digest = tokens.make_digest(ALICE, stage.passcode, "acme")
    prefix = real.decode().rpartition(":")[0]
    attacker = redis.Redis.from_url(valkey.url)
    for guess in (hashed, digest, f"{digest} {hashed}", f"verdict\0{ALICE}\0acme\0{digest}"):
        for key in (b"", guess.encode(), b"hermes", tokens.key_id(stage.jwt_secret).encode()):
            attacker.set(f"{prefix}:{hashlib.blake2b(guess.encode(), key=key[:64], digest_size=20).hexdigest()}", tag)
            attacker.set(f"{prefix}:{hmac.digest(key, guess.encode(), 'sha256').hex()}", tag)
    attacker.close()
    assert (await refusal(authorizer, stage, make_token(ALICE))).reason == "digest"


async def test_a_refusal_is_not_shared(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE, token=put_row(43))
    await refusal(authorizer, stage, make_token(ALICE))
    cache = await shared(authorizer, 1)
    assert await cache.keys("*:verdict:*") == []


async def test_that_there_is_no_row_is_not_shared(
    make_authorizer: Callable[[], Authorizer], stage: Stage, aws: Aws, put_row: PutRow, make_token: Token
) -> None:
    """It may be made at any moment: who is given a token joins at once."""
    first = make_authorizer()
    await refusal(first, stage, make_token(ALICE))
    put_row(ALICE)
    await make_authorizer().authorize(stage, make_token(ALICE))


async def test_a_changed_row_is_another_verdict(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, count: Count
) -> None:
    hashes = count(token_store, "matches")
    for _ in range(2):
        put_row(ALICE)  # a new salt
        authorizer.forget(stage.name, str(ALICE), "acme")
        await authorizer.authorize(stage, make_token())
    assert len(hashes) == 2


async def test_a_row_is_read_again_after_three_quarters_of_a_minute(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, count: Count, aws: Aws
) -> None:
    put_row(ALICE)
    reads = count(token_store, "read_many")
    await authorizer.authorize(stage, make_token())
    key = (stage.name, str(ALICE), "acme")
    started, row = authorizer._rows.get(key) or (0.0, Row(None))
    authorizer._rows.put(key, (started - standing.ROW_SECONDS, row))
    cache = await shared(authorizer, 2)
    (shared_row,) = await cache.keys("*:row:*")
    await cache.pexpire(shared_row, 1)
    aws.purge()
    assert (await refusal(authorizer, stage, make_token())).reason == "no_row"
    assert len(reads) == 2


async def test_a_token_given_after_a_refusal_is_accepted_at_once(
    authorizer: Authorizer, stage: Stage, aws: Aws, put_row: PutRow, make_token: Token, count: Count
) -> None:
    await refusal(authorizer, stage, make_token())
    put_row(ALICE)
    reads = count(token_store, "read_many")
    assert (await authorizer.authorize(stage, make_token())).user_id == ALICE
    assert len(reads) == 1


async def test_a_revocation_that_is_announced_counts_at_once(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE)
    await authorizer.authorize(stage, make_token())
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", int(time.time()) + 1)
    assert await authorizer.authorize(stage, make_token())  # not announced: the row in memory counts
    authorizer.forget(stage.name, str(ALICE), "acme")
    assert (await refusal(authorizer, stage, make_token())).reason == "revoked"


async def test_what_was_read_before_a_revocation_is_not_remembered_after_it(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_row(ALICE)
    reads = Gate(monkeypatch, token_store, "read_many", after=True)
    early = asyncio.create_task(authorizer.authorize(stage, make_token()))
    await eventually(lambda: reads.calls)
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", int(time.time()) + 1)
    authorizer.forget(stage.name, str(ALICE), "acme")
    late = asyncio.create_task(authorizer.authorize(stage, make_token()))
    await eventually(lambda: len(reads.calls) == 2, what="a second read, not a seat in the first one")
    reads.opened.set()
    await early  # whoever asked before is verified again once it is registered
    with pytest.raises(TokenRefused, match="revoked"):
        await late
    assert (await refusal(authorizer, stage, make_token())).reason == "revoked"


async def test_when_commands_may_have_been_missed_every_row_is_read_again(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token
) -> None:
    put_row(ALICE)
    await authorizer.authorize(stage, make_token())
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", int(time.time()) + 1)
    authorizer.forget_all()
    assert (await refusal(authorizer, stage, make_token())).reason == "revoked"


async def test_of_more_revocations_than_are_remembered_the_first_still_counts(
    make_authorizer: Callable[[], Authorizer],
    stage: Stage,
    put_row: PutRow,
    make_token: Token,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What another process has read of her before stands in Redis."""
    monkeypatch.setattr(module, "DISTRUSTED", 3)
    put_row(ALICE)
    other, here = make_authorizer(), make_authorizer()
    await other.authorize(stage, make_token())
    await shared(other, 2)
    await asyncio.to_thread(token_store.revoke, stage, str(ALICE), "acme", int(time.time()) + 1)
    here.forget(stage.name, str(ALICE), "acme")
    for number in range(3):
        here.forget(stage.name, f"user-{number}", "acme")
    assert (await refusal(here, stage, make_token())).reason == "revoked"


# ── The sweep of open connections ────────────────────────────────────────────────────────────────────────────────────
async def test_what_the_sweep_reads_joins_see_too(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, count: Count
) -> None:
    hashed = put_row(ALICE)
    before = time.monotonic()
    assert await authorizer.reread(stage, [("42", "acme"), ("43", "acme")]) == {
        ("42", "acme"): Row(hashed),
        ("43", "acme"): Row(None),
    }
    reads = count(token_store, "read_many")
    assert before <= (await authorizer.authorize(stage, make_token())).checked_at
    assert reads == []


async def test_a_sweep_that_a_revocation_overtakes_is_not_remembered(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_row(ALICE)
    reads = Gate(monkeypatch, token_store, "read_many", after=True)
    sweep = asyncio.create_task(authorizer.reread(stage, [("42", "acme")]))
    await eventually(lambda: reads.calls)
    authorizer.forget(stage.name, "somebody", "else")
    reads.opened.set()
    await sweep
    assert authorizer._rows.get((stage.name, "42", "acme")) is None


# ── Outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_without_redis_a_verdict_is_computed(
    stage: Stage, put_row: PutRow, make_token: Token, settings: Any, nowhere: str, count: Count
) -> None:
    put_row(ALICE)
    hashes = count(token_store, "matches")
    settings.REDIS_URL = nowhere.replace("http", "redis")
    alone = Authorizer()
    for _ in range(2):
        assert (await alone.authorize(stage, make_token())).user_id == ALICE
    assert len(hashes) == 1
    await alone.aclose()


async def test_without_dynamodb_nobody_new_joins_and_whoever_is_remembered_does(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, settings: Any, nowhere: str
) -> None:
    put_row(ALICE)
    await authorizer.authorize(stage, make_token())
    settings.AWS_ENDPOINT_URL = nowhere
    assert await authorizer.authorize(stage, make_token())
    with pytest.raises(Unavailable):
        await authorizer.authorize(stage, make_token(43))
    with pytest.raises(Unavailable):
        await authorizer.reread(stage, [("42", "acme")])


async def test_an_answer_that_does_not_come_is_not_waited_for(
    authorizer: Authorizer, stage: Stage, put_row: PutRow, make_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_row(ALICE)
    reads = Gate(monkeypatch, token_store, "read_many")
    monkeypatch.setattr(module, "AUTHORIZE_SECONDS", 0.05)
    with pytest.raises(Unavailable, match="in time"):
        await authorizer.authorize(stage, make_token())
    reads.opened.set()


async def test_more_joins_than_may_wait_are_told_to_come_back(
    make_authorizer: Callable[[], Authorizer],
    stage: Stage,
    put_row: PutRow,
    make_token: Token,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_row(ALICE)
    reads = Gate(monkeypatch, token_store, "read_many")
    monkeypatch.setattr(module, "WAITING", 2)
    monkeypatch.setattr(module, "READERS", 1)
    authorizer = make_authorizer()
    alice = asyncio.create_task(authorizer.authorize(stage, make_token(ALICE)))
    await eventually(lambda: reads.calls)
    others = [asyncio.create_task(authorizer.authorize(stage, make_token(user))) for user in (43, 44)]
    await asyncio.sleep(0)  # they stand in line
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too many"):
        await authorizer.authorize(stage, make_token(45))
    reads.opened.set()
    assert (await alice).user_id == ALICE
    assert [type(each) for each in await asyncio.gather(*others, return_exceptions=True)] == [TokenRefused] * 2
    assert len(reads.calls) == 2, "who waited together was read together"
    assert await authorizer.authorize(stage, make_token(ALICE))


async def test_once_closed_it_is_unavailable(aws: Aws, stage: Stage, make_token: Token) -> None:
    closed = Authorizer()
    await closed.aclose()
    with pytest.raises(Unavailable, match="closed"):
        await closed.authorize(stage, make_token())
