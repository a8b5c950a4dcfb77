"""Shape: is a DynamoDB table made as its definition asks. Pure; used by access.examine and registry.examine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from notifications.exceptions import StoreUnavailable
from notifications.findings import Finding, fail, ok, warn


@dataclass(frozen=True, slots=True)
class Table:
    """A table as DynamoDB describes it.

    Args:
        description: ``DescribeTable``'s.
        ttl: the attribute by which its items end; empty where TTL is off.
    """

    description: Mapping[str, Any]
    ttl: str


def judge(
    definition: Mapping[str, Any], describe: Callable[[], Table | None], *, setting: str, ttl: str = ""
) -> Iterator[Finding]:
    """Hold a table against its definition.

    Args:
        definition: the ``CreateTable`` request that would make it.
        describe: returns what is there; ``None`` where nothing is.
        setting: the variable that names it.
        ttl: the attribute by which its items must end; empty where they need not.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    name = definition["TableName"]
    try:
        table = describe()
    except StoreUnavailable as error:
        if "AccessDenied" not in str(error):
            raise
        yield warn(
            f"AWS does not permit to describe table {name}: its key, its indexes and its TTL are not known",
            "Allow dynamodb:DescribeTable and dynamodb:DescribeTimeToLive; only the doctor and provision need them.",
        )
        return
    if table is None:
        yield fail(f"there is no table {name}", f"Make it with manage.py provision, or name another in {setting}.")
        return
    wrong = list(_faults(definition, table, setting, ttl))
    yield from wrong
    if not wrong:
        indexes = [index["IndexName"] for index in definition.get("GlobalSecondaryIndexes", ())]
        parts = [f"table {name}", *(f"index {index}" for index in indexes), *([f"TTL by {ttl}"] if ttl else [])]
        yield ok(", ".join(parts))


def _faults(definition: Mapping[str, Any], table: Table, setting: str, ttl: str) -> Iterator[Finding]:
    name, there = definition["TableName"], table.description
    if there.get("TableStatus") not in ("ACTIVE", "UPDATING"):
        yield fail(f"table {name} is {there.get('TableStatus')}", "Wait until it is ACTIVE, or make it anew.")
    if _keys(definition, definition) != _keys(there, there):
        yield fail(
            f"table {name} has the key {_spelled(there, there)} and not {_spelled(definition, definition)}",
            f"Name another table in {setting}, or delete this one and run manage.py provision: no key can be changed.",
        )
    have = {index["IndexName"]: index for index in there.get("GlobalSecondaryIndexes") or ()}
    for index in definition.get("GlobalSecondaryIndexes", ()):
        what = f"index {index['IndexName']} of table {name}"
        found = have.get(index["IndexName"])
        if found is None:
            yield fail(f"{what} is missing", "manage.py provision adds it to the table.")
        elif _keys(index, definition) != _keys(found, there):
            yield fail(
                f"{what} is by {_spelled(found, there)} and not by {_spelled(index, definition)}",
                "Delete the index; manage.py provision adds the right one.",
            )
        elif found.get("IndexStatus", "ACTIVE") != "ACTIVE":
            yield warn(f"{what} is {found['IndexStatus']}", "Wait: until it is ACTIVE nothing can be found by it.")
    if ttl and table.ttl != ttl:
        state = f"TTL by {table.ttl}" if table.ttl else "no TTL"
        first = f"Switch TTL by {table.ttl} off; then " if table.ttl else ""
        yield fail(
            f"table {name} has {state}, and keeps for ever what nobody deletes",
            f"{first}manage.py provision switches TTL by {ttl} on.",
        )


def _keys(schema: Mapping[str, Any], types: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, role and type of each key attribute; a table's attributes say the types of its indexes, too."""
    type_of = {each["AttributeName"]: each["AttributeType"] for each in types["AttributeDefinitions"]}
    return [
        (key["AttributeName"], key["KeyType"], type_of.get(key["AttributeName"], "?")) for key in schema["KeySchema"]
    ]


def _spelled(schema: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    return " + ".join(f"{name} ({type_})" for name, _, type_ in _keys(schema, types))
