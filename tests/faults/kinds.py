"""Kinds: every fault there is, its lane, and how often it is wanted. Puts the modules of faults together for run."""

from __future__ import annotations

from tests.faults import break_access, break_processes, break_readers, break_redis
from tests.faults.aws import MODES
from tests.faults.break_clocks import CLOCKS, step
from tests.faults.break_links import LINKS, deaf, of_aws, of_clients, of_redis
from tests.faults.break_processes import POINTS
from tests.faults.scene import Kind
from tests.faults.world import SERVERS

# A lane's name says after a slash which part it is about. Processes' links are different things that may break at once,
# and break while Redis itself does.
REDIS_LINKS = tuple(f"redis link/{name}" for name in (*SERVERS, "relay"))
SUBSCRIBERS = tuple(f"redis link/{name}" for name in SERVERS)
CLIENT_LINKS = tuple(f"client link/{name}" for name in SERVERS)
# SQS answers, but wrongly; each of that may happen beside the others, and while it hardly answers.
DISORDERS = ("duplicating", "reordering", "expired_receipts")

KINDS: dict[str, Kind] = {
    "relay kill -9": Kind(break_processes.kill_relay, ("relay",), 90),
    **{f"relay kill -9 {point}": Kind(break_processes.kill_relay_at(point), ("relay",), 20) for point in POINTS},
    "relay SIGSTOP": Kind(break_processes.suspend_relay, ("relay",), 12),
    "relay SIGTERM": Kind(break_processes.stop_relay, ("relay",), 12),
    "server kill -9": Kind(break_processes.kill_server, ("server",), 100),
    "server SIGTERM": Kind(break_processes.stop_server, ("server",), 15),
    "server SIGSTOP": Kind(break_processes.suspend_server, ("server",), 20),
    "Valkey restart, same data": Kind(break_redis.restart("same"), ("redis",), 30),
    "Valkey restart, no data": Kind(break_redis.restart("none"), ("redis",), 12, is_lossy=True),
    "Valkey restart, older data": Kind(break_redis.restart("older"), ("redis",), 12, is_lossy=True),
    "Valkey replica promoted": Kind(break_redis.promote, ("redis",), 14),
    "Valkey SIGSTOP": Kind(break_redis.suspend, ("redis",), 12),
    **{f"Redis link: {name}": Kind(of_redis(do), REDIS_LINKS, 50) for name, do in LINKS.items()},
    "Redis link: pub/sub deaf": Kind(of_redis(deaf), SUBSCRIBERS, 50),
    **{f"client link: {name}": Kind(of_clients(do), CLIENT_LINKS, 50) for name, do in LINKS.items()},
    **{
        f"SQS {mode.replace('_', ' ')}": Kind(
            of_aws("sqs", mode), (f"sqs disorder/{mode}" if mode in DISORDERS else "sqs outage",), 50
        )
        for mode in MODES["sqs"]
    },
    **{
        f"DynamoDB {mode.replace('_', ' ')}": Kind(of_aws("dynamodb", mode), ("dynamodb",), 50)
        for mode in MODES["dynamodb"]
    },
    "client half-open": Kind(break_readers.half_open, ("clients",), 50),
    "reader away": Kind(break_readers.absent_reader, ("clients",), 40),
    "reader stalled": Kind(break_readers.stall_reader, ("readers",), 30),
    "reader slow": Kind(break_readers.slow_reader, ("readers",), 30),
    "reader chattering": Kind(break_readers.chattering_reader, ("readers",), 30),
    "clock +1 h": Kind(step("+1h"), CLOCKS, 24),
    "clock -1 h": Kind(step("-1h"), CLOCKS, 24),
    "tokens revoked": Kind(break_access.revoke, ("access",), 60),
}
# What the long form owes: a name for a sum of kinds, and how many.
OWED: dict[str, tuple[tuple[str, ...], int]] = {
    "relay kills": (tuple(name for name in KINDS if name.startswith("relay kill")), 200),
    "server kills": (("server kill -9",), 100),
    "Valkey restarts": (tuple(name for name in KINDS if name.startswith("Valkey restart")), 50),
    **{name: ((name,), 50) for name in KINDS if name.startswith(("Redis link", "client", "SQS", "DynamoDB"))},
}
# What there is time for where a lease is half a minute and a visibility a whole one.
SHIPPED_KINDS = {
    *(name for name in KINDS if name.startswith(("relay", "server", "clock"))),
    *("client half-open", "client link: black hole", "DynamoDB unreachable", "reader stalled", "tokens revoked"),
    *("Valkey restart, same data", "Redis link: pub/sub deaf"),
}


def lanes() -> list[str]:
    """Return the names of all lanes."""
    return sorted({lane for kind in KINDS.values() for lane in kind.lanes})
