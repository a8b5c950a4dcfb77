"""What the newcomer does in a browser: sign in, make room and membership, open the page, and listen. Run by newcomer.

In the clean root, by Hermes's own Python: `python -m tests.deploy.member HOST PASSWORD [again]`. It says what it has
done, one line each, and ends with the first toast.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar

from websockets.asyncio.client import connect

DEADLINE = 30.0


class Browser:
    """Pages of one host, over TLS that is verified, with cookies."""

    def __init__(self, host: str) -> None:
        self.host, self.cookies = host, CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies), urllib.request.ProxyHandler({})
        )

    def open(self, path: str, data: bytes | None = None, **headers: str) -> str:
        """Return a page's text."""
        headers["Referer"] = f"https://{self.host}/"
        request = urllib.request.Request(f"https://{self.host}{path}", data, headers)
        with self._opener.open(request, timeout=10) as response:
            return str(response.read().decode())

    def submit(self, path: str, **fields: str) -> str:
        """Open a page with a form, fill it in and send it."""
        page = self.open(path)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?', page))
        after = self.open(path, urllib.parse.urlencode({**hidden, **fields}).encode())
        assert "errornote" not in after, path
        return after

    def token(self) -> str:
        """Return a token, as the page gets it."""
        (csrf,) = [cookie.value for cookie in self.cookies if cookie.name == "csrftoken"]
        headers = {"Content-Type": "application/json", "X-CSRFToken": str(csrf)}
        return str(json.loads(self.open("/notifications/token", b"{}", **headers))["token"])


def say(words: str) -> None:
    """Tell who waits."""
    print(words, flush=True)  # noqa: T201  its output is what it is for


async def listen(host: str, token: str) -> None:
    """Join by wss, and say what is heard first."""
    async with connect(
        f"wss://{host}/ws/production",
        subprotocols=["hermes.v1", f"hermes.token.{token}"],  # type: ignore[list-item]
        origin=f"https://{host}",  # type: ignore[arg-type]
        ssl=ssl.create_default_context(),
        proxy=None,
    ) as socket:
        async for text in socket:
            frame = json.loads(text)
            if "seq" in frame:
                say(f"heard {json.dumps(frame['data'])}")
                return
            say(f"told {frame['data']['type']}")


def main(host: str, password: str, again: str = "") -> None:
    """Do all of it; again, where room and membership are there."""
    browser = Browser(host)
    browser.submit("/sign-in/", username="admin", password=password)
    if not again:
        browser.submit("/admin/notifications/room/add/", code="acme", name="Acme")
        # The first of each, in new tables.
        browser.submit("/admin/notifications/membership/add/", room="1", user="1")
    say("opened the page" if "hermes/page" in browser.open("/") else "the page has no Hermes")
    asyncio.run(asyncio.wait_for(listen(host, browser.token()), DEADLINE))


if __name__ == "__main__":
    main(*sys.argv[1:])
