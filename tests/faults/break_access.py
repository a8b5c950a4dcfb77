"""Access: tokens are revoked while everything else breaks. Called by kinds, on world; members are let in again."""

from __future__ import annotations

from tests.faults.holder import REVOKED
from tests.faults.scene import Scene


async def revoke(scene: Scene) -> bool:
    """A member's tokens are revoked through the product; who asks gets a new one."""
    return await scene.world.revoke(*REVOKED)
