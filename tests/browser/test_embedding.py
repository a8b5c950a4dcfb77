"""Every snippet of docs/embedding.md, as it stands there, on a site of its own in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from hermes_site.engines import HOST
from tests.documents import ROOT, section
from tests.processes import Hermes
from tests.waiting import wait_until

pytestmark = pytest.mark.browser
DOCUMENT = "docs/embedding.md"
TOAST = ".hermes-toast:not([inert])"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
MODULES = ROOT / "node_modules"


def snippets(heading: str, language: str) -> list[str]:
    """Return a section's code of a language, without the indent that a list gives it."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", section(DOCUMENT, heading), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(body) for _, body in found]


class Site:
    """A site of somebody else's: files from memory, the toolkit from the repository, and answers to what is posted."""

    def __init__(self) -> None:
        self.files: dict[str, str | Callable[[], str]] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                body = site.files.get(path)
                if body is None and path.startswith("/static/hermes/") and (ROOT / path[1:]).is_file():
                    body = (ROOT / path[1:]).read_text("utf-8")
                text = body() if callable(body) else body
                data = (text or "").encode()
                self.send_response(404 if text is None else 200)
                self.send_header("Content-Type", f"{TYPES.get(Path(path).suffix, 'text/html')}; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="site", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    running = Site()
    yield running
    running.close()


@pytest.fixture(scope="module")
def hermes(make_hermes: Callable[..., Hermes], site: Site) -> Iterator[Hermes]:
    """A Hermes that lets the site's pages connect, besides its own."""
    port = site.url.rsplit(":", 1)[1]
    running = make_hermes(HERMES_ALLOWED_ORIGINS=f"http://{HOST}:{port}")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    failures: list[str] = []
    opened.on("weberror", lambda error: failures.append(str(error.error)))
    yield opened
    opened.close()
    assert failures == []


@pytest.fixture
def here(hermes: Hermes) -> Callable[[str], str]:
    """Return what puts the tests' addresses in the place of the document's."""

    def put(text: str) -> str:
        ours = text.replace("wss://hermes.example.org", hermes.url.replace("http", "ws"))
        return ours.replace("https://hermes.example.org", hermes.url)

    return put


def page_of(site: Site, context: BrowserContext, body: str, path: str = "/index.html") -> Page:
    site.files[path] = f'<!doctype html><html lang="en"><title>Shop</title><body>{body}</body></html>'
    page = context.new_page()
    page.goto(f"{site.url}{path}")
    return page


def see(page: Page, hermes: Hermes, kind: str, title: str) -> None:
    """Send until the page shows it: only the page knows when it has connected."""
    for n in range(20):
        hermes.send("acme", {"type": kind, "data": {"title": f"{title} {n}", "number": str(n)}})
        try:
            page.locator(TOAST, has_text=title).first.wait_for(timeout=1500)
            return
        except Exception:  # noqa: S112  the last one fails below
            continue
    expect(page.locator(TOAST, has_text=title)).to_be_visible()


def another_tab(page: Page) -> Page:
    """Open the same page once more in its browser."""
    tab = page.context.new_page()
    tab.goto(page.url)
    return tab


def each_is_shown_in_one(tabs: list[Page], hermes: Hermes) -> None:
    """What comes must be shown in one of the tabs, whichever it is, and not in the others."""

    def shown(title: str) -> int:
        return sum(tab.locator(TOAST, has_text=title).count() for tab in tabs)

    for title in ("First of all", "Second of all", "Last of all"):
        hermes.send("acme", {"type": "success", "data": {"title": title, "lasts_ms": 0}})
        # Toasts of before may still stand, and no more than four at once do.
        wait_until(lambda title=title: shown(title), 40, f"{title} is shown")
    # One connection brings them to all tabs in order: with the last one, the others have come everywhere.
    assert [shown(title) for title in ("First of all", "Second of all")] == [1, 1]


def test_every_section_that_the_page_begins_with_is_there() -> None:
    assert all(
        section(DOCUMENT, f"## {name}") for name in ("A Django template", "HTML on another origin", "React", "htmx")
    )


def test_the_django_template(
    site: Site, hermes: Hermes, context: BrowserContext, rendered: Callable[[str], str]
) -> None:
    [template] = snippets("## A Django template", "django")
    [module] = snippets("## A Django template", "js")
    site.files["/static/shop/invoices.js"] = module
    site.files["/notifications/token"] = lambda: json.dumps(hermes.token_response("alice"))
    html = rendered(template).replace("</header>", '</header><p data-invoice="118">118</p>')
    site.files["/django.html"] = html
    page = context.new_page()
    page.goto(f"{site.url}/django.html")
    page.wait_for_function("() => window.hermes?.state === 'open'")
    see(page, hermes, "success", "Invoice paid")
    expect(page.locator(".hermes-bell__badge")).to_be_visible()
    hermes.send("acme", {"type": "invoice.paid", "data": {"number": "118"}})
    expect(page.locator("[data-invoice='118']")).to_have_class("paid")


@pytest.fixture
def rendered(hermes: Hermes) -> Callable[[str], str]:
    """Return what renders a template as a page of this Hermes, for Alice: its tag's elements are the demo page's."""

    def render(template: str) -> str:
        cookies = "; ".join(f"{name}={value}" for name, value in hermes.sign_in("alice").items())
        html = hermes.request("GET", "/", headers={"Cookie": cookies})[1]
        start, end = html.index('<link rel="stylesheet" href="/static/hermes/toasts.css">'), html.index("page.js")
        elements = html[start : html.index("</script>", end) + len("</script>")]
        text = re.sub(r"\{% load [\w ]+ %\}\n?", "", template)
        text = re.sub(r"\{% static '([\w./-]+)' %\}", r"/static/\1", text)
        text = text.replace("{% hermes %}", elements)
        assert "{%" not in text
        return text

    return render


def test_html_on_another_origin_with_a_token_endpoint_of_its_own(
    site: Site, hermes: Hermes, context: BrowserContext, here: Callable[[str], str]
) -> None:
    [code] = snippets("## HTML on another origin", "python")
    [html] = snippets("## HTML on another origin", "html")
    made: dict[str, Any] = {}
    exec(code, made)  # noqa: S102  the document's own code
    secrets = {name: hermes.env[f"HERMES_{name.upper()}"] for name in ("jwt_secret", "passcode")}
    # A member whom Hermes itself has never heard of.
    site.files["/token"] = lambda: json.dumps(
        made["issue_token"](4711, "acme", dynamodb=hermes.client("dynamodb"), **secrets)
    )
    page = page_of(site, context, here(html))
    see(page, hermes, "info", "From the other origin")
    expect(page.locator(".hermes-toast__card").first).to_have_css("position", "relative")
    each_is_shown_in_one([page, another_tab(page)], hermes)


def test_a_page_of_an_origin_that_is_not_allowed_is_not_let_in(
    site: Site, hermes: Hermes, context: BrowserContext, here: Callable[[str], str]
) -> None:
    [html] = snippets("## HTML on another origin", "html")
    stranger = Site()
    try:
        stranger.files["/token"] = lambda: json.dumps(hermes.token_response("alice"))
        asked: list[str] = []
        context.on("page", lambda page: page.on("websocket", lambda socket: asked.append(socket.url)))
        page = page_of(
            stranger, context, here(html).replace("hermes.connect()", "window.hermes = hermes; hermes.connect()")
        )
        page.wait_for_function("() => window.hermes?.state === 'waiting'")
        assert asked
    finally:
        stranger.close()


def test_react(site: Site, hermes: Hermes, context: BrowserContext, here: Callable[[str], str], tmp_path: Path) -> None:
    provider, app = snippets("## React", "jsx")
    (tmp_path / "notifications.jsx").write_text(provider, "utf-8")
    (tmp_path / "app.jsx").write_text(here(app), "utf-8")
    (tmp_path / "node_modules").mkdir()
    for name in ("react", "react-dom", "scheduler"):
        (tmp_path / "node_modules" / name).symlink_to(MODULES / name)
    (tmp_path / "node_modules/hermes-toolkit").symlink_to(ROOT)
    command = [MODULES / ".bin/esbuild", "app.jsx", "--bundle", "--jsx=automatic", "--format=esm", "--outdir=out"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    for path in ("app.js", "app.css"):
        site.files[f"/{path}"] = (tmp_path / "out" / path).read_text("utf-8")
    site.files["/token"] = lambda: json.dumps(hermes.token_response("alice"))
    body = '<link rel="stylesheet" href="/app.css"><div id="app"></div><script type="module" src="/app.js"></script>'
    page = page_of(site, context, body)
    expect(page.locator("p[data-state=open]")).to_be_visible()
    see(page, hermes, "warning", "Only 3 monitors left")
    hermes.send("acme", {"type": "invoice.paid", "data": {"number": "118"}})
    hermes.send("acme", {"type": "invoice.paid", "data": {"number": "119"}})
    expect(page.locator("p[data-state]")).to_have_text(re.compile("Paid: (118, 119|119, 118)$"))
    # StrictMode has mounted it twice, and one of each is left.
    expect(page.locator(".hermes-toasts")).to_have_count(1)
    expect(page.locator(".hermes-toast__card").first).to_have_css("position", "relative")
    other = another_tab(page)
    expect(other.locator("p[data-state=open]")).to_be_visible()
    each_is_shown_in_one([page, other], hermes)


def test_htmx(site: Site, hermes: Hermes, context: BrowserContext, rendered: Callable[[str], str]) -> None:
    [html] = snippets("## htmx", "html")
    [module] = snippets("## htmx", "js")
    site.files["/static/shop/htmx.min.js"] = (MODULES / "htmx.org/dist/htmx.min.js").read_text("utf-8")
    site.files["/static/shop/notifications.js"] = module
    site.files["/invoices/"] = "<ul><li>Invoice 118 is paid</li></ul>"
    site.files["/next.html"] = "<title>Next</title><body><h1>The next page</h1><span data-hermes-bell></span></body>"
    site.files["/notifications/token"] = lambda: json.dumps(hermes.token_response("alice"))
    head, body = html.split("…\n")
    site.files["/htmx.html"] = rendered(
        f'<!doctype html><html lang="en"><head><title>Shop</title>{{% hermes %}}{head}</head><body>{body}'
        '<span data-hermes-bell></span><a hx-boost="true" href="/next.html">Next</a></body></html>'
    )
    page = context.new_page()
    page.goto(f"{site.url}/htmx.html")
    page.wait_for_function("() => window.hermes?.state === 'open'")
    hermes.send("acme", {"type": "invoice.paid", "data": {"number": "118"}})
    expect(page.locator("section li")).to_have_text("Invoice 118 is paid")
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("heading", name="The next page")).to_be_visible()
    expect(page.locator(".hermes-bell__button")).to_be_visible()
    see(page, hermes, "info", "After the boost")


def test_words_in_another_language_are_an_element_of_the_page(
    site: Site, hermes: Hermes, context: BrowserContext, rendered: Callable[[str], str]
) -> None:
    found = re.findall(r"```html\n(.*?)```", section("docs/toolkit.md", "### Words"), re.DOTALL)
    site.files["/notifications/token"] = lambda: json.dumps(hermes.token_response("alice"))
    site.files["/polish.html"] = rendered(
        f"<!doctype html><html lang=pl><head><title>Sklep</title>{{% hermes %}}{found[0]}"
    )
    page = context.new_page()
    page.goto(f"{site.url}/polish.html")
    page.wait_for_function("() => window.hermes?.state === 'open'")
    see(page, hermes, "info", "Zamówienie")
    expect(page.get_by_role("button", name="Zamknij", exact=True).first).to_be_visible()


def test_the_articles_rails_page(
    site: Site, hermes: Hermes, context: BrowserContext, here: Callable[[str], str]
) -> None:
    plain, with_toasts = (
        here(f'<div id="notifications"></div>{each}')
        .replace('<%= ENV["STAGE"] %>', hermes.stage)
        .replace("<%= @notification_token %>", hermes.token("alice"))
        for each in snippets("## The article's Rails page", "erb")
    )
    assert "<%" not in plain + with_toasts
    page = page_of(site, context, plain)
    page.wait_for_function("() => window.hermes?.client?.state === 'open'")
    hermes.send("acme", {"type": "info", "data": "Sent by Ruby"})
    expect(page.locator("#notifications")).to_have_text("Sent by Ruby")
    page.close()
    page = page_of(site, context, with_toasts, "/toasts.html")
    page.wait_for_function("() => window.hermes?.client?.state === 'open'")
    see(page, hermes, "success", "And a toast")
    each_is_shown_in_one([page, another_tab(page)], hermes)
