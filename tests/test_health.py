"""`/healthz` asks nobody; `/readyz` asks everything at once and once a second; `/metrics` is not for everybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import AsyncClient, Client, override_settings

from hermes_site.engines import HOST, Valkey
from notifications import health
from notifications.health import Readiness
from notifications.sockets.hub import Hub
from tests.environment import LAST_MIGRATION
from tests.faults.chaos import ChaosProxy
from tests.waiting import eventually, wait_until

Ask = Callable[..., Readiness]
PARTS = {
    "database",
    "migrations",
    "redis",
    "receiving",
    "sqs.development",
    "sqs.production",
    "dynamodb.development",
    "dynamodb.production",
}


@pytest.fixture
def readiness() -> Iterator[Ask]:
    """Return a function that makes a readiness of the test's own probes."""
    made: list[Readiness] = []

    def make(probes: Mapping[str, Callable[[], object]], **options: Any) -> Readiness:
        made.append(Readiness(probes, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def fresh() -> Iterator[None]:
    """Begin and end without a report of this process."""
    health.readiness.cache_clear()
    yield
    health.readiness().close()
    health.readiness.cache_clear()


def refuse() -> None:
    raise ConnectionError("secret-host:5432 refused alice")


def test_everything_that_answers_is_ready(readiness: Ask) -> None:
    report = readiness({"redis": lambda: None, "database": lambda: None}).report().result(5)
    assert report["status"] == "ready"
    assert {part: check["ok"] for part, check in report["checks"].items()} == {"redis": True, "database": True}
    assert all(check["ms"] >= 0 for check in report["checks"].values())


def test_one_part_that_fails_is_named_and_nothing_else_of_it_is_told(readiness: Ask) -> None:
    report = readiness({"redis": refuse, "database": lambda: None}).report().result(5)
    assert report["status"] == "degraded"
    assert report["checks"]["redis"]["ok"] is False
    assert report["checks"]["database"]["ok"] is True
    assert "secret-host" not in str(report)


def test_a_part_that_hangs_costs_one_deadline_and_one_thread(readiness: Ask) -> None:
    release, asked = threading.Event(), list[float]()

    def hang() -> None:
        asked.append(time.monotonic())
        release.wait(30)

    both = readiness({"redis": hang, "database": lambda: None}, deadline=0.2, cached=0)
    begun = time.monotonic()
    for _ in range(3):
        report = both.report().result(5)
        assert report["checks"]["redis"] == {"ok": False, "ms": 200.0}
        assert report["checks"]["database"]["ok"] is True
    assert 0.6 <= time.monotonic() - begun < 5
    assert len(asked) == 1
    release.set()
    wait_until(lambda: both.report().result(5)["status"] == "ready")


def test_parts_are_asked_at_the_same_time(readiness: Ask) -> None:
    barrier = threading.Barrier(5)
    report = readiness({f"part-{number}": lambda: barrier.wait(5) for number in range(5)}).report().result(10)
    assert report["status"] == "ready"


def test_many_who_ask_within_a_second_share_one_answer(readiness: Ask) -> None:
    asked = list[int]()
    one = readiness({"redis": lambda: (time.sleep(0.05), asked.append(1))})
    reports = [one.report() for _ in range(100)]
    assert {id(report.result(5)) for report in reports} == {id(one.report().result(5))}
    assert len(asked) == 1


def test_an_old_answer_is_not_given_again(readiness: Ask) -> None:
    asked = list[int]()
    one = readiness({"redis": lambda: asked.append(1)}, cached=0.05)
    one.report().result(5)
    wait_until(lambda: one.report().result(5) and len(asked) > 1)


def test_a_part_that_fails_is_logged_once_and_once_when_it_is_back(
    readiness: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "notifications.health")
    away = [True]

    def probe() -> None:
        if away[0]:
            refuse()

    one = readiness({"redis": probe}, cached=0)
    for _ in range(3):
        assert one.report().result(5)["status"] == "degraded"
    away[0] = False
    for _ in range(3):
        assert one.report().result(5)["status"] == "ready"
    assert [record.getMessage() for record in caplog.records] == [
        "not ready: redis (ConnectionError)",
        "ready again: redis",
    ]


async def test_healthz_asks_nobody(async_client: AsyncClient) -> None:
    response = await async_client.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert "no-store" in response.headers["Cache-Control"]
    assert (await async_client.post("/healthz")).status_code == 405


@pytest.mark.django_db(transaction=True)
async def test_readyz_is_200_while_everything_answers(
    fresh: None, valkey: Any, aws: Any, async_client: AsyncClient
) -> None:
    async def ready() -> bool:
        response = await async_client.get("/readyz")
        assert response.json()["checks"].keys() == PARTS
        return response.status_code == 200

    # The first look makes three clients of AWS, which a laden machine may not do within the deadline.
    await eventually(ready)


@pytest.mark.django_db(transaction=True)
def test_readyz_is_503_and_names_redis_while_redis_is_stopped(
    fresh: None, valkey: Any, aws: Any, client: Client
) -> None:
    valkey.stop()

    def failing() -> set[str]:
        response = client.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (503, "degraded")
        return {part for part, check in response.json()["checks"].items() if not check["ok"]}

    wait_until(lambda: failing() == {"redis"})
    valkey.start()
    wait_until(lambda: client.get("/readyz").status_code == 200)


@pytest.mark.django_db(transaction=True)
def test_readyz_answers_within_its_deadline_while_aws_hangs(fresh: None, valkey: Any, aws: Any, client: Client) -> None:
    aws.engine.suspend()
    try:
        begun = time.monotonic()
        response = client.get("/readyz")
        assert time.monotonic() - begun < 4
        failing = {part for part, check in response.json()["checks"].items() if not check["ok"]}
        assert failing == {part for part in PARTS if part.startswith(("sqs", "dynamodb"))}
    finally:
        aws.engine.resume()
    wait_until(lambda: client.get("/readyz").status_code == 200, 30)


@pytest.mark.django_db(transaction=True)
async def test_a_process_whose_subscription_is_deaf_is_not_ready(
    fresh: None, valkey: Valkey, aws: Any, settings: Any, async_client: AsyncClient
) -> None:
    between = await ChaosProxy(valkey.port).start()
    host = {"address": f"redis://{HOST}:{between.port}/0"}
    settings.CHANNEL_LAYERS = {
        "default": {**settings.CHANNEL_LAYERS["default"], "CONFIG": {"hosts": [host], "prefix": "hermes."}}
    }
    hub = Hub()
    await hub.start()

    async def failing() -> set[str]:
        checks = (await async_client.get("/readyz")).json()["checks"]
        return {part for part, check in checks.items() if not check["ok"]}

    async def only(*parts: str) -> bool:
        return await failing() == {*parts}

    try:
        await eventually(lambda: only())
        between.is_deaf = True
        await eventually(lambda: only("receiving"), 30, "a deaf process is not ready")
        assert between.bites > 0
        between.heal()
        await eventually(lambda: only())
    finally:
        await hub.stop()
        await get_channel_layer().flush()
        await between.stop()


@pytest.mark.django_db(transaction=True)
def test_a_process_whose_tables_are_not_there_yet_is_not_ready(
    fresh: None, valkey: Any, aws: Any, client: Client
) -> None:
    def failing() -> set[str]:
        return {part for part, check in client.get("/readyz").json()["checks"].items() if not check["ok"]}

    recorder = MigrationRecorder(connection)
    recorder.record_unapplied("notifications", LAST_MIGRATION)
    try:
        wait_until(lambda: failing() == {"migrations"})
    finally:
        recorder.record_applied("notifications", LAST_MIGRATION)
    wait_until(lambda: not failing())


def test_there_are_no_metrics_without_a_token_in_the_settings(client: Client) -> None:
    assert client.get("/metrics").status_code == 404


@pytest.mark.django_db(transaction=True)
@override_settings(HERMES_METRICS_TOKEN="tests-only-metrics")
def test_the_metrics_show_each_outage_also_where_nobody_asks_readyz(
    fresh: None, valkey: Any, aws: Any, client: Client
) -> None:
    def samples() -> dict[str, float]:
        text = client.get("/metrics", headers={"Authorization": "Bearer tests-only-metrics"}).content.decode()
        lines = [
            line.rpartition(" ") for line in text.splitlines() if line.startswith(("hermes_ready", "hermes_outages"))
        ]
        return {name: float(value) for name, _, value in lines}

    def ready(part: str) -> float:
        return samples()[f'hermes_ready{{part="{part}"}}']

    wait_until(lambda: all(ready(part) for part in PARTS))
    before = samples()
    valkey.stop()
    wait_until(lambda: not ready("redis"))
    valkey.start()
    wait_until(lambda: ready("redis"))
    aws.engine.suspend()
    try:
        wait_until(lambda: not ready("sqs.development") and not ready("dynamodb.production"))
    finally:
        aws.engine.resume()
    wait_until(lambda: all(ready(part) for part in PARTS), 30)
    after = samples()
    untouched = {"database", "migrations", "receiving"}
    for part in PARTS - untouched:
        counter = f'hermes_outages_total{{part="{part}"}}'
        assert after[counter] > before[counter]
    for part in untouched:
        counter = f'hermes_outages_total{{part="{part}"}}'
        assert after[counter] == before[counter]


@pytest.mark.django_db(transaction=True)
@override_settings(HERMES_METRICS_TOKEN="tests-only-metrics")
def test_metrics_are_for_who_brings_the_token(fresh: None, valkey: Any, aws: Any, client: Client) -> None:
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer wröng"}).status_code == 401
    response = client.get("/metrics", headers={"Authorization": "Bearer tests-only-metrics"})
    assert response.status_code == 200
    assert b"# HELP" in response.content
