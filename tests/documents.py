"""The documents and the code as data, to be held against each other. Called by test_docs and test_admin_speed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Return a document's text from a heading to the next of its rank or a higher one."""
    text = read(name)
    start = text.index(f"\n{heading}\n") + 1
    rank = heading.index(" ")
    end = re.search(rf"^#{{1,{rank}}} ", text[start + len(heading) :], re.MULTILINE)
    return text[start : start + len(heading) + end.start()] if end else text[start:]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every table's rows, without the tables' heads."""
    in_body = False
    for line in text.splitlines():
        if not line.startswith("|"):
            in_body = False
        elif set(line) <= set("|-: "):
            in_body = True
        elif in_body:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def names(cell: str) -> list[str]:
    """Return what a cell has between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def spans(text: str) -> list[str]:
    """Return a document's inline code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def modules() -> dict[str, ast.Module]:
    """Return every module of notifications by its dotted name."""
    found = {}
    for path in (ROOT / "notifications").rglob("*.py"):
        if "migrations" not in path.parts and path.name != "__init__.py":
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[dotted] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def first_words(*functions: str, under: ast.AST | None = None) -> set[str]:
    """Return the first argument, where it is a literal, of every call of these functions."""
    trees = [under] if under else list(modules().values())
    return {
        call.args[0].value
        for tree in trees
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in functions and call.args
        if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def imports() -> dict[str, set[str]]:
    """Return which modules of notifications each of them imports."""
    trees = modules()
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        graph[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("notifications"):
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & trees.keys()
                graph[name] |= inner or ({node.module} & trees.keys())
    return graph
