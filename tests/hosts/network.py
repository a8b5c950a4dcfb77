"""Network: hosts as network namespaces on a bridge, each cut off and joined again at will. Called by scene.

A host that is cut off loses its port at the bridge: packets vanish in both directions, and nobody is told, as where a
cable or a router between two machines fails. Everybody knows everybody's hardware address for good, or the kernel would
find out by asking for it, and say so. This machine itself has an address on the bridge.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_IP = shutil.which("ip", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
_NAME = re.compile(r"\bhm(\d+)[a-z]+\b")
# 198.18.0.0/15 is for tests of networks (RFC 2544): nobody's own.
_NETWORK = "198.18"


class NoNetwork(Exception):
    """No namespace can be made here; the message says why."""


@dataclass(frozen=True)
class Host:
    """One host.

    Args:
        name: of its namespace, and of its port at the bridge.
        address: its IPv4 address.
        hardware: its hardware address.
    """

    name: str
    address: str
    hardware: str

    def command(self, *command: str) -> list[str]:
        """Return a command as one that runs on this host."""
        return [_IP or "ip", "netns", "exec", self.name, *command]


class Network:
    """A bridge and hosts on it; used as a context, which removes all of it.

    Args:
        names: of the hosts, one lower-case letter each.
    """

    def __init__(self, names: str) -> None:
        prefix, third = f"hm{os.getpid()}", _free_third()
        self._bridge = Host(f"{prefix}br", f"{_NETWORK}.{third}.1", "02:00:00:00:00:01")
        self.subnet = f"{_NETWORK}.{third}.0/24"
        self.hosts = {
            name: Host(f"{prefix}{name}", f"{_NETWORK}.{third}.{at}", f"02:00:00:00:00:{at:02x}")
            for at, name in enumerate(names, 2)
        }

    @property
    def address(self) -> str:
        """This machine's own address on the bridge."""
        return self._bridge.address

    def __enter__(self) -> Self:
        sweep()
        try:
            self._make()
        except BaseException:
            _remove(self._bridge.name.removesuffix("br"))
            raise
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self._bridge.name.removesuffix("br"))

    def cut(self, host: Host) -> None:
        """Cut a host off: nothing reaches it, and nothing comes from it."""
        _ip("link", "set", host.name, "nomaster")

    def join(self, host: Host) -> None:
        """End that; it does no harm where nothing was cut."""
        _ip("link", "set", host.name, "master", self._bridge.name)

    def _make(self) -> None:
        bridge = self._bridge
        # A hardware address that is given stays, whoever joins and leaves.
        _ip("link", "add", bridge.name, "address", bridge.hardware, "type", "bridge")
        _ip("addr", "add", f"{bridge.address}/24", "dev", bridge.name)
        _ip("link", "set", bridge.name, "up")
        for host in self.hosts.values():
            _ip("netns", "add", host.name)
            inside = ("eth0", "address", host.hardware, "netns", host.name)
            _ip("link", "add", host.name, "type", "veth", "peer", "name", *inside)
            self.join(host)
            _ip("link", "set", host.name, "up")
            _ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.name, "link", "set", device, "up")
        for host in self.hosts.values():
            known = ("lladdr", host.hardware, "nud", "permanent", "dev")
            _ip("neigh", "replace", host.address, *known, bridge.name)
            for other in (bridge, *self.hosts.values()):
                if other is not host:
                    known = ("lladdr", other.hardware, "nud", "permanent", "dev")
                    _ip("-n", host.name, "neigh", "replace", other.address, *known, "eth0")


def why_not() -> str:
    """Return why no host can be made on this machine; empty if one can. It makes one and removes it."""
    if _IP is None:
        return "there is no `ip`: apt-get install iproute2"
    try:
        with Network("z"):
            return ""
    except NoNetwork as error:
        who = "" if os.geteuid() == 0 else "; it takes root"
        return f"no network namespace can be made here ({error}{who})"


def sweep() -> None:
    """Remove what runs left behind that were killed."""
    found = _ip("-o", "link", "show").split() + _ip("netns", "list").split()
    pids = {int(pid) for word in found for pid in _NAME.findall(word)}
    for pid in pids:
        if not Path(f"/proc/{pid}").exists():
            _remove(f"hm{pid}")


def _remove(prefix: str) -> None:
    """Remove every namespace and device of one process; whoever still runs there keeps the rest until it ends."""
    links = {word for word in re.split(r"[\s:@]+", _ip("-o", "link", "show")) if _is_of(prefix, word)}
    for host in (word for word in _ip("netns", "list").split() if _is_of(prefix, word)):
        _ip("netns", "del", host)
    # The kernel removes a namespace's devices some time after it; the end of a pair that is here takes the other along.
    for link in links:
        subprocess.run([_IP or "ip", "link", "del", link], check=False, capture_output=True)


def _is_of(prefix: str, word: str) -> bool:
    return re.fullmatch(rf"{prefix}[a-z]+", word) is not None


def _free_third() -> int:
    taken = {int(third) for third in re.findall(rf"\b{re.escape(_NETWORK)}\.(\d+)\.", _ip("-o", "-4", "addr"))}
    return random.SystemRandom().choice([third for third in range(256) if third not in taken])


def _ip(*arguments: str) -> str:
    try:
        done = subprocess.run([_IP or "ip", *arguments], check=True, capture_output=True, text=True, timeout=20)
    except subprocess.CalledProcessError as error:
        raise NoNetwork(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error
    return done.stdout
