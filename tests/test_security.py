"""The threats of docs/security.md are held to the tests: what proves them exists; and what every page must say."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from tests.documents import ROOT, read, section
from tests.test_guarantees import functions_in

NAME = "docs/security.md"
THREATS = re.findall(r"^### (.+)$", read(NAME), flags=re.MULTILINE)
PROOFS = re.findall(r"\[([A-Za-z0-9 ]+)\]\(\.\./(tests/[\w/.]+\.(?:py|js))\)", read(NAME))


def words(sentence: str) -> str:
    """Return a sentence as its words alone, so that one with a comma is found by one without."""
    return " ".join(re.findall(r"\w+", sentence))


def sentences_in(path: str) -> set[str]:
    """Return the sentences of a file's tests, of Python or JavaScript."""
    if path.endswith(".py"):
        names = functions_in(ROOT / path)
        return {name.removeprefix("test_").replace("_", " ") for name in names if name.startswith("test_")}
    return {words(sentence) for sentence in re.findall(r'\btest\("([^"]+)"', read(path))}


@pytest.mark.parametrize(("sentence", "path"), PROOFS, ids=[f"{path}: {sentence}" for sentence, path in PROOFS])
def test_a_test_that_is_named_exists(sentence: str, path: str) -> None:
    assert sentence in sentences_in(path)


@pytest.mark.parametrize("threat", THREATS)
def test_each_threat_says_who_does_what_and_what_remains_and_names_tests(threat: str) -> None:
    text = section(NAME, f"### {threat}")
    for beginning in ("**An attacker**", "**Hermes**", "**What remains:**"):
        assert len(re.findall(f"^{re.escape(beginning)}", text, flags=re.MULTILINE)) == 1
    bullets = re.findall(r"^- .+$", text, flags=re.MULTILINE)
    assert bullets
    assert all(re.fullmatch(r"- \[[A-Za-z0-9 ]+\]\(\.\./tests/[\w/.]+\)", bullet) for bullet in bullets), bullets


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/sign-in/", "/admin/login/", "/healthz", "/nowhere"])
def test_every_page_says_how_it_may_be_used(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"


@pytest.mark.django_db
def test_a_sessions_cookie_is_closed_to_scripts(client: Client, alice: Any) -> None:
    alice.set_password("a password")
    alice.save()
    assert client.post("/sign-in/", {"username": "alice", "password": "a password"}).status_code == 302
    assert client.cookies["sessionid"]["httponly"]
    assert client.cookies["sessionid"]["samesite"] == "Lax"
