"""The heap of a server process: what is there at its start is searched no more, and the rest seldom."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from hermes_site import asgi, heap
from hermes_site.engines import Valkey
from tests.conftest import Aws

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def heap_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def test_a_server_that_starts_settles_its_heap(valkey: Valkey, aws: Aws) -> None:
    events = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    seen: list[tuple[str, tuple[int, int, int], bool]] = []

    async def receive() -> Any:
        return next(events)

    async def send(message: Any) -> None:
        seen.append((message["type"], gc.get_threshold(), gc.get_freeze_count() > 10_000))

    await asgi.lifespan({"type": "lifespan"}, receive, send)
    assert seen[0] == ("lifespan.startup.complete", heap.THRESHOLDS, True)
    assert [each[0] for each in seen[1:]] == ["lifespan.shutdown.complete"]


def test_a_thousand_that_come_are_not_searched_for_cycles_each_time() -> None:
    heap.settle()
    searched = gc.get_stats()[0]["collections"]
    kept = [{"socket": [each]} for each in range(heap.THRESHOLDS[0] // 4)]
    assert gc.get_stats()[0]["collections"] - searched <= 1
    assert len(kept) == heap.THRESHOLDS[0] // 4
