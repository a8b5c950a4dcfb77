"""What an administrator does in the admin reaches the sockets: a test message, a disconnect, a revocation."""

from __future__ import annotations

import asyncio
import re
import urllib.parse

from tests.e2e.client import Client
from tests.processes import Hermes
from tests.waiting import eventually, wait_until


def choose(hermes: Hermes, model: str, action: str, row: str) -> None:
    """Choose the row of the list that holds a text, and run an action on it as the administrator."""
    cookies = hermes.sign_in("admin")
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    path = f"/admin/notifications/{model}/"

    def keys() -> list[str]:
        page = hermes.request("GET", path, "", headers)[1]
        rows = re.finditer(r'name="_selected_action" value="([^"]+)".*?</tr>', page, re.DOTALL)
        return [match[1] for match in rows if row in match[0]]

    # The rows and the mirror are written each at its own pace, so that what one has the other may not have yet.
    (key,) = wait_until(keys, what=f"the admin lists {row}")
    form = {"action": action, "_selected_action": key, "post": "yes", "csrfmiddlewaretoken": cookies["csrftoken"]}
    headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": hermes.url + path}
    status, text, _ = hermes.request("POST", path, urllib.parse.urlencode(form), headers)
    assert status == 302, (status, text[:500])


async def test_a_test_message_of_the_admin_is_a_toast_in_its_room_alone(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice, Client(hermes, "charlie") as charlie:
        await alice.hello()
        await charlie.hello()
        await asyncio.to_thread(choose, hermes, "room", "send_test_message", "acme")
        await alice.until(lambda: alice.received)
        assert alice.received[-1]["type"] == "info"
        assert alice.received[-1]["data"]["title"] == "Test message"
        assert charlie.received == []


async def test_a_connection_that_the_admin_disconnects_is_closed(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice, Client(hermes, "bob") as bob:
        connection = (await alice.hello())["connection_id"]
        await bob.hello()
        await eventually(lambda: connection in hermes.live_rows())
        await asyncio.to_thread(choose, hermes, "connection", "disconnect", connection)
        await alice.until(lambda: alice.close_codes)
        assert bob.close_codes == []


async def test_tokens_that_the_admin_revokes_are_good_for_nothing(hermes: Hermes) -> None:
    async with Client(hermes, "bob") as bob:
        await bob.hello()
        await asyncio.to_thread(choose, hermes, "membership", "revoke_tokens", "bob")
        await bob.until(lambda: bob.close_codes)
        assert bob.close_codes == [4403]
        async with Client(hermes, "bob", token=bob.token) as again:
            await again.until(lambda: again.close_codes)
            assert again.close_codes == [4403]
