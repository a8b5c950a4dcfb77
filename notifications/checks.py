"""System checks: combinations of settings that cannot work, each with an id and a cure. Registered by apps.

`manage.py check`, `serve` and `relay_sqs` run them; docs/settings.md lists the ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register

from notifications.conf import Stage

SECRET_BYTES = 64  # RFC 7518, section 3.2: an HS512 key has at least the size of its hash
PASSCODE_BYTES = 32  # its digest is stored at bcrypt cost 4, which only a guessless passcode allows
MUST_DIFFER = {
    "queue_name": "HERMES_QUEUE_NAME",
    "dlq_name": "HERMES_DLQ_NAME",
    "tokens_table": "HERMES_TOKENS_TABLE",
    "jwt_secret": "HERMES_JWT_SECRET",
    "passcode": "HERMES_PASSCODE",
}


@register("hermes")
def check_settings(app_configs: Sequence[AppConfig] | None, **options: Any) -> list[CheckMessage]:
    """Judge the settings together."""
    stages: dict[str, Stage] = settings.HERMES_STAGES
    messages = [message for stage in stages.values() for message in _stage(stage)]
    return [*messages, *_apart(list(stages.values())), *_times()]


def _stage(stage: Stage) -> Iterator[CheckMessage]:
    yield from _secret(stage, "HERMES_JWT_SECRET", stage.jwt_secret, stage.other_jwt_secrets, SECRET_BYTES)
    yield from _secret(stage, "HERMES_PASSCODE", stage.passcode, stage.other_passcodes, PASSCODE_BYTES)
    if stage.queue_name == stage.dlq_name:
        yield Error(
            f"Stage {stage.name}: queue and dead-letter queue are the same.",
            hint="Give HERMES_DLQ_NAME a name of its own: refused messages would come back for ever.",
            id="hermes.E006",
        )
    if stage.queue_name.endswith(".fifo") != stage.dlq_name.endswith(".fifo"):
        yield Error(
            f"Stage {stage.name}: a FIFO queue needs a FIFO dead-letter queue, and a standard queue a standard one.",
            hint="End both HERMES_QUEUE_NAME and HERMES_DLQ_NAME with .fifo, or neither.",
            id="hermes.E007",
        )
    if len({stage.connections_table, stage.tokens_table, stage.audit_table}) < 3:
        yield Error(
            f"Stage {stage.name}: connections, tokens and audit need a table each.",
            hint="HERMES_CONNECTIONS_TABLE, HERMES_TOKENS_TABLE and HERMES_AUDIT_TABLE must differ.",
            id="hermes.E008",
        )


def _secret(stage: Stage, name: str, first: str, others: tuple[str, ...], minimum: int) -> Iterator[CheckMessage]:
    absent, short = ("E001", "E002") if name == "HERMES_JWT_SECRET" else ("E003", "E004")
    cure = f"Set {name} (or {name}_FILE) to at least {minimum} random bytes."
    if not first:
        yield Error(f"Stage {stage.name}: {name} is not set.", hint=cure, id=f"hermes.{absent}")
    if not settings.HERMES_ACCEPT_SHORT_SECRETS:
        for which, value in ((name, first), *((f"{name}_2 or {name}_3", other) for other in others)):
            if value and len(value.encode()) < minimum:
                yield Error(
                    f"Stage {stage.name}: {which} has fewer than {minimum} bytes.",
                    hint=f"{cure} HERMES_ACCEPT_SHORT_SECRETS=true accepts one that other issuers still use.",
                    id=f"hermes.{short}",
                )
    if len({first, *others}) < 1 + len(others):
        yield Error(
            f"Stage {stage.name}: {name}, {name}_2 and {name}_3 are not all different.",
            hint=f"Put the new one into {name}_2, then swap the two; docs/security.md has the steps of a rotation.",
            id="hermes.E014",
        )


def _values(stage: Stage, attribute: str) -> set[str]:
    """Return what a stage has of a kind: one name; of secrets, also those that are accepted beside the first."""
    value = {"jwt_secret": stage.jwt_secrets, "passcode": stage.passcodes}.get(attribute, (getattr(stage, attribute),))
    return set(value)


def _apart(stages: list[Stage]) -> Iterator[CheckMessage]:
    for attribute, name in MUST_DIFFER.items():
        values = [value for stage in stages for value in _values(stage, attribute)]
        if len(set(values)) < len(values):
            yield Error(
                f"Two stages have the same {name}.",
                hint=f"Set {name}_<STAGE> for each stage: rooms must never cross stages.",
                id="hermes.E005",
            )
    if any(one.queue_name == other.dlq_name for one in stages for other in stages if one is not other):
        yield Error(
            "One stage's dead-letter queue is another stage's queue.",
            hint="Give every stage a queue and a dead-letter queue of its own.",
            id="hermes.E012",
        )


def _times() -> Iterator[CheckMessage]:
    lifetime = settings.HERMES_VISIBILITY_SECONDS * settings.HERMES_MAX_RECEIVES
    if lifetime >= settings.HERMES_IDEMPOTENCY_SECONDS:
        yield Error(
            "HERMES_IDEMPOTENCY_SECONDS is not longer than HERMES_VISIBILITY_SECONDS × HERMES_MAX_RECEIVES.",
            hint=f"Make it more than {lifetime}: SQS may deliver a message again until then, and it would show twice.",
            id="hermes.E009",
        )
    if settings.HERMES_VISIBILITY_SECONDS < 2 * (settings.HERMES_WAIT_SECONDS + 5):
        yield Error(
            "HERMES_VISIBILITY_SECONDS is too short for HERMES_WAIT_SECONDS.",
            hint="Make it at least twice the poll plus five seconds: messages would be received again while in hand.",
            id="hermes.E010",
        )
    if settings.HERMES_TOKEN_TTL > settings.HERMES_TOKEN_MAX_TTL:
        yield Error(
            "HERMES_TOKEN_TTL is longer than HERMES_TOKEN_MAX_TTL.",
            hint="Hermes would refuse the tokens that it gives.",
            id="hermes.E011",
        )
    if settings.HERMES_CONNECTIONS_PER_ADDRESS and not settings.HERMES_TRUSTED_PROXIES:
        yield Error(
            "HERMES_CONNECTIONS_PER_ADDRESS is set, and HERMES_TRUSTED_PROXIES does not say who tells addresses.",
            hint="Set it to your proxies' addresses, or to 'direct' where there are none: everybody behind a proxy has "
            "its address, and they would share one cap.",
            id="hermes.E013",
        )
    if settings.HERMES_MAX_RECEIVES == 1:
        yield Warning(
            "HERMES_MAX_RECEIVES=1 sends a message to the dead-letter queue after any single failure.",
            hint="Make it 5 or more.",
            id="hermes.W001",
        )
