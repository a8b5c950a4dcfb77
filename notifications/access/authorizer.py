"""Authorizer: a token becomes a grant, or a refusal. Asked by token_guard at a handshake, by the hub at a refresh.

In order of cost: the JWT (microseconds), what another process has found out of the member (standing: one question to
Redis), the member's row (DynamoDB, read again after three quarters of a minute), the bcrypt verdict (milliseconds to
0.2 s of CPU). Whether the secret and the passcode behind a token are still accepted is judged every time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import redis.asyncio
from django.conf import settings

from notifications.access import token_store, tokens
from notifications.access.recall import Batches, Flights, Recent, Trust
from notifications.access.standing import NOTHING, ROW_SECONDS, Standing, Standings, tag_of
from notifications.access.token_store import Row
from notifications.access.verdicts import Verdicts
from notifications.conf import Stage
from notifications.exceptions import TokenRefused, Unavailable

logger = logging.getLogger(__name__)

REVOKED = 4403  # docs/protocol.md

CACHED = 50_000  # rows a process remembers; some 10 MB
DISTRUSTED = 10_000  # members whose revocation was announced; a row counts for 45 s
WAITING = 1_000  # joins that may wait for a thread; more are told to come back
ROWS_A_READ = 50  # members whose rows one request reads, if they come together: BatchGetItem's limit is 100 keys
READERS = 2  # such requests at once: the fewer, the more share each
AUTHORIZE_SECONDS = 10.0
_Read = tuple[float, Row]  # monotonic seconds before it was read, and what was read
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Grant:
    """That the bearer of a token may join a room.

    Args:
        stage: the stage's name.
        user_id: as the token gives it; `user` is the string it is compared as.
        room_id: the room.
        expires_at: unix seconds at which the authority ends.
        issued_at: unix seconds; ``None`` in the article's tokens.
        session: tag of the session that asked for the token; may be empty.
        checked_at: when the member's row was read for this grant, in this process's monotonic seconds: a wall clock
            that is put right must neither keep an old row alive nor hide a grant from a look at the rows.
    """

    stage: str
    user_id: str | int
    room_id: str
    expires_at: int
    issued_at: int | None
    session: str
    checked_at: float

    @property
    def user(self) -> str:
        """The user id as a string."""
        return str(self.user_id)


class Authorizer:
    """Judges tokens for one process and event loop.

    Args:
        cache: a Redis client for what the processes tell each other; by default our own.
    """

    def __init__(self, cache: redis.asyncio.Redis | None = None) -> None:
        self._rows: Recent[_Read] = Recent(CACHED)
        self._verdicts = Verdicts()
        self._standings = Standings(cache)
        # A member's many tabs come back at once: one reads the row.
        self._reading: Flights[_Read] = Flights()
        self._forgotten = 0
        self._trust = Trust(DISTRUSTED)
        self._waiting = 0
        self._dynamodb = ThreadPoolExecutor(max_workers=8, thread_name_prefix="hermes-tokens")
        self._rows_of = {
            name: Batches(partial(self._read_many, stage), size=ROWS_A_READ, askers=READERS, waiting=WAITING)
            for name, stage in settings.HERMES_STAGES.items()
        }

    async def aclose(self) -> None:
        """Let go of threads and connections."""
        self._reading.cancel()
        for batches in self._rows_of.values():
            batches.cancel()
        self._dynamodb.shutdown(wait=False, cancel_futures=True)
        self._verdicts.close()
        await self._standings.aclose()

    async def authorize(self, stage: Stage, token: str) -> Grant:
        """Judge a token.

        Args:
            stage: the stage it wants to join.
            token: the JWT.

        Returns:
            The grant.

        Raises:
            TokenRefused: it gives no authority.
            Unavailable: that cannot be found out now.
        """
        now, asked_at = time.time(), time.monotonic()
        claims = tokens.verify(token, stage, now=now, max_ttl=settings.HERMES_TOKEN_MAX_TTL)
        try:
            async with asyncio.timeout(AUTHORIZE_SECONDS):
                checked_at = await self._admit(stage, claims, asked_at)
        except TimeoutError as error:
            raise Unavailable("the authorizer did not get an answer in time") from error
        user_id, room_id, session = claims.user_id, claims.room_id, claims.session
        return Grant(stage.name, user_id, room_id, claims.expires_at, claims.issued_at, session, checked_at)

    async def _admit(self, stage: Stage, claims: tokens.Claims, asked_at: float) -> float:
        """Judge a token whose signature is good; returns when the row was read by which it was judged."""
        user, room_id = claims.user, claims.room_id
        standing = NOTHING
        known = self._recent(stage, user, room_id, asked_at)
        if known is None or not self._verdicts.is_known(claims.digests, known[1].token_hash):
            standing = await self._standings.recall(stage, user, room_id, claims.digests)
            if standing.age is not None and standing.admits(claims.issued_at):
                read_at = asked_at - standing.age
                if self._trust.reaches((stage.name, user, room_id), read_at):
                    return read_at
            # Looked for again: it may have been forgotten meanwhile.
            known = self._recent(stage, user, room_id, asked_at) or await self.read_once(stage, user, room_id)
        checked_at, row = known
        try:
            await self._judge(stage, claims, row, standing)
        except TokenRefused:
            if checked_at >= asked_at:
                raise
            # The row is from memory, and the one that this token was given with may be newer.
            checked_at, row = await self.read_once(stage, user, room_id)
            await self._judge(stage, claims, row, standing)
        return checked_at

    def forget(self, stage: str, user_id: str, room_id: str) -> None:
        """Read a member's row again before the next verdict; called when a revocation is announced."""
        self._forgotten += 1
        self._trust.end((stage, user_id, room_id), time.monotonic())
        self._rows.drop((stage, user_id, room_id))
        self._reading.drop((stage, user_id, room_id))  # it may find what was before

    def forget_all(self) -> None:
        """Read every row again before the next verdict; called when commands may have been missed."""
        self._forgotten += 1
        self._rows = Recent(CACHED)
        self._reading.drop_all()
        self.trust_since(time.monotonic())

    def trust_since(self, moment: float) -> None:
        """Trust rows that other processes have read since a moment, in monotonic seconds: all commands are known."""
        self._trust.since = moment

    async def reread(self, stage: Stage, members: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Row]:
        """Read rows again for the sweep of open connections; what it finds is what joins see, too.

        Args:
            members: pairs of user and room.

        Raises:
            Unavailable: DynamoDB does not answer.
        """
        forgotten, started = self._forgotten, time.monotonic()
        rows = await self._in_thread(self._dynamodb, token_store.read_many, stage, list(members))
        if forgotten == self._forgotten:
            for (user, room), row in rows.items():
                self._remember(stage, user, room, started, row)
        return rows

    def _recent(self, stage: Stage, user: str, room_id: str, asked_at: float) -> _Read | None:
        known = self._rows.get((stage.name, user, room_id))
        return known if known is not None and asked_at - known[0] < ROW_SECONDS else None

    async def read_once(self, stage: Stage, user: str, room_id: str) -> _Read:
        """Read a member's row: one read, however many ask.

        Raises:
            Unavailable: DynamoDB does not answer.
        """
        return await self._reading.join((stage.name, user, room_id), lambda: self._read(stage, user, room_id))

    async def _read(self, stage: Stage, user: str, room_id: str) -> _Read:
        forgotten, started = self._forgotten, time.monotonic()
        row = await self._rows_of[stage.name].ask((user, room_id))
        if forgotten == self._forgotten:  # else a revocation came meanwhile, and this row may be older than it
            self._remember(stage, user, room_id, started, row)
        return started, row

    def _remember(self, stage: Stage, user: str, room_id: str, started: float, row: Row) -> None:
        self._rows.put((stage.name, user, room_id), (started, row))
        self._standings.share_row(stage, user, room_id, row, time.monotonic() - started)

    async def _read_many(self, stage: Stage, members: list[tuple[str, str]]) -> dict[tuple[str, str], Row]:
        return await self._in_thread(self._dynamodb, token_store.read_many, stage, members)

    async def _judge(self, stage: Stage, claims: tokens.Claims, row: Row, standing: Standing) -> None:
        judge_row(row, claims.issued_at)
        token_hash = row.token_hash or ""
        tag = tag_of(stage, token_hash)
        if (matching := standing.matching.get(tag)) is not None:
            self._verdicts.note(matching, token_hash)
            return
        # While a passcode is rotated, the row may be older or newer than the token: it holds one hash, and the member's
        # sessions have tokens of both ages. Either is good that an accepted passcode has made.
        for digest in claims.digests:
            holds, is_news = await self._verdicts.holds(digest, token_hash, claims.expires_at)
            if is_news:
                self._standings.share_verdict(stage, claims.user, claims.room_id, digest, tag, claims.expires_at)
            if holds:
                return
        raise TokenRefused("digest")

    async def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[..., _T], *arguments: Any) -> _T:
        if self._waiting >= WAITING:
            raise Unavailable("too many joins wait for a thread")
        self._waiting += 1
        try:
            try:
                answer = asyncio.get_running_loop().run_in_executor(pool, work, *arguments)
            except RuntimeError as error:  # the pool takes nothing more
                raise Unavailable("the authorizer is closed") from error
            return await answer
        finally:
            self._waiting -= 1


def judge_row(row: Row, issued_at: int | None) -> None:
    """Hold a token's time of issue against its member's row.

    Raises:
        TokenRefused: there is no row, or the token was revoked.
    """
    if row.not_before and (issued_at is None or issued_at <= row.not_before):
        raise TokenRefused("revoked", REVOKED)
    if row.token_hash is None:
        raise TokenRefused("no_row")
