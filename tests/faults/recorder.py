"""Recorder: writes down what happens in a run, one JSON object a line. Used by everything that takes part in one."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


class Recorder:
    """One file of events, from many threads.

    Args:
        path: the file; begun anew.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def write(self, event: str, **fields: Any) -> None:
        """Write one event; what is written first stands first."""
        with self._lock:
            if not self._file.closed:
                t = round(time.monotonic() - self._began, 4)
                self._file.write(json.dumps({"t": t, "event": event, **fields}, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """Let others read what was written."""
        with self._lock:
            self._file.flush()

    def close(self) -> None:
        """Write nothing more."""
        with self._lock:
            self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Return the events of a run's file; a last line that was cut off is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events
