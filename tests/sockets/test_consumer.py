"""The consumer behind the real server: a member joins, hears, speaks, and nothing a client says hurts anybody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import Any

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from websockets.exceptions import ConnectionClosed

from hermes_site.engines import Valkey
from notifications.access import rooms
from notifications.access.refusals import REFUSALS
from notifications.models import Room
from notifications.routing import websocket_application
from notifications.sockets.hub import HubOfLoop
from notifications.sockets.inbox import WORKERS
from tests.sockets.scene import Serving, close_of, control, heard


async def say(socket: Any, frame: Any) -> None:
    await socket.send(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))


async def test_a_member_joins_and_hears_the_room(serving: Serving) -> None:
    async with serving.connect(serving.token(7)) as alice:
        assert alice.subprotocol == "hermes.v1", "and the token is not echoed"
        hello = await control(alice, "hello")
        assert (hello["status"], hello["user_id"], hello["room_id"]) == ("fresh", 7, "acme")
        await serving.publish(1)
        entry = await heard(alice)
        assert (entry["seq"], entry["data"], entry["user_id"], entry["room_id"]) == (1, 1, 42, "acme")


async def test_a_member_that_comes_back_resumes(serving: Serving) -> None:
    token = serving.token()
    async with serving.connect(token) as alice:
        hello = await control(alice, "hello")
        await serving.publish(1)
        last = await heard(alice)
    await serving.publish(2, 3)
    query = f"?epoch={hello['epoch']}&seq={last['seq']}&id={last['id']}"
    async with serving.connect(token, query) as alice:
        assert (await control(alice, "hello"))["status"] == "recovered"
        assert [(await heard(alice))["seq"] for _ in range(2)] == [2, 3]


async def test_a_malformed_position_is_told_as_a_lost_epoch(serving: Serving) -> None:
    await serving.publish(1)
    async with serving.connect(serving.token(), "?epoch=e&seq=first&id=x") as alice:
        hello = await control(alice, "hello")
        assert (hello["status"], hello["reason"], hello["replayed"]) == ("lost", "epoch", 1)


async def test_a_browser_s_message_goes_to_its_own_room_in_its_own_name(serving: Serving) -> None:
    async with (
        serving.connect(serving.token("alice")) as alice,
        serving.connect(serving.token("bob")) as bob,
        serving.connect(serving.token("charlie", "globex")) as charlie,
    ):
        for socket in (alice, bob, charlie):
            await control(socket, "hello")
        await say(
            alice, {"action": "sendMessage", "data": "hi", "user_id": "bob", "room_id": "globex", "to": ["charlie"]}
        )
        entry = await heard(bob)
        assert (entry["user_id"], entry["room_id"], entry["data"]) == ("alice", "acme", "hi")
        frames = [await heard(alice), await heard(alice)]
        sent = next(frame["data"]["data"] for frame in frames if "seq" not in frame)
        assert sent["id"] == entry["id"]
        await serving.publish(9, room="globex")
        assert (await heard(charlie))["id"] == "m9", "and nothing of acme's before it"


async def test_a_room_may_take_no_messages_from_browsers(serving: Serving, settings: Any) -> None:
    await Room.objects.acreate(code="quiet", allow_client_send=False)
    rooms._cache.clear()
    async with serving.connect(serving.token("alice", "quiet")) as alice:
        await control(alice, "hello")
        await say(alice, {"action": "sendMessage", "data": "hi"})
        assert (await control(alice, "error"))["code"] == "send_not_allowed"
    settings.HERMES_CLIENT_SEND = False
    async with serving.connect(serving.token("alice", "acme")) as alice:
        await control(alice, "hello")
        await say(alice, {"action": "sendMessage", "data": "hi"})
        assert (await control(alice, "error"))["code"] == "send_not_allowed"


async def test_a_refresh_does_not_wait_for_frames_that_wait_for_sql(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    monkeypatch.setattr(rooms, "_read", lambda _: go.wait(20))
    monkeypatch.setattr(rooms, "ANSWER_SECONDS", 20.0)
    rooms._cache.clear()
    try:
        async with contextlib.AsyncExitStack() as stack:
            connecting = [serving.connect(serving.token(f"user-{n}", f"room-{n}")) for n in range(WORKERS)]
            senders = [await stack.enter_async_context(each) for each in connecting]
            alice = await stack.enter_async_context(serving.connect(serving.token()))
            for socket in (*senders, alice):
                await control(socket, "hello")
                await say(socket, {"action": "sendMessage", "data": "hi"})
            begun = time.monotonic()
            await say(alice, {"action": "refresh", "token": serving.token(ttl=900)})
            assert (await control(alice, "refreshed"))["expires_in_s"] > 800
            assert time.monotonic() - begun < 5
            go.set()
    finally:
        go.set()


@pytest.mark.parametrize("frame", ["nope", "[]", {"action": "dance"}, b"\x00\x01", {"action": "recent", "limit": 0}])
async def test_what_cannot_be_obeyed_is_answered_and_closes_nothing(serving: Serving, frame: Any) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        await say(alice, frame)
        assert (await control(alice, "error"))["message"]
        await serving.publish(1)
        assert (await heard(alice))["seq"] == 1


async def test_a_frame_of_more_than_64_kib_ends_its_own_connection_only(serving: Serving) -> None:
    async with serving.connect(serving.token()) as alice, serving.connect(serving.token("bob")) as bob:
        await control(alice, "hello")
        await control(bob, "hello")
        await say(alice, "x" * 70_000)
        assert (await close_of(alice))[0] == 1009
        await serving.publish(1)
        assert (await heard(bob))["seq"] == 1


async def test_a_client_that_says_too_much_is_not_heard_and_in_the_end_closed(serving: Serving, settings: Any) -> None:
    settings.HERMES_CLIENT_BURST = 2
    settings.HERMES_CLIENT_RATE = 1
    async with serving.connect(serving.token()) as alice, serving.connect(serving.token("bob")) as bob:
        await control(alice, "hello")
        await control(bob, "hello")
        for _ in range(3):
            await say(alice, {"action": "recent"})
        kinds = [(await heard(alice))["data"] for _ in range(3)]
        assert [kind["type"] for kind in kinds] == ["hermes.recent", "hermes.recent", "hermes.error"]
        assert kinds[2]["data"]["code"] == "rate_limited"
        for _ in range(150):
            await say(alice, {"action": "recent"})
        with contextlib.suppress(ConnectionClosed):
            async for frame in alice:
                assert json.loads(frame)["data"]["data"]["code"] == "rate_limited"
        assert (alice.close_code, alice.close_reason) == (4129, "rate")
        await serving.publish(1)
        assert (await heard(bob))["seq"] == 1


async def test_what_is_recent_counts_by_its_bytes(serving: Serving, settings: Any) -> None:
    settings.HERMES_CLIENT_BURST, settings.HERMES_CLIENT_RATE = 20, 1
    await serving.publish(*range(1, 19), data='"' + "x" * 50_000 + '"')
    async with serving.connect(serving.token(), max_size=None) as alice:
        await control(alice, "hello")
        for _ in range(2):  # the first leaves something
            await say(alice, {"action": "recent"})
            assert len((await control(alice, "recent"))["entries"]) == 18
        await say(alice, {"action": "recent"})
        assert (await control(alice, "error"))["code"] == "rate_limited"


async def test_recent_entries_come_on_request(serving: Serving) -> None:
    await serving.publish(1, 2, 3)
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        await say(alice, {"action": "recent", "limit": 2})
        assert [entry["seq"] for entry in (await control(alice, "recent"))["entries"]] == [2, 3]


async def test_what_a_client_asks_is_answered_under_its_own_ref(serving: Serving) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        await say(alice, {"action": "recent", "ref": "b.2"})
        assert (await control(alice, "recent"))["ref"] == "b.2"
        await say(alice, {"action": "refresh", "token": "false", "ref": "c.3"})
        assert (await control(alice, "error"))["ref"] == "c.3"
        await say(alice, {"action": "sendMessage", "data": "hi", "ref": "a.1"})
        frames = [await heard(alice), await heard(alice)]  # the answer and the entry, in whatever order
        (sent,) = [frame["data"]["data"] for frame in frames if "seq" not in frame]
        assert sent["ref"] == "a.1"


async def test_a_token_is_refreshed_in_place(serving: Serving) -> None:
    async with serving.connect(serving.token(ttl=100)) as alice:
        await control(alice, "hello")
        await say(alice, {"action": "refresh", "token": serving.token(ttl=3000)})
        assert 2900 < (await control(alice, "refreshed"))["expires_in_s"] <= 3000


async def test_a_refresh_with_another_s_token_is_refused_and_the_old_one_counts(serving: Serving) -> None:
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        for token in (serving.token("bob"), serving.token("alice", "globex"), "nonsense"):
            await say(alice, {"action": "refresh", "token": token})
            assert (await control(alice, "error"))["code"] == "token_refused"
        await serving.publish(1)
        assert (await heard(alice))["seq"] == 1


async def test_without_redis_a_join_is_told_to_come_back(serving: Serving, valkey: Valkey) -> None:
    before = REFUSALS.labels("unavailable")._value.get()
    async with serving.connect(serving.token()) as alice:
        await control(alice, "hello")
        valkey.stop()
        async with serving.connect(serving.token("bob", "elsewhere")) as bob:
            assert (await close_of(bob))[0] == 4113
        assert REFUSALS.labels("unavailable")._value.get() == before + 1
        await say(alice, {"action": "sendMessage", "data": "hi"})
        assert (await control(alice, "error"))["code"] == "unavailable"
        valkey.start()


async def test_one_connection_too_many_is_closed_with_a_reason(serving: Serving, settings: Any) -> None:
    settings.HERMES_CONNECTIONS_PER_USER = 1
    token = serving.token()
    async with serving.connect(token) as first:
        await control(first, "hello")
        async with serving.connect(token) as second:
            assert await close_of(second) == (4109, "too many connections")


async def test_a_draining_process_takes_no_new_members(serving: Serving) -> None:
    (await serving.hubs.running()).is_draining = True
    async with serving.connect(serving.token()) as alice:
        assert (await close_of(alice))[0] == 4112


async def test_a_wrong_path_is_refused_before_accepting(serving: Serving) -> None:
    communicator = WebsocketCommunicator(websocket_application(serving.hubs), "/elsewhere")
    assert await communicator.connect() == (False, 4404)


async def test_another_server_is_served_through_asgi_s_send(serving: Serving) -> None:
    """Daphne, granian and others have no raw side."""
    application: Any = websocket_application(serving.hubs)
    path = f"/ws/development?token={serving.token()}"
    communicator = WebsocketCommunicator(application, path, subprotocols=["hermes.v1"])
    assert await communicator.connect() == (True, "hermes.v1")
    assert json.loads(await communicator.receive_from())["data"]["type"] == "hermes.hello"
    await serving.publish(1)
    assert json.loads(await communicator.receive_from())["seq"] == 1
    await communicator.send_to(text_data="x" * 70_000)
    assert json.loads(await communicator.receive_from())["data"]["data"]["code"] == "too_large"
    await communicator.send_to(bytes_data=b"x")
    assert json.loads(await communicator.receive_from())["data"]["data"]["code"] == "binary"
    await communicator.disconnect()
    hub = await serving.hubs.running()
    deadline = time.monotonic() + 5
    while hub._connections:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_channels_routes_to_the_consumer(settings: Any) -> None:
    from hermes_site.asgi import application

    assert set(application.application_mapping) == {"http", "websocket", "lifespan"}
    guard: Any = websocket_application(HubOfLoop())
    assert isinstance(guard._application, URLRouter)
