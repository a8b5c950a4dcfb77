"""The policies of deploy/cloudformation.yaml: what each role was seen to do, and nothing else. Runs the whole way."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import urllib.parse

from hermes_site.engines import HOST, free_port
from tests.deploy.cloud import allowed
from tests.deploy.deployment import DOCTORS, Deployment
from tests.deploy.manual import with_paths
from tests.documents import blocks, read
from tests.e2e.client import Client
from tests.e2e.test_admin_actions import choose
from tests.processes import START_DEADLINE
from tests.waiting import eventually, wait_until

LETTERS = "/admin/notifications/deadletter/"
DEAD = "hermes-messageQueue-dead"


async def test_a_message_on_the_stack_s_queue_comes_out_of_a_websocket(deployed: Deployment) -> None:
    async with Client(deployed, "alice") as alice, Client(deployed, "charlie") as charlie:
        await alice.hello()
        await charlie.hello()
        await asyncio.to_thread(deployed.send, "acme", {"type": "info", "data": "through the stack"})
        await alice.until(lambda: alice.received)
        assert alice.received == [{"type": "info", "data": "through the stack"}]
        assert charlie.received == []


async def test_the_stack_s_dead_letter_queue_has_what_is_refused_with_the_reason(deployed: Deployment) -> None:
    body = json.dumps({"user_id": 0, "data": "to no room"})
    await asyncio.to_thread(deployed.send_body, body)
    (letter,) = await eventually(lambda: asyncio.to_thread(deployed.dead_letters), what="the dead letter")
    assert letter["Body"] == body
    assert letter["MessageAttributes"]["hermes-error"]["StringValue"]


async def test_each_role_may_do_what_it_does_and_nothing_else(deployed: Deployment) -> None:
    """The main job, and what is rare: an administrator's actions, a crash, a relay that stops with work in hand."""
    await asyncio.gather(
        asyncio.to_thread(administer, deployed), an_administrator_takes_authority_back(deployed), a_crash(deployed)
    )
    await asyncio.to_thread(a_relay_gives_back_what_it_cannot_finish, deployed)
    await asyncio.to_thread(another_back_end_sends, deployed)
    await asyncio.to_thread(the_doctor_looks, deployed)
    for role, policy in (("web", "WebPolicy"), ("relay", "RelayPolicy"), ("producer", "ProducerPolicy")):
        asked = deployed.calls[DOCTORS[role]] if role in DOCTORS else set()
        missing = (deployed.calls[role] | asked) - allowed(policy)
        assert not missing, f"{policy} forbids what the role does: {sorted(missing)}"
        # The doctor makes each call of its role to see whether it may: that is no need of the call.
        needed = deployed.calls[role] | {pair for pair in asked if pair[0].startswith("dynamodb:Describe")}
        unused = allowed(policy) - needed
        assert not unused, f"{policy} allows what nobody was seen to do: {sorted(unused)}"


def the_doctor_looks(deployed: Deployment) -> None:
    """As each role; it calls nothing that the policy forbids (see above), so that under it the answer is the same."""
    for role, doctor in DOCTORS.items():
        where = {"AWS_ENDPOINT_URL": deployed.proxies[doctor].url}
        told = deployed.manage("doctor", "--role", role, "--strict", "--json", **where)
        assert json.loads(told)["status"] == "ok", told


def another_back_end_sends(deployed: Deployment) -> None:
    """With the program that README.md shows."""
    program = next(block for block in blocks(read("README.md"), "python") if "boto3" in block)
    program = with_paths(program, {"hermes-messageQueue": deployed.env["HERMES_QUEUE_NAME"]})
    where = {"AWS_ENDPOINT_URL": deployed.proxies["producer"].url, "AWS_DEFAULT_REGION": deployed.env["AWS_REGION"]}
    environment = {**deployed.env, **where}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def administer(deployed: Deployment) -> None:
    wait_until(lambda: deployed.status("/readyz") == 200, 30, "it is ready")
    choose(deployed, "room", "send_test_message", "globex")
    cookies = "; ".join(f"{name}={value}" for name, value in deployed.sign_in("admin").items())
    status, page, _ = deployed.request("GET", "/admin/", "", {"Cookie": cookies})
    assert (status, "does not answer" in page) == (200, False)
    look_after_dead_letters(deployed)


def look_after_dead_letters(deployed: Deployment) -> None:
    """One is sent again, mended, and one is discarded."""
    for number in range(2):
        deployed.send_body(json.dumps({"user_id": number, "data": "to no room"}))
    wait_until(lambda: deployed.queued(DEAD) == 2, what="the relay has buried them")
    cookies = deployed.sign_in("admin")
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    page = deployed.request("GET", LETTERS, "", headers)[1]
    mended, discarded = re.findall(r'name="letter" value="([^"]+)"', page)
    csrf = {"csrfmiddlewaretoken": cookies["csrftoken"]}
    body = json.dumps({"user_id": 0, "room_id": "globex", "data": "to a room"})
    headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": deployed.url + LETTERS}
    for path, form in (
        (f"{LETTERS}{deployed.stage}.{mended}/change/", {"body": body}),
        (f"{LETTERS}discard/", {"letter": discarded, "confirmed": "yes"}),
    ):
        status, text, _ = deployed.request("POST", path, urllib.parse.urlencode(form | csrf), headers)
        assert status == 302, (status, text[:500])
    wait_until(lambda: deployed.queued(DEAD) == 0 == deployed.queued(), what="both are gone")


async def an_administrator_takes_authority_back(deployed: Deployment) -> None:
    async with Client(deployed, "bob") as bob, Client(deployed, "bob", token=bob.token) as other:
        connection = (await other.hello())["connection_id"]
        await bob.hello()
        await eventually(lambda: asyncio.to_thread(lambda: connection in deployed.live_rows()))
        await asyncio.to_thread(choose, deployed, "connection", "disconnect", connection)
        await other.until(lambda: other.close_codes)
        await asyncio.to_thread(choose, deployed, "membership", "revoke_tokens", "bob")
        await bob.until(lambda: bob.close_codes)
        assert bob.close_codes == [4403]


async def a_crash(deployed: Deployment) -> None:
    """A server is gone without a word; another one closes what it left."""
    port = free_port()
    crashing = deployed.child("crashing", "serve", "--port", str(port)).start()
    try:
        url = f"http://{HOST}:{port}"
        await asyncio.to_thread(crashing.wait_until_ready, lambda: deployed.is_alive(url), START_DEADLINE)
        ws_url = f"ws://{HOST}:{port}/ws/{deployed.stage}"
        async with Client(deployed, "alice", url=ws_url) as alice:
            connection = (await alice.hello())["connection_id"]
            await eventually(lambda: asyncio.to_thread(lambda: connection in deployed.live_rows()))
            crashing.kill()
        await eventually(lambda: asyncio.to_thread(lambda: connection not in deployed.live_rows()), 20)
    finally:
        crashing.kill()
    server = f"-{crashing.pid}-"  # part of its id

    def is_forgotten() -> bool:
        return not any(server in item["opened"]["S"] for item in deployed.items("hermesAudit") if "beat" in item)

    await eventually(lambda: asyncio.to_thread(is_forgotten), 20, "its lease is removed")


def a_relay_gives_back_what_it_cannot_finish(deployed: Deployment) -> None:
    queue = deployed.queue_url()
    deployed.valkey.suspend()
    try:
        deployed.send("acme", "while Redis hangs")

        def in_hand() -> bool:
            names = ["ApproximateNumberOfMessagesNotVisible"]
            answer = deployed.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)
            return answer["Attributes"][names[0]] == "1"

        wait_until(in_hand, what="the relay has it in hand")
        assert deployed.stop_relay() == 0
    finally:
        deployed.valkey.resume()
    deployed.start_relay()
    wait_until(lambda: deployed.queued() == 0, 20, "the next relay delivers it")
