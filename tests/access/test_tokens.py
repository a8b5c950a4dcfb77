"""Which tokens give authority: ours, the article's Ruby's, and each way a token can be spoiled."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.access import tokens
from notifications.access.tokens import Claims, issue, key_id, make_digest, session_tag, session_tags, verify
from notifications.conf import Stage
from notifications.exceptions import TokenRefused

NOW = 1_800_000_000.5
HOUR = 3600
DAY = 24 * HOUR
ALICE = 42
STAGE = Stage("development", jwt_secret="the secret of development " * 3, passcode="the passcode of development " * 2)
OTHER = Stage("production", jwt_secret="the secret of production " * 3, passcode="the passcode of production " * 2)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a token that would be accepted; ``None`` leaves one out."""
    full = {
        "user_id": ALICE,
        "room_id": "acme",
        "token": make_digest(ALICE, STAGE.passcode, "acme"),
        "exp": int(NOW) + HOUR,
        "iat": int(NOW),
        "jti": "tag.0123",
        **changes,
    }
    return {name: value for name, value in full.items() if value is not None}


def sign(payload: Any, secret: str = STAGE.jwt_secret, algorithm: str = "HS512", **headers: Any) -> str:
    """Sign claims with a program that is not Hermes."""
    return jwt.encode(payload, secret, algorithm, headers=headers or None)


def judge(token: str, stage: Stage = STAGE) -> Claims:
    """Verify a token at the tests' moment."""
    return verify(token, stage, now=NOW, max_ttl=DAY)


def reason(token: str, stage: Stage = STAGE) -> str:
    """Return why a token is refused."""
    with pytest.raises(TokenRefused) as caught:
        judge(token, stage)
    assert caught.value.close_code == 4401
    return caught.value.reason


def test_a_token_of_ours_is_accepted() -> None:
    token = issue(STAGE, ALICE, "acme", now=NOW, ttl=HOUR, session="tag")
    assert judge(token) == Claims(
        user_id=ALICE,
        room_id="acme",
        digests=(make_digest(ALICE, STAGE.passcode, "acme"),),
        expires_at=int(NOW) + HOUR,
        issued_at=int(NOW),
        session="tag",
    )
    assert jwt.get_unverified_header(token) == {"alg": "HS512", "typ": "JWT", "kid": key_id(STAGE.jwt_secret)}


def test_two_tokens_of_one_moment_differ() -> None:
    first, second = (issue(STAGE, ALICE, "acme", now=NOW, ttl=HOUR) for _ in range(2))
    assert first != second


def test_the_articles_ruby_token_is_accepted() -> None:
    """Its claims and nothing else, an integer user_id, and the digest composed as it composes it."""
    digest = hashlib.sha256((str(ALICE) + STAGE.passcode + "7").encode()).hexdigest()
    token = sign({"user_id": ALICE, "room_id": 7, "token": digest, "exp": int(NOW) + HOUR})
    found = judge(token)
    assert (found.user_id, found.user, found.room_id, found.digests) == (ALICE, "42", "7", (digest,))
    assert (found.issued_at, found.session) == (None, "")
    assert digest == make_digest("42", STAGE.passcode, "7")


@settings(deadline=None)  # a laden machine is no mistake
@given(user=TEXT | st.integers(-(2**63), 2**63), room=TEXT, ttl=st.integers(1, DAY), now=st.floats(1, 2e10))
def test_claims_come_back_as_they_were_issued(user: str | int, room: str, ttl: int, now: float) -> None:
    token = issue(STAGE, user, room, now=now, ttl=ttl + 1, session=session_tag("key", STAGE))
    found = verify(token, STAGE, now=now, max_ttl=DAY)
    assert (found.user_id, found.user, found.room_id) == (user, str(user), room)
    assert found.digests == (make_digest(user, STAGE.passcode, room),)
    assert (found.expires_at, found.issued_at) == (int(now) + ttl + 1, int(now))
    assert found.session == session_tag("key", STAGE)


SPOILED: dict[str, tuple[Callable[[], str], str]] = {
    "alg none": (lambda: jwt.encode(claims(), None, "none"), "algorithm"),
    "HS256": (lambda: sign(claims(), algorithm="HS256"), "algorithm"),
    "HS384": (lambda: sign(claims(), algorithm="HS384"), "algorithm"),
    "a wrong key": (lambda: sign(claims(), "another secret of enough bytes " * 3), "signature"),
    "another stage's": (lambda: issue(OTHER, ALICE, "acme", now=NOW, ttl=HOUR), "unknown_key"),
    "another stage's without its kid": (lambda: sign(claims(), OTHER.jwt_secret), "signature"),
    "a kid of nobody's": (lambda: sign(claims(), kid="unknown"), "unknown_key"),
    "an empty kid": (lambda: sign(claims(), kid=""), "unknown_key"),
    "a kid that is a path": (lambda: sign(claims(), kid="../../etc/passwd"), "unknown_key"),
    "our kid and another's signature": (
        lambda: sign(claims(), OTHER.jwt_secret, kid=key_id(STAGE.jwt_secret)),
        "signature",
    ),
    "a digest by another passcode": (
        lambda: sign(claims(token=make_digest(ALICE, OTHER.passcode, "acme"))),
        "passcode",
    ),
    "another member's digest": (lambda: sign(claims(token=make_digest(43, STAGE.passcode, "acme"))), "passcode"),
    "another room's digest": (lambda: sign(claims(token=make_digest(ALICE, STAGE.passcode, "globex"))), "passcode"),
    "a signature cut short": (lambda: sign(claims())[:-2], "signature"),
    "no exp": (lambda: sign(claims(exp=None)), "no_exp"),
    "exp as a string": (lambda: sign(claims(exp=str(int(NOW) + HOUR))), "exp_type"),
    "exp as a float": (lambda: sign(claims(exp=NOW + HOUR)), "exp_type"),
    "exp as a bool": (lambda: sign(claims(exp=True)), "exp_type"),
    "exp as a list": (lambda: sign(claims(exp=[int(NOW) + HOUR])), "exp_type"),
    "expired": (lambda: sign(claims(exp=int(NOW))), "expired"),
    "expired since 1970": (lambda: sign(claims(exp=-1)), "expired"),
    "exp too far": (lambda: sign(claims(exp=int(NOW) + DAY + 62)), "exp_too_far"),
    "exp beyond all numbers": (lambda: sign(claims(exp=10**400)), "exp_too_far"),
    "no digest": (lambda: sign(claims(token=None)), "digest_shape"),
    "a digest of another type": (lambda: sign(claims(token=1)), "digest_shape"),
    "a digest that is too short": (lambda: sign(claims(token="a" * 63)), "digest_shape"),
    "a digest with a newline": (lambda: sign(claims(token="a" * 64 + "\n")), "digest_shape"),
    "no user": (lambda: sign(claims(user_id=None)), "identifiers"),
    "no room": (lambda: sign(claims(room_id=None)), "identifiers"),
    "a user that is true": (lambda: sign(claims(user_id=True)), "identifiers"),
    "a room of another type": (lambda: sign(claims(room_id=["acme"])), "identifiers"),
    "an empty room": (lambda: sign(claims(room_id="")), "identifiers"),
    "a room that is a control room": (lambda: sign(claims(room_id="\x00control")), "identifiers"),
    "a room that is a revocation row": (lambda: sign(claims(room_id="#revoked:acme")), "identifiers"),
    "iat as a string": (lambda: sign(claims(iat="1")), "iat_type"),
    "iat as a float": (lambda: sign(claims(iat=NOW)), "iat_type"),
    "iat as a bool": (lambda: sign(claims(iat=True)), "iat_type"),
    "huge": (lambda: sign(claims(padding="x" * 8192)), "too_long"),
    "empty": (lambda: "", "malformed"),
    "rubbish": (lambda: "rubbish", "malformed"),
    "dots": (lambda: "..", "malformed"),
    "not ASCII": (lambda: "é.ü.😀", "malformed"),
    "a lone surrogate": (lambda: "\ud800", "malformed"),
    "a kid that is no string": (lambda: spoil_header({"alg": "HS512", "kid": 1}), "malformed"),
    "an unknown critical header": (lambda: spoil_header({"alg": "HS512", "crit": ["x"]}), "malformed"),
    "no alg": (lambda: spoil_header({"typ": "JWT"}), "algorithm"),
    "a list for a payload": (lambda: resign(b"[]"), "malformed"),
    "a payload that is no JSON": (lambda: resign(b"{"), "malformed"),
    "a header nested too deep": (lambda: encode(b"[" * 2900) + ".e30.AA", "malformed"),
    "a payload nested too deep": (lambda: resign(b"[" * 2700), "malformed"),
}


def encode(raw: bytes) -> str:
    """Return base64 as JWTs have it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def spoil_header(header: dict[str, Any]) -> str:
    """Put another header before a token's payload and signature."""
    return ".".join((encode(json.dumps(header).encode()), *sign(claims()).split(".")[1:]))


def resign(payload: bytes) -> str:
    """Sign any bytes."""
    return jwt.PyJWS().encode(payload, STAGE.jwt_secret, "HS512")


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_token_is_refused_with_its_reason(name: str) -> None:
    make, expected = SPOILED[name]
    assert reason(make()) == expected


def test_the_token_that_was_not_spoiled_is_accepted() -> None:
    assert judge(sign(claims())).session == "tag"


# ── Several secrets and passcodes ────────────────────────────────────────────────────────────────────────────────────
NEW = "the newest secret of development " * 2
NEWEST = "the very newest secret of development " * 2
CODE = "the new passcode of development " * 2


@pytest.mark.parametrize("secret", [NEW, STAGE.jwt_secret, NEWEST])
@pytest.mark.parametrize("with_kid", [True, False])
def test_every_accepted_secret_opens_with_and_without_its_kid(secret: str, with_kid: bool) -> None:
    stage = replace(STAGE, jwt_secret=NEW, other_jwt_secrets=(STAGE.jwt_secret, NEWEST))
    headers = {"kid": key_id(secret)} if with_kid else {}
    assert judge(sign(claims(), secret, **headers), stage).user == "42"


def test_the_first_secret_signs() -> None:
    stage = replace(STAGE, jwt_secret=NEW, other_jwt_secrets=(STAGE.jwt_secret,))
    token = issue(stage, ALICE, "acme", now=NOW, ttl=HOUR)
    assert jwt.get_unverified_header(token)["kid"] == key_id(NEW)
    assert jwt.decode(token, NEW, ["HS512"], options={"verify_exp": False, "verify_iat": False})["user_id"] == ALICE


def test_a_secret_that_was_removed_opens_nothing() -> None:
    stage = replace(STAGE, jwt_secret=NEW)
    assert reason(issue(STAGE, ALICE, "acme", now=NOW, ttl=HOUR), stage) == "unknown_key"
    assert reason(sign(claims()), stage) == "signature"


def test_a_secret_that_is_empty_opens_nothing() -> None:
    stage = replace(STAGE, jwt_secret="", other_jwt_secrets=(NEW, ""))
    signed = sign(claims()).rpartition(".")[0]
    forged = f"{signed}.{encode(hmac.digest(b'', signed.encode(), 'sha512'))}"
    assert reason(forged, stage) == "signature"
    assert judge(sign(claims(), NEW), stage).user == "42"


def test_each_accepted_passcode_s_digest_counts_and_the_row_may_hold_any_of_them() -> None:
    old, new = (make_digest(ALICE, code, "acme") for code in (STAGE.passcode, CODE))
    rotating = replace(STAGE, passcode=CODE, other_passcodes=(STAGE.passcode,))
    assert judge(sign(claims(token=old)), rotating).digests == (old, new)
    assert judge(sign(claims(token=new)), rotating).digests == (new, old)
    assert reason(sign(claims(token=old)), replace(STAGE, passcode=CODE)) == "passcode"


def test_a_stage_without_a_passcode_accepts_nothing() -> None:
    stage = replace(STAGE, passcode="", other_passcodes=("",))
    assert reason(sign(claims(token=make_digest(ALICE, "", "acme"))), stage) == "passcode"


def test_a_session_has_a_tag_for_each_secret_that_may_have_signed_its_tokens() -> None:
    rotating = replace(STAGE, jwt_secret=NEW, other_jwt_secrets=(STAGE.jwt_secret,))
    assert session_tags("key", rotating) == [session_tag("key", rotating), session_tag("key", STAGE)]


@pytest.mark.parametrize("jti", [None, 1, "without-a-dot", ""])
def test_a_foreign_jti_names_no_session(jti: Any) -> None:
    assert judge(sign(claims(jti=jti))).session == ""


def test_other_claims_are_not_judged() -> None:
    foreign = {"nbf": int(NOW) + HOUR, "aud": "somebody", "iss": "else", "sub": 1}
    assert judge(sign(claims(**foreign))).user == "42"


def test_exp_may_be_as_far_as_the_limit_and_a_minute_for_clocks() -> None:
    assert judge(sign(claims(exp=int(NOW) + DAY + 60))).expires_at == int(NOW) + DAY + 60


def test_a_stage_without_a_secret_accepts_nothing() -> None:
    assert reason(jwt.encode({}, "x" * 64, "HS512"), Stage("development")) == "no_secret"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_short_secret_of_old_still_works_and_warns_nobody() -> None:
    stage = Stage("development", jwt_secret="short", passcode="p")
    assert judge(issue(stage, 1, "acme", now=NOW, ttl=HOUR), stage).user_id == 1


def test_a_session_tag_tells_sessions_and_stages_apart_and_nothing_more() -> None:
    tag = session_tag("alices-session-key", STAGE)
    assert tag == session_tag("alices-session-key", STAGE)
    assert tag != session_tag("bobs-session-key", STAGE)
    assert tag != session_tag("alices-session-key", OTHER)
    assert "alice" not in tag


def test_a_key_id_gives_nothing_of_the_secret_away() -> None:
    assert key_id(STAGE.jwt_secret) != key_id(OTHER.jwt_secret)
    assert key_id(STAGE.jwt_secret) not in hashlib.sha256(STAGE.jwt_secret.encode()).hexdigest()


def test_a_refusal_holds_nothing_of_the_token() -> None:
    token = sign(claims(exp=None))
    with pytest.raises(TokenRefused) as caught:
        judge(token)
    assert str(caught.value) == "no_exp"


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200) | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}", fullmatch=True))
def test_any_text_is_refused_and_nothing_else_is_raised(text: str) -> None:
    with pytest.raises(TokenRefused):
        tokens.verify(text, STAGE, now=time.time(), max_ttl=DAY)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from("AZaz09-_"))
def test_a_token_with_any_character_changed_is_refused(index: int, character: str) -> None:
    token = sign(claims())
    index %= len(token) - 1  # the last one also holds bits that belong to no byte
    changed = token[:index] + character + token[index + 1 :]
    if changed != token:
        with pytest.raises(TokenRefused):
            judge(changed)
