"""Heartbeat: what a relay says of itself, in Redis, for people to see. Kept by relay, run by `manage.py relay_sqs`.

It samples the stage's pace as well, so that there is a sample a minute while a relay runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace

import redis

from notifications.exceptions import HistoryUnavailable
from notifications.intake import sightings
from notifications.intake.hold import Hold
from notifications.intake.received import Received
from notifications.stream import keys, pace

logger = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
SILENT_SECONDS = 16  # three beats may be lost


@dataclass
class Tally:
    """What one relay has done.

    Args:
        batches, messages: carried since it began; what was given back was not carried.
        lag_ms: of the last batch: from when SQS had its oldest message to when all of it was in the histories, in
            milliseconds by SQS's clock and this host's; ``None`` before the first.
        waited_ms: of the last batch: how old its oldest message was when it was received.
        in_hand_ms: how old the oldest message was that it had in hand at this beat; ``None`` where it had none.
    """

    batches: int = 0
    messages: int = 0
    lag_ms: int | None = None
    waited_ms: int | None = None
    in_hand_ms: int | None = None

    @property
    def worst_ms(self) -> int | None:
        """Its lag: of the last batch, or of what it has in hand, which is longer while it is stuck."""
        known = [each for each in (self.lag_ms, self.in_hand_ms) if each is not None]
        return max(known, default=None)

    def carried(self, received: Sequence[Received], received_at: float, now: float) -> None:
        """Count a batch.

        Args:
            received: those of its messages that have a place, or are dead letters.
            received_at, now: unix seconds at which it came and was carried.
        """
        self.batches += 1
        self.messages += len(received)
        sent = [message.sent_at / 1000 for message in received if message.sent_at]
        if sent:
            self.waited_ms = max(0, round((received_at - min(sent)) * 1000))
            self.lag_ms = max(0, round((now - min(sent)) * 1000))


@dataclass(frozen=True)
class Beat:
    """What a relay said last.

    Args:
        relay_id, host, pid: who it is.
        tally: what it has done.
        silent_s: seconds since it said so.
    """

    relay_id: str
    host: str
    pid: int
    tally: Tally
    silent_s: float


@dataclass
class Heartbeat:
    """Says every few seconds that a relay lives.

    Args:
        stage: its name.
        tally: of the relay; read, never changed.
        hold: what the relay has in hand; only looked at.
    """

    stage: str
    tally: Tally
    hold: Hold | None = None
    relay_id: str = field(default_factory=lambda: f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}")

    async def run(self) -> None:
        """Beat until cancelled; a Redis that does not answer is tried again at the next beat."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hermes-heartbeat")
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await loop.run_in_executor(thread, self.beat)
                except HistoryUnavailable as error:
                    # The relay itself says in words that Redis is away.
                    logger.debug("No heartbeat: %s", error)
                except Exception:
                    logger.exception("The heartbeat failed; the relay goes on, and the next beat is tried.")
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def beat(self) -> None:
        """Beat once.

        Raises:
            HistoryUnavailable: Redis did not answer.
        """
        oldest, emptied = (self.hold.oldest, self.hold.emptied) if self.hold is not None else (None, None)
        in_hand = None if oldest is None else max(0, round(time.time() * 1000) - oldest)
        tally = replace(self.tally, in_hand_ms=in_hand)
        said = {"host": socket.gethostname(), "pid": os.getpid(), **asdict(tally)}
        try:
            pipeline = pace.shared_client().pipeline(transaction=False)
            pipeline.set(keys.relay_key(self.stage, self.relay_id), json.dumps(said), ex=SILENT_SECONDS)
            pipeline.sadd(keys.relays_key(self.stage), self.relay_id)
            pipeline.expire(keys.relays_key(self.stage), 24 * 3600)
            if emptied is not None:
                sightings.add_emptiness(pipeline, self.stage, time.monotonic() - emptied)
            pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error
        pace.sample(self.stage)
        if tally.worst_ms is not None:
            sightings.note(self.stage, "lag", tally.worst_ms)


def relays(stage: str) -> list[Beat]:
    """Return a stage's relays that have spoken lately, by host and process.

    Raises:
        HistoryUnavailable: Redis did not answer.
    """
    client = pace.shared_client()
    try:
        ids = sorted(client.smembers(keys.relays_key(stage)))
        names = [keys.relay_key(stage, id_.decode()) for id_ in ids]
        pipeline = client.pipeline(transaction=True)
        for name in names:
            pipeline.get(name)
            pipeline.pttl(name)
        replies = pipeline.execute() if names else []
        found, gone = [], []
        for id_, said, left in zip(ids, replies[::2], replies[1::2], strict=True):
            if said is None:
                gone.append(id_)
                continue
            told = json.loads(said)
            # A relay of another release may say more, or less.
            tally = Tally(**{each.name: told[each.name] for each in fields(Tally) if each.name in told})
            silent = max(0.0, SILENT_SECONDS - left / 1000)
            found.append(Beat(id_.decode(), told["host"], told["pid"], tally, silent))
        if gone:
            client.srem(keys.relays_key(stage), *gone)
    except (redis.RedisError, OSError) as error:
        raise HistoryUnavailable(f"Redis does not answer: {type(error).__name__}") from error
    return sorted(found, key=lambda beat: (beat.host, beat.pid))
