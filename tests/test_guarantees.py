"""The guarantees are held to the tests: what proves them exists, and each is proven by several."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.documents import ROOT, read, section

NAME = "docs/guarantees.md"
GUARANTEES = re.findall(r"^### (\d\. .+)$", read(NAME), flags=re.MULTILINE)
PROOFS = re.findall(r"\[([a-z0-9 ]+)\]\(\.\./(tests/[\w/]+\.py)\)", read(NAME))


def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize(("sentence", "path"), PROOFS, ids=[sentence for sentence, _ in PROOFS])
def test_a_test_that_is_named_exists(sentence: str, path: str) -> None:
    assert f"test_{sentence.replace(' ', '_')}" in functions_in(ROOT / path)


def test_there_are_nine_guarantees_in_their_order() -> None:
    assert [guarantee[0] for guarantee in GUARANTEES] == list("123456789")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_each_guarantee_names_tests(guarantee: str) -> None:
    text = section(NAME, f"### {guarantee}")
    bullets = re.findall(r"^- .+$", text, flags=re.MULTILINE)
    assert len(bullets) >= 4
    assert all(re.fullmatch(r"- \[[a-z0-9 ]+\]\(\.\./tests/[\w/]+\.py\)", bullet) for bullet in bullets), bullets


def test_the_table_of_the_fault_suite_names_its_seed_and_has_no_violation() -> None:
    text = section(NAME, "## The fault suite")
    assert re.search(r"^Seed `\w+`, \d+ min", text, flags=re.MULTILINE)
    assert "| Violations | 0 |" in text
