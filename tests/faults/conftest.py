"""The fault suite's own part of a test run: its short form, which runs only where it is asked for by `-m faults`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark."""
    config.addinivalue_line("markers", "faults: breaks a running Hermes for minutes; runs only with `-m faults`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the short form out unless it was asked for."""
    if "faults" in config.getoption("markexpr"):
        return
    out = [item for item in items if item.get_closest_marker("faults")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]
