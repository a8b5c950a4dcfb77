"""Refusals: joins that came to nothing, by reason, for `/metrics`. Counted by origins, authorizer and sockets."""

from __future__ import annotations

from prometheus_client import Counter

# Every reason there is: a label's values must be few, and sockets.vitals has each seen to rise from 0.
OF_TOKENS = (
    "algorithm",
    "digest",
    "digest_shape",
    "exp_too_far",
    "exp_type",
    "expired",
    "iat_type",
    "identifiers",
    "malformed",
    "no_exp",
    "no_row",
    "no_secret",
    "no_token",
    "passcode",
    "revoked",
    "signature",
    "too_long",
    "two_tokens",
    "unknown_key",
)
OF_HANDSHAKES = ("busy", "draining", "origin", "too_many", "unavailable", "unknown_stage")

REFUSALS = Counter("hermes_refusals", "Joins that were refused, by reason.", ["reason"])
