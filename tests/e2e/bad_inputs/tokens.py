"""Tokens that give no authority, each with its close code and reason. Made for a world's secrets by test_bad_inputs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import bcrypt

ROOM = "acme"
MEMBER = 70_001  # has a good row
ROWLESS, FOREIGN_HASH, RUBBISH_HASH, COSTLY, REVOKED, EMPTY_HASH = range(70_002, 70_008)


class Forge:
    """Makes tokens with the secrets of a Hermes, good ones and others.

    Args:
        env: its environment.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self.secret = env["HERMES_JWT_SECRET"]
        self.other_secret = env["HERMES_JWT_SECRET_PRODUCTION"]
        self.passcode = env["HERMES_PASSCODE"]
        self.now = int(time.time())

    def digest(self, user: Any = MEMBER, room: Any = ROOM) -> str:
        """Return the article's digest."""
        return hashlib.sha256(f"{user}{self.passcode}{room}".encode()).hexdigest()

    def claims(self, user: Any = MEMBER, **changes: Any) -> dict[str, Any]:
        """Return good claims with changes; ``...`` leaves one out."""
        claims = {"user_id": user, "room_id": ROOM, "token": self.digest(user), "exp": self.now + 900, "iat": self.now}
        return {name: value for name, value in (claims | changes).items() if value is not ...}

    def sign(
        self, payload: Any = None, *, secret: str = "", header: Any = None, algorithm: str = "sha512", **changes: Any
    ) -> str:
        """Sign whatever there is to sign: claims, bytes, any header."""
        payload = self.claims(**changes) if payload is None else payload
        parts = [header if header is not None else {"alg": "HS512", "typ": "JWT"}, payload]
        signed = ".".join(b64(each if isinstance(each, bytes) else json.dumps(each).encode()) for each in parts)
        key = (secret or self.secret).encode()
        return f"{signed}.{b64(hmac.digest(key, signed.encode(), algorithm))}"

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the tokens table that the tokens below are about."""

        def hashed(user: int, cost: int = 4) -> str:
            return bcrypt.hashpw(self.digest(user).encode(), bcrypt.gensalt(cost)).decode()

        rows = {
            MEMBER: hashed(MEMBER),
            FOREIGN_HASH: hashed(MEMBER),
            RUBBISH_HASH: "rubbish",
            COSTLY: "$2b$13$" + "a" * 53,
            REVOKED: hashed(REVOKED),
            EMPTY_HASH: "$2b$04$" + "." * 53,
        }
        items = [{"user_id": {"S": str(user)}, "room_id": {"S": ROOM}, "token": {"S": h}} for user, h in rows.items()]
        not_before = {"N": str(self.now + 1)}
        return [
            *items,
            {"user_id": {"S": str(REVOKED)}, "room_id": {"S": f"#revoked:{ROOM}"}, "not_before": not_before},
        ]


def b64(raw: bytes) -> str:
    """Return base64 as JWTs have it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def kid(secret: str) -> str:
    """Return a secret's `kid`."""
    return hashlib.sha256(b"hermes kid " + secret.encode()).hexdigest()[:8]


def cut(token: str, part: int, new: str | None) -> str:
    """Replace one of a token's parts, or take it out."""
    parts: list[str | None] = [*token.split(".")]
    parts[part] = new
    return ".".join(each for each in parts if each is not None)


Make = Callable[[Forge], str]
REFUSED: dict[str, tuple[Make, int, str]] = {
    # ── no JWT ───────────────────────────────────────────────────────────────────────────────────────────────────────
    "a word": (lambda forge: "rubbish", 4401, "malformed"),
    "two dots": (lambda forge: "..", 4401, "malformed"),
    "three dots": (lambda forge: "...", 4401, "malformed"),
    "four parts": (lambda forge: forge.sign() + ".e30", 4401, "malformed"),
    "two parts": (lambda forge: cut(forge.sign(), 2, None), 4401, "malformed"),
    "an encrypted token's five parts": (lambda forge: forge.sign() + ".e30.e30", 4401, "malformed"),
    "no header": (lambda forge: cut(forge.sign(), 0, ""), 4401, "malformed"),
    "no payload": (lambda forge: cut(forge.sign(), 1, ""), 4401, "signature"),
    "a header that is no base64": (lambda forge: cut(forge.sign(), 0, "!!!"), 4401, "malformed"),
    "a header that is no JSON": (lambda forge: forge.sign(header=b"{"), 4401, "malformed"),
    "a header that is a list": (lambda forge: forge.sign(header=[]), 4401, "malformed"),
    "a header that is null": (lambda forge: forge.sign(header=b"null"), 4401, "malformed"),
    "a header that is no UTF-8": (lambda forge: forge.sign(header=b'{"alg": "\xff"}'), 4401, "malformed"),
    "a header nested too deep": (lambda forge: forge.sign(header=b"[" * 1500), 4401, "malformed"),
    "a payload that is no JSON": (lambda forge: forge.sign(b"{"), 4401, "malformed"),
    "a payload that is a list": (lambda forge: forge.sign(b"[]"), 4401, "malformed"),
    "a payload that is a string": (lambda forge: forge.sign(b'"acme"'), 4401, "malformed"),
    "a payload that is no UTF-8": (lambda forge: forge.sign(b"\xff\xfe"), 4401, "malformed"),
    "a payload nested too deep": (lambda forge: forge.sign(b"[" * 1500), 4401, "malformed"),
    "a payload of 5,000 digits": (lambda forge: forge.sign(b'{"exp": ' + b"9" * 2500 + b"}"), 4401, "exp_too_far"),
    "more than 4,096 bytes": (lambda forge: forge.sign(padding="x" * 4000), 4401, "too_long"),
    "5,000 letters": (lambda forge: "x" * 5000, 4401, "too_long"),
    "quotes around it": (lambda forge: f"'{forge.sign()}'", 4401, "malformed"),
    "the word Bearer before it": (lambda forge: f"Bearer.{forge.sign()}", 4401, "malformed"),
    # ── another algorithm ────────────────────────────────────────────────────────────────────────────────────────────
    "alg none": (lambda forge: cut(forge.sign(header={"alg": "none"}), 2, ""), 4401, "algorithm"),
    "alg None": (lambda forge: cut(forge.sign(header={"alg": "None"}), 2, ""), 4401, "algorithm"),
    "alg NONE with a signature": (lambda forge: forge.sign(header={"alg": "NONE"}), 4401, "algorithm"),
    "alg hs512 in small letters": (lambda forge: forge.sign(header={"alg": "hs512"}), 4401, "algorithm"),
    "HS256": (lambda forge: forge.sign(header={"alg": "HS256"}, algorithm="sha256"), 4401, "algorithm"),
    "HS384": (lambda forge: forge.sign(header={"alg": "HS384"}, algorithm="sha384"), 4401, "algorithm"),
    "HS256 that says HS512": (lambda forge: forge.sign(algorithm="sha256"), 4401, "signature"),
    "RS512": (lambda forge: forge.sign(header={"alg": "RS512"}), 4401, "algorithm"),
    "ES256": (lambda forge: forge.sign(header={"alg": "ES256"}), 4401, "algorithm"),
    "EdDSA": (lambda forge: forge.sign(header={"alg": "EdDSA"}), 4401, "algorithm"),
    "no alg": (lambda forge: forge.sign(header={"typ": "JWT"}), 4401, "algorithm"),
    "alg that is a list": (lambda forge: forge.sign(header={"alg": ["HS512"]}), 4401, "algorithm"),
    "alg that is null": (lambda forge: forge.sign(header={"alg": None}), 4401, "algorithm"),
    "a critical header that nobody knows": (
        lambda forge: forge.sign(header={"alg": "HS512", "crit": ["exp"]}),
        4401,
        "malformed",
    ),
    "a payload beside the token": (lambda forge: forge.sign(header={"alg": "HS512", "b64": False}), 4401, "malformed"),
    # ── another key ──────────────────────────────────────────────────────────────────────────────────────────────────
    "another stage's secret": (lambda forge: forge.sign(secret=forge.other_secret), 4401, "signature"),
    "another stage's token": (
        lambda forge: forge.sign(secret=forge.other_secret, header={"alg": "HS512", "kid": kid(forge.other_secret)}),
        4401,
        "unknown_key",
    ),
    "our kid and another's signature": (
        lambda forge: forge.sign(secret=forge.other_secret, header={"alg": "HS512", "kid": kid(forge.secret)}),
        4401,
        "signature",
    ),
    "a secret of nobody's": (lambda forge: forge.sign(secret="a guess"), 4401, "signature"),
    "the passcode for a secret": (lambda forge: forge.sign(secret=forge.passcode), 4401, "signature"),
    "a kid of nobody's": (lambda forge: forge.sign(header={"alg": "HS512", "kid": "00000000"}), 4401, "unknown_key"),
    "an empty kid": (lambda forge: forge.sign(header={"alg": "HS512", "kid": ""}), 4401, "unknown_key"),
    "a kid that is a path": (
        lambda forge: forge.sign(header={"alg": "HS512", "kid": "../../../dev/null"}),
        4401,
        "unknown_key",
    ),
    "a kid that is SQL": (
        lambda forge: forge.sign(header={"alg": "HS512", "kid": "x' UNION SELECT 'k"}),
        4401,
        "unknown_key",
    ),
    "a kid that is a number": (lambda forge: forge.sign(header={"alg": "HS512", "kid": 1}), 4401, "malformed"),
    "a key in the header": (
        lambda forge: forge.sign(
            secret="mine", header={"alg": "HS512", "jwk": {"kty": "oct", "k": b64(b"mine")}, "jku": "http://127.0.0.1/"}
        ),
        4401,
        "signature",
    ),
    "a signature cut short": (lambda forge: forge.sign()[:-6], 4401, "signature"),
    "no signature": (lambda forge: cut(forge.sign(), 2, ""), 4401, "signature"),
    "another token's signature": (
        lambda forge: cut(forge.sign(), 2, forge.sign(user_id=1).rpartition(".")[2]),
        4401,
        "signature",
    ),
    "a payload changed after signing": (
        lambda forge: cut(forge.sign(), 1, b64(json.dumps(forge.claims(room_id="globex")).encode())),
        4401,
        "signature",
    ),
    # ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────
    "no exp": (lambda forge: forge.sign(exp=...), 4401, "no_exp"),
    "exp null": (lambda forge: forge.sign(exp=None), 4401, "no_exp"),
    "exp as a string": (lambda forge: forge.sign(exp=str(forge.now + 900)), 4401, "exp_type"),
    "exp as a fraction": (lambda forge: forge.sign(exp=forge.now + 900.5), 4401, "exp_type"),
    "exp true": (lambda forge: forge.sign(exp=True), 4401, "exp_type"),
    "exp as a list": (lambda forge: forge.sign(exp=[forge.now + 900]), 4401, "exp_type"),
    "exp NaN": (lambda forge: forge.sign(exp=float("nan")), 4401, "exp_type"),
    "exp Infinity": (lambda forge: forge.sign(exp=float("inf")), 4401, "exp_type"),
    "expired a second ago": (lambda forge: forge.sign(exp=forge.now - 1), 4401, "expired"),
    "expired in 1970": (lambda forge: forge.sign(exp=0), 4401, "expired"),
    "expired before 1970": (lambda forge: forge.sign(exp=-(10**12)), 4401, "expired"),
    "too far in the future": (lambda forge: forge.sign(exp=forge.now + 25 * 3600), 4401, "exp_too_far"),
    "exp in milliseconds": (lambda forge: forge.sign(exp=(forge.now + 900) * 1000), 4401, "exp_too_far"),
    "exp beyond all numbers": (lambda forge: forge.sign(exp=10**300), 4401, "exp_too_far"),
    "iat as a string": (lambda forge: forge.sign(iat=str(forge.now)), 4401, "iat_type"),
    "iat as a fraction": (lambda forge: forge.sign(iat=forge.now + 0.5), 4401, "iat_type"),
    "iat true": (lambda forge: forge.sign(iat=True), 4401, "iat_type"),
    # ── who and where ────────────────────────────────────────────────────────────────────────────────────────────────
    "no user": (lambda forge: forge.sign(user_id=...), 4401, "identifiers"),
    "a user that is null": (lambda forge: forge.sign(user_id=None), 4401, "identifiers"),
    "a user that is true": (lambda forge: forge.sign(user_id=True), 4401, "identifiers"),
    "a user that is a fraction": (lambda forge: forge.sign(user_id=70001.0), 4401, "identifiers"),
    "a user that is a list": (lambda forge: forge.sign(user_id=[MEMBER]), 4401, "identifiers"),
    "a user that is empty": (lambda forge: forge.sign(user_id=""), 4401, "identifiers"),
    "a user of 129 characters": (lambda forge: forge.sign(user_id="u" * 129), 4401, "identifiers"),
    "no room": (lambda forge: forge.sign(room_id=...), 4401, "identifiers"),
    "a room that is null": (lambda forge: forge.sign(room_id=None), 4401, "identifiers"),
    "a room that is an object": (lambda forge: forge.sign(room_id={"S": ROOM}), 4401, "identifiers"),
    "a room that is empty": (lambda forge: forge.sign(room_id=""), 4401, "identifiers"),
    "a room with a lone surrogate": (lambda forge: forge.sign(room_id="\ud800"), 4401, "identifiers"),
    "the control room": (lambda forge: forge.sign(room_id="\x00control"), 4401, "identifiers"),
    "the room of a revocation": (lambda forge: forge.sign(room_id="#revoked:acme"), 4401, "identifiers"),
    "another room with this room's digest": (lambda forge: forge.sign(room_id="globex"), 4401, "passcode"),
    "another member with this member's digest": (lambda forge: forge.sign(user_id=ROWLESS), 4401, "passcode"),
    "no digest": (lambda forge: forge.sign(token=...), 4401, "digest_shape"),
    "a digest that is null": (lambda forge: forge.sign(token=None), 4401, "digest_shape"),
    "a digest that is a number": (lambda forge: forge.sign(token=1), 4401, "digest_shape"),
    "a digest of 63 digits": (lambda forge: forge.sign(token="a" * 63), 4401, "digest_shape"),
    "a digest with a line break": (lambda forge: forge.sign(token="a" * 64 + "\n"), 4401, "digest_shape"),
    "a digest in capitals": (lambda forge: forge.sign(token=forge.digest().upper()), 4401, "digest_shape"),
    "a digest by no passcode of ours": (lambda forge: forge.sign(token="0" * 64), 4401, "passcode"),
    "the passcode itself": (lambda forge: forge.sign(token=forge.passcode), 4401, "digest_shape"),
    # ── the row ──────────────────────────────────────────────────────────────────────────────────────────────────────
    "a member without a row": (lambda forge: forge.sign(user=ROWLESS), 4401, "no_row"),
    "a row with another member's hash": (lambda forge: forge.sign(user=FOREIGN_HASH), 4401, "digest"),
    "a row with no hash in it": (lambda forge: forge.sign(user=RUBBISH_HASH), 4401, "digest"),
    "a row with a hash of nothing": (lambda forge: forge.sign(user=EMPTY_HASH), 4401, "digest"),
    "a row with a hash that costs too much": (lambda forge: forge.sign(user=COSTLY), 4401, "digest"),
    "a token of before the revocation": (lambda forge: forge.sign(user=REVOKED), 4403, "revoked"),
    "a revoked member's token that names no time": (lambda forge: forge.sign(user=REVOKED, iat=...), 4403, "revoked"),
}
