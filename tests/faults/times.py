"""Times: the constants of a world, scaled down or as they are shipped. Read by world, ledger and faults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds, each as the setting of that name.

    Args:
        lease: `HERMES_LEASE_SECONDS`.
        visibility: `HERMES_VISIBILITY_SECONDS`.
        ping: `HERMES_PING_SECONDS`.
        wait: `HERMES_WAIT_SECONDS`.
        long_share: how many of the faults that may be long are: beyond the lease, the visibility, or two pings.
    """

    lease: int
    visibility: int
    ping: int
    wait: int
    long_share: float

    @property
    def settings(self) -> dict[str, str]:
        """Return the environment of every process."""
        return {
            "HERMES_LEASE_SECONDS": str(self.lease),
            "HERMES_VISIBILITY_SECONDS": str(self.visibility),
            "HERMES_PING_SECONDS": str(self.ping),
            "HERMES_WAIT_SECONDS": str(self.wait),
            # Redelivery by so many faults must not look like a message that cannot be delivered; a key is known for an
            # hour, which must be longer than all of its deliveries take.
            "HERMES_MAX_RECEIVES": str(2400 // self.visibility),
        }


# Short enough for many kills; docs/settings.md has the bounds.
SCALED = Times(lease=3, visibility=12, ping=2, wait=1, long_share=0.15)
SHIPPED = Times(lease=30, visibility=60, ping=25, wait=5, long_share=0.5)
