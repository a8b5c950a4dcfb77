"""Plain Channels, on Daphne and on uvicorn: two of the contestants. The application is channels_app."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from bench.ground import HOST
from bench.helper import ROOT
from bench.peers.contestant import Contestant

_APPLICATION = "bench.peers.channels_app:application"
_WHAT = (
    "the consumer of Channels' tutorial, a group per room, `RedisPubSubChannelLayer`; no authentication, no history."
)


class ChannelsOnDaphne(Contestant):
    """The tutorial's consumer on the tutorial's server."""

    name = "channels-daphne"
    title = "Channels on Daphne"
    what = "Daphne: " + _WHAT
    dialect = "channels"
    entrance = "channels"
    is_slow = True

    def version(self) -> str:
        """Return the packages' versions."""
        return f"channels {version('channels')}, channels-redis {version('channels-redis')}, daphne {version('daphne')}"

    def environment(self) -> dict[str, str]:
        """Return ours, with the way to the application."""
        return {**super().environment(), "PYTHONPATH": str(ROOT)}

    def commands(self) -> dict[str, Sequence[str]]:
        """Return Daphne."""
        return {"server": [sys.executable, "-m", "daphne", "-b", HOST, "-p", str(self.port), "-v", "0", _APPLICATION]}


class ChannelsOnUvicorn(ChannelsOnDaphne):
    """The same on uvicorn."""

    name = "channels-uvicorn"
    title = "Channels on uvicorn"
    what = "uvicorn with uvloop: " + _WHAT

    def version(self) -> str:
        """Return the packages' versions."""
        return (
            f"channels {version('channels')}, channels-redis {version('channels-redis')}, uvicorn {version('uvicorn')}"
        )

    def commands(self) -> dict[str, Sequence[str]]:
        """Return uvicorn; without compression, as all the others."""
        arguments = ("--host", HOST, "--port", str(self.port), "--log-level", "warning", "--lifespan", "off")
        return {
            "server": [
                *(sys.executable, "-m", "uvicorn", *arguments, "--ws-per-message-deflate", "false", _APPLICATION)
            ]
        }
