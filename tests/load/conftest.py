"""The load tests' own part of a test run: they run alone, where they are asked for by `-m load`, each in its world."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from channels.layers import get_channel_layer

from tests.load.world import World

LONGEST = float(os.environ.get("LOAD_SECONDS", "180"))


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "load: measures a server under load; runs only with `-m load`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out unless they were asked for: beside other tests they would measure those."""
    if "load" in config.getoption("markexpr"):
        return
    out = [item for item in items if item.get_closest_marker("load")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Return a function that runs a coroutine on the faster loop, which ten thousand clients in one process want."""

    def run(scene: Coroutine[Any, Any, None]) -> None:
        async def limited() -> None:
            try:
                async with asyncio.timeout(LONGEST):
                    await scene
            finally:
                async with asyncio.timeout(5):
                    await get_channel_layer().flush()

        signal.alarm(0)  # the alarm of all tests raises into a callback of this loop, and ends nothing
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(limited())

    return run


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Return a function that makes a world; arguments are the server's environment variables."""
    worlds: list[World] = []

    def make(**overrides: str) -> World:
        world = World(tmp_path / str(len(worlds)), overrides)
        worlds.append(world)
        return world.start()

    yield make
    for world in worlds:
        world.stop()


@pytest.fixture
def report(record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Return a function that prints what was measured, past pytest's capturing."""

    def say(title: str, **numbers: object) -> None:
        record_property(title, numbers)
        line = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in numbers.items())
        with capsys.disabled():
            sys.stdout.write(f"\n{title}: {line}\n")

    return say
