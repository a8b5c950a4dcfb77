"""Every pin has its reason, and every reason its pin."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
PIN = re.compile(r"(?P<name>[A-Za-z0-9_-]+(\[[a-z,]+\])?)==[0-9][0-9A-Za-z.]*\Z")


def reasons(file: str) -> set[str]:
    """Return the packages in the first column of the table under a file's heading."""
    section = re.split(r"\n##+ ", DOCUMENT.split(f"(`{file}`)", 1)[1], maxsplit=1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")][1:]
    return {name.strip() for row in rows for name in row.split(",")}


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt", "bench/requirements.txt"])
def test_each_python_package_is_pinned_exactly_and_has_its_reason(file: str) -> None:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-r "))]
    pins = [PIN.match(line) for line in wanted]
    assert all(pins), wanted
    assert {pin["name"] for pin in pins if pin} == reasons(file)


def test_each_node_package_is_pinned_exactly_and_has_its_reason() -> None:
    package = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    assert "dependencies" not in package, "the toolkit needs nothing at run time"
    assert set(package["devDependencies"]) == reasons("package.json")
    assert all(re.fullmatch(r"[0-9.]+", version) for version in package["devDependencies"].values())


def test_the_benchmark_s_peer_is_pinned_exactly_and_has_its_reasons() -> None:
    package = json.loads((ROOT / "bench/peers/socketio/package.json").read_text(encoding="utf-8"))
    assert set(package["dependencies"]) == reasons("bench/peers/socketio/package.json")
    assert all(re.fullmatch(r"[0-9.]+", version) for version in package["dependencies"].values())


@pytest.mark.parametrize("lock", ["package-lock.json", "bench/peers/socketio/package-lock.json"])
def test_the_lock_file_names_no_address(lock: str) -> None:
    assert "://" not in re.sub(r'"(url|funding)": "[^"]*"', "", (ROOT / lock).read_text(encoding="utf-8"))
