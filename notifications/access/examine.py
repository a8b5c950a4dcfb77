"""Examine: is the tokens table made as the authorizer needs it. Called by doctor; asks token_store.

Every function raises ``StoreUnavailable`` where DynamoDB does not answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from notifications.access import token_store
from notifications.conf import Stage
from notifications.findings import Finding, permitted
from notifications.shape import judge


def tokens(stage: Stage) -> Iterator[Finding]:
    """Hold the tokens table against what the authorizer needs; its rows stay until somebody deletes them."""
    return judge(token_store.definition(stage), token_store.describe(stage), setting="HERMES_TOKENS_TABLE")


def permissions(stage: Stage) -> Iterator[Finding]:
    """Find which of the calls that tokens need AWS does not permit."""
    yield permitted(token_store.refused(stage), f"table {stage.tokens_table}")
