"""The contestants: each knows how its server is started, who may join it, and how messages get into it."""

from __future__ import annotations

from bench.ground import Ground
from bench.peers.centrifugo import Centrifugo
from bench.peers.channels import ChannelsOnDaphne, ChannelsOnUvicorn
from bench.peers.contestant import Contestant
from bench.peers.hermes import Hermes
from bench.peers.nchan import Nchan
from bench.peers.socketio import SocketIo

# In the order in which they take turns.
ALL: tuple[type[Contestant], ...] = (Hermes, SocketIo, Nchan, Centrifugo, ChannelsOnUvicorn, ChannelsOnDaphne)
NAMES = tuple(contestant.name for contestant in ALL)


def make(names: tuple[str, ...], ground: Ground) -> list[Contestant]:
    """Return the contestants of these names, in the order in which they take turns."""
    return [contestant(ground) for contestant in ALL if contestant.name in names]
