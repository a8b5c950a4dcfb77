"""What can never be delivered is kept in the dead-letter queue with its reason, and the relay runs on."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.bad_inputs import bodies
from tests.e2e.client import Client
from tests.processes import Hermes
from tests.waiting import wait_until

DEAD = "hermes-messageQueue-dead"
# One by one; all of them at once, with their exact reasons, are test_bad_inputs'.
ONE_BY_ONE = (
    "not JSON",
    "a list",
    "missing fields",
    "duplicate keys",
    "NaN",
    "a lone surrogate",
    "depth 100,000",
    "300 KiB",
    "a forged control frame",
    "an empty to",
    "a room that is a list",
)
REFUSED = {name: bodies.REFUSED[name][0] for name in ONE_BY_ONE}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_message_is_kept_with_its_reason(hermes: Hermes, name: str) -> None:
    hermes.dead_letters()
    relay = hermes.processes["relay"].pid
    hermes.send_body(REFUSED[name])
    (letter,) = wait_until(hermes.dead_letters, what="the dead letter")
    assert letter["Body"] == REFUSED[name]
    assert letter["MessageAttributes"]["hermes-error"]["StringValue"]
    wait_until(lambda: hermes.queued() == 0, what="it is deleted from the queue")
    assert hermes.processes["relay"].running
    assert hermes.processes["relay"].pid == relay


async def test_between_refused_messages_good_ones_arrive(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        for number, body in enumerate(REFUSED.values()):
            await asyncio.to_thread(hermes.send_body, body)
            await asyncio.to_thread(hermes.send, "acme", number)
        await alice.until(lambda: len(alice.received) >= len(REFUSED), 20)
        assert sorted(alice.received) == list(range(len(REFUSED)))
    letters: list[object] = []
    wait_until(lambda: letters.extend(hermes.dead_letters()) or len(letters) >= len(REFUSED))
    assert len(letters) == len(REFUSED)


def test_nothing_of_a_payload_reaches_the_log(hermes: Hermes) -> None:
    hermes.send_body('{"user_id": 1, "room_id": "acme", "data": "a-payload-like-no-other", "to": 5}')
    wait_until(hermes.dead_letters)
    assert "a-payload-like-no-other" not in hermes.log_text()
    assert "Traceback" not in hermes.processes["relay"].log_text()
