"""What settings mean together: one test per id, and a cure with each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from notifications.checks import MUST_DIFFER, check_settings
from notifications.conf import Stage

GOOD = Stage("development", jwt_secret="s" * 64, passcode="p" * 32)
OTHER = Stage(
    "production",
    queue_name="other",
    dlq_name="other-dead",
    tokens_table="otherTokens",
    jwt_secret="S" * 64,
    passcode="P" * 32,
)


def found(settings: Any, *stages: Stage) -> list[CheckMessage]:
    """Return what the checks say of these stages; each must come with a cure."""
    settings.HERMES_STAGES = {stage.name: stage for stage in stages}
    messages = check_settings(None)
    assert all(message.hint for message in messages)
    return messages


def ids(settings: Any, *stages: Stage) -> list[str | None]:
    """Return the ids of what the checks say."""
    return [message.id for message in found(settings, *stages)]


def test_good_settings_pass(settings: Any) -> None:
    assert found(settings, GOOD) == []
    assert found(settings, GOOD, OTHER) == []


def test_the_tests_own_settings_pass() -> None:
    call_command("check")


def test_e001_no_jwt_secret(settings: Any) -> None:
    (error,) = found(settings, replace(GOOD, jwt_secret=""))
    assert error.id == "hermes.E001"
    assert "HERMES_JWT_SECRET" in error.msg
    assert "HERMES_JWT_SECRET_FILE" in (error.hint or "")


def test_e002_a_jwt_secret_shorter_than_64_bytes(settings: Any) -> None:
    assert ids(settings, replace(GOOD, jwt_secret="s" * 63)) == ["hermes.E002"]
    assert ids(settings, replace(GOOD, jwt_secret="é" * 32)) == []


def test_e003_no_passcode(settings: Any) -> None:
    assert ids(settings, replace(GOOD, passcode="")) == ["hermes.E003"]


def test_e004_a_passcode_shorter_than_32_bytes(settings: Any) -> None:
    assert ids(settings, replace(GOOD, passcode="p" * 31)) == ["hermes.E004"]


def test_e002_and_e004_hold_for_every_secret_that_is_accepted(settings: Any) -> None:
    assert ids(settings, replace(GOOD, other_jwt_secrets=("t" * 64, "u" * 63))) == ["hermes.E002"]
    assert ids(settings, replace(GOOD, other_passcodes=("q" * 32, "r" * 31))) == ["hermes.E004"]
    assert ids(settings, replace(GOOD, other_jwt_secrets=("t" * 64,), other_passcodes=("q" * 32, "r" * 32))) == []


def test_e001_and_e003_also_where_only_others_are_set(settings: Any) -> None:
    stage = replace(GOOD, jwt_secret="", passcode="", other_jwt_secrets=("t" * 64,), other_passcodes=("q" * 32,))
    assert ids(settings, stage) == ["hermes.E001", "hermes.E003"]


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("other_jwt_secrets", ("s" * 64,)),
        ("other_jwt_secrets", ("t" * 64, "t" * 64)),
        ("other_passcodes", ("p" * 32,)),
        ("other_passcodes", ("q" * 32, "q" * 32)),
    ],
)
def test_e014_a_secret_that_is_there_twice(settings: Any, attribute: str, value: tuple[str, ...]) -> None:
    assert ids(settings, replace(GOOD, **{attribute: value})) == ["hermes.E014"]


@pytest.mark.parametrize(("attribute", "value"), [("jwt_secret", "s" * 64), ("passcode", "p" * 32)])
def test_e005_also_where_a_stage_accepts_another_stage_s_secret(settings: Any, attribute: str, value: str) -> None:
    assert ids(settings, GOOD, replace(OTHER, **{f"other_{attribute}s": (value,)})) == ["hermes.E005"]
    both = {f"other_{attribute}s": ("x" * 64,)}
    assert ids(settings, replace(GOOD, **both), replace(OTHER, **both)) == ["hermes.E005"]


def test_short_secrets_may_be_accepted_but_missing_ones_never(settings: Any) -> None:
    settings.HERMES_ACCEPT_SHORT_SECRETS = True
    assert ids(settings, replace(GOOD, jwt_secret="s", passcode="p")) == []
    assert ids(settings, replace(GOOD, jwt_secret="", passcode="")) == ["hermes.E001", "hermes.E003"]


@pytest.mark.parametrize("attribute", MUST_DIFFER)
def test_e005_two_stages_share_what_keeps_them_apart(settings: Any, attribute: str) -> None:
    (error,) = found(settings, GOOD, replace(OTHER, **{attribute: getattr(GOOD, attribute)}))
    assert error.id == "hermes.E005"
    assert MUST_DIFFER[attribute] in error.msg


def test_two_stages_without_a_secret_are_told_that_and_not_that_they_share_it(settings: Any) -> None:
    assert ids(settings, replace(GOOD, passcode=""), replace(OTHER, passcode="")) == ["hermes.E003"] * 2


def test_e006_a_queue_that_is_its_own_dead_letter_queue(settings: Any) -> None:
    assert ids(settings, replace(GOOD, dlq_name=GOOD.queue_name)) == ["hermes.E006"]


@pytest.mark.parametrize("names", [("a.fifo", "b"), ("a", "b.fifo")])
def test_e007_a_fifo_queue_with_a_standard_dead_letter_queue(settings: Any, names: tuple[str, str]) -> None:
    assert ids(settings, replace(GOOD, queue_name=names[0], dlq_name=names[1])) == ["hermes.E007"]
    assert ids(settings, replace(GOOD, queue_name="a.fifo", dlq_name="b.fifo")) == []


@pytest.mark.parametrize("names", [("a", "a", "b"), ("a", "b", "a"), ("b", "a", "a"), ("a", "a", "a")])
def test_e008_tables_that_are_the_same(settings: Any, names: tuple[str, str, str]) -> None:
    connections, tokens, audit = names
    stage = replace(GOOD, connections_table=connections, tokens_table=tokens, audit_table=audit)
    assert ids(settings, stage) == ["hermes.E008"]


def test_e009_an_idempotency_window_that_redeliveries_outlive(settings: Any) -> None:
    lifetime = settings.HERMES_VISIBILITY_SECONDS * settings.HERMES_MAX_RECEIVES
    settings.HERMES_IDEMPOTENCY_SECONDS = lifetime
    (error,) = found(settings, GOOD)
    assert error.id == "hermes.E009"
    assert str(lifetime) in (error.hint or "")
    settings.HERMES_IDEMPOTENCY_SECONDS = lifetime + 1
    assert found(settings, GOOD) == []


def test_e010_a_visibility_shorter_than_two_polls(settings: Any) -> None:
    settings.HERMES_WAIT_SECONDS, settings.HERMES_VISIBILITY_SECONDS = 20, 49
    assert ids(settings, GOOD) == ["hermes.E010"]
    settings.HERMES_VISIBILITY_SECONDS = 50
    assert ids(settings, GOOD) == []


def test_e011_tokens_that_would_be_refused(settings: Any) -> None:
    settings.HERMES_TOKEN_TTL = settings.HERMES_TOKEN_MAX_TTL + 1
    assert ids(settings, GOOD) == ["hermes.E011"]
    settings.HERMES_TOKEN_TTL = settings.HERMES_TOKEN_MAX_TTL
    assert ids(settings, GOOD) == []


def test_e012_dead_letters_that_are_another_stage_s_messages(settings: Any) -> None:
    assert ids(settings, GOOD, replace(OTHER, dlq_name=GOOD.queue_name)) == ["hermes.E012"]


def test_e013_a_cap_per_address_without_knowing_addresses(settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_ADDRESS = 10
    assert ids(settings, GOOD) == ["hermes.E013"]
    settings.HERMES_TRUSTED_PROXIES = ["10.0.0.0/8"]
    assert ids(settings, GOOD) == []
    settings.HERMES_TRUSTED_PROXIES = ["direct"]
    assert ids(settings, GOOD) == []


def test_w001_a_single_receive(settings: Any) -> None:
    settings.HERMES_MAX_RECEIVES = 1
    (warning,) = found(settings, GOOD)
    assert warning.id == "hermes.W001"
    assert not warning.is_serious()


def test_commands_run_the_checks(settings: Any) -> None:
    settings.HERMES_STAGES = {"development": replace(GOOD, jwt_secret="")}
    with pytest.raises(SystemCheckError, match=r"hermes\.E001"):
        call_command("relay_sqs", "--stage", "development", skip_checks=False)
