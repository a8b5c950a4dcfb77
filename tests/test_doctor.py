"""`manage.py doctor`: every check is seen to pass, and to fail where that very thing is broken, with its cure."""

from __future__ import annotations

import asyncio
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from hermes_site.engines import HOST, Valkey
from notifications import doctor
from notifications.access import token_store
from notifications.conf import Stage
from notifications.exceptions import QueueUnavailable
from notifications.findings import Check, Finding, Role, Status, ok
from notifications.intake import queue
from notifications.registry import mirror
from notifications.stream import examine
from tests.conftest import Aws
from tests.environment import LAST_MIGRATION
from tests.faults.chaos import ChaosProxy
from tests.processes import MANAGE
from tests.proxy import AwsProxy
from tests.waiting import wait_until

NAMES = [
    *("settings", "keys", "database", "migrations"),
    *("redis", "redis.eviction", "redis.persistence", "redis.append", "layer", "clock.redis", "clock.aws"),
    *("sqs.development", "sqs.development.dead-letters", "sqs.development.permissions"),
    *("dynamodb.development", "dynamodb.development.connections", "dynamodb.development.audit"),
    *("dynamodb.development.tokens", "dynamodb.development.permissions"),
]
OF_REDIS = {name for name in NAMES if name.startswith("redis")} | {"layer", "clock.redis"}
OF_AWS = {name for name in NAMES if name.startswith(("sqs", "dynamodb"))} | {"clock.aws"}


def make_stage(suffix: str = "") -> Stage:
    """Return a stage with secrets that satisfy the doctor, and queues and tables that no other test knows."""
    mark = secrets.token_hex(4)
    return Stage(
        "development",
        queue_name=f"doctor-{mark}{suffix}",
        dlq_name=f"doctor-{mark}-dead{suffix}",
        connections_table=f"doctorConnections-{mark}",
        tokens_table=f"doctorTokens-{mark}",
        audit_table=f"doctorAudit-{mark}",
        jwt_secret=secrets.token_urlsafe(64),
        passcode=secrets.token_urlsafe(64),
    )


@pytest.fixture
def well(settings: Any, aws_endpoint: Aws, valkey: Valkey) -> Iterator[Stage]:
    """A stage in which all is well, and which a test may break."""
    stage = make_stage()
    settings.HERMES_STAGES = {stage.name: stage}
    settings.SECRET_KEY = secrets.token_urlsafe(48)
    for provision in (queue.provision, token_store.provision, mirror.provision):
        provision(stage)
    yield stage
    for url in aws_endpoint.sqs.list_queues(QueueNamePrefix="doctor-").get("QueueUrls", []):
        aws_endpoint.sqs.delete_queue(QueueUrl=url)
    for table in aws_endpoint.dynamodb.list_tables()["TableNames"]:
        if table.startswith("doctor"):
            aws_endpoint.dynamodb.delete_table(TableName=table)


@pytest.fixture
def proxied(well: Stage, aws_endpoint: Aws, settings: Any) -> Iterator[AwsProxy]:
    """A proxy before the AWS endpoint."""
    proxy = AwsProxy()
    proxy.start(aws_endpoint.engine.port)
    settings.AWS_ENDPOINT_URL = proxy.url
    yield proxy
    proxy.stop()


def findings(name: str, **options: Any) -> list[Finding]:
    """Return what one check finds."""
    (check,) = [check for check in doctor.checks(**options) if check.name == name]
    return [line.finding for line in doctor.examine([check])]


def the_only(name: str, status: Status, found: str, cure: str, **options: Any) -> None:
    """Hold the one finding of a check against what it must say."""
    (finding,) = findings(name, **options)
    assert finding.status is status, finding
    assert found in finding.found, finding
    assert cure in finding.cure, finding


def fails(name: str, found: str, cure: str, **options: Any) -> None:
    the_only(name, Status.FAIL, found, cure, **options)


def warns(name: str, found: str, cure: str, **options: Any) -> None:
    the_only(name, Status.WARN, found, cure, **options)


def passes(name: str, found: str = "", **options: Any) -> None:
    the_only(name, Status.OK, found, "", **options)


def run(*arguments: str) -> tuple[int, str]:
    """Run the command here; return its exit status and what it wrote."""
    output = io.StringIO()
    try:
        call_command("doctor", *arguments, stdout=output)
    except SystemExit as ended:
        return int(ended.code or 0), output.getvalue()
    return 0, output.getvalue()


# ── The command ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db(transaction=True)
def test_where_all_is_well_every_check_says_so_on_one_line(well: Stage) -> None:
    status, text = run("--strict")
    lines = text.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "ok"] for name in NAMES]
    assert status == 0
    assert "→" not in text
    width = max(map(len, NAMES))
    assert all(line[width : width + 2] == "  " and line[width + 6 : width + 8] == "  " for line in lines), "aligned"


@pytest.mark.django_db(transaction=True)
def test_as_json_it_says_the_same_to_programs(well: Stage) -> None:
    status, text = run("--json")
    told = json.loads(text)
    assert (status, told["status"]) == (0, "ok")
    assert [check["name"] for check in told["checks"]] == NAMES
    for check in told["checks"]:
        assert check.keys() == {"name", "status", "found", "cure", "ms"}
        assert (check["status"], check["cure"]) == ("ok", "")
        assert check["found"]
        assert check["ms"] >= 0


@pytest.mark.django_db(transaction=True)
def test_a_failure_is_exit_status_1_and_a_warning_only_when_strict(well: Stage, settings: Any) -> None:
    settings.DEBUG = True
    assert run()[0] == 0
    assert run("--strict")[0] == 1
    assert json.loads(run("--json")[1])["status"] == "warn"
    settings.HERMES_TOKEN_TTL = settings.HERMES_TOKEN_MAX_TTL + 1
    assert run()[0] == 1
    status, text = run("--json")
    assert (status, json.loads(text)["status"]) == (1, "fail")


@pytest.mark.parametrize("deadline", ["0", "-1", "601", "nan"])
def test_a_deadline_must_end(deadline: str) -> None:
    with pytest.raises(CommandError, match="--deadline must be"):
        run(f"--deadline={deadline}")


def test_with_everything_away_each_check_still_answers_and_no_secret_is_told(tmp_path: Path, settings: Any) -> None:
    """As a process: its exit status, and its end although nothing answers."""
    hidden = {name: secrets.token_urlsafe(64) for name in ("DJANGO_SECRET_KEY", "HERMES_JWT_SECRET", "HERMES_PASSCODE")}
    password = "the-password-of-both"
    process = subprocess.run(
        [sys.executable, MANAGE, "doctor", "--json", "--deadline", "60"],
        env={
            "PATH": "/usr/bin:/bin",
            **hidden,
            "DATABASE_URL": f"postgres://alice:{password}@{HOST}:1/hermes",
            "REDIS_URL": f"redis://alice:{password}@{HOST}:1/0",
            "AWS_ENDPOINT_URL": f"http://{HOST}:1",
            "AWS_ACCESS_KEY_ID": "tests-key-id",
            "AWS_SECRET_ACCESS_KEY": "tests-secret-key",
        },
        text=True,
        capture_output=True,
        timeout=150,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    told = json.loads(process.stdout)
    assert told["status"] == "fail"
    cures = {check["name"]: check["cure"] for check in told["checks"] if check["status"] == "fail"}
    assert [check["name"] for check in told["checks"]] == NAMES
    assert cures.keys() == set(NAMES) - {"settings", "keys"}
    assert all("REDIS_URL" in cures[name] for name in OF_REDIS), cures
    assert all("AWS_ENDPOINT_URL" in cures[name] for name in OF_AWS), cures
    assert "DATABASE_URL" in cures["database"]
    for secret in (password, "tests-secret-key", *hidden.values()):
        assert secret not in process.stdout + process.stderr


def test_a_setting_that_is_not_understood_is_named_in_one_line() -> None:
    process = subprocess.run(
        [sys.executable, MANAGE, "doctor"],
        env={"PATH": "/usr/bin:/bin", "DJANGO_SECRET_KEY": "x", "HERMES_WAIT_SECONDS": "soon"},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr == "HERMES_WAIT_SECONDS='soon' must be a whole number from 1 to 20.\n"


# ── One for all and all for one ──────────────────────────────────────────────────────────────────────────────────────
def test_one_check_that_cannot_be_made_hides_no_other() -> None:
    def broken() -> list[Finding]:
        raise LookupError("where is it")

    lines = doctor.examine([Check("broken", broken), Check("whole", lambda: [ok("here")])])
    assert [(line.name, line.finding.status) for line in lines] == [("broken", Status.FAIL), ("whole", Status.OK)]
    assert lines[0].finding.found == "the check itself failed: LookupError: where is it"


def test_one_check_that_hangs_costs_its_deadline_and_no_other_waits() -> None:
    release = threading.Event()
    begun = time.monotonic()
    try:
        hangs = Check("hangs", lambda: [ok(str(release.wait(60)))])
        lines = doctor.examine([hangs, Check("whole", lambda: [ok("here")])], deadline=0.3)
        assert time.monotonic() - begun < 10
        assert [line.finding.status for line in lines] == [Status.FAIL, Status.OK]
        assert lines[0].finding.found == "no answer within 0.3 s"
        assert "--deadline" in lines[0].finding.cure
    finally:
        release.set()


def test_a_process_ends_although_what_it_asked_hangs(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.engine.suspend()
    try:
        process = subprocess.run(
            [sys.executable, MANAGE, "doctor", "--deadline", "2"],
            env={**os.environ, "HERMES_STAGES": "development"},
            text=True,
            capture_output=True,
            timeout=30,
            check=False,
        )
    finally:
        aws_endpoint.engine.resume()
    assert process.returncode == 1
    late = [line for line in process.stdout.splitlines() if "no answer within 2 s → " in line]
    # A host that is slow may be late with others, too.
    assert {line.split()[0] for line in late} >= OF_AWS


@pytest.mark.django_db(transaction=True)
def test_an_aws_that_hangs_is_told_within_the_deadline(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.engine.suspend()
    try:
        begun = time.monotonic()
        status, text = run("--json", "--deadline", "2")
        assert time.monotonic() - begun < 10
    finally:
        aws_endpoint.engine.resume()
    failing = {check["name"] for check in json.loads(text)["checks"] if check["status"] == "fail"}
    assert status == 1
    assert failing >= OF_AWS


def test_what_an_error_says_is_told_on_one_line_without_secrets(
    well: Stage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REDIS_URL = "redis://alice:p%40ss-word-of-redis@redis.example.org/0"
    settings.HERMES_METRICS_TOKEN = "the token of metrics"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the key of aws")
    hidden = [
        *(settings.SECRET_KEY, well.jwt_secret, well.passcode, "p@ss-word-of-redis", "p%40ss-word-of-redis"),
        *(settings.HERMES_METRICS_TOKEN, "the key of aws", "eyJhbGciOiJIUzUxMiJ9.e30.c2ln"),
    ]

    def broken() -> list[Finding]:
        raise ValueError("\n".join([*hidden, settings.REDIS_URL, "postgres://bob:pw@db/x", "ws?token=abc&x=1"]))

    (line,) = doctor.examine([Check("broken", broken)])
    assert "\n" not in line.finding.found
    for secret in (*hidden, "alice:", "bob:pw", "token=abc"):
        assert secret not in line.finding.found, secret


# ── Settings and keys ────────────────────────────────────────────────────────────────────────────────────────────────
def test_settings_that_cannot_work_are_told_by_their_check(well: Stage, settings: Any) -> None:
    settings.HERMES_VISIBILITY_SECONDS = settings.HERMES_WAIT_SECONDS
    fails("settings", "hermes.E010", "at least twice the poll")
    settings.HERMES_VISIBILITY_SECONDS = 60
    settings.HERMES_MAX_RECEIVES = 1
    warns("settings", "hermes.W001", "5 or more")
    settings.HERMES_MAX_RECEIVES = 10
    settings.DEBUG = True
    warns("settings", "DJANGO_DEBUG is on", "production")
    settings.DEBUG = False
    passes("settings", "development")


@pytest.mark.parametrize(
    ("secret", "found"),
    [
        ("", "hermes.E001"),
        (secrets.token_urlsafe(40), "hermes.E002"),
        ("s" * 64, "HERMES_JWT_SECRET repeats a shorter text"),
        ("hunter-two-" * 6, "HERMES_JWT_SECRET repeats a shorter text"),
        ("0123" * 20 + "x", "HERMES_JWT_SECRET has fewer than 10 different characters"),
    ],
)
def test_a_weak_key_is_told_and_never_shown(well: Stage, settings: Any, secret: str, found: str) -> None:
    settings.HERMES_STAGES = {"development": replace(well, jwt_secret=secret)}
    fails("keys", found, "HERMES_JWT_SECRET")
    assert not secret or secret not in str(findings("keys"))


def test_keys_that_are_accepted_beside_the_first_are_judged_too(well: Stage, settings: Any) -> None:
    settings.HERMES_STAGES = {"development": replace(well, other_passcodes=("passcode" * 5,))}
    fails("keys", "HERMES_PASSCODE_2 repeats a shorter text", "docs/security.md")
    settings.HERMES_ACCEPT_SHORT_SECRETS = True
    warns("keys", "HERMES_PASSCODE_2 repeats a shorter text", "docs/security.md")


@pytest.mark.parametrize("key", ["short", "x" * 50])
def test_a_weak_django_key_fails_and_in_development_warns(well: Stage, settings: Any, key: str) -> None:
    settings.SECRET_KEY = key
    fails("keys", "DJANGO_SECRET_KEY", "50 random characters")
    settings.DEBUG = True
    warns("keys", "DJANGO_SECRET_KEY", "50 random characters")


# ── Database ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.django_db(transaction=True)
def test_a_migration_that_is_not_applied_is_named(well: Stage) -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("notifications", LAST_MIGRATION)
    try:
        fails("migrations", f"not applied: 1, notifications.{LAST_MIGRATION} first", "manage.py migrate")
    finally:
        recorder.record_applied("notifications", LAST_MIGRATION)
    passes("migrations")


@pytest.mark.django_db(transaction=True)
def test_a_migration_of_a_later_release_is_a_warning(well: Stage) -> None:
    recorder = MigrationRecorder(connection)
    recorder.record_applied("notifications", "9999_of_tomorrow")
    try:
        warns("migrations", "9999_of_tomorrow", "manage.py migrate")
    finally:
        recorder.record_unapplied("notifications", "9999_of_tomorrow")


# ── Redis ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def configure(valkey: Valkey) -> Iterator[Callable[[str, object], None]]:
    """Change the run's Valkey's configuration until the test ends."""
    with redis.Redis.from_url(valkey.url) as client:
        before: dict[str, Any] = {}

        def change(name: str, value: object) -> None:
            before.setdefault(name, client.config_get(name)[name])
            client.config_set(name, str(value))

        yield change
        for name, value in before.items():
            client.config_set(name, value)


@pytest.fixture
def other_valkey(tmp_path: Path) -> Iterator[Callable[..., Valkey]]:
    """Return a function that starts a Valkey of the test's own."""
    started: list[Valkey] = []

    def start(*arguments: str) -> Valkey:
        started.append(Valkey(tmp_path / f"valkey-{len(started)}", arguments=arguments).start())
        return started[-1]

    yield start
    for engine in started:
        engine.kill()


@pytest.mark.django_db(transaction=True)
def test_with_redis_away_what_is_of_redis_fails_and_nothing_else(well: Stage, valkey: Valkey) -> None:
    valkey.stop()
    status, text = run("--json")
    failing = {check["name"]: check["cure"] for check in json.loads(text)["checks"] if check["status"] == "fail"}
    assert (status, failing.keys()) == (1, OF_REDIS)
    assert all("REDIS_URL" in cure for cure in failing.values())
    valkey.start()
    assert run()[0] == 0


def test_a_password_that_redis_refuses_is_told(well: Stage, settings: Any, other_valkey: Callable[..., Valkey]) -> None:
    settings.REDIS_URL = other_valkey("--requirepass", "another-password").url.replace("//", "//:wrong-password@")
    fails("redis", "AuthenticationError", "password in REDIS_URL")


def test_a_redis_that_may_not_be_asked_what_it_is_is_a_warning_only(
    well: Stage, settings: Any, other_valkey: Callable[..., Valkey]
) -> None:
    engine = other_valkey("--user", "alice", "on", ">the-password", "~*", "&*", "+@all", "-info")
    settings.REDIS_URL = engine.url.replace("//", "//alice:the-password@")
    for check in ("redis", "redis.eviction", "redis.persistence"):
        warns(check, "may not ask INFO", "+info")
    passes("redis.append")
    passes("clock.redis")


def test_a_replica_takes_no_writes(
    well: Stage, valkey: Valkey, settings: Any, other_valkey: Callable[..., Valkey]
) -> None:
    settings.REDIS_URL = other_valkey("--replicaof", HOST, str(valkey.port)).url
    fails("redis", "takes no writes", "primary")
    fails("redis.append", "Redis refused", "Redis says why")


@pytest.mark.parametrize(
    ("version", "durability", "cure"),
    [("6.0.16", "memory", "6.2"), ("5.0.0", "fsync", "7.2"), ("7.0.15", "fsync", "7.2")],
)
def test_a_redis_that_is_too_old_is_told(settings: Any, version: str, durability: str, cure: str) -> None:
    settings.HERMES_DURABILITY = durability
    (finding,) = examine._version(f"Redis {version}", version)
    assert finding.status is Status.FAIL
    assert cure in finding.cure


@pytest.mark.parametrize(("version", "durability"), [("6.2.0", "memory"), ("7.2.4", "fsync"), ("10.0.1", "replica")])
def test_a_redis_that_is_new_enough_is_not(settings: Any, version: str, durability: str) -> None:
    settings.HERMES_DURABILITY = durability
    assert list(examine._version("Redis", version)) == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_is_told(well: Stage, configure: Callable[[str, object], None], policy: str) -> None:
    configure("maxmemory-policy", policy)
    fails("redis.eviction", f"maxmemory-policy is {policy}", "maxmemory-policy noeviction")


def test_a_redis_that_is_nearly_full_is_a_warning(
    well: Stage, valkey: Valkey, configure: Callable[[str, object], None]
) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        used = client.info("memory")["used_memory"]
    configure("maxmemory", round(used * 1.02))
    warns("redis.eviction", "of maxmemory is used", "maxmemory")


def test_fsync_without_an_append_only_file_is_told_and_with_one_it_is_well(
    well: Stage, settings: Any, other_valkey: Callable[..., Valkey]
) -> None:
    settings.HERMES_DURABILITY = "fsync"
    settings.REDIS_URL = other_valkey().url
    fails("redis.persistence", "appendonly is no", "appendonly yes")
    fails("redis.append", "durability 'fsync'", "redis.persistence")
    settings.REDIS_URL = other_valkey("--appendonly", "yes", "--appendfsync", "no").url
    fails("redis.append", "appendfsync is no", "appendfsync everysec")
    settings.REDIS_URL = other_valkey("--appendonly", "yes").url
    passes("redis.persistence", "appendonly yes")
    passes("redis.append", "HERMES_DURABILITY=fsync")


def test_an_append_that_is_not_confirmed_is_told_also_where_config_is_not_permitted(
    well: Stage, settings: Any, other_valkey: Callable[..., Valkey]
) -> None:
    settings.HERMES_DURABILITY = "fsync"
    settings.HERMES_DURABILITY_SECONDS = 1
    engine = other_valkey("--appendonly", "yes", "--appendfsync", "no")
    with redis.Redis.from_url(engine.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    settings.REDIS_URL = engine.url
    fails("redis.append", "durability 'fsync'", "appendfsync")


def test_replica_without_a_replica_is_told_and_with_one_it_is_well(
    well: Stage, settings: Any, other_valkey: Callable[..., Valkey]
) -> None:
    settings.HERMES_DURABILITY = "replica"
    settings.HERMES_DURABILITY_SECONDS = 1
    primary = other_valkey()
    settings.REDIS_URL = primary.url
    fails("redis.persistence", "replicas online: 0", "HERMES_REPLICAS")
    fails("redis.append", "0 of 1 confirmed", "redis.persistence")
    other_valkey("--replicaof", HOST, str(primary.port), "--repl-diskless-sync-delay", "0")
    wait_until(lambda: findings("redis.persistence")[0].status is Status.OK, 30, "the replica is online")
    passes("redis.append", "HERMES_DURABILITY=replica")


def test_a_disk_that_takes_no_snapshot_is_told(well: Stage, settings: Any, other_valkey: Callable[..., Valkey]) -> None:
    engine = other_valkey()
    settings.REDIS_URL = engine.url
    shutil.rmtree(engine.directory)
    with redis.Redis.from_url(engine.url) as client:
        client.bgsave()
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="the snapshot has failed"
        )
    fails("redis.persistence", "the last write of Redis's snapshot failed", "disk")


async def test_a_deaf_subscription_is_told(well: Stage, valkey: Valkey, settings: Any) -> None:
    between = await ChaosProxy(valkey.port).start()
    host = {"address": f"redis://{HOST}:{between.port}/0"}
    settings.CHANNEL_LAYERS = {
        "default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": [host], "prefix": "hermes."}}
    }
    try:
        await asyncio.to_thread(passes, "layer", "came back")
        between.is_deaf = True
        await asyncio.to_thread(fails, "layer", "did not come back", "REDIS_URL")
        assert between.bites > 0
    finally:
        await between.stop()


# ── Clocks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("whose", ["redis", "aws"])
def test_a_clock_that_is_wrong_is_told_and_which_way(well: Stage, whose: str) -> None:
    passes(f"clock.{whose}", "agree")
    fails(f"clock.{whose}", "s ahead of this host", "chrony", now=lambda: time.time() - 3600)
    fails(f"clock.{whose}", "s behind this host", "chrony", now=lambda: time.time() + 3600)
    warns(f"clock.{whose}", "ahead of this host", "chrony", now=lambda: time.time() - 10)


def test_aws_alone_may_be_wrong_or_tell_no_time(proxied: AwsProxy) -> None:
    passes("clock.aws")
    proxied.set_clock(300)
    fails("clock.aws", "AWS is", "chrony")
    passes("clock.redis")
    proxied.set_clock(None)
    warns("clock.aws", "no date", "AWS_ENDPOINT_URL")


# ── SQS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
def url_of(aws: Aws, name: str) -> str:
    return str(aws.sqs.get_queue_url(QueueName=name)["QueueUrl"])


def set_attributes(aws: Aws, name: str, **attributes: str) -> None:
    aws.sqs.set_queue_attributes(QueueUrl=url_of(aws, name), Attributes=attributes)


def set_redrive(aws: Aws, stage: Stage, count: int, target: str = "") -> None:
    """Have the queue give up on a message after so many receives."""
    attributes = aws.sqs.get_queue_attributes(
        QueueUrl=url_of(aws, target or stage.dlq_name), AttributeNames=["QueueArn"]
    )
    policy = {"deadLetterTargetArn": attributes["Attributes"]["QueueArn"], "maxReceiveCount": count}
    set_attributes(aws, stage.queue_name, RedrivePolicy=json.dumps(policy))


def test_a_queue_that_is_not_there_is_told(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.sqs.delete_queue(QueueUrl=url_of(aws_endpoint, well.queue_name))
    for check in ("sqs.development", "sqs.development.dead-letters"):
        fails(check, f"there is no queue {well.queue_name}", "manage.py provision")


def test_a_dead_letter_queue_that_is_not_there_is_told(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.sqs.delete_queue(QueueUrl=url_of(aws_endpoint, well.dlq_name))
    fails("sqs.development.dead-letters", f"there is no queue {well.dlq_name}", "HERMES_DLQ_NAME")


def test_a_queue_without_a_redrive_policy_is_told(well: Stage, aws_endpoint: Aws, settings: Any) -> None:
    bare = replace(well, queue_name=f"{well.queue_name}-bare")
    aws_endpoint.sqs.create_queue(QueueName=bare.queue_name)
    settings.HERMES_STAGES = {"development": bare}
    fails("sqs.development.dead-letters", "no redrive policy", "manage.py provision")
    queue.provision(bare)
    passes("sqs.development.dead-letters")


def test_a_redrive_policy_to_elsewhere_is_told(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.sqs.create_queue(QueueName=f"{well.queue_name}-elsewhere")
    set_redrive(aws_endpoint, well, 10, f"{well.queue_name}-elsewhere")
    fails("sqs.development.dead-letters", f"{well.queue_name}-elsewhere", "HERMES_DLQ_NAME")


@pytest.mark.parametrize(
    ("count", "judge", "found"),
    [
        (1, fails, "maxReceiveCount 1"),
        (9, warns, "maxReceiveCount is 9, HERMES_MAX_RECEIVES is 10"),
        (60, fails, "longer than HERMES_IDEMPOTENCY_SECONDS"),
    ],
)
def test_a_count_of_receives_that_does_not_fit_is_told(
    well: Stage, aws_endpoint: Aws, count: int, judge: Callable[..., None], found: str
) -> None:
    set_redrive(aws_endpoint, well, count)
    judge("sqs.development.dead-letters", found, "")
    assert findings("sqs.development.dead-letters")[0].cure


def test_dead_letters_that_are_forgotten_too_soon_and_those_that_wait_are_warnings(
    well: Stage, aws_endpoint: Aws
) -> None:
    set_attributes(aws_endpoint, well.dlq_name, MessageRetentionPeriod="3600")
    warns("sqs.development.dead-letters", "keeps messages for 3600 s", "MessageRetentionPeriod")
    set_attributes(aws_endpoint, well.dlq_name, MessageRetentionPeriod="1209600")
    aws_endpoint.sqs.send_message(QueueUrl=url_of(aws_endpoint, well.dlq_name), MessageBody="a dead letter")
    warns("sqs.development.dead-letters", "dead letters: 1", "hermes-error")


@pytest.mark.parametrize("action", ["ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "SendMessage"])
def test_a_call_that_sqs_does_not_permit_is_named(proxied: AwsProxy, action: str) -> None:
    passes("sqs.development.permissions")
    proxied.deny(action, f"{action}Batch")
    warns("sqs.development.permissions", f"sqs:{action} on doctor-", "What AWS must permit")
    proxied.deny()
    passes("sqs.development.permissions")


TAKES = {f"sqs:{action}" for action in ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")}


@pytest.mark.parametrize("role", [Role.WEB, Role.RELAY])
def test_a_role_is_asked_for_its_own_calls_and_what_is_refused_of_them_fails(
    proxied: AwsProxy, well: Stage, role: Role
) -> None:
    sends, takes = well.queue_name, well.dlq_name
    if role is Role.RELAY:
        sends, takes = takes, sends
    actions = [action.partition(":")[2] for action in TAKES]
    proxied.deny("SendMessageBatch", *actions, *(f"{action}Batch" for action in actions))
    (finding,) = findings("sqs.development.permissions", role=role)
    assert finding.status is Status.FAIL
    refused = set(finding.found.removeprefix("AWS does not permit ").split(", "))
    assert refused == {f"{action} on {takes}" for action in TAKES} | {f"sqs:SendMessage on {sends}"}


def test_a_relay_is_asked_for_nothing_that_only_a_server_needs(proxied: AwsProxy) -> None:
    """As AWS answers under the relay's policy: it may look at no queue, and at no table."""
    proxied.stop_service("dynamodb")
    proxied.deny("GetQueueAttributes")
    status, text = run("--role", "relay", "--strict", "--json")
    assert (status, json.loads(text)["status"]) == (0, "ok"), text
    told = {check["name"] for check in json.loads(text)["checks"]}
    assert told == {"settings", "keys", "sqs.development.permissions", "clock.aws"} | OF_REDIS


@pytest.mark.django_db(transaction=True)
def test_a_server_is_asked_for_all_but_the_relay_s_calls(well: Stage) -> None:
    status, text = run("--role", "web", "--strict")
    assert status == 0
    assert [line.split()[:2] for line in text.splitlines()] == [[name, "ok"] for name in NAMES]


def test_a_queue_that_may_not_be_described_is_told(proxied: AwsProxy) -> None:
    proxied.deny("GetQueueAttributes")
    fails("sqs.development", "AccessDenied", "What AWS must permit")


def test_a_dead_letter_queue_that_only_others_may_look_at_is_a_warning(
    well: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's role may not; AWS denies by queue, which the proxy does not know: so the real denial is put in."""
    attributes = queue.attributes

    def denied(stage: Stage, name: str) -> dict[str, str]:
        if name == stage.dlq_name:
            raise QueueUnavailable("Queue: could not describe it: SQS refused with AccessDenied")
        return attributes(stage, name)

    monkeypatch.setattr(queue, "attributes", denied)
    warns("sqs.development.dead-letters", f"may not look at {well.dlq_name}", "What AWS must permit")


@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_asking_for_permissions_changes_nothing(well: Stage, aws_endpoint: Aws, settings: Any, suffix: str) -> None:
    stage = make_stage(suffix)
    settings.HERMES_STAGES = {"development": stage}
    for provision in (queue.provision, token_store.provision, mirror.provision):
        provision(stage)
    ids: Any = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if suffix else {}
    aws_endpoint.sqs.send_message(QueueUrl=url_of(aws_endpoint, stage.queue_name), MessageBody="stays", **ids)
    passes("sqs.development.permissions")
    passes("dynamodb.development.permissions")
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    for name, held in ((stage.queue_name, ["1", "0"]), (stage.dlq_name, ["0", "0"])):
        answer = aws_endpoint.sqs.get_queue_attributes(QueueUrl=url_of(aws_endpoint, name), AttributeNames=names)
        assert [answer["Attributes"][each] for each in names] == held
    answer = aws_endpoint.sqs.receive_message(
        QueueUrl=url_of(aws_endpoint, stage.queue_name), MessageSystemAttributeNames=["ApproximateReceiveCount"]
    )
    assert answer["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"
    for table in (stage.connections_table, stage.audit_table, stage.tokens_table):
        assert aws_endpoint.items(table) == []


# ── DynamoDB ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("which", "setting"),
    [
        ("connections", "HERMES_CONNECTIONS_TABLE"),
        ("audit", "HERMES_AUDIT_TABLE"),
        ("tokens", "HERMES_TOKENS_TABLE"),
    ],
)
def test_a_table_that_is_not_there_is_told(well: Stage, aws_endpoint: Aws, which: str, setting: str) -> None:
    name = getattr(well, f"{which}_table")
    aws_endpoint.dynamodb.delete_table(TableName=name)
    fails(f"dynamodb.development.{which}", f"there is no table {name}", setting)
    assert "manage.py provision" in findings(f"dynamodb.development.{which}")[0].cure
    fails("dynamodb.development", "", "manage.py provision")


@pytest.mark.parametrize("which", ["connections", "audit"])
def test_a_table_without_ttl_is_told_and_one_by_another_attribute(well: Stage, aws_endpoint: Aws, which: str) -> None:
    name, check = getattr(well, f"{which}_table"), f"dynamodb.development.{which}"

    def switch(attribute: str, enabled: bool) -> None:
        aws_endpoint.dynamodb.update_time_to_live(
            TableName=name, TimeToLiveSpecification={"Enabled": enabled, "AttributeName": attribute}
        )

    switch("expires_at", False)
    fails(check, "has no TTL", "manage.py provision")
    switch("connected_at", True)
    fails(check, "has TTL by connected_at", "Switch TTL by connected_at off")
    switch("connected_at", False)
    mirror.provision(well)
    passes(check, "TTL by expires_at")


def test_an_index_that_is_missing_is_told(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.dynamodb.update_table(
        TableName=well.connections_table, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "server_id-index"}}]
    )
    fails("dynamodb.development.connections", "index server_id-index", "manage.py provision")
    mirror.provision(well)
    passes("dynamodb.development.connections", "server_id-index")


def test_an_index_by_another_attribute_is_told(well: Stage, aws_endpoint: Aws) -> None:
    client, name = aws_endpoint.dynamodb, well.connections_table
    client.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "room_id-index"}}])
    client.update_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "room_id-index",
                    "KeySchema": [{"AttributeName": "user_id", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "ALL"},
                }
            }
        ],
    )
    fails("dynamodb.development.connections", "is by user_id (S) and not by room_id (S)", "Delete the index")


def test_a_table_with_another_key_is_told(well: Stage, aws_endpoint: Aws) -> None:
    aws_endpoint.dynamodb.delete_table(TableName=well.tokens_table)
    aws_endpoint.dynamodb.create_table(
        TableName=well.tokens_table,
        KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "user_id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    fails("dynamodb.development.tokens", "key user_id (N) and not user_id (S) + room_id (S)", "HERMES_TOKENS_TABLE")


@pytest.mark.parametrize("action", ["BatchGetItem", "PutItem", "BatchWriteItem", "DeleteItem", "Query"])
def test_a_call_that_dynamodb_does_not_permit_is_named(proxied: AwsProxy, action: str) -> None:
    proxied.deny(action)
    fails("dynamodb.development.permissions", f"dynamodb:{action} on doctor", "What AWS must permit")
    proxied.deny()
    passes("dynamodb.development.permissions")


@pytest.mark.parametrize("which", ["connections", "audit", "tokens"])
def test_tables_that_may_not_be_described_are_a_warning_only(proxied: AwsProxy, which: str) -> None:
    proxied.deny("DescribeTable")
    warns(f"dynamodb.development.{which}", "does not permit to describe", "dynamodb:DescribeTable")
    passes("dynamodb.development")
