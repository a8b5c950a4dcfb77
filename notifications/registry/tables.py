"""Tables: DynamoDB's connections and audit tables, call by call. Called by mirror (keeper, provision) and examine."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from notifications.conf import Stage
from notifications.exceptions import StoreUnavailable
from notifications.registry import items
from notifications.registry.records import ABNORMAL, full_jitter
from notifications.shape import Table
from notifications.wire import Wire, connect

# DynamoDB's own limits: requests in a BatchWriteItem, keys in a BatchGetItem.
WRITES, READS = 25, 100
# The mirror's writers, and as many again for its keeper and for probes.
POOL = 8
# A throttled table lets most of a batch through at the second or third try; after that the mirror's keeper backs off.
TRIES = 4
PROVISION_SECONDS = 300.0
_MAKING = threading.Lock()


@functools.cache
def _clients_for(endpoint: str | None, region: str) -> tuple[Any, Wire]:
    return connect("dynamodb", endpoint=endpoint, region=region, answer_seconds=5, pool=POOL)


def _clients() -> tuple[Any, Wire]:
    with _MAKING:  # half a second of CPU, for one of those who come at once
        return _clients_for(settings.AWS_ENDPOINT_URL, settings.AWS_REGION)


def _client() -> Any:
    return _clients()[0]


def _ask(operation: str, **arguments: Any) -> dict[str, Any]:
    """Make a call of those that are made all day."""
    return _clients()[1].call(operation, **arguments)


def _pages(**query: Any) -> Iterator[items.Item]:
    """Yield the items of all of a query's pages."""
    while True:
        page = _ask("Query", **query)
        yield from page["Items"]
        if not page.get("LastEvaluatedKey"):
            return
        query["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def prepare() -> None:
    """Make this process's client: a third of a second of CPU that those who join first would wait for."""
    _client()


def provision(stage: Stage) -> None:
    """Create the stage's connections and audit tables, with indexes and TTL, where they are missing; for development.

    Raises:
        StoreUnavailable: DynamoDB does not answer, or the tables are not ready after 5 minutes.
    """
    try:
        for definition in (items.connections_table(stage), items.audit_table(stage)):
            _provision(definition, time.monotonic() + PROVISION_SECONDS)
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"DynamoDB: {error}") from error


def _provision(definition: dict[str, Any], deadline: float) -> None:
    client, name = _client(), definition["TableName"]
    with contextlib.suppress(client.exceptions.ResourceInUseException):
        client.create_table(**definition)
    have = {index["IndexName"] for index in _when_active(name, deadline).get("GlobalSecondaryIndexes", ())}
    for index in definition.get("GlobalSecondaryIndexes", ()):
        if index["IndexName"] not in have:
            # A table of the article's has none; DynamoDB builds one index at a time.
            client.update_table(
                TableName=name,
                AttributeDefinitions=definition["AttributeDefinitions"],
                GlobalSecondaryIndexUpdates=[{"Create": index}],
            )
            _when_active(name, deadline)
    ttl = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    if ttl.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING"):
        client.update_time_to_live(
            TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"}
        )


def _when_active(name: str, deadline: float) -> dict[str, Any]:
    while True:
        table: dict[str, Any] = _client().describe_table(TableName=name)["Table"]
        indexes = table.get("GlobalSecondaryIndexes", ())
        if {table["TableStatus"], *(index.get("IndexStatus", "ACTIVE") for index in indexes)} == {"ACTIVE"}:
            return table
        if time.monotonic() > deadline:
            raise StoreUnavailable(f"DynamoDB: table {name} is not ready.")
        time.sleep(0.2)


def probe(stage: Stage) -> None:
    """Read from both of the stage's tables, as the mirror does.

    Raises:
        StoreUnavailable: DynamoDB does not answer, or a table is missing or forbidden.
    """
    try:
        _client().get_item(TableName=stage.connections_table, Key=items.connection_key("#probe"))
        _client().get_item(TableName=stage.audit_table, Key=items.lease_key("#probe"))
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"DynamoDB: {_called(error)}") from error


def describe(name: str) -> Table | None:
    """Return a table as it is; ``None`` where there is none of that name.

    Raises:
        StoreUnavailable: DynamoDB does not answer, or refuses.
    """
    try:
        description = _client().describe_table(TableName=name)["Table"]
        ttl = _client().describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    except _client().exceptions.ResourceNotFoundException:
        return None
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(f"table {name} cannot be described: {_called(error)}") from error
    is_on = ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return Table(description, ttl.get("AttributeName", "") if is_on else "")


def refused(stage: Stage) -> list[str]:
    """Return the calls that AWS does not permit us; each is made in a way that changes nothing.

    Nothing is read, changed or deleted but an item that is not there.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    connection, lease = items.connection_key("#doctor"), items.lease_key("#doctor")
    absent = {"ConditionExpression": "beat = :beat", "ExpressionAttributeValues": {":beat": {"S": "none"}}}
    connections, audit = stage.connections_table, stage.audit_table
    asked: list[tuple[str, str, Callable[[], object]]] = [
        ("BatchWriteItem", connections, lambda: batch_write([(connections, {"DeleteRequest": {"Key": connection}})])),
        ("BatchGetItem", connections, lambda: list(batch_get(connections, ["#doctor"]))),
        ("Query", f"{connections}/index/{items.SERVER_INDEX}", lambda: list(ids_of(connections, "#doctor"))),
        ("BatchWriteItem", audit, lambda: batch_write([(audit, {"DeleteRequest": {"Key": lease}})])),
        ("PutItem", audit, lambda: _client().put_item(TableName=audit, Item=lease, **absent)),
        ("DeleteItem", audit, lambda: _client().delete_item(TableName=audit, Key=lease, **absent)),
        ("Query", audit, lambda: list(leases(audit))),
    ]
    denied = []
    for action, name, ask in asked:
        try:
            ask()
        except ClientError as error:
            if "AccessDenied" in _called(error):
                denied.append(f"dynamodb:{action} on {name}")
            elif "ConditionalCheckFailed" not in _called(error) and "ResourceNotFound" not in _called(error):
                raise StoreUnavailable(f"DynamoDB: {_called(error)}") from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"DynamoDB: {_called(error)}") from error
    return denied


def _called(error: Exception) -> str:
    """Return what AWS calls an error, or else what boto3 does; their texts may hold addresses."""
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


def batch_write(requests: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    """Write at most 25 requests, each with its table's name; return whether all were taken in the end."""
    unprocessed: dict[str, list[dict[str, Any]]] = {}
    for table, request in requests:
        unprocessed.setdefault(table, []).append(request)
    for attempt in range(TRIES):
        if attempt:
            time.sleep(full_jitter(attempt, base=0.05, cap=0.5))
        unprocessed = _ask("BatchWriteItem", RequestItems=unprocessed).get("UnprocessedItems", {})
        if not unprocessed:
            return True
    return False


def put_end(table: str, audit: items.Key) -> None:
    """Put the audit item of a connection whose server is dead, unless the server has said how it ended."""
    with contextlib.suppress(_client().exceptions.ConditionalCheckFailedException):
        _ask(
            "PutItem",
            TableName=table,
            Item=audit,
            ConditionExpression="attribute_not_exists(opened) OR code = :abnormal",
            ExpressionAttributeValues={":abnormal": {"N": str(ABNORMAL)}},
        )


def batch_get(table: str, ids: Sequence[str]) -> Iterator[items.Item]:
    """Read at most 100 connections' items, consistently.

    Raises:
        StoreUnavailable: some keys were still unprocessed at the last try.
    """
    unprocessed: Any = {table: {"Keys": [items.connection_key(each) for each in ids], "ConsistentRead": True}}
    for attempt in range(TRIES):
        if attempt:
            time.sleep(full_jitter(attempt, base=0.05, cap=0.5))
        answer = _ask("BatchGetItem", RequestItems=unprocessed)
        yield from answer["Responses"].get(table, ())
        unprocessed = answer.get("UnprocessedKeys", {})
        if not unprocessed:
            return
    raise StoreUnavailable("DynamoDB: throttled")


def ids_of(table: str, server_id: str) -> Iterator[str]:
    """Yield the ids of a server's connections; from an index, which may be some seconds behind."""
    found = _pages(
        TableName=table,
        IndexName=items.SERVER_INDEX,
        KeyConditionExpression="server_id = :server",
        ExpressionAttributeValues={":server": {"S": server_id}},
        ProjectionExpression="connection_id",
    )
    for item in found:
        yield item["connection_id"]["S"]


def leases(table: str) -> Iterator[tuple[str, str]]:
    """Yield every lease in an audit table, consistently: the server and its beat."""
    found = _pages(
        TableName=table,
        ConsistentRead=True,
        KeyConditionExpression="room_id = :leases AND begins_with(opened, :prefix)",
        ExpressionAttributeValues={":leases": {"S": items.LEASES}, ":prefix": {"S": items.LEASE_PREFIX}},
    )
    for item in found:
        yield item["opened"]["S"].removeprefix(items.LEASE_PREFIX), item["beat"]["S"]


def put_lease(table: str, server_id: str, beat: str) -> None:
    """Make a server's lease, whatever is there."""
    _client().put_item(TableName=table, Item=items.lease_item(server_id, beat, datetime.now(UTC)))


def change_beat(table: str, server_id: str, seen: str, beat: str) -> bool:
    """Change a lease's beat if it is the one seen; return whether it was.

    Args:
        table: the audit table.
        server_id: whose lease.
        seen: the beat that it must have.
        beat: its new one, which nobody else makes.
    """
    try:
        _client().put_item(
            TableName=table,
            Item=items.lease_item(server_id, beat, datetime.now(UTC)),
            ConditionExpression="beat = :seen",
            ExpressionAttributeValues={":seen": {"S": seen}},
        )
    except _client().exceptions.ConditionalCheckFailedException:
        # The answer to a first try may have been lost, after which the second one finds what the first one did.
        found = _ask("GetItem", TableName=table, Key=items.lease_key(server_id), ConsistentRead=True).get("Item")
        return found is not None and found["beat"]["S"] == beat
    return True


def remove_lease(table: str, server_id: str, beat: str) -> None:
    """Remove a lease if its beat is still this one; otherwise its server came back, and keeps it."""
    with contextlib.suppress(_client().exceptions.ConditionalCheckFailedException):
        _client().delete_item(
            TableName=table,
            Key=items.lease_key(server_id),
            ConditionExpression="beat = :beat",
            ExpressionAttributeValues={":beat": {"S": beat}},
        )
