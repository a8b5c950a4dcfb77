"""Vitals: what `/metrics` says of this process's hub. Filled by hub, read by health through prometheus-client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from prometheus_client import Gauge

CONNECTIONS = Gauge("hermes_connections", "Open connections of this process.")
ROOMS = Gauge("hermes_rooms", "Rooms that this process follows, its control rooms included.")
TASKS = Gauge("hermes_tasks", "Tasks of the event loop: some for the process, two at most for each connection.")


def show(connections: Callable[[], int], rooms: Callable[[], int]) -> None:
    """Have the gauges show the running loop's hub.

    Args:
        connections, rooms: return how many there are now.
    """
    loop = asyncio.get_running_loop()
    CONNECTIONS.set_function(connections)
    ROOMS.set_function(rooms)
    TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
