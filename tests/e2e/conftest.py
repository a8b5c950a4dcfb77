"""Both servers, each a process: uvicorn by `serve` and Daphne by `runserver`, before the same engines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from tests.processes import START_DEADLINE, Hermes
from tests.waiting import wait_until


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


METRICS_TOKEN = "the-metrics-token-of-these-tests"


@dataclass(frozen=True)
class Measured:
    """A Hermes whose server and relay answer with metrics, each on a port of its own, and log everything as JSON."""

    hermes: Hermes
    port: int
    relay_port: int

    def text(self, port: int = 0, token: str = METRICS_TOKEN) -> str:
        """Return the metrics, of the server's own port unless another is named."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://{HOST}:{port or self.port}"
        status, text, _ = self.hermes.request("GET", "/metrics", headers=headers, url=url)
        assert status == 200, (status, text)
        return text

    def samples(self, port: int = 0) -> dict[str, float]:
        """Return the metrics by name, labels included as Prometheus writes them."""
        lines = (line.rpartition(" ") for line in self.text(port).splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def relay(self) -> dict[str, float]:
        """Return the relay's metrics."""
        return self.samples(self.relay_port)

    def logged(self, process: str) -> list[dict[str, Any]]:
        """Return what a process has logged, line by line."""
        lines = self.hermes.processes[process].log_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="session")
def measured(make_hermes: Callable[..., Hermes]) -> Iterator[Measured]:
    """A Hermes of its own, because numbers and lines are counted."""
    port, relay_port = free_port(), free_port()
    own = make_hermes(
        HERMES_METRICS_TOKEN=METRICS_TOKEN,
        HERMES_METRICS_PORT=str(port),
        HERMES_RELAY_METRICS_PORT=str(relay_port),
        HERMES_LOG_FORMAT="json",
        HERMES_LOG_LEVEL="DEBUG",
    )
    try:
        own.start()
        wait_until(lambda: own.status("/metrics", f"http://{HOST}:{relay_port}") == 401, START_DEADLINE)
        yield Measured(own, port, relay_port)
    finally:
        own.stop()
