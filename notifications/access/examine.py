"""Examine: is the tokens table made as the authorizer needs it. Called by doctor; asks token_store.

Every function raises ``StoreUnavailable`` where DynamoDB does not answer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from notifications.access import token_store
from notifications.conf import Stage
from notifications.findings import Finding
from notifications.shape import judge


def tokens(stage: Stage) -> Iterator[Finding]:
    """Hold the tokens table against what the authorizer needs; its rows stay until somebody deletes them."""
    describe = functools.partial(token_store.describe, stage)
    return judge(token_store.definition(stage), describe, setting="HERMES_TOKENS_TABLE")
