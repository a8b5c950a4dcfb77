"""The demo page in a real browser: from the form, or from SQS, to a toast."""

from __future__ import annotations

import json
import re
import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SignIn
from tests.processes import PASSWORD, Hermes

pytestmark = pytest.mark.browser
TOAST = ".hermes-toast"


def send_by_form(page: Page, title: str, kind: str = "info", text: str = "") -> None:
    page.check(f"input[value={kind}]")
    page.fill("#id_title", title)
    page.fill("#id_text", text)
    page.get_by_role("button", name="Send to").click()


def received(page: Page) -> list[str]:
    """The titles that the page has dispatched since `record` was called on it, in order."""
    titles: list[str] = page.evaluate("() => JSON.parse(sessionStorage.getItem('titles') ?? '[]')")
    return titles


def record(page: Page) -> None:
    """Have this page and those that follow it in its tab write down every entry that they dispatch."""
    script = """
        addEventListener("DOMContentLoaded", () => (window.hermes ??= {subscribers: []}).subscribers.push({
            type: "info",
            callback: (data, entry) => {
                for (const [name, value] of [["titles", data.title], ["seqs", entry.seq]]) {
                    const earlier = JSON.parse(sessionStorage.getItem(name) ?? "[]");
                    sessionStorage.setItem(name, JSON.stringify([...earlier, value]));
                }
            },
        }), {once: true, capture: true});
    """
    page.add_init_script(script)
    page.reload()
    expect(page.locator("#state")).to_have_text("Connected")


def wait_for(page: Page, titles: list[str]) -> None:
    """Wait until all of these have come; each must have come once, and in the order of the room's history.

    That is not always the order of sending: a standard queue keeps none. `seq` counts a room's entries.
    """
    count = "count => JSON.parse(sessionStorage.getItem('titles') ?? '[]').length >= count"
    page.wait_for_function(count, arg=len(titles))
    expect(page.locator("#state")).to_have_text("Connected")
    seen = received(page)
    assert sorted(seen) == sorted(titles)
    seqs = page.evaluate("() => JSON.parse(sessionStorage.getItem('seqs'))")
    assert seqs == list(range(seqs[0], seqs[0] + len(titles)))
    last = page.evaluate("async () => (await hermes.recent(200)).map((entry) => entry.data?.data?.title)")
    assert seen[-len(last) :] == last[-len(seen) :]


def test_a_member_signs_in_and_the_button_shows_a_toast_within_a_second(browser: Browser, hermes: Hermes) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(hermes.url)
    expect(page).to_have_url(re.compile("/sign-in/"))
    page.fill("#id_username", "alice")
    page.fill("#id_password", "wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.fill("#id_username", "alice")
    page.fill("#id_password", PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#state")).to_have_text("Connected")
    took = []
    for n in range(5):
        start = time.perf_counter()
        send_by_form(page, f"Round {n}", kind="success", text="through SQS")
        page.locator(TOAST, has_text=f"Round {n}").wait_for(timeout=5000)
        took.append(time.perf_counter() - start)
    assert sorted(took)[2] < 1.0, took
    expect(page.locator("#round-trip")).to_have_text(re.compile(r"^\d+ ms$"))
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in/"))
    context.close()


def test_a_message_from_sqs_shows_as_a_toast_and_in_the_list(alice: Page, hermes: Hermes) -> None:
    hermes.send("acme", {"type": "warning", "data": {"title": "Disk 90 % full", "text": "fileserver-02"}})
    toast = alice.locator(TOAST, has_text="Disk 90 % full")
    expect(toast).to_have_attribute("data-kind", "warning")
    expect(toast).to_contain_text("fileserver-02")
    expect(alice.locator("#feed li").first).to_contain_text("Disk 90 % full")
    toast.get_by_role("button", name="Close").click()
    expect(toast).to_have_count(0)


def test_bob_sees_it_and_charlie_in_the_other_room_does_not(alice: Page, signed_in: SignIn, hermes: Hermes) -> None:
    bob, charlie = signed_in("bob"), signed_in("charlie")
    send_by_form(alice, "For acme")
    for page in (alice, bob):
        expect(page.locator(TOAST, has_text="For acme")).to_be_visible()
    # When what was sent later has arrived, what was sent before has not been held up.
    hermes.send("globex", {"type": "info", "data": "For globex"})
    expect(charlie.locator(TOAST, has_text="For globex")).to_be_visible()
    expect(charlie.locator("body")).not_to_contain_text("For acme")
    expect(alice.locator("body")).not_to_contain_text("For globex")


def test_what_is_sent_while_the_browser_is_offline_arrives_once_and_in_order(alice: Page, hermes: Hermes) -> None:
    record(alice)
    hermes.send("acme", {"type": "info", "data": {"title": "before"}})
    wait_for(alice, ["before"])
    alice.context.set_offline(True)
    expect(alice.locator("#state")).to_have_attribute("data-state", re.compile("offline|connecting"))
    titles = ["before", *(f"away {n}" for n in range(20))]
    for title in titles[1:]:
        hermes.send("acme", {"type": "info", "data": {"title": title}})
        alice.wait_for_timeout(100)
    assert received(alice) == ["before"]
    alice.context.set_offline(False)
    expect(alice.locator("#state")).to_have_text("Connected")
    hermes.send("acme", {"type": "info", "data": {"title": "after"}})
    wait_for(alice, [*titles, "after"])


def test_going_to_another_page_loses_and_repeats_nothing(alice: Page, hermes: Hermes) -> None:
    record(alice)
    titles = [f"on the way {n}" for n in range(30)]
    for n, title in enumerate(titles):
        hermes.send("acme", {"type": "info", "data": {"title": title}})
        if n % 10 == 5:
            alice.goto(f"{hermes.url}/guide/")
        if n % 10 == 9:
            alice.goto(hermes.url)
    wait_for(alice, titles)
    alice.goto("about:blank")
    hermes.send("acme", {"type": "info", "data": {"title": "while elsewhere"}})
    alice.goto(hermes.url)
    wait_for(alice, [*titles, "while elsewhere"])
    alice.go_back()
    alice.go_forward()
    hermes.send("acme", {"type": "info", "data": {"title": "last"}})
    wait_for(alice, [*titles, "while elsewhere", "last"])


def test_a_reload_in_the_middle_of_a_burst_loses_and_repeats_nothing(alice: Page, hermes: Hermes) -> None:
    record(alice)
    titles = [f"burst {n:03}" for n in range(500)]
    hermes.send_many("acme", [{"type": "info", "data": {"title": title}} for title in titles])
    for count in (20, 80):
        alice.wait_for_function("n => JSON.parse(sessionStorage.getItem('titles') ?? '[]').length >= n", arg=count)
        alice.reload()
    wait_for(alice, titles)


HOSTILE = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    "</script><svg onload=document.title='owned'>",
    "javascript:document.title='owned'",
    '"><iframe srcdoc="<script>parent.document.title=\'owned\'</script>">',
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_a_producer_writes_is_shown_as_text(alice: Page, hermes: Hermes, hostile: str) -> None:
    title = alice.title()
    content = {"title": f"t {hostile}", "text": f"x {hostile}", "link": hostile}
    hermes.send("acme", {"type": "danger", "data": content})
    toast = alice.locator(TOAST).first
    expect(toast.locator(".hermes-toast__title")).to_have_text(f"t {hostile}")
    expect(toast.locator(".hermes-toast__text")).to_have_text(f"x {hostile}")
    assert toast.locator("a[href^='javascript']").count() == 0
    assert toast.locator("img, script, iframe, svg[onload]").count() == 0
    hermes.send("acme", {"type": hostile, "data": hostile})
    expect(alice.locator("#feed li").first).to_contain_text(hostile)
    alice.reload()
    expect(alice.locator("#feed li").first).to_contain_text(hostile)
    assert alice.title() == title


def test_a_form_sent_without_scripts_goes_the_same_way(browser: Browser, alice: Page, hermes: Hermes) -> None:
    context = browser.new_context(java_script_enabled=False)
    context.add_cookies([{"name": n, "value": v, "url": hermes.url} for n, v in hermes.sign_in("bob").items()])
    page = context.new_page()
    page.goto(hermes.url)
    send_by_form(page, "Without scripts")
    expect(page.locator(".notice")).to_contain_text("Sent")
    expect(alice.locator(TOAST, has_text="Without scripts")).to_be_visible()
    context.close()


def test_a_toast_waits_while_it_is_read_and_goes_with_escape(alice: Page, hermes: Hermes) -> None:
    hermes.send("acme", {"type": "success", "data": "Read me"})
    toast = alice.locator(TOAST, has_text="Read me")
    toast.hover()
    expect(alice.locator(".hermes-toasts")).to_have_attribute("data-paused", "")
    toast.get_by_role("button", name="Close").focus()
    alice.keyboard.press("Escape")
    expect(toast).to_have_count(0)


def test_only_so_many_toasts_stand_at_once_and_the_rest_can_be_cleared(alice: Page, hermes: Hermes) -> None:
    hermes.send_many("acme", [{"type": "info", "data": f"number {n}"} for n in range(40)])
    more = alice.locator(".hermes-toasts__more")
    expect(more).to_contain_text("36 more")
    assert alice.locator(f"{TOAST}:not([inert])").count() == 4
    more.get_by_role("button", name="Clear all").click()
    expect(alice.locator(TOAST)).to_have_count(0)


def test_a_page_says_when_its_server_is_gone_and_when_it_is_back(alice: Page) -> None:
    states = alice.evaluate(
        """async () => {
            const states = [];
            const end = hermes.on("hermes.state", ({state}) => states.push(state));
            dispatchEvent(new Event("offline"));
            await new Promise((done) => hermes.once("hermes.hello", () => setTimeout(done)));
            end();
            return states;
        }"""
    )
    assert states[0] in {"waiting", "offline"}
    assert states[-2:] == ["connecting", "open"]


def test_a_member_sends_to_the_own_room_from_the_page(alice: Page, signed_in: SignIn) -> None:
    bob = signed_in("bob")
    alice.evaluate("() => hermes.send({type: 'info', data: 'From the page'})")
    expect(bob.locator(TOAST, has_text="From the page")).to_be_visible()


ASK_FOR_A_TOKEN = """async () => {
    const {tokenSource} = await import("/static/hermes/page.js");
    const config = JSON.parse(document.getElementById("hermes-config").textContent);
    try { return (await tokenSource(config)()).room_id; } catch (error) { return error.constructor.name; }
}"""


def test_who_has_signed_out_gets_no_token_and_the_page_does_not_ask_again(signed_in: SignIn) -> None:
    page = signed_in("bob")
    assert page.evaluate(ASK_FOR_A_TOKEN) == "acme"
    page.context.clear_cookies()
    assert page.evaluate(ASK_FOR_A_TOKEN) == "Refused"


def test_a_page_takes_no_token_of_another_member_who_has_signed_in_since(signed_in: SignIn, hermes: Hermes) -> None:
    page = signed_in("bob")
    page.context.clear_cookies()
    page.context.add_cookies([{"name": n, "value": v, "url": hermes.url} for n, v in hermes.sign_in("alice").items()])
    assert page.evaluate(ASK_FOR_A_TOKEN) == "Refused"


def test_the_page_runs_under_a_strict_content_security_policy(browser: Browser, hermes: Hermes) -> None:
    context = browser.new_context()
    context.add_cookies([{"name": n, "value": v, "url": hermes.url} for n, v in hermes.sign_in("alice").items()])
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    response = page.goto(hermes.url)
    assert response is not None
    policy = response.header_value("content-security-policy") or ""
    assert "default-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    expect(page.locator("#state")).to_have_text("Connected")
    send_by_form(page, "Strict")
    expect(page.locator(TOAST, has_text="Strict")).to_be_visible()
    # An error on the console would be a violation; that there would be one shows the policy itself.
    assert said == []
    page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; } catch {} }")
    assert any("trusted" in text.lower() for text in said)
    context.close()


def test_the_token_is_in_no_address_and_no_storage(alice: Page) -> None:
    stored = alice.evaluate("() => JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert "eyJ" not in stored
    assert json.loads(stored)[0]
    addresses = alice.evaluate("() => performance.getEntriesByType('resource').map((entry) => entry.name).join(' ')")
    assert "eyJ" not in addresses
