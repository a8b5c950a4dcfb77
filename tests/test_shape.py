"""Shape: what AWS may say of a table and the tests' endpoint never does."""

from __future__ import annotations

from typing import Any

import pytest

from notifications.conf import Stage
from notifications.exceptions import StoreUnavailable
from notifications.findings import Finding, Status
from notifications.registry.items import connections_table
from notifications.shape import Table, judge

DEFINITION = connections_table(Stage("development"))


def judged(**described: Any) -> list[Finding]:
    """Return what is found of a table that is as its definition, but for this."""
    table = Table({**DEFINITION, "TableStatus": "ACTIVE", **described}, "expires_at")
    return list(judge(DEFINITION, lambda: table, setting="HERMES_CONNECTIONS_TABLE", ttl="expires_at"))


def test_a_table_that_is_as_its_definition_is_well() -> None:
    assert [finding.status for finding in judged()] == [Status.OK]
    assert [finding.status for finding in judged(TableStatus="UPDATING")] == [Status.OK]


def test_a_table_that_is_being_made_or_deleted_is_not() -> None:
    (finding,) = judged(TableStatus="DELETING")
    assert (finding.status, finding.found) == (Status.FAIL, "table hermesConnections is DELETING")


def test_an_index_that_is_being_built_is_a_warning() -> None:
    indexes = [{**index, "IndexStatus": "CREATING"} for index in DEFINITION["GlobalSecondaryIndexes"]]
    assert [finding.status for finding in judged(GlobalSecondaryIndexes=indexes)] == [Status.WARN, Status.WARN]


def test_everything_that_is_wrong_is_told_each_on_its_own() -> None:
    found = judged(TableStatus="ARCHIVED", GlobalSecondaryIndexes=None)
    assert len(found) == 3
    assert all(finding.status is Status.FAIL and finding.cure for finding in found)


def test_a_dynamodb_that_does_not_answer_is_no_table_that_is_not_there() -> None:
    def describe() -> Table | None:
        raise StoreUnavailable("DynamoDB: EndpointConnectionError")

    with pytest.raises(StoreUnavailable):
        list(judge(DEFINITION, describe, setting="HERMES_CONNECTIONS_TABLE"))
