"""Findings: what a check found, how bad that is, and the cure. Pure; made by the rooms, told by doctor."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# HTTP's dates are whole seconds, and two hosts that keep time by NTP are within hundredths of one.
CLOCK_WARN_SECONDS = 2.0
# Half of the minute that tokens are given for clocks that differ.
CLOCK_FAIL_SECONDS = 30.0
_CREDENTIALS_REFUSED = re.compile(
    r"Signature|InvalidClientTokenId|InvalidToken|ExpiredToken|RequestExpired|UnrecognizedClient|InvalidAccessKey"
)


class Status(StrEnum):
    """How bad it is: nothing to do, look at it some day, or something does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Role(StrEnum):
    """Whose eyes a check looks with: what one role needs, the other need not be permitted."""

    WEB = "web"
    RELAY = "relay"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `manage.py doctor`.

    Args:
        status: how bad it is.
        found: what was found; never a secret.
        cure: what to do about it, naming the setting or the command; empty where all is well.
    """

    status: Status
    found: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Something to look at.

    Args:
        name: a short stable word, with a dot before what it is about: ``sqs.development``.
        run: looks, blocking; what it finds, in order. What it raises is a failure, too.
        is_cheap: whether `/readyz` asks it as well, once a second in each process.
        is_relays: whether a relay needs it, too; a server needs all.
    """

    name: str
    run: Callable[[], Iterable[Finding]]
    is_cheap: bool = False
    is_relays: bool = True


def ok(found: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(Status.OK, found)


def warn(found: str, cure: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(Status.WARN, found, cure)


def fail(found: str, cure: str) -> Finding:
    """Return a finding that keeps something from working."""
    return Finding(Status.FAIL, found, cure)


def clock(whose: str, least: float, most: float) -> Finding:
    """Judge another host's clock.

    Args:
        whose: its owner's name.
        least, most: between which its difference to ours is, in seconds; positive where theirs is ahead. The answer's
            way and a date in whole seconds leave it uncertain, and only what is certain counts.
    """
    difference = least if least > 0 else min(most, 0.0)
    cure = (
        "Have every host keep time (chrony, systemd-timesyncd): tokens, revocations, expires_at and AWS's signatures "
        "count by the clock."
    )
    if abs(difference) < CLOCK_WARN_SECONDS:
        return ok(f"{whose} and this host agree to {CLOCK_WARN_SECONDS:g} s")
    judge = fail if abs(difference) >= CLOCK_FAIL_SECONDS else warn
    way = "ahead of" if difference > 0 else "behind"
    return judge(f"{whose} is {abs(difference):.0f} s {way} this host", cure)


def permitted(denied: Sequence[str], what: str) -> Finding:
    """Judge what AWS permits.

    Args:
        denied: the calls that it did not.
        what: what they were made on.
    """
    if denied:
        return fail(f"AWS does not permit {', '.join(denied)}", aws_cure("AccessDenied"))
    return ok(f"AWS refuses no call on {what}")


def aws_cure(error: object) -> str:
    """Return what to do about an error of SQS or DynamoDB.

    Args:
        error: whose text names what AWS, or boto3, called it.
    """
    text = str(error)
    if "AccessDenied" in text:
        return "Allow this host's role what docs/settings.md lists under 'What AWS must permit'."
    if "CredentialsError" in text:
        return "Give boto3 credentials: AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, a profile, or a role."
    if _CREDENTIALS_REFUSED.search(text):
        return "AWS does not accept the credentials: look at AWS_ACCESS_KEY_ID and AWS_REGION, and at clock.aws."
    if "Throttl" in text or "ThroughputExceeded" in text:
        return "AWS throttles: ask again later, or raise the limits."
    return "Look at AWS_ENDPOINT_URL and AWS_REGION, and whether this host reaches them."
