"""The article's browser code, and the toolkit in its shape, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.processes import Hermes

pytestmark = pytest.mark.browser

# Its `connect`, as printed but for the names' spelling of our host.
ARTICLE = """
(stage, token, host) => {
    window.noovolariUiToolkit = {notifications: {subscribers: []}};
    const noovolari = {smartbackup: {notifications: {}}};
    noovolari.smartbackup.notifications.websocket = {};
    noovolari.smartbackup.notifications.websocket.connect = function(stage, token) {
        var socketUrl = host + '/'+stage+'?token='+token;
        noovolari.smartbackup.notifications.websocket = new WebSocket(socketUrl);
        window.socket = noovolari.smartbackup.notifications.websocket;
        noovolari.smartbackup.notifications.websocket.onopen = function () { window.opened = true; };
        noovolari.smartbackup.notifications.websocket.onclose = function () { window.gone = true; };
        noovolari.smartbackup.notifications.websocket.onmessage = function (evt) {
            var notification = JSON.parse(evt.data);
            var message = notification.data;
            noovolariUiToolkit.notifications.subscribers.forEach(function(subscriber) {
                if (subscriber.type === message.type) { subscriber.callback(message.data); }
            });
        };
    };
    window.got = [];
    noovolariUiToolkit.notifications.subscribers.push({type: "info", callback: (data) => got.push(data)});
    noovolari.smartbackup.notifications.websocket.connect(stage, token);
}
"""


@pytest.fixture
def blank(signed_in: SignIn, hermes: Hermes) -> Page:
    """A page of an allowed origin with nothing of ours in it."""
    page = signed_in("alice")
    page.goto(f"{hermes.url}/healthz")
    return page


def test_the_articles_own_code_receives_and_sends(blank: Page, hermes: Hermes) -> None:
    host = f"{hermes.url.replace('http', 'ws')}/ws"
    blank.evaluate(
        f"([stage, token, host]) => ({ARTICLE})(stage, token, host)", [hermes.stage, hermes.token("alice"), host]
    )
    blank.wait_for_function("() => window.opened")
    hermes.send("acme", {"type": "info", "data": "Sent by Ruby"})
    blank.wait_for_function("() => got.includes('Sent by Ruby')")
    blank.evaluate(
        "() => socket.send(JSON.stringify({action: 'sendMessage', data: {type: 'info', data: 'From the page'}}))"
    )
    blank.wait_for_function("() => got.includes('From the page')")
    assert blank.evaluate("() => window.gone") is None


def test_the_toolkit_in_the_articles_shape_comes_back_by_itself(blank: Page, hermes: Hermes) -> None:
    blank.evaluate(
        "() => { window.got = []; (window.hermes ??= {subscribers: []}).subscribers.push("
        "{type: 'info', callback: (data) => got.push(data)}); }"
    )
    blank.add_script_tag(url="/static/hermes/classic.js", type="module")
    blank.wait_for_function("() => window.hermes.connect")
    blank.evaluate("([stage, token]) => hermes.connect(stage, token)", [hermes.stage, hermes.token("alice")])
    blank.wait_for_function("() => hermes.client.state === 'open'")
    hermes.send("acme", {"type": "info", "data": "one"})
    blank.wait_for_function("() => got.length === 1")
    blank.evaluate("() => dispatchEvent(new Event('offline'))")
    hermes.send("acme", {"type": "info", "data": "two"})
    blank.wait_for_function("() => got.length === 2")
    assert blank.evaluate("() => got") == ["one", "two"]
    expect(blank.locator("body")).to_be_visible()
