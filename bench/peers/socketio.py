"""Socket.IO 4 with a JWT check and the Redis adapter: one of the contestants. The program is socketio/server.mjs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence

import jwt

from bench.dialects import Member
from bench.peers.contestant import FOLDER, Contestant

_FOLDER = FOLDER / "socketio"
_SECRET = "bench-only-secret-" * 4
_TOKEN_SECONDS = 6 * 3600


class SocketIo(Contestant):
    """Socket.IO on Node."""

    name = "socketio"
    title = "Socket.IO"
    what = (
        "Node with `socket.io`, a JWT (HS512) checked in `io.use`, rooms, and the Redis adapter; published to as "
        "`@socket.io/redis-emitter` does. No history: with this adapter nothing can be recovered."
    )
    dialect = "socketio"
    entrance = "socketio"
    frame_overhead = len('42["message",]')

    def obstacle(self) -> str:
        """Return what is missing."""
        if shutil.which("node") is None:
            return "there is no node on this machine"
        if not (_FOLDER / "node_modules").exists():
            return "its packages are not installed: npm ci in bench/peers/socketio"
        return ""

    def version(self) -> str:
        """Return the packages' versions."""
        names = ("socket.io", "@socket.io/redis-adapter", "redis")
        packages = {name: json.loads((_FOLDER / "node_modules" / name / "package.json").read_text()) for name in names}
        return ", ".join(f"{name} {package['version']}" for name, package in packages.items())

    def environment(self) -> dict[str, str]:
        """Return ours, with port and secret."""
        return {**super().environment(), "PORT": str(self.port), "SECRET": _SECRET, "NODE_ENV": "production"}

    def commands(self) -> dict[str, Sequence[str]]:
        """Return the program."""
        return {"server": [shutil.which("node") or "node", str(_FOLDER / "server.mjs")]}

    def members(self, seats: Sequence[tuple[str, str]]) -> list[Member]:
        """Issue a token to each."""
        exp = int(time.time()) + _TOKEN_SECONDS
        return [
            Member(user, room, jwt.encode({"sub": user, "room": room, "exp": exp}, _SECRET, "HS512"))
            for user, room in seats
        ]
