"""Members' rows in a real DynamoDB: read, matched, saved, revoked, and what is said when the table does not answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bcrypt
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from notifications.access import token_store
from notifications.access.token_store import Row, matches, provision, read, read_many, revoke, save
from notifications.access.tokens import make_digest
from notifications.conf import Stage
from notifications.exceptions import StoreUnavailable
from tests.access.conftest import PutRow
from tests.conftest import Aws

ALICE = make_digest(42, "passcode", "acme")


def rows(aws: Aws, stage: Stage) -> dict[tuple[str, str], dict[str, str]]:
    """Return what the table holds."""
    found = [{name: next(iter(v.values())) for name, v in item.items()} for item in aws.items(stage.tokens_table)]
    return {(item.pop("user_id"), item.pop("room_id")): item for item in found}


def test_who_has_no_row_gets_an_empty_one(aws: Aws, stage: Stage) -> None:
    assert read(stage, "42", "acme") == Row(None, 0)


def test_a_saved_row_holds_the_digest_as_a_cheap_hash_and_nothing_else(aws: Aws, stage: Stage) -> None:
    save(stage, "42", "acme", ALICE)
    row = read(stage, "42", "acme")
    assert row.token_hash is not None
    assert row.token_hash.startswith(f"$2b${token_store.OUR_COST:02}$")
    assert bcrypt.checkpw(ALICE.encode(), row.token_hash.encode())
    assert rows(aws, stage) == {("42", "acme"): {"token": row.token_hash}}


def test_rows_do_not_cross_stages(aws: Aws, stage: Stage, production: Stage) -> None:
    save(stage, "42", "acme", ALICE)
    assert read(production, "42", "acme") == Row(None)


def test_a_row_that_already_matches_is_left_as_it_is(aws: Aws, stage: Stage, put_row: PutRow) -> None:
    written = put_row(42, cost=6)
    save(stage, "42", "acme", make_digest(42, stage.passcode, "acme"))
    assert read(stage, "42", "acme").token_hash == written


@pytest.mark.parametrize("token", ["$2b$13$" + "a" * 53, "rubbish", f"$2b${token_store.OUR_COST:02}$" + "." * 53])
def test_a_row_that_does_not_match_is_replaced(aws: Aws, stage: Stage, put_row: PutRow, token: str) -> None:
    put_row(42, token=token)
    save(stage, "42", "acme", ALICE)
    assert matches(read(stage, "42", "acme").token_hash or "", ALICE)


def test_a_put_by_the_articles_program_replaces_the_row_and_leaves_the_revocation(
    aws: Aws, stage: Stage, put_row: PutRow
) -> None:
    save(stage, "42", "acme", ALICE)
    revoke(stage, "42", "acme", 1_800_000_000)
    assert rows(aws, stage)[("42", "#revoked:acme")] == {"not_before": "1800000000"}
    written = put_row(42)
    assert read(stage, "42", "acme") == Row(written, 1_800_000_000)
    aws.dynamodb.delete_item(TableName=stage.tokens_table, Key={"user_id": {"S": "42"}, "room_id": {"S": "acme"}})
    assert read(stage, "42", "acme") == Row(None, 1_800_000_000)


def test_an_emptied_row_is_none_until_it_is_written_again(aws: Aws, stage: Stage, put_row: PutRow) -> None:
    put_row(42)
    put_row(43)
    token_store.revoke(stage, "42", "acme", 1_800_000_000)
    token_store.empty(stage, "42", "acme")
    assert read(stage, "42", "acme") == Row(None, 1_800_000_000)
    assert read(stage, "43", "acme").token_hash
    token_store.save(stage, "42", "acme", "0" * 64)
    assert read(stage, "42", "acme").token_hash


def test_emptying_a_row_makes_none_and_touches_no_revocation(aws: Aws, stage: Stage) -> None:
    token_store.revoke(stage, "42", "acme", 1_800_000_000)
    before = rows(aws, stage)
    token_store.empty(stage, "42", "acme")
    token_store.empty(stage, "42", "#revoked:acme")
    assert rows(aws, stage) == before


def test_a_revocation_is_of_one_member_of_one_room(aws: Aws, stage: Stage) -> None:
    revoke(stage, "42", "acme", 1_800_000_000)
    assert read(stage, "42", "globex").not_before == 0
    assert read(stage, "43", "acme").not_before == 0


@pytest.mark.parametrize(("text", "expected"), [("1800000000.75", 1_800_000_000), ("1.8E9", 1_800_000_000)])
def test_a_revocation_written_with_a_fraction_counts(aws: Aws, stage: Stage, text: str, expected: int) -> None:
    item = {"user_id": {"S": "42"}, "room_id": {"S": "#revoked:acme"}, "not_before": {"N": text}}
    aws.dynamodb.put_item(TableName=stage.tokens_table, Item=item)
    assert read(stage, "42", "acme").not_before == expected


def test_a_token_of_another_type_is_none(aws: Aws, stage: Stage) -> None:
    item = {"user_id": {"S": "42"}, "room_id": {"S": "acme"}, "token": {"N": "1"}}
    aws.dynamodb.put_item(TableName=stage.tokens_table, Item=item)
    assert read(stage, "42", "acme") == Row(None)


def test_a_hundred_and_twenty_members_are_read_at_once(aws: Aws, stage: Stage, put_row: PutRow, count: Any) -> None:
    hashed = put_row("0")
    for user in range(1, 120):
        put_row(user, token=hashed)
    revoke(stage, "119", "acme", 7)
    requests = count(token_store, "_read_some")
    members = [(str(user), "acme") for user in range(120)] + [("nobody", "acme"), ("0", "acme")]
    found = read_many(stage, members)
    assert len(requests) == 3
    assert found.keys() == set(members)
    assert found[("nobody", "acme")] == Row(None)
    assert found[("119", "acme")] == Row(hashed, 7)
    assert all(found[(str(user), "acme")] == Row(hashed) for user in range(119))


def test_nobody_is_read_without_a_request(stage: Stage, settings: Any, nowhere: str) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    assert read_many(stage, []) == {}


def test_keys_left_unread_are_asked_for_again_and_not_for_ever(
    aws: Aws, stage: Stage, put_row: PutRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint never throttles, so its answers are cut: each hands back all but one of the keys asked for."""
    put_row(42)
    ask = token_store._ask
    asked: list[int] = []

    def throttled(operation: str, RequestItems: Any) -> Any:  # noqa: N803  AWS's
        keys = RequestItems[stage.tokens_table]["Keys"]
        asked.append(len(keys))
        request = {stage.tokens_table: {"Keys": keys[:1], "ConsistentRead": True}}
        rest = {stage.tokens_table: {"Keys": keys[1:], "ConsistentRead": True}} if keys[1:] else {}
        return {**ask(operation, RequestItems=request), "UnprocessedKeys": rest}

    monkeypatch.setattr(token_store, "_ask", throttled)
    assert read(stage, "42", "acme").token_hash is not None
    assert asked == [2, 1]
    with pytest.raises(StoreUnavailable, match="throttling"):
        read_many(stage, [("42", "acme"), ("43", "acme"), ("44", "acme")])


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
@pytest.mark.parametrize("cost", [4, 10, 12])
def test_a_hash_of_another_program_matches(prefix: bytes, cost: int) -> None:
    hashed = bcrypt.hashpw(ALICE.encode(), bcrypt.gensalt(cost)).decode().replace("$2b$", f"${prefix.decode()}$")
    assert matches(hashed, ALICE)
    assert not matches(hashed, make_digest(43, "passcode", "acme"))


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "rubbish",
        "$2b$13$" + "a" * 53,
        "$2b$31$" + "a" * 53,
        "$2b$99$" + "a" * 53,
        "$2x$05$" + "a" * 53,
        f"$2b${token_store.OUR_COST:02}$" + "a" * 52,
        f"$2b${token_store.OUR_COST:02}$" + "a" * 53 + "\n",
    ],
)
def test_a_hash_that_is_none_or_too_costly_does_not_match_and_costs_nothing(hashed: str, count: Any) -> None:
    computed = count(token_store.bcrypt, "checkpw")
    assert not matches(hashed, ALICE)
    assert computed == []


@pytest.mark.parametrize(
    "hashed",
    ["$2b$03$" + "a" * 53, "$2b$00$" + "a" * 53, f"$2b${token_store.OUR_COST:02}$" + "z" * 53, "$2b$٠٥$" + "a" * 53],
)
def test_a_hash_that_bcrypt_raises_at_does_not_match(hashed: str) -> None:
    assert not matches(hashed, ALICE)


@hypothesis_settings(deadline=None, max_examples=50)  # each may cost a hash
@given(st.text() | st.from_regex(r"\$2[abxy]\$0[0-5]\$[./A-Za-z0-9]{50,55}", fullmatch=True))
def test_no_hash_raises(hashed: str) -> None:
    assert matches(hashed, ALICE) in (True, False)


@pytest.mark.parametrize(
    "ask",
    [
        lambda stage: read(stage, "42", "acme"),
        lambda stage: save(stage, "42", "acme", ALICE),
        lambda stage: revoke(stage, "42", "acme", 1),
        token_store.probe,
    ],
)
def test_a_table_that_is_not_there_is_named_with_a_cure(aws: Aws, stage: Stage, ask: Any) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        ask(replace(stage, tokens_table="notThere"))
    assert str(caught.value) == (
        "Table 'notThere' does not exist: check HERMES_TOKENS_TABLE, or make it: manage.py provision."
    )


@pytest.mark.parametrize("ask", [lambda stage: read(stage, "42", "acme"), provision])
def test_a_dynamodb_that_does_not_answer_is_unavailable(stage: Stage, settings: Any, nowhere: str, ask: Any) -> None:
    settings.AWS_ENDPOINT_URL = nowhere
    with pytest.raises(StoreUnavailable, match=r"DynamoDB does not answer: EndpointConnectionError$"):
        ask(stage)


def test_what_dynamodb_refuses_is_said_with_its_code(aws: Aws, stage: Stage) -> None:
    with pytest.raises(StoreUnavailable, match=r"DynamoDB refused with ValidationException$") as caught:
        read(stage, "", "acme")
    assert isinstance(caught.value.__cause__, ClientError)


def test_the_probe_passes_where_the_table_is(aws: Aws, stage: Stage) -> None:
    token_store.probe(stage)


def test_provisioning_makes_the_table_once(aws: Aws, stage: Stage) -> None:
    fresh = replace(stage, tokens_table="hermesTokens-fresh")
    try:
        provision(fresh)
        save(fresh, "42", "acme", ALICE)
        provision(fresh)
        assert read(fresh, "42", "acme").token_hash is not None
    finally:
        aws.dynamodb.delete_table(TableName=fresh.tokens_table)
