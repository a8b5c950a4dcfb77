"""One message is followed through every log by its `traceparent`; and no log holds a token, a secret or a payload."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.conftest import METRICS_TOKEN, Measured
from tests.waiting import eventually, wait_until

SAMPLED, NOT_SAMPLED = "01", "00"
MALFORMED = [
    "",
    "nonsense",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
    f"00-{'0' * 32}-b7ad6b7169203331-01",
    f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n2026-01-01 a line of somebody else's",
    "x" * 100_000,
]


def traceparent(flags: str = SAMPLED) -> tuple[str, str]:
    """Return a new trace: its id, and its `traceparent`."""
    trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-{flags}"


def send(measured: Measured, trace: str, *, room: str = "acme", **attribute: Any) -> str:
    """Put a message on the queue with a `traceparent`; return its id, which is its payload too."""
    name = secrets.token_hex(8)
    body = {"user_id": 0, "room_id": room, "id": name, "data": {"type": "info", "data": f"payload-{name}"}}
    value = attribute or {"DataType": "String", "StringValue": trace}
    sqs, url = measured.hermes.client("sqs"), measured.hermes.queue_url()
    attributes = {"traceparent": value} if trace or attribute else {}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body), MessageAttributes=attributes)
    return name


def of(measured: Measured, process: str, **fields: str) -> list[dict[str, Any]]:
    """Return the lines of a process that have these fields."""
    return [line for line in measured.logged(process) if fields.items() <= line.items()]


@pytest.mark.parametrize(("flags", "level"), [(SAMPLED, "INFO"), (NOT_SAMPLED, "DEBUG")])
async def test_a_trace_is_in_the_lines_of_relay_append_and_fan_out_with_the_ids_of_the_message(
    measured: Measured, flags: str, level: str
) -> None:
    trace_id, trace = traceparent(flags)
    async with Client(measured.hermes, "alice") as alice, Client(measured.hermes, "bob") as bob:
        await bob.hello()
        hello = await alice.hello()
        name = await asyncio.to_thread(send, measured, trace)
        for member in (alice, bob):
            await member.until(lambda member=member: member.entries)  # type: ignore[misc]
        entry = alice.entries[-1]
        await eventually(lambda: of(measured, "relay", trace_id=trace_id, message="relayed"))
        await eventually(lambda: of(measured, "server", trace_id=trace_id))
    (appended,) = of(measured, "relay", trace_id=trace_id, message="appended")
    (relayed,) = of(measured, "relay", trace_id=trace_id, message="relayed")
    (delivered,) = of(measured, "server", trace_id=trace_id)
    place = {"stage": "development", "room_id": "acme", "message_id": name, "seq": entry["seq"]}
    for line in (appended, relayed, delivered):
        assert place.items() <= line.items()
        assert line["levelname"] == level
        assert line["span_id"] == trace.split("-")[2]
    assert (delivered["message"], delivered["connections"]) == ("delivered", 2), "one line, and not one for each socket"
    assert relayed["outcome"] == "appended"
    assert set(entry) == {"user_id", "data", "room_id", "id", "epoch", "seq"}, "browsers see nothing of it"
    joined = of(measured, "server", connection_id=hello["connection_id"], message="joined")
    assert [line["room_id"] for line in joined] == ["acme"]


async def test_a_malformed_traceparent_is_ignored_and_its_message_delivered(measured: Measured) -> None:
    binary = {"DataType": "Binary", "BinaryValue": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    number = {"DataType": "Number", "StringValue": "7"}
    async with Client(measured.hermes, "alice") as alice:
        await alice.hello()
        sent = {await asyncio.to_thread(send, measured, trace) for trace in MALFORMED}
        sent |= {await asyncio.to_thread(send, measured, "", **attribute) for attribute in (binary, number)}
        await alice.until(lambda: sent <= {entry["id"] for entry in alice.entries})
        await eventually(lambda: sent <= {line.get("message_id") for line in of(measured, "relay", message="relayed")})
    for name in sent:
        (line,) = of(measured, "relay", message_id=name)
        assert "trace_id" not in line
        assert not of(measured, "server", message_id=name)
    dead = {
        json.loads(letter["Body"])["id"] for letter in measured.hermes.dead_letters() if "payload-" in letter["Body"]
    }
    assert dead == set()


async def test_a_refused_message_s_line_names_its_trace_and_its_dead_letter_keeps_it(measured: Measured) -> None:
    trace_id, trace = traceparent()
    sqs, url = measured.hermes.client("sqs"), measured.hermes.queue_url()
    attributes = {"traceparent": {"DataType": "String", "StringValue": trace}}
    await asyncio.to_thread(sqs.send_message, QueueUrl=url, MessageBody="[1]", MessageAttributes=attributes)
    (line,) = await eventually(lambda: of(measured, "relay", trace_id=trace_id))
    assert (line["levelname"], line["reason"]) == ("WARNING", "not_an_object")

    def kept() -> list[str]:
        letters = measured.hermes.dead_letters()
        return [letter["MessageAttributes"].get("traceparent", {}).get("StringValue") for letter in letters]

    assert trace in await eventually(lambda: asyncio.to_thread(kept))


async def test_what_django_code_sends_carries_its_trace(measured: Measured) -> None:
    trace_id, trace = traceparent()
    code = f"from notifications import hermes; hermes.notify('acme', 'hello', traceparent={trace!r})"
    await asyncio.to_thread(measured.hermes.manage, "shell", "--verbosity", "0", "-c", code)
    await eventually(lambda: of(measured, "relay", trace_id=trace_id, message="relayed"))


def test_no_log_holds_a_token_a_secret_or_a_payload_even_at_debug(measured: Measured) -> None:
    name = send(measured, traceparent()[1])
    wait_until(lambda: of(measured, "relay", message_id=name, message="relayed"))
    measured.hermes.send_body('{"user_id": 0, "room_id": "acme", "data": "payload-of-a-refused-one", "to": 3}')
    wait_until(lambda: of(measured, "relay", reason="bad_field"))
    text = measured.hermes.log_text()
    assert "payload-" not in text
    assert "eyJ" not in text
    env = measured.hermes.env
    kept = [env[key] for key in env if key.startswith(("HERMES_JWT_SECRET", "HERMES_PASSCODE", "DJANGO_SECRET_KEY"))]
    assert len(kept) >= 3
    for secret in (*kept, METRICS_TOKEN, env["HERMES_DEMO_PASSWORD"]):
        assert secret not in text


@pytest.mark.parametrize("process", ["relay", "server"])
def test_every_line_is_one_json_object(measured: Measured, process: str) -> None:
    logged = measured.hermes.processes[process].log_text().splitlines()
    assert logged
    for line in logged:
        assert {"asctime", "levelname", "name", "message"} <= json.loads(line).keys()
