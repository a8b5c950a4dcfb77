"""Both servers, each a process: uvicorn by `serve` and Daphne by `runserver`, before the same engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from tests.processes import START_DEADLINE, Hermes


@dataclass(frozen=True)
class Server:
    """One of the two servers: where it is, and its process."""

    name: str
    url: str
    process: ChildProcess

    @property
    def ws_url(self) -> str:
        """Where the first stage's sockets are."""
        return f"{self.url.replace('http', 'ws', 1)}/ws/{Hermes.stage}"


@pytest.fixture(scope="session")
def daphne(hermes: Hermes) -> Iterator[Server]:
    """`manage.py runserver`, on the engines and beside the server and the relay that all tests share."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    process = hermes.child("runserver", "runserver", f"{HOST}:{port}", "--noreload", port=port).start()
    hermes.processes["runserver"] = process
    process.wait_until_ready(lambda: hermes.is_alive(url), START_DEADLINE)
    yield Server("runserver", url, process)
    process.stop()


@pytest.fixture(params=["serve", "runserver"])
def server(hermes: Hermes, request: pytest.FixtureRequest) -> Server:
    """Each of the two servers in turn."""
    if request.param == "runserver":
        found: Server = request.getfixturevalue("daphne")
        return found
    return Server("serve", hermes.url, hermes.processes["server"])
