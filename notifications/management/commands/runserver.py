"""`manage.py runserver`: Daphne's, which speaks WebSocket.

Here and not by Daphne's own app: that loads Twisted into every process, a fifth of what each takes to start.
"""

from __future__ import annotations

import daphne.server  # noqa: F401  installs Twisted's reactor
from daphne.management.commands.runserver import Command

__all__ = ["Command"]
