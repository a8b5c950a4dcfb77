"""Standing: what one process has found out of a member, for all of them, in Redis. Owned by authorizer, uses recall;
views tells it of the tokens they give.

A member's row ends with the time for which rows may be remembered; that a digest matches a hash is kept until the token
ends. Both are found by one question, which members who come together share: a client that comes with a token that a
page has just given it, or comes back to a new process, costs no read of DynamoDB and no bcrypt. Names and tags are
keyed with the stage's secret and tell nothing.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import redis
import redis.asyncio
from django.conf import settings

from notifications.access.recall import Batches
from notifications.access.token_store import Row
from notifications.conf import Stage
from notifications.exceptions import Unavailable
from notifications.stream.pace import shared_client
from notifications.stream.redis_client import async_client

logger = logging.getLogger(__name__)

ROW_SECONDS = 45.0  # a row that others delete takes effect within 60 s: this, and the guard's next look
ANSWER_SECONDS = 0.5  # it saves work of milliseconds; it is not worth waiting longer for
QUIET_SECONDS = 5.0  # after an answer that did not come, pages are given without asking
TOGETHER = 100  # members in one question
WAITING = 10_000  # members that may wait for their turn

_LOOK = """
local found = {}
for i, key in ipairs(KEYS) do
  found[2 * i - 1] = redis.call('GET', key)
  found[2 * i] = redis.call('PTTL', key)
end
return found
"""
_TELL = """
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2 * i - 1], 'PX', ARGV[2 * i]) end
"""
_Names = tuple[str, ...]  # of the row, then of the verdict on each digest
_Fact = tuple[str, str, int]  # a name, its value, and the milliseconds for which it is worth keeping


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a member.

    Args:
        age: seconds since its row was read; ``None`` if none is remembered.
        not_before: the row's, as `Row` has it.
        row_tag: the tag of the row's hash.
        matching: the tags of hashes that one of the token's digests matches, each with that digest.
    """

    age: float | None = None
    not_before: int = 0
    row_tag: str = ""
    matching: Mapping[str, str] = field(default_factory=dict)

    def admits(self, issued_at: int | None) -> bool:
        """Whether a token is good; if not, the row must be read: it may be newer."""
        if self.age is None or self.row_tag not in self.matching:
            return False
        return not self.not_before or (issued_at is not None and issued_at > self.not_before)


NOTHING = Standing()


class Standings:
    """What the processes tell each other, for one process and event loop.

    Args:
        cache: a Redis client; by default our own.
    """

    def __init__(self, cache: redis.asyncio.Redis | None = None) -> None:
        self.cache = cache or async_client()
        self._look = self.cache.register_script(_LOOK)
        self._tell = self.cache.register_script(_TELL)
        # Of one stage each, whose keys are in one slot of a cluster.
        self._asked: dict[str, Batches[_Names, list[tuple[bytes | None, int]]]] = {}
        self._told: dict[str, Batches[_Fact, None]] = {}
        for name in settings.HERMES_STAGES:
            self._asked[name] = Batches(self._ask, size=TOGETHER, askers=1, waiting=WAITING)
            self._told[name] = Batches(self._share, size=TOGETHER, askers=1, waiting=WAITING)

    async def aclose(self) -> None:
        """Let go of connections."""
        for asked in self._asked.values():
            asked.cancel()
        for told in self._told.values():
            told.cancel()
        await self.cache.aclose()

    async def recall(self, stage: Stage, user: str, room_id: str, digests: Sequence[str]) -> Standing:
        """Return what is known of a member and its token's digests; nothing, while Redis does not answer."""
        names = (_row_name(stage, user, room_id), *(_verdict_name(stage, user, room_id, each) for each in digests))
        try:
            (row, milliseconds), *verdicts = await self._asked[stage.name].ask(names)
        except (redis.RedisError, OSError, TimeoutError):
            return NOTHING  # Redis only saves work here; joining needs it too, and says so
        matching = {value.decode(): digest for (value, _), digest in zip(verdicts, digests, strict=True) if value}
        # Nobody gives a row more than its time: Redis's clock has gone back since, and nobody knows how old it is.
        if row is None or not 0 < milliseconds <= ROW_SECONDS * 1000:
            return Standing(matching=matching)
        not_before, _, tag = row.decode().partition(":")
        return Standing(ROW_SECONDS - milliseconds / 1000, int(not_before), tag, matching)

    def share_row(self, stage: Stage, user: str, room_id: str, row: Row, age: float = 0.0) -> None:
        """Tell the others what a row says; that there is none is told to nobody: it may be about to be made.

        Args:
            age: seconds since it was read.
        """
        if (fact := _of_row(stage, user, room_id, row, age)) is not None:
            self._share_soon(stage, fact)

    def share_verdict(self, stage: Stage, user: str, room_id: str, digest: str, tag: str, expires_at: int) -> None:
        """Tell the others that a digest matches a hash.

        Args:
            tag: the hash's.
            expires_at: unix seconds at which the token ends, and with it the use of the verdict.
        """
        self._share_soon(stage, _of_verdict(stage, user, room_id, digest, tag, expires_at))

    def _share_soon(self, stage: Stage, fact: _Fact) -> None:
        try:
            self._told[stage.name].ask(fact).add_done_callback(_note)
        except Unavailable:
            logger.debug("Too much is to be shared; the others find out themselves.")

    async def _ask(self, members: list[_Names]) -> Mapping[_Names, list[tuple[bytes | None, int]]]:
        names = [name for member in members for name in member]
        async with asyncio.timeout(ANSWER_SECONDS):
            found = iter(await self._look(keys=names))
        return {member: [(next(found), next(found)) for _ in member] for member in members}

    async def _share(self, facts: list[_Fact]) -> Mapping[_Fact, None]:
        async with asyncio.timeout(ANSWER_SECONDS):
            await self._tell([name for name, _, _ in facts], [part for _, value, ms in facts for part in (value, ms)])
        return dict.fromkeys(facts)


class Issued:
    """Tells the processes of tokens that are given, so that their bearers join without a row read and without bcrypt.

    Synchronous, for views, and short: who asks for a token does not wait for a Redis that does not answer.
    """

    def __init__(self) -> None:
        self._quiet_until = float("-inf")

    def share(
        self, stage: Stage, user: str, room_id: str, row: Row, digest: str, *, read_at: float, expires_at: int
    ) -> None:
        """Tell what the row says, and that the digest matches its hash.

        Args:
            row, digest: what `token_store.save` returned, and for which digest.
            read_at: monotonic seconds before it was read.
            expires_at: unix seconds at which the token ends.
        """
        now = time.monotonic()
        if row.token_hash is None or now < self._quiet_until:
            return
        tag = tag_of(stage, row.token_hash)
        facts = [
            _of_row(stage, user, room_id, row, now - read_at),
            _of_verdict(stage, user, room_id, digest, tag, expires_at),
        ]
        try:
            pipeline = shared_client().pipeline(transaction=False)
            for name, value, milliseconds in filter(None, facts):
                pipeline.set(name, value, px=milliseconds)
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            logger.debug("What a token's row says was not shared: %s", type(error).__name__)


issued = Issued()


def tag_of(stage: Stage, token_hash: str) -> str:
    """Return what stands for a row's hash: equal for equal hashes, and nothing else can be read from it."""
    return _keyed(stage, "hash", token_hash)


def _row_name(stage: Stage, user: str, room_id: str) -> str:
    return f"hermes:{{{stage.name}:access}}:row:{_keyed(stage, 'row', user, room_id)}"


def _verdict_name(stage: Stage, user: str, room_id: str, digest: str) -> str:
    return f"hermes:{{{stage.name}:access}}:verdict:{_keyed(stage, 'verdict', user, room_id, digest)}"


def _of_row(stage: Stage, user: str, room_id: str, row: Row, age: float) -> _Fact | None:
    milliseconds = int((ROW_SECONDS - age) * 1000)
    if row.token_hash is None or milliseconds <= 0:
        return None
    return _row_name(stage, user, room_id), f"{row.not_before}:{tag_of(stage, row.token_hash)}", milliseconds


def _of_verdict(stage: Stage, user: str, room_id: str, digest: str, tag: str, expires_at: int) -> _Fact:
    milliseconds = max(1000, int((expires_at - time.time()) * 1000))
    return _verdict_name(stage, user, room_id, digest), tag, milliseconds


def _keyed(stage: Stage, *parts: str) -> str:
    said = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, key=_key(stage.jwt_secret), digest_size=20).hexdigest()


@functools.lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    return hashlib.sha256(b"hermes standing " + secret.encode()).digest()


def _note(sharing: asyncio.Future[None]) -> None:
    if not sharing.cancelled() and (error := sharing.exception()) is not None:
        logger.debug("What was found out of a member was not shared: %s", type(error).__name__)
