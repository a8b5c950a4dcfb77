"""Examine: are the connections and audit tables made as the mirror needs them. Called by doctor; asks tables.

Every function raises ``StoreUnavailable`` where DynamoDB does not answer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from notifications.conf import Stage
from notifications.findings import Finding
from notifications.registry import items, tables
from notifications.shape import judge

TTL = "expires_at"


def connections(stage: Stage) -> Iterator[Finding]:
    """Hold the connections table, its indexes and its TTL against what the mirror needs."""
    describe = functools.partial(tables.describe, stage.connections_table)
    return judge(items.connections_table(stage), describe, setting="HERMES_CONNECTIONS_TABLE", ttl=TTL)


def audit(stage: Stage) -> Iterator[Finding]:
    """Hold the audit table and its TTL against what the mirror needs."""
    describe = functools.partial(tables.describe, stage.audit_table)
    return judge(items.audit_table(stage), describe, setting="HERMES_AUDIT_TABLE", ttl=TTL)
