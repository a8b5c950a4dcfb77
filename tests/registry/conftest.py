"""The scene of the registry's tests: connections of Alice, Bob and Charlie, and a DynamoDB that may be stopped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from hermes_site.engines import AwsEndpoint
from notifications.registry import tables
from notifications.registry.records import ConnectionRecord

Join = Callable[..., ConnectionRecord]


@pytest.fixture
def join() -> Join:
    """Return a function that makes the record of a member's new connection."""
    numbers = itertools.count(1)

    def make(user: str = "alice", room: str = "acme", stage: str = "development") -> ConnectionRecord:
        return ConnectionRecord(f"{user}-{next(numbers)}", stage, room, user, datetime.now(UTC))

    return make


class Tables:
    """A DynamoDB of this test's own, which it may stop, and what is in its tables."""

    def __init__(self, engine: AwsEndpoint) -> None:
        self.engine = engine

    def provision(self) -> None:
        """Make every stage's tables."""
        for stage in settings.HERMES_STAGES.values():
            tables.provision(stage)

    def items(self, table: str) -> list[dict[str, str]]:
        """Return every item of a table, without DynamoDB's types."""
        pages = tables._client().get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [
            {name: next(iter(value.values())) for name, value in item.items()}
            for page in pages
            for item in page["Items"]
        ]

    @property
    def connections(self) -> dict[str, dict[str, str]]:
        """The connections table, by connection id."""
        return {item["connection_id"]: item for item in self.items("hermesConnections")}

    @property
    def audit(self) -> dict[str, dict[str, str]]:
        """The audit table without the leases, by connection id."""
        return {item["connection_id"]: item for item in self.items("hermesAudit") if "connection_id" in item}

    @property
    def leases(self) -> set[str]:
        """The servers that have a lease."""
        return {item["opened"] for item in self.items("hermesAudit") if "beat" in item}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsEndpoint]:
    """An AWS endpoint for one module, that its tests may stop."""
    with AwsEndpoint(tmp_path_factory.mktemp("aws")) as engine, override_settings(AWS_ENDPOINT_URL=engine.url):
        yield engine
        tables._client().close()
        tables._clients_for.cache_clear()


@pytest.fixture
def dynamodb(engine: AwsEndpoint) -> Tables:
    """DynamoDB with empty tables."""
    if not engine.running:
        engine.start()
    client: Any = tables._client()
    for name in client.list_tables()["TableNames"]:
        client.delete_table(TableName=name)
    scene = Tables(engine)
    scene.provision()
    return scene
