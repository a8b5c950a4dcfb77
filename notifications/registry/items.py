"""Items: the mirror's tables and what stands in them, as DynamoDB spells it. Pure; used by mirror.

Three kinds of item:

- connections table: one for each live connection, deleted when it closes;
- audit table: one for each closed connection, under its room, put when the live one's is deleted;
- audit table: one for each server's lease, under ``#servers``, so that the connections table holds connections only
  and one consistent query finds every lease. Their range key begins with ``server#``, where an audit item's begins
  with a digit, so that even a room called ``#servers`` is never mistaken for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from notifications.conf import Stage
from notifications.registry.records import ConnectionRecord, Life

Item = Mapping[str, Mapping[str, str]]
Key = dict[str, dict[str, str]]

ROOM_INDEX = "room_id-index"
SERVER_INDEX = "server_id-index"
LEASES = "#servers"
LEASE_PREFIX = "server#"

# The tables' own clean-up, should every server be gone for good: long enough that servers which come back after a
# weekend still find, close and audit what was open. `renewal_due` keeps it ahead of connections that live longer.
BACKSTOP = timedelta(days=7)
RENEWAL = timedelta(days=1)


def connections_table(stage: Stage) -> dict[str, Any]:
    """Return the ``CreateTable`` request of the stage's connections table."""

    def index(name: str, attribute: str, projection: str) -> dict[str, Any]:
        return {
            "IndexName": name,
            "KeySchema": [{"AttributeName": attribute, "KeyType": "HASH"}],
            "Projection": {"ProjectionType": projection},
        }

    return {
        "TableName": stage.connections_table,
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("connection_id", "room_id", "server_id")
        ],
        "KeySchema": [{"AttributeName": "connection_id", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
        # Who asks for a room's connections wants to see them; who asks for a server's wants to count and compare.
        "GlobalSecondaryIndexes": [index(ROOM_INDEX, "room_id", "ALL"), index(SERVER_INDEX, "server_id", "KEYS_ONLY")],
    }


def audit_table(stage: Stage) -> dict[str, Any]:
    """Return the ``CreateTable`` request of the stage's audit table."""
    return {
        "TableName": stage.audit_table,
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("room_id", "opened")],
        "KeySchema": [
            {"AttributeName": "room_id", "KeyType": "HASH"},
            {"AttributeName": "opened", "KeyType": "RANGE"},
        ],
        "BillingMode": "PAY_PER_REQUEST",
    }


def instant(moment: datetime) -> str:
    """Return a moment as text that sorts by time: always UTC, always with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def connection_key(connection_id: str) -> Key:
    """Return the key of a connection's item."""
    return {"connection_id": {"S": connection_id}}


def lease_key(server_id: str) -> Key:
    """Return the key of a server's lease in the audit table."""
    return {"room_id": {"S": LEASES}, "opened": {"S": LEASE_PREFIX + server_id}}


def lease_item(server_id: str, beat: str, now: datetime) -> Key:
    """Return a server's lease; it outlasts the server's connections, whose clean-up begins from it."""
    expires = int((now + BACKSTOP + RENEWAL).timestamp())
    return {**lease_key(server_id), "beat": {"S": beat}, "expires_at": {"N": str(expires)}}


def connection_item(record: ConnectionRecord, server_id: str, now: datetime) -> Key:
    """Return the item of a live connection."""
    return {
        **connection_key(record.connection_id),
        "room_id": {"S": record.room_id},
        "user_id": {"S": record.user_id},
        "stage": {"S": record.stage},
        "server_id": {"S": server_id},
        "connected_at": {"S": instant(record.opened_at)},
        "expires_at": {"N": str(int((now + BACKSTOP).timestamp()))},
    }


def audit_item(life: Life, closed_at: datetime, server_id: str, kept: timedelta) -> Key:
    """Return the audit item of a closed connection.

    Args:
        life: what is known of it.
        closed_at: when it ended.
        server_id: the server it belonged to.
        kept: how long after its end the item is kept.
    """
    record = life.record
    item = {
        "room_id": {"S": record.room_id},
        "opened": {"S": f"{instant(record.opened_at)}#{record.connection_id}"},
        "connection_id": {"S": record.connection_id},
        "user_id": {"S": record.user_id},
        "stage": {"S": record.stage},
        "server_id": {"S": server_id},
        "closed": {"S": instant(closed_at)},
        "expires_at": {"N": str(int((closed_at + kept).timestamp()))},
    }
    if life.code is not None:
        item["code"] = {"N": str(life.code)}
    return item


def record_of(item: Item) -> ConnectionRecord:
    """Read a live connection's item back.

    Raises:
        KeyError, ValueError: somebody else wrote it.
    """
    return ConnectionRecord(
        connection_id=item["connection_id"]["S"],
        stage=item["stage"]["S"],
        room_id=item["room_id"]["S"],
        user_id=item["user_id"]["S"],
        opened_at=datetime.strptime(item["connected_at"]["S"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC),
    )


def renewal_due(record: ConnectionRecord, last: datetime, now: datetime) -> bool:
    """Tell whether a connection has grown another `RENEWAL` older since ``last``: its item must be put again."""
    return (now - record.opened_at) // RENEWAL > max(last - record.opened_at, timedelta()) // RENEWAL
