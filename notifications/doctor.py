"""Doctor: every check, all at once, each with a deadline. Called by the command `doctor` and by health; asks each room.

What the rooms know of themselves they examine themselves (`examine` in intake, stream, access and registry); this
module gives the checks their names and their order, runs them, and lets no secret out.
"""

from __future__ import annotations

import functools
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from django.conf import settings

from notifications import groundwork
from notifications.access import examine as access
from notifications.access import token_store
from notifications.access.redaction import redact
from notifications.conf import Stage
from notifications.exceptions import HermesError, HistoryUnavailable, Unavailable
from notifications.findings import Check, Finding, Role, Status, aws_cure, fail, ok, permitted
from notifications.intake import examine as intake
from notifications.registry import examine as registry
from notifications.registry import mirror
from notifications.stream import examine as stream

# What takes longer than this does not work, whatever it would have said.
DEADLINE_SECONDS = 10.0
# A shorter one would be found in words that are none.
_SHORTEST_SECRET = 8
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s/@]+@")
_OWN_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "HERMES_DEMO_PASSWORD")


class Unwell(HermesError):
    """A check has found what keeps something from working."""


@dataclass(frozen=True, slots=True)
class Line:
    """A finding with the name of its check.

    Args:
        name: the check's.
        finding: without secrets.
        seconds: how long the check took.
        is_late: whether it was not waited for any longer; its thread may still hang.
    """

    name: str
    finding: Finding
    seconds: float
    is_late: bool = False


def checks(now: Callable[[], float] = time.time, role: Role = Role.ALL) -> list[Check]:
    """Return every check of a role, in the order in which they are told.

    Args:
        now: this host's clock, in unix seconds.
        role: who is to have what it needs: a relay has neither SQL nor tables, and may not look at queues.
    """
    stages: list[Stage] = list(settings.HERMES_STAGES.values())
    found = [
        Check("settings", groundwork.system_checks),
        Check("keys", groundwork.keys),
        Check("database", groundwork.database, is_cheap=True, is_relays=False),
        Check("migrations", groundwork.migrations, is_cheap=True, is_relays=False),
        Check("redis", stream.answers, is_cheap=True),
        Check("redis.eviction", stream.eviction),
        Check("redis.persistence", stream.persistence),
        Check("redis.append", stream.append),
        Check("layer", stream.layer),
        Check("clock.redis", functools.partial(stream.clock, now)),
        Check("clock.aws", functools.partial(intake.aws_clock, stages[0], now)),
    ]
    for stage in stages:
        for name, run, is_cheap, is_relays in (
            ("sqs.{}", intake.answers, True, False),
            ("sqs.{}.dead-letters", intake.dead_letters, False, False),
            ("sqs.{}.permissions", functools.partial(intake.permissions, role), False, True),
            ("dynamodb.{}", tables_answer, True, False),
            ("dynamodb.{}.connections", registry.connections, False, False),
            ("dynamodb.{}.audit", registry.audit, False, False),
            ("dynamodb.{}.tokens", access.tokens, False, False),
            ("dynamodb.{}.permissions", permissions, False, False),
        ):
            found.append(Check(name.format(stage.name), functools.partial(run, stage), is_cheap, is_relays))
    return [check for check in found if check.is_relays or role is not Role.RELAY]


def tables_answer(stage: Stage) -> Iterator[Finding]:
    """Find whether the stage's three tables can be read."""
    token_store.probe(stage)
    mirror.probe(stage)
    yield ok("all three tables can be read")


def permissions(stage: Stage) -> Iterator[Finding]:
    """Find which of the calls that Hermes makes on the three tables AWS does not permit."""
    denied = [*token_store.refused(stage), *mirror.refused(stage)]
    yield permitted(denied, f"tables {stage.tokens_table}, {stage.connections_table} and {stage.audit_table}")


def examine(asked: Sequence[Check], deadline: float = DEADLINE_SECONDS) -> list[Line]:
    """Run checks, all at once, each in a thread of its own; none waits for another, and none is waited for for ever.

    A thread that hangs is left behind.

    Args:
        asked: which.
        deadline: how long each may take, in seconds.

    Returns:
        What they found, in their order; at least one line for each.
    """
    answers: queue.SimpleQueue[tuple[int, list[Finding], float]] = queue.SimpleQueue()

    def run(number: int, check: Check) -> None:
        begun = time.monotonic()
        findings = _findings(check)
        answers.put((number, findings, time.monotonic() - begun))

    for number, check in enumerate(asked):
        threading.Thread(target=run, args=(number, check), name=f"hermes-doctor-{check.name}", daemon=True).start()
    found: dict[int, tuple[list[Finding], float]] = {}
    end = time.monotonic() + deadline
    while len(found) < len(asked) and (left := end - time.monotonic()) > 0:
        try:
            number, findings, seconds = answers.get(timeout=left)
        except queue.Empty:
            break
        found[number] = (findings, seconds)
    late = [fail(f"no answer within {deadline:g} s", "Look whether it is reached at all; --deadline gives it longer.")]
    return [
        Line(check.name, _clean(finding), seconds, is_late=number not in found)
        for number, check in enumerate(asked)
        for findings, seconds in [found.get(number, (late, deadline))]
        for finding in findings
    ]


def insist(check: Check) -> None:
    """Run one check for `/readyz`.

    Raises:
        Unwell: it failed; says what was found.
    """
    for finding in _findings(check):
        if finding.status is Status.FAIL:
            raise Unwell(_clean(finding).found)


def _findings(check: Check) -> list[Finding]:
    try:
        return list(check.run())
    except Unavailable as error:
        return [fail(str(error), _cure(error))]
    except Exception as error:  # one check that cannot be made must not hide what the others found
        return [
            fail(f"the check itself failed: {type(error).__name__}: {error}", "Report it: it is a fault of Hermes.")
        ]


def _cure(error: Unavailable) -> str:
    if not isinstance(error, HistoryUnavailable):
        if "does not exist" in str(error) or "ResourceNotFound" in str(error):
            return "Make it with manage.py provision, or look at the names in HERMES_..._TABLE."
        return aws_cure(error)
    text = str(error)
    if "Authentication" in text or "NoPermission" in text or "NOAUTH" in text:
        return "Look at the user and the password in REDIS_URL, and at what they may do."
    if stream.REFUSED in text:
        return (
            "Have REDIS_CA_FILE name the certificate of Redis's authority, and REDIS_URL the host in the certificate."
        )
    if "Redis refused the append" in text:
        return "Redis says why; the other lines about redis may say more."
    if "durability" in text:
        return "Look at redis.persistence and at Redis's appendfsync, or give HERMES_DURABILITY_SECONDS more."
    return "Look at REDIS_URL, and whether Redis runs and this host reaches it."


def _clean(finding: Finding) -> Finding:
    """Return a finding on one line, without what must not be read over somebody's shoulder."""
    text = " ".join(finding.found.split())
    for secret in _secrets():
        text = text.replace(secret, "[redacted]")
    return Finding(finding.status, redact(_USER_AND_PASSWORD.sub("[redacted]@", text)), finding.cure)


def _secrets() -> list[str]:
    stages: list[Stage] = list(settings.HERMES_STAGES.values())
    # urlsplit makes nothing of several sentinels.
    password = settings.REDIS_URL.rpartition("@")[0].partition("://")[2].partition(":")[2]
    values = [
        str(settings.SECRET_KEY),
        settings.HERMES_METRICS_TOKEN,
        settings.REDIS_SENTINEL_PASSWORD,
        *(secret for stage in stages for secret in (*stage.jwt_secrets, *stage.passcodes)),
        *(str(database.get("PASSWORD") or "") for database in settings.DATABASES.values()),
        *(os.environ.get(name, "") for name in _OWN_SECRETS),
        password,
        unquote(password),
    ]
    # The longest first: one may be a part of another.
    return sorted({value for value in values if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True)
