"""The mirror in DynamoDB, over the real wire protocol: items, leases, the reaper, and a table that is throttled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

from notifications.conf import Stage
from notifications.exceptions import StoreUnavailable
from notifications.registry import items, mirror, tables
from notifications.registry.mirror import BURIED, IN_FLIGHT_SECONDS, Mirror
from notifications.registry.records import ConnectionRecord, Life
from tests.registry.conftest import Join, Tables

Serve = Callable[[str], Mirror]
# A lease so short that every look at a beat outlasts it; `answering` says that there was no outage.
LEASE, ANSWERING = 0.0, 60.0


@pytest.fixture
def serve(dynamodb: Tables) -> Iterator[Serve]:
    """Return a function that makes a server's mirror, with its lease."""
    mirrors: list[Mirror] = []

    def make(server_id: str, lease_seconds: float = LEASE) -> Mirror:
        mirrors.append(Mirror(server_id, lease_seconds))
        mirrors[-1].renew()
        return mirrors[-1]

    yield make
    for each in mirrors:
        each.close()


def end(record: ConnectionRecord, code: int | None = 1000) -> Life:
    return Life(record, datetime.now(UTC), code)


def test_provisioning_makes_tables_with_indexes_and_ttl_and_again_changes_nothing(
    dynamodb: Tables, stage: Stage
) -> None:
    client = tables._client()
    for _ in range(2):
        mirror.provision(stage)
        connections = client.describe_table(TableName=stage.connections_table)["Table"]
        assert {index["IndexName"] for index in connections["GlobalSecondaryIndexes"]} == {
            "room_id-index",
            "server_id-index",
        }
        for table in (stage.connections_table, stage.audit_table):
            ttl = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
            assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")


def test_a_table_that_the_article_made_gets_the_index_it_lacks(dynamodb: Tables, stage: Stage) -> None:
    client = tables._client()
    client.delete_table(TableName=stage.connections_table)
    definition = items.connections_table(stage)
    del definition["GlobalSecondaryIndexes"]
    definition["AttributeDefinitions"] = definition["AttributeDefinitions"][:1]
    client.create_table(**definition)
    mirror.provision(stage)
    table = client.describe_table(TableName=stage.connections_table)["Table"]
    assert {index["IndexName"] for index in table["GlobalSecondaryIndexes"]} == {"room_id-index", "server_id-index"}


def test_provisioning_waits_for_a_table_and_gives_up_in_the_end(
    dynamodb: Tables, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, looks = tables._client(), list[str]()
    describe = client.describe_table

    def describe_table(TableName: str) -> Any:  # noqa: N803
        looks.append(TableName)
        answer = describe(TableName=TableName)
        return answer if len(looks) % 2 == 0 else {"Table": {**answer["Table"], "TableStatus": "CREATING"}}

    monkeypatch.setattr(client, "describe_table", describe_table)
    mirror.provision(stage)
    assert looks == ["hermesConnections"] * 2 + ["hermesAudit"] * 2
    monkeypatch.setattr(client, "describe_table", lambda TableName: {"Table": {"TableStatus": "CREATING"}})  # noqa: N803
    monkeypatch.setattr(tables, "PROVISION_SECONDS", 0.0)
    with pytest.raises(StoreUnavailable, match="not ready"):
        mirror.provision(stage)


def test_provisioning_says_that_dynamodb_does_not_answer(dynamodb: Tables, stage: Stage) -> None:
    dynamodb.engine.stop()
    with pytest.raises(StoreUnavailable):
        mirror.provision(stage)


def test_a_probe_tells_whether_both_tables_answer(dynamodb: Tables, stage: Stage) -> None:
    mirror.probe(stage)
    tables._client().delete_table(TableName=stage.audit_table)
    with pytest.raises(StoreUnavailable):
        mirror.probe(stage)


def test_a_live_connection_is_one_item_and_its_end_is_kept_in_the_audit(
    serve: Serve, dynamodb: Tables, join: Join
) -> None:
    server, alice = serve("server-a"), join()
    server.write([Life(alice)])
    opened = items.instant(alice.opened_at)
    item = dynamodb.connections[alice.connection_id]
    backstop = int(item.pop("expires_at")) - datetime.now(UTC).timestamp()
    assert timedelta(days=6) < timedelta(seconds=backstop) <= timedelta(days=7)
    assert item == {
        "connection_id": alice.connection_id,
        "room_id": "acme",
        "user_id": "alice",
        "stage": "development",
        "server_id": "server-a",
        "connected_at": opened,
    }
    assert dynamodb.audit == {}

    life = end(alice, 4401)
    server.write([life])
    assert dynamodb.connections == {}
    audit = dynamodb.audit[alice.connection_id]
    kept = int(audit.pop("expires_at")) - datetime.now(UTC).timestamp()
    assert abs(kept - settings.HERMES_AUDIT_DAYS * 86_400) < 60
    assert life.closed_at is not None
    assert audit == {
        "room_id": "acme",
        "opened": f"{opened}#{alice.connection_id}",
        "connection_id": alice.connection_id,
        "user_id": "alice",
        "stage": "development",
        "server_id": "server-a",
        "closed": items.instant(life.closed_at),
        "code": "4401",
    }


def test_a_room_finds_its_connections_and_no_others_by_the_index(serve: Serve, dynamodb: Tables, join: Join) -> None:
    serve("server-a").write([Life(join()), Life(join("bob")), Life(join("charlie", "globex"))])
    answer = tables._client().query(
        TableName="hermesConnections",
        IndexName="room_id-index",
        KeyConditionExpression="room_id = :room",
        ExpressionAttributeValues={":room": {"S": "acme"}},
    )
    assert {item["user_id"]["S"] for item in answer["Items"]} == {"alice", "bob"}


def test_an_end_without_a_code_has_none_in_the_audit(serve: Serve, dynamodb: Tables, join: Join) -> None:
    alice = join()
    serve("server-a").write([end(alice, None)])
    assert "code" not in dynamodb.audit[alice.connection_id]


def test_a_thousand_connections_of_two_stages_are_written_in_batches(
    serve: Serve, dynamodb: Tables, join: Join
) -> None:
    server = serve("server-a")
    records = [join(stage=stage) for stage in ("development", "production") for _ in range(500)]
    assert list(server.write([Life(record) for record in records])) == []
    assert dynamodb.audit == {}
    assert dynamodb.connections.keys() == {record.connection_id for record in records}
    assert list(server.write([end(record) for record in records])) == []
    assert dynamodb.connections == {}
    assert sum("closed" in item for item in dynamodb.audit.values()) == 1000


def refusing(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Let DynamoDB process nothing of the next batches, as a throttled table does; return the sizes of all batches."""
    ask, sizes = tables._ask, list[int]()

    def throttled(operation: str, **arguments: Any) -> Any:
        if operation != "BatchWriteItem":
            return ask(operation, **arguments)
        given: dict[str, list[Any]] = arguments["RequestItems"]
        sizes.append(sum(len(requests) for requests in given.values()))
        if len(sizes) <= times:
            table, requests = next(iter(given.items()))
            ask(operation, RequestItems={table: requests[:1]})
            rest = {**given, table: requests[1:]}
            return {"UnprocessedItems": {name: left for name, left in rest.items() if left}}
        return ask(operation, RequestItems=given)

    monkeypatch.setattr(tables, "_ask", throttled)
    return sizes


def test_unprocessed_items_are_tried_again(
    serve: Serve, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, alice, bob = serve("server-a"), join(), join("bob")
    sizes = refusing(monkeypatch, times=1)
    assert list(server.write([Life(alice), Life(bob)])) == []
    assert sizes == [2, 1]
    assert dynamodb.connections.keys() == {alice.connection_id, bob.connection_id}


def test_what_stays_unprocessed_is_given_back(
    serve: Serve, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, lives = serve("server-a"), [Life(join()) for _ in range(5)]
    refusing(monkeypatch, times=100)
    assert list(server.write(lives)) == lives


def without(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Let DynamoDB process only what is for other tables than one, as where that one is throttled."""
    ask = tables._ask

    def throttled(operation: str, **arguments: Any) -> Any:
        given: dict[str, list[Any]] = arguments.get("RequestItems", {})
        if operation == "PutItem" and arguments["TableName"] == refused:
            raise StoreUnavailable("throttled")
        if operation != "BatchWriteItem" or refused not in given:
            return ask(operation, **arguments)
        if rest := {table: requests for table, requests in given.items() if table != refused}:
            ask(operation, RequestItems=rest)
        return {"UnprocessedItems": {refused: given[refused]}}

    monkeypatch.setattr(tables, "_ask", throttled)


def test_a_connection_whose_audit_was_not_taken_stays_until_it_is(
    serve: Serve, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may die before it tries again: whoever buries it then finds what is to be audited."""
    server, alice = serve("server-a"), join()
    server.write([Life(alice)])
    ended = end(alice, 4401)
    with monkeypatch.context() as patch:
        without(patch, "hermesAudit")
        assert list(server.write([ended])) == [ended]
    assert dynamodb.connections.keys() == {alice.connection_id}
    assert list(server.write([ended])) == []
    assert (dynamodb.connections, dynamodb.audit[alice.connection_id]["code"]) == ({}, "4401")


def test_who_buries_a_server_that_died_between_an_audit_and_its_deletion_keeps_the_true_end(
    serve: Serve, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, server, alice, bob = serve("server-b"), serve("server-a"), join(), join("bob")
    dead.write([Life(alice), Life(bob)])
    with monkeypatch.context() as patch:
        without(patch, "hermesConnections")
        assert len(list(dead.write([end(alice, 4403)]))) == 1
    assert dynamodb.connections.keys() == {alice.connection_id, bob.connection_id}
    assert server.reap(time.monotonic(), ANSWERING) == 1
    assert dynamodb.connections == {}
    assert {name: item["code"] for name, item in dynamodb.audit.items()} == {
        alice.connection_id: "4403",
        bob.connection_id: "1006",
    }


def test_what_is_buried_stays_until_it_is_audited(
    serve: Serve, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, server, alice = serve("server-b"), serve("server-a"), join()
    dead.write([Life(alice)])
    with monkeypatch.context() as patch:
        without(patch, "hermesAudit")
        with pytest.raises(StoreUnavailable):
            server.reap(time.monotonic(), ANSWERING)
    assert dynamodb.connections.keys() == {alice.connection_id}
    assert server.reap(time.monotonic(), ANSWERING) == 1
    assert (dynamodb.connections, dynamodb.audit[alice.connection_id]["code"]) == ({}, "1006")


def test_a_lease_is_made_renewed_and_given_back(serve: Serve, dynamodb: Tables) -> None:
    server = serve("server-a")
    assert dynamodb.leases == {"server#server-a"}
    assert server.renew() is True
    server.release()
    assert dynamodb.leases == set()
    assert dynamodb.connections == {}


def test_a_beat_whose_answer_was_lost_is_ours_and_anybody_elses_is_not(
    serve: Serve, dynamodb: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = serve("server-a"), tables._client()
    put_item = client.put_item

    def put_twice(**arguments: Any) -> Any:
        put_item(**arguments)
        return put_item(**arguments)  # as boto3 does when it has heard nothing

    with monkeypatch.context() as patch:
        patch.setattr(client, "put_item", put_twice)
        assert server.renew() is True
    beat = server._beats["hermesAudit"]
    assert not tables.change_beat("hermesAudit", "server-a", "another", "mine")
    assert not tables.change_beat("hermesAudit", "server-nobody", "another", "mine")
    assert list(tables.leases("hermesAudit")) == [("server-a", beat)]


def test_a_room_named_as_the_leases_are_is_no_lease(serve: Serve, dynamodb: Tables, join: Join) -> None:
    server = serve("server-a")
    server.write([end(join(room=items.LEASES))])
    assert list(tables.leases("hermesAudit")) != []
    assert {server_id for server_id, _ in tables.leases("hermesAudit")} == {"server-a"}


def test_the_reaper_removes_a_dead_servers_connections_and_completes_their_audit(
    serve: Serve, dynamodb: Tables, join: Join
) -> None:
    dead, server = serve("server-b"), serve("server-a")
    records = [join() for _ in range(130)]
    dead.write([Life(record) for record in records])
    server.write([Life(charlie := join("charlie", "globex"))])
    assert server.reap(time.monotonic(), ANSWERING) == 1
    assert dynamodb.connections.keys() == {charlie.connection_id}
    audit = dynamodb.audit
    assert {audit[record.connection_id]["code"] for record in records} == {"1006"}
    assert all("closed" in audit[record.connection_id] for record in records)
    assert dynamodb.leases == {"server#server-a"}


def test_a_server_whose_beat_changes_is_alive(serve: Serve, dynamodb: Tables, join: Join) -> None:
    other, server = serve("server-b", 0.2), serve("server-a", 0.2)
    other.write([Life(join())])
    pause = threading.Event()
    for _ in range(6):
        assert server.reap(time.monotonic(), ANSWERING) == 0
        pause.wait(0.1)
        assert other.renew() is True
    assert len(dynamodb.connections) == 1


def test_nothing_is_reaped_before_every_server_had_time_to_come_back_from_an_outage(
    serve: Serve, dynamodb: Tables
) -> None:
    serve("server-b", 0.05)
    server = serve("server-a", 0.05)
    server.reap(time.monotonic(), ANSWERING)
    threading.Event().wait(0.1)
    assert server.reap(time.monotonic(), 0.01) == 0
    assert server.reap(time.monotonic(), 1) == 1


def test_a_server_that_was_reaped_while_suspended_learns_it_and_names_what_is_missing(
    serve: Serve, dynamodb: Tables, join: Join
) -> None:
    suspended, server, alice = serve("server-b"), serve("server-a"), join()
    suspended.write([Life(alice)])
    server.reap(time.monotonic(), ANSWERING)
    assert dynamodb.connections == {}
    assert suspended.renew() is False
    assert set(suspended.reconcile({alice.connection_id: alice}, ())) == {alice.connection_id}
    suspended.write([Life(alice)])
    assert dynamodb.connections.keys() == {alice.connection_id}
    suspended.write([end(alice, 4401)])
    assert dynamodb.audit[alice.connection_id]["code"] == "4401"


def test_of_many_reapers_one_buries_a_dead_server(serve: Serve, dynamodb: Tables, join: Join) -> None:
    serve("server-dead", 0.05).write([Life(join())])
    reapers = [serve(f"reaper-{number}", 0.3) for number in range(4)]
    for reaper in reapers:
        reaper.reap(time.monotonic(), ANSWERING)
    threading.Event().wait(0.31)
    for reaper in reapers:
        reaper.renew()
    barrier, buried = threading.Barrier(4), list[int]()

    def reap(reaper: Mirror) -> None:
        barrier.wait(10)
        buried.append(reaper.reap(time.monotonic(), ANSWERING))

    threads = [threading.Thread(target=reap, args=(reaper,)) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(buried) == [0, 0, 0, 1]
    assert dynamodb.connections == {}


def test_a_silent_server_that_was_buried_is_looked_for_again(serve: Serve, dynamodb: Tables, join: Join) -> None:
    """The index by which its items are found may have been behind."""
    dead, server = serve("server-b", 0.3), serve("server-a", 0.3)
    dead.write([Life(join())])
    server.reap(0.0, ANSWERING)
    assert server.reap(0.3, ANSWERING) == 1
    dead.write([Life(late := join("bob"))])
    pause, until = threading.Event(), time.monotonic() + 10
    while dynamodb.connections and time.monotonic() < until:
        pause.wait(0.05)
        assert server.reap(0.3, ANSWERING) == 0
    assert dynamodb.connections == {}
    assert dynamodb.audit[late.connection_id]["code"] == "1006"


def test_who_has_a_lease_again_keeps_what_it_has(serve: Serve, dynamodb: Tables, join: Join) -> None:
    suspended, server, alice = serve("server-b", 0.2), serve("server-a", 0.2), join()
    server.reap(0.0, ANSWERING)
    assert server.reap(0.3, ANSWERING) == 1
    suspended.renew()
    suspended.write([Life(alice)])
    until = time.monotonic() + IN_FLIGHT_SECONDS + 0.1
    while time.monotonic() < until:
        threading.Event().wait(0.1)
        assert server.reap(0.3, ANSWERING) == 0
    assert dynamodb.connections.keys() == {alice.connection_id}
    assert not server._again


def test_only_the_last_of_very_many_dead_are_looked_for_again(serve: Serve, dynamodb: Tables) -> None:
    server = serve("server-a", 60)
    for number in range(BURIED + 2):
        server._bury_again("hermesAudit", f"server-{number}")
    assert len(server._again) == BURIED
    assert ("hermesAudit", "server-1") not in server._again


def test_a_reaper_that_fails_in_the_middle_goes_on_at_its_next_turn(
    serve: Serve, dynamodb: Tables, join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, server = serve("server-b"), serve("server-a")
    dead.write([Life(join()) for _ in range(10)])
    with monkeypatch.context() as patch:
        refusing(patch, times=100)
        with pytest.raises(StoreUnavailable):
            server.reap(time.monotonic(), ANSWERING)
    assert len(dynamodb.connections) > 0
    assert server.reap(time.monotonic(), ANSWERING) == 1
    assert dynamodb.connections == {}


def test_a_second_end_never_replaces_the_true_one(serve: Serve, dynamodb: Tables, join: Join) -> None:
    server, alice = serve("server-a"), join()
    server.write([Life(alice)])
    server.write([end(alice, 4403)])
    # The index may still name a connection that the table no longer holds.
    server._bury("hermesConnections", "server-a", [alice.connection_id])
    assert dynamodb.audit[alice.connection_id]["code"] == "4403"


def test_nothing_in_the_mirror_needs_pruning(serve: Serve) -> None:
    assert serve("server-a").prune() is False


def test_reconciling_removes_surplus_items_and_names_missing_ones(serve: Serve, dynamodb: Tables, join: Join) -> None:
    server, alice, bob, leaving = serve("server-a"), join(), join("bob"), join()
    server.write([Life(bob), Life(leaving)])
    serve("server-b").write([Life(charlie := join("charlie", "globex"))])
    assert set(server.reconcile({alice.connection_id: alice}, {leaving.connection_id})) == {alice.connection_id}
    assert dynamodb.connections.keys() == {leaving.connection_id, charlie.connection_id}
    assert dynamodb.audit[bob.connection_id]["code"] == "1006"


def test_a_connection_older_than_a_day_is_put_again_before_its_backstop(
    serve: Serve, dynamodb: Tables, join: Join
) -> None:
    server, alice = serve("server-a"), join()
    server.write([Life(alice)])
    live = {alice.connection_id: alice}
    assert set(server.reconcile(live, ())) == set()
    old = ConnectionRecord(alice.connection_id, "development", "acme", "alice", alice.opened_at - timedelta(days=1))
    server._reconciled_at -= timedelta(minutes=1)
    assert set(server.reconcile({old.connection_id: old}, ())) == {old.connection_id}
    assert set(server.reconcile({old.connection_id: old}, ())) == set()


def test_every_key_that_stays_unread_at_the_last_try_is_an_outage(
    serve: Serve, dynamodb: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"Responses": {}, "UnprocessedKeys": {"hermesConnections": {}}}] * tables.TRIES)
    monkeypatch.setattr(tables, "_ask", lambda operation, **arguments: next(answers))
    with pytest.raises(StoreUnavailable):
        list(tables.batch_get("hermesConnections", ["alice-1"]))
