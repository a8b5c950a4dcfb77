"""Sitecustomize: sleeping, for processes under libfaketime. Read by Python itself, where world puts it on the path.

`time.sleep` sleeps until a moment of the monotonic clock, which libfaketime mistakes for one of a false clock: it
fails, or lasts for ever. Waiting for nothing for as long is left alone.
"""

from __future__ import annotations

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
