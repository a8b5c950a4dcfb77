"""Tokens: the JWT a browser shows to join a room, made and judged. Used by views (issue) and authorizer (verify).

Pure. Compatible with the article's Ruby issuer: HS512, claims `user_id`, `room_id`, `token`, `exp`, where `token` is
the SHA-256 of user, passcode and room in hex. Ours add `iat` and `jti`, which revocation needs, and a `kid` header,
which picks one of the stage's secrets.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.algorithms import HMACAlgorithm

from notifications.conf import Stage
from notifications.exceptions import MessageRefused, TokenRefused
from notifications.stream.message import identifier

ALGORITHM = "HS512"
MAX_LENGTH = 4_096  # bytes; ours have about 500, and nothing longer is worth a signature check
REVOKED_PREFIX = "#revoked:"  # the sort key of a revocation row; no room may begin with it
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_HEADERS = 64  # different ones that are remembered: one for each secret of a stage, and whatever strangers send


class _Hmac(HMACAlgorithm):
    """HS512 that looks at a secret once: that it is no public key, certificate or JWK takes longer than a signature."""

    def __init__(self) -> None:
        super().__init__(HMACAlgorithm.SHA512)
        self._prepared = functools.lru_cache(maxsize=16)(super().prepare_key)

    def prepare_key(self, key: str | bytes) -> bytes:
        """Return a secret's bytes."""
        return self._prepared(key)

    def check_key_length(self, key: bytes) -> str | None:
        """Say nothing: checks.py judges a secret's length, and HERMES_ACCEPT_SHORT_SECRETS forgives it."""
        return None


_JWS = jwt.PyJWS(algorithms=[])
_JWS.register_algorithm(ALGORITHM, _Hmac())


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, once its signature and times hold.

    Args:
        user_id: of the type the issuer gave it; `user` is the string it is compared as.
        room_id: as a string.
        digests: the article's digest of this member by each of the stage's passcodes, the token's own first; the
            stored row must hold one of them.
        expires_at: unix seconds.
        issued_at: unix seconds; ``None`` in the article's tokens.
        session: a tag of the session that asked for it; empty in the article's tokens.
    """

    user_id: str | int
    room_id: str
    digests: tuple[str, ...]
    expires_at: int
    issued_at: int | None = None
    session: str = ""

    @property
    def user(self) -> str:
        """The user id as a string."""
        return str(self.user_id)


def make_digest(user_id: str | int, passcode: str, room_id: str) -> str:
    """Return the article's digest: SHA-256 of user, passcode and room, in hex."""
    return hashlib.sha256(f"{user_id}{passcode}{room_id}".encode()).hexdigest()


def session_tag(session_key: str, stage: Stage) -> str:
    """Return a tag that names a session in tokens without giving its key away."""
    return _session_tag(session_key, stage.jwt_secret)


def session_tags(session_key: str, stage: Stage) -> list[str]:
    """Return every tag that the session's tokens may carry: one for each secret that may have signed them."""
    return [_session_tag(session_key, secret) for secret in stage.jwt_secrets]


def _session_tag(session_key: str, secret: str) -> str:
    return hmac.new(secret.encode(), session_key.encode(), hashlib.sha256).hexdigest()[:16]


def key_id(secret: str) -> str:
    """Return the `kid` of a secret: it tells keys apart and nothing about them."""
    return hashlib.sha256(b"hermes kid " + secret.encode()).hexdigest()[:8]


def issue(stage: Stage, user_id: str | int, room_id: str, *, now: float, ttl: int, session: str = "") -> str:
    """Make a token.

    Args:
        stage: whose secrets sign it.
        user_id, room_id: who may join what.
        now: unix seconds.
        ttl: seconds until it expires.
        session: from `session_tag`; signing out closes the sockets of its tokens.

    Returns:
        The JWT.
    """
    issued_at = int(now)
    claims = {
        "user_id": user_id,
        "room_id": room_id,
        "token": make_digest(user_id, stage.passcode, room_id),
        "exp": issued_at + ttl,
        "iat": issued_at,
        "jti": f"{session}.{secrets.token_hex(8)}",
    }
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return _JWS.encode(payload, stage.jwt_secret, ALGORITHM, headers={"kid": key_id(stage.jwt_secret)})


def verify(token: str, stage: Stage, *, now: float, max_ttl: int) -> Claims:
    """Judge a token's signature, shape, times and passcode; what the row says is the authorizer's to find.

    Args:
        token: the JWT.
        stage: one of whose secrets must have signed it.
        now: unix seconds.
        max_ttl: seconds; an `exp` further away is refused, so that a leaked secret's tokens do not live for ever.

    Returns:
        Its claims.

    Raises:
        TokenRefused: with a reason that holds nothing of the token.
    """
    if len(token) > MAX_LENGTH:
        raise TokenRefused("too_long")
    return _judge(_verified(token, stage), stage, now, max_ttl)


def _verified(token: str, stage: Stage) -> dict[str, Any]:
    """Return the claims of a token that one of the stage's secrets has signed."""
    if not stage.jwt_secrets:  # an empty key would verify what anybody signs with an empty key
        raise TokenRefused("no_secret")
    try:
        algorithm, kid = _header(token.partition(".")[0])
        if algorithm != ALGORITHM:
            raise TokenRefused("algorithm")
        for secret in _secrets_for(kid, stage):
            try:
                claims = json.loads(_JWS.decode(token, secret, algorithms=[ALGORITHM]))
            except jwt.InvalidSignatureError:
                continue
            if not isinstance(claims, dict):
                raise TokenRefused("malformed")
            return claims
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenRefused("malformed") from error
    raise TokenRefused("signature")


@functools.lru_cache(maxsize=_HEADERS)
def _header(segment: str) -> tuple[Any, Any]:
    """Return algorithm and `kid` of a token's first part, before anything of it is verified; one secret's are equal."""
    header = jwt.get_unverified_header(f"{segment}..")
    return header.get("alg"), header.get("kid")


def _secrets_for(kid: str | None, stage: Stage) -> tuple[str, ...]:
    """Return the secrets that may have signed a token: the one that its `kid` names; without a `kid`, any.

    A `kid` of nobody's is refused for what it is: it is another stage's, or of a secret that is no longer accepted.
    """
    if kid is None:
        return stage.jwt_secrets
    named = tuple(secret for secret in stage.jwt_secrets if key_id(secret) == kid)
    if not named:
        raise TokenRefused("unknown_key")
    return named


def _judge(claims: dict[str, Any], stage: Stage, now: float, max_ttl: int) -> Claims:
    user_id, room_id, digest, exp = (claims.get(name) for name in ("user_id", "room_id", "token", "exp"))
    if exp is None:
        raise TokenRefused("no_exp")
    if isinstance(exp, bool) or not isinstance(exp, int):
        raise TokenRefused("exp_type")
    if now >= exp:
        raise TokenRefused("expired")
    if exp > now + max_ttl + 60:  # a minute for clocks that differ
        raise TokenRefused("exp_too_far")
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise TokenRefused("digest_shape")
    try:
        user = identifier(user_id, "user_id")
        room = identifier(room_id, "room_id")
    except MessageRefused as error:
        raise TokenRefused("identifiers") from error
    if room.startswith(REVOKED_PREFIX):
        raise TokenRefused("identifiers")
    accepted = [make_digest(user, passcode, room) for passcode in stage.passcodes]
    if digest not in accepted:  # no timing to mind: who gets here holds a secret that signs tokens
        raise TokenRefused("passcode")
    issued_at = claims.get("iat")
    if issued_at is not None and (isinstance(issued_at, bool) or not isinstance(issued_at, int)):
        raise TokenRefused("iat_type")
    jti = claims.get("jti")
    session = jti.rpartition(".")[0] if isinstance(jti, str) else ""  # a foreign jti without a dot names no session
    digests = (digest, *(other for other in accepted if other != digest))
    return Claims(user_id if isinstance(user_id, int) else user, room, digests, exp, issued_at, session)
