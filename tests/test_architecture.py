"""The architecture that one can see: five rooms, one way through them, and no way back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "notifications"
# What each room may import besides itself; conf, exceptions and models stand below all of them.
BELOW = {
    "stream": set(),
    "registry": set(),
    "access": {"stream"},
    "intake": {"stream"},
    "sockets": {"stream", "registry", "access"},
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def imports(path: Path) -> set[str]:
    """The project's own modules that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in found if name.startswith(("notifications", "hermes_site"))}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("room", sorted(BELOW))
def test_a_room_imports_only_downwards(room: str) -> None:
    for path in (PACKAGE / room).glob("*.py"):
        for name in imports(path):
            other = re.match(r"notifications\.(\w+)", name)
            if other and other[1] in BELOW:
                assert other[1] == room or other[1] in BELOW[room], f"{path.name} imports {name}"
            assert not name.startswith("hermes_site"), f"{path.name} imports {name}"


def test_there_are_five_rooms_and_no_sixth() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms == {*BELOW, "templatetags", "management", "migrations"}
    assert not list(PACKAGE.rglob("utils.py"))
    assert not list(PACKAGE.rglob("services.py"))


def test_no_two_modules_import_each_other() -> None:
    graph = {name_of(path): imports(path) for path in MODULES}
    graph = {name: {other for other in others if other in graph and other != name} for name, others in graph.items()}
    while leaves := {name for name, others in graph.items() if not others}:
        graph = {name: others - leaves for name, others in graph.items() if name not in leaves}
    assert not graph, f"a cycle among {sorted(graph)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 320
    if text.strip():
        first = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        assert first.endswith("."), "it opens with a sentence"


@pytest.mark.parametrize(
    ("call", "owners"),
    [
        ('connect("sqs"', {"intake/sqs.py"}),
        ('connect("dynamodb"', {"access/token_store.py", "registry/tables.py"}),
        ("import boto3", {"wire.py"}),
        (".group_send(", {"stream/publish.py"}),
        ("Retry(", {"stream/redis_client.py"}),
    ],
)
def test_each_outside_part_is_known_in_one_place(call: str, owners: set[str]) -> None:
    users = {p.relative_to(PACKAGE).as_posix() for p in MODULES if call in p.read_text(encoding="utf-8")}
    assert users == owners
