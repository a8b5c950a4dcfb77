"""What the article's own programs do works unchanged: its issuer, its browser code, its producer."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.conftest import chromium
from tests.e2e.client import Client
from tests.e2e.conftest import Server
from tests.processes import Hermes

USER = 4711
ROOM = "acme"
# The article's connect(), with the place that it leaves open filled in: '<WEBSOCKET_URL>' becomes host:port/ws.
BROWSER_CODE = """
window.noovolari = {smartbackup: {notifications: {websocket: {}}}};
window.noovolariUiToolkit = {notifications: {subscribers: []}};
window.seen = [];
noovolari.smartbackup.notifications.websocket.connect = function(stage, token) {
  var socketUrl = 'ws://' + WEBSOCKET_URL + '/' + stage + '?token=' + token;
  // connecting to the websocket url and retrieve function for connect and disconnect
  noovolari.smartbackup.notifications.websocket = new WebSocket(socketUrl);
  noovolari.smartbackup.notifications.websocket.onopen = function () {
    console.info('socket connection opened properly with...');
  };
  noovolari.smartbackup.notifications.websocket.onclose = function () {
    // websocket is closed.
    console.info("Connection closed...");
  };
  noovolari.smartbackup.notifications.websocket.onmessage = function (evt) {
    var notification = JSON.parse(evt.data);
    var message = notification.data;
    noovolariUiToolkit.notifications.subscribers.forEach(function(subscriber) {
      if (subscriber.type === message.type) { subscriber.callback(message.data); }
    });
  };
};
noovolariUiToolkit.notifications.subscribers.push({
  type: 'info', callback: function (data) { window.seen.push(data); }
});
"""


def issue(hermes: Hermes, cost: int, user: int = USER) -> str:
    """Make a token and its row as the article's Ruby does; return the token."""
    command = ["node", str(Path(__file__).with_name("article_issuer.mjs")), str(user), ROOM]
    made = subprocess.run(
        [*command, hermes.env["HERMES_PASSCODE"], hermes.env["HERMES_JWT_SECRET"], "3600"],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    answer = json.loads(made.stdout)
    hashed = bcrypt.hashpw(answer["digest"].encode(), bcrypt.gensalt(cost, prefix=b"2a")).decode()
    assert hashed.startswith(f"$2a${cost}$")
    row = {"user_id": {"S": str(user)}, "room_id": {"S": ROOM}, "token": {"S": hashed}}
    hermes.client("dynamodb").put_item(TableName="hermesTokens", Item=row)
    return str(answer["token"])


@pytest.mark.parametrize("cost", [10, 12])
async def test_a_token_made_the_articles_way_is_accepted(hermes: Hermes, server: Server, cost: int) -> None:
    token = await asyncio.to_thread(issue, hermes, cost)
    async with Client(hermes, token=token, article=True, url=server.ws_url) as ruby:
        # A client without hermes.v1 is told nothing when it joins, so its own message says that it is there.
        await ruby.send({"action": "sendMessage", "data": "from the article"})
        await ruby.until(lambda: ruby.entries)
        assert ruby.frames == ruby.entries
        assert ruby.received == ["from the article"]
        assert str(ruby.entries[0]["user_id"]) == str(USER)


async def test_sqs_bodies_as_its_ruby_makes_them_are_relayed(hermes: Hermes) -> None:
    async with Client(hermes, "alice") as alice:
        await alice.hello()
        body = '{"user_id":42,"room_id":"acme","data":{"type":"danger","data":"Backup failed"}}'
        await asyncio.to_thread(hermes.send_body, body)
        await alice.until(lambda: alice.entries)
        assert alice.received == [{"type": "danger", "data": "Backup failed"}]
        assert alice.entries[0]["user_id"] == 42


@pytest.fixture
def page(hermes: Hermes, server: Server) -> Iterator[Page]:
    """A page of the site in Chromium, on one of the servers."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        # It stands for a page of somebody else's: our own content security policy is not in force there.
        page = browser.new_page(bypass_csp=True)
        page.goto(f"{server.url}/sign-in/")
        yield page
        browser.close()


@pytest.mark.browser
def test_the_articles_browser_code_receives_messages_and_sends_them(hermes: Hermes, server: Server, page: Page) -> None:
    token = issue(hermes, 10)
    address = server.ws_url.removeprefix("ws://").rsplit("/", 1)[0]
    page.evaluate(BROWSER_CODE.replace("WEBSOCKET_URL", json.dumps(address)))
    page.evaluate(
        "([stage, token]) => noovolari.smartbackup.notifications.websocket.connect(stage, token)",
        [hermes.stage, token],
    )
    page.wait_for_function("noovolari.smartbackup.notifications.websocket.readyState === 1")
    # As in the article's sendMessage(); the answer proves that the room has been joined.
    page.evaluate(
        """() => noovolari.smartbackup.notifications.websocket.send(
            JSON.stringify({"action": "sendMessage", "data": {"type": "info", "data": "mine"}}))"""
    )
    page.wait_for_function("window.seen.length === 1")
    hermes.send(ROOM, {"type": "info", "data": "yours"}, USER)
    hermes.send(ROOM, "a message that has no type")
    hermes.send("globex", {"type": "info", "data": "not yours"})
    hermes.send(ROOM, {"type": "info", "data": "the last"})
    page.wait_for_function("window.seen.length === 3")
    assert sorted(page.evaluate("window.seen")) == ["mine", "the last", "yours"]
