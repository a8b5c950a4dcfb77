"""Token store: DynamoDB's tokens table, where each member's digest stands as a bcrypt hash. Used by authorizer, views.

Synchronous: the authorizer calls it in its bounded threads. A member's row is the article's: `user_id`, `room_id`,
`token`. A revocation is a row of its own, because the article's `put_item` replaces the whole row.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import bcrypt
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from notifications.access.tokens import REVOKED_PREFIX
from notifications.conf import Stage
from notifications.exceptions import StoreUnavailable
from notifications.shape import Table
from notifications.wire import Wire, connect

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

OUR_COST = (
    4  # the least there is; the input is a digest of a secret of at least 32 bytes: guessing it is hopeless at any cost
)
# bcrypt knows no cost below 4; 12 is 0.2 s of CPU, and a row that asks for more is an attack or a mistake.
MIN_COST, MAX_COST = 4, 12
_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}\Z")
_KEYS_A_READ = 100  # BatchGetItem's limit
_MAKING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one member of one room.

    Args:
        token_hash: bcrypt hash of the digest; ``None`` where there is no row.
        not_before: unix seconds; a token issued then or earlier, or at no known time, is revoked. 0 for none.
    """

    token_hash: str | None
    not_before: int = 0


def prepare() -> None:
    """Make this process's client: a third of a second of CPU that those who join first would wait for."""
    _client()


def read(stage: Stage, user_id: str, room_id: str) -> Row:
    """Read a member's row and revocation, consistently.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    return read_many(stage, [(user_id, room_id)])[(user_id, room_id)]


def read_many(stage: Stage, members: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    """Read many members' rows, 50 a request.

    Args:
        members: pairs of user and room.

    Returns:
        A row for each, also where the table has none.

    Raises:
        StoreUnavailable: DynamoDB does not answer, or leaves keys unprocessed.
    """
    found: dict[tuple[str, str], Row] = {}
    step = _KEYS_A_READ // 2
    for start in range(0, len(members), step):
        found |= _read_some(stage, list(dict.fromkeys(members[start : start + step])))
    return found


def _read_some(stage: Stage, members: list[tuple[str, str]]) -> dict[tuple[str, str], Row]:
    wanted = [
        {"user_id": {"S": user}, "room_id": {"S": key}}
        for user, room in members
        for key in (room, REVOKED_PREFIX + room)
    ]
    request: Any = {stage.tokens_table: {"Keys": wanted, "ConsistentRead": True}}
    items: list[Any] = []
    for _ in range(4):  # unprocessed keys are throttling; the authorizer answers 4113 rather than wait for long
        try:
            answer = _ask("BatchGetItem", RequestItems=request)
        except (BotoCoreError, ClientError) as error:
            raise _unavailable(stage, error) from error
        items += answer["Responses"].get(stage.tokens_table, [])
        request = answer.get("UnprocessedKeys")
        if not request:
            break
    else:
        raise StoreUnavailable(f"Table {stage.tokens_table!r}: DynamoDB left keys unread; it is throttling.")
    by_key = {(item["user_id"]["S"], item["room_id"]["S"]): item for item in items}
    rows = {}
    for user, room in members:
        token = by_key.get((user, room), {}).get("token", {}).get("S")
        revoked = by_key.get((user, REVOKED_PREFIX + room), {}).get("not_before", {}).get("N", "0")
        rows[(user, room)] = Row(token, int(Decimal(revoked)))  # others may write fractions
    return rows


def matches(token_hash: str, digest: str) -> bool:
    """Hold a digest against a stored hash; up to 0.2 s of CPU, so never on the event loop.

    Args:
        token_hash: `$2a$`, `$2b$` or `$2y$`, cost at most 12; anything else does not match.
        digest: 64 hex digits (bcrypt refuses more than 72 bytes).
    """
    shape = _HASH.match(token_hash)
    if shape is None or not MIN_COST <= int(shape[1]) <= MAX_COST:
        return False
    try:
        return bcrypt.checkpw(digest.encode(), token_hash.encode())
    except ValueError:  # of the right shape, and still no salt: its last character has bits that bcrypt refuses
        return False


def save(stage: Stage, user_id: str, room_id: str, digest: str) -> Row:
    """Make sure that the member's row holds this digest; a row that already does is left as it is.

    Returns:
        The row as it is now.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    row = read(stage, user_id, room_id)
    if row.token_hash is not None and matches(row.token_hash, digest):
        return row  # a new salt would be a new hash, and every cached verdict would be computed again
    hashed = bcrypt.hashpw(digest.encode(), bcrypt.gensalt(OUR_COST)).decode()
    _put(stage, {"user_id": {"S": user_id}, "room_id": {"S": room_id}, "token": {"S": hashed}})
    return Row(hashed, row.not_before)


def revoke(stage: Stage, user_id: str, room_id: str, not_before: int) -> None:
    """Refuse every token of a member that was issued at a moment or earlier.

    Args:
        not_before: unix seconds.

    Raises:
        StoreUnavailable: DynamoDB does not answer; nothing is revoked.
    """
    _put(
        stage,
        {"user_id": {"S": user_id}, "room_id": {"S": REVOKED_PREFIX + room_id}, "not_before": {"N": str(not_before)}},
    )


def empty(stage: Stage, user_id: str, room_id: str) -> None:
    """Take a member's row for none, until `save` or another issuer writes it again; it is left without a digest.

    A deletion would say the same, and need a permission that nothing else of Hermes needs.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    if room_id.startswith(REVOKED_PREFIX):
        return  # nobody can join such a room, and the row would be another room's revocation
    key = {"user_id": {"S": user_id}, "room_id": {"S": room_id}}
    try:
        _client().put_item(TableName=stage.tokens_table, Item=key, ConditionExpression="attribute_exists(user_id)")
    except _client().exceptions.ConditionalCheckFailedException:
        return  # there is none
    except (BotoCoreError, ClientError) as error:
        raise _unavailable(stage, error) from error


def definition(stage: Stage) -> Any:
    """Return the ``CreateTable`` request of the stage's tokens table."""
    names = ("user_id", "room_id")
    return {
        "TableName": stage.tokens_table,
        "KeySchema": [
            {"AttributeName": name, "KeyType": role} for name, role in zip(names, ("HASH", "RANGE"), strict=True)
        ],
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "BillingMode": "PAY_PER_REQUEST",
    }


def provision(stage: Stage) -> None:
    """Create the tokens table if it is not there; for development and tests, where no template did.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    client = _client()
    try:
        client.create_table(**definition(stage))
        client.get_waiter("table_exists").wait(
            TableName=stage.tokens_table, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
    except client.exceptions.ResourceInUseException:
        return
    except (BotoCoreError, ClientError) as error:
        raise _unavailable(stage, error) from error


def probe(stage: Stage) -> None:
    """Ask whether the table can be read.

    Raises:
        StoreUnavailable: it cannot.
    """
    read(stage, "hermes-probe", "hermes-probe")


def describe(stage: Stage) -> Table | None:
    """Return the table as it is; ``None`` where there is none.

    Raises:
        StoreUnavailable: DynamoDB does not answer, or refuses.
    """
    try:
        return Table(_client().describe_table(TableName=stage.tokens_table)["Table"], "")
    except _client().exceptions.ResourceNotFoundException:
        return None
    except (BotoCoreError, ClientError) as error:
        raise _unavailable(stage, error) from error


def refused(stage: Stage) -> list[str]:
    """Return the calls that AWS does not permit us; each is made in a way that changes nothing.

    Raises:
        StoreUnavailable: DynamoDB does not answer.
    """
    client, name, key = _client(), stage.tokens_table, {"user_id": {"S": "#doctor"}, "room_id": {"S": "#doctor"}}
    denied = []
    for action, ask in (
        ("BatchGetItem", lambda: client.batch_get_item(RequestItems={name: {"Keys": [key]}})),
        # It would replace an item that is not there.
        ("PutItem", lambda: client.put_item(TableName=name, Item=key, ConditionExpression="attribute_exists(user_id)")),
    ):
        try:
            ask()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if "AccessDenied" in code:
                denied.append(f"dynamodb:{action} on {name}")
            elif "ConditionalCheckFailed" not in code and "ResourceNotFound" not in code:
                raise _unavailable(stage, error) from error
        except BotoCoreError as error:
            raise _unavailable(stage, error) from error
    return denied


def _put(stage: Stage, item: dict[str, Any]) -> None:
    try:
        _client().put_item(TableName=stage.tokens_table, Item=item)
    except (BotoCoreError, ClientError) as error:
        raise _unavailable(stage, error) from error


def _unavailable(stage: Stage, error: Exception) -> StoreUnavailable:
    table = f"Table {stage.tokens_table!r}"
    if not isinstance(error, ClientError):
        return StoreUnavailable(f"{table}: DynamoDB does not answer: {type(error).__name__}")
    code = error.response.get("Error", {}).get("Code", "unknown")
    if code == "ResourceNotFoundException":
        return StoreUnavailable(f"{table} does not exist: check HERMES_TOKENS_TABLE, or make it: manage.py provision.")
    return StoreUnavailable(f"{table}: DynamoDB refused with {code}")


def _client() -> DynamoDBClient:
    return _clients()[0]


def _ask(operation: str, **arguments: Any) -> dict[str, Any]:
    """Make the call that is made all day."""
    return _clients()[1].call(operation, **arguments)


def _clients() -> tuple[DynamoDBClient, Wire]:
    with _MAKING:  # half a second of CPU, for one of those who come at once
        return _clients_for(settings.AWS_ENDPOINT_URL, settings.AWS_REGION)


@functools.cache
def _clients_for(endpoint: str | None, region: str) -> tuple[DynamoDBClient, Wire]:
    return connect("dynamodb", endpoint=endpoint, region=region, answer_seconds=3, pool=8)
