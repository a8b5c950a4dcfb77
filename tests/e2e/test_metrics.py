"""What real processes answer at `/metrics`, over HTTP: what was done is counted, by all workers, and once."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from contextlib import AsyncExitStack

from prometheus_client.parser import text_string_to_metric_families

from hermes_site.engines import HOST, free_port
from tests.deploy.conftest import need
from tests.documents import first_words, names, read, rows, section
from tests.e2e.client import Client
from tests.e2e.conftest import METRICS_TOKEN, Measured
from tests.e2e.test_workers import children_of, held_by, members_of_both_workers
from tests.processes import START_DEADLINE
from tests.waiting import eventually, wait_until

INFO = {"type": "info", "data": "hello"}


async def test_a_message_is_counted_at_each_step_from_sqs_to_the_sockets(measured: Measured) -> None:
    hermes = measured.hermes
    async with Client(hermes, "alice") as alice, Client(hermes, "bob") as bob, Client(hermes, "charlie") as charlie:
        for member in (alice, bob, charlie):
            await member.hello()
        before, relayed = await both(measured)
        assert before["hermes_connections"] == 3
        await asyncio.to_thread(hermes.send, "acme", INFO, id="counted")
        for member in (alice, bob):
            await member.until(lambda member=member: member.received)  # type: ignore[misc]
        await asyncio.to_thread(hermes.send, "acme", INFO, id="counted")

        async def recognised() -> bool:
            return rise(relayed, (await both(measured))[1], "messages_total", outcome="duplicate") == 1

        await eventually(recognised)
        after, relayed_after = await both(measured)
        assert not charlie.received
    came = sum(after[name] - before[name] for name in after if name.startswith("hermes_entries_total"))
    assert came == 1
    assert after["hermes_deliveries_total"] - before["hermes_deliveries_total"] == 2
    assert after["hermes_sent_bytes_total"] - before["hermes_sent_bytes_total"] >= 2 * len('"data":"hello"')
    for name in ("hermes_fanout_seconds", "hermes_end_to_end_seconds"):
        assert after[f"{name}_count"] - before[f"{name}_count"] == 1
    assert 0 <= after["hermes_end_to_end_seconds_sum"] - before["hermes_end_to_end_seconds_sum"] < 60
    assert rise(relayed, relayed_after, "messages_total", outcome="appended") == 1
    assert rise(relayed, relayed_after, "append_seconds_count") == 1
    assert rise(relayed, relayed_after, "batches_total") == 2


async def test_joins_ends_and_refusals_are_counted_by_their_reason(measured: Measured) -> None:
    hermes = measured.hermes
    before = await asyncio.to_thread(measured.samples)
    async with Client(hermes, "alice") as alice:
        await alice.hello()
    async with Client(hermes, token="nonsense") as stranger:
        await stranger.until(lambda: stranger.close_codes)

    async def counted() -> bool:
        after = await asyncio.to_thread(measured.samples)
        names = (
            'hermes_joins_total{status="fresh"}',
            'hermes_closes_total{code="1000"}',
            'hermes_refusals_total{reason="malformed"}',
        )
        return [after[name] - before[name] for name in names] == [1, 1, 1]

    await eventually(counted)


async def test_a_refused_message_is_counted_as_a_dead_letter_with_its_reason(measured: Measured) -> None:
    before = await asyncio.to_thread(measured.relay)
    await asyncio.to_thread(measured.hermes.send_body, "this is not JSON")

    async def buried() -> bool:
        after = await asyncio.to_thread(measured.relay)
        return (
            rise(before, after, "messages_total", outcome="dead_letter") == 1
            and rise(before, after, "dead_letters_total", reason="not_json") == 1
        )

    await eventually(buried)


async def test_the_ports_of_their_own_want_the_token_too(measured: Measured) -> None:
    for port in (measured.port, measured.relay_port):
        url = f"http://{HOST}:{port}"
        assert await asyncio.to_thread(measured.hermes.status, "/metrics", url) == 401
        assert await asyncio.to_thread(measured.hermes.status, "/admin/", url) == 404
    names = [set(await asyncio.to_thread(measured.samples, port)) for port in (measured.port, measured.hermes.port)]
    assert {name for name in names[0] ^ names[1] if name.startswith("hermes_")} == set(), "both ports say the same"


async def test_the_workers_of_a_server_are_added_up_and_who_dies_takes_no_count_along(measured: Measured) -> None:
    hermes, port, metrics_port = measured.hermes, free_port(), free_port()
    url = f"http://{HOST}:{port}"
    arguments = ("serve", "--host", HOST, "--port", str(port), "--workers", "2", "--metrics-port", str(metrics_port))
    server = hermes.child("measured-workers", *arguments, "--drain-seconds", "1", port=port).start()
    hermes.processes["measured-workers"] = server

    async def sums(at: int) -> tuple[float, float, float]:
        found = await asyncio.to_thread(measured.samples, at)
        joins = sum(value for name, value in found.items() if name.startswith("hermes_joins_total"))
        return found["hermes_processes"], found["hermes_connections"], joins

    try:
        await asyncio.to_thread(server.wait_until_ready, lambda: hermes.is_alive(url), START_DEADLINE)
        token = await asyncio.to_thread(hermes.token, "alice")
        async with AsyncExitStack() as stack:
            ws_url = f"ws://{HOST}:{port}/ws/{hermes.stage}"
            members = await members_of_both_workers(hermes, stack, token, ws_url)
            count = len(members)
            await eventually(lambda: is_so(sums(metrics_port), (2, count, count)), 30)
            for _ in range(8):  # whoever answers
                assert await sums(port) == (2, count, count)
            held = await held_by(hermes, members)
            died = next(iter(held))
            os.kill(died, signal.SIGKILL)
            await eventually(lambda: sum(bool(member.close_codes) for member in members) == held[died])
            gone = held[died]
            assert 0 < gone < count
            await eventually(lambda: len(children_of(server.pid) - {died}) == 2, 30, "it has a successor")
            await eventually(lambda: is_so(sums(metrics_port), (2, count - gone, count)), 30)
            for _ in range(4):
                assert await sums(port) == (2, count - gone, count)
        assert await asyncio.to_thread(server.stop, 20) == 0
        assert f"Metrics on http://{HOST}:{metrics_port}/metrics." in server.log_text()
    finally:
        server.kill()
        del hermes.processes["measured-workers"]


async def both(measured: Measured) -> tuple[dict[str, float], dict[str, float]]:
    """Return the server's metrics and the relay's."""
    return await asyncio.to_thread(measured.samples), await asyncio.to_thread(measured.relay)


async def is_so(asked: object, expected: object) -> bool:
    """Return whether what is awaited is as expected."""
    return await asked == expected  # type: ignore[misc]


def rise(before: dict[str, float], after: dict[str, float], name: str, **labels: str) -> float:
    """Return by how much a number of the first stage's relay has risen."""
    label = ",".join(f'{key}="{value}"' for key, value in sorted({"stage": "development", **labels}.items()))
    key = f"hermes_relay_{name}{{{label}}}"
    return after[key] - before.get(key, 0)


def test_the_token_is_in_no_log(measured: Measured) -> None:
    assert METRICS_TOKEN not in measured.hermes.log_text()


# ── What is documented is what is answered ───────────────────────────────────────────────────────────────────────────
DOCUMENT = "docs/metrics.md"
# None of them has a value for each user, room, message or connection.
LABELS = {"by", "code", "outcome", "part", "reason", "stage", "status", "step", "store", "when"}


def test_every_metric_is_documented_with_its_type_and_labels_and_no_other(measured: Measured) -> None:
    measured.hermes.send_body("[]")  # so that there is a dead letter
    wait_until(lambda: any(name.startswith("hermes_relay_dead_letters") for name in measured.relay()))
    wait_until(lambda: any(name.startswith("hermes_ready") for name in measured.samples()))
    assert exported(measured.text()) == documented("## The server")
    assert exported(measured.text(measured.relay_port)) == documented("## The relay")


def test_no_label_grows_with_users_or_rooms(measured: Measured) -> None:
    for port in (measured.port, measured.relay_port):
        families = exported(measured.text(port))
        assert {label for _, labels in families.values() for label in labels} <= LABELS
        text = measured.text(port)
        assert "acme" not in text
        assert "alice" not in text


def test_every_label_value_that_the_code_can_give_is_there_from_the_start(measured: Measured) -> None:
    reasons = {part for name in measured.samples() for part in re.findall(r'refusals_total\{reason="(\w+)"', name)}
    assert reasons == {*first_words("TokenRefused"), *first_words("REFUSALS.labels"), "unknown_stage"}


def test_the_metric_of_each_alert_is_answered(measured: Measured) -> None:
    there = {name.partition("{")[0] for name in {**measured.samples(), **measured.relay()}}
    rules = re.findall(r"expr: (.*?)\n        \w+:", read("deploy/prometheus/hermes.rules.yml"), flags=re.DOTALL)
    wanted = {name for rule in rules for name in re.findall(r"\b(?:hermes|process)_\w+", rule)}
    assert len(wanted) > 15
    assert wanted - there == set()


def test_prometheus_own_tool_finds_nothing_wrong_with_what_is_answered(measured: Measured) -> None:
    need("promtool")
    for port in (measured.port, measured.relay_port):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=measured.text(port), capture_output=True, text=True
        )
        ours = [line for line in checked.stderr.splitlines() if line.startswith("hermes_")]
        assert (checked.returncode, ours) == (0, []), checked.stderr


def exported(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the metrics of ours that have a value, each with its type and labels."""
    return {
        family.name + "_total" * (family.type == "counter"): (
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("hermes_") and family.samples
    }


def documented(heading: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return the metrics of a table of the document."""
    return {
        names(metric)[0]: (kind, frozenset(names(labels.partition(":")[0])))
        for metric, kind, labels, meaning in rows(section(DOCUMENT, heading))
        if meaning.endswith(".")
    }
