"""docs/operations.md and the folder deploy as data: steps, commands, units. Called by deployment, front and tests."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass

from tests.documents import read

PAGE = "docs/operations.md"


@dataclass(frozen=True)
class Step:
    """One numbered step.

    Args:
        section: the heading it stands under.
        number: as it is printed.
        command: what is to be typed; empty where the step is words alone.
    """

    section: str
    number: int
    command: str

    def __str__(self) -> str:
        return f"{self.section} {self.number}"


def steps() -> list[Step]:
    """Return every step of the page, in its order."""
    found = []
    for part in re.split(r"^## ", read(PAGE), flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        for number, body in re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", text, flags=re.MULTILINE | re.DOTALL):
            blocks = re.findall(r"^ +```sh\n(.*?)^ +```", body, flags=re.MULTILINE | re.DOTALL)
            assert len(blocks) <= 1, "one command a step"
            found.append(Step(heading, int(number), textwrap.dedent(blocks[0]).strip() if blocks else ""))
    return found


def command(section: str, words: str) -> str:
    """Return the one command of a section that holds these words."""
    (found,) = [step.command for step in steps() if step.section == section and words in step.command]
    return found


def variables(text: str) -> dict[str, str]:
    """Read an environment file; only what systemd and a shell read alike is allowed in it."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[A-Z0-9_]+=[^\s'\"$`\\;&|<>()*?~]*", line), line
            name, _, value = line.partition("=")
            assert name not in found, f"{name} stands there twice"
            found[name] = value
    return found


def unit(name: str) -> dict[str, list[str]]:
    """Return a unit's settings: each name with all its values."""
    found: dict[str, list[str]] = {}
    for line in read(f"deploy/systemd/{name}.service").splitlines():
        key, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def arguments(name: str, **instead: str) -> list[str]:
    """Return what a unit gives `manage.py`.

    Args:
        name: the unit's.
        instead: values of options that the test cannot have as they are; each must be there.
    """
    (start,) = unit(name)["ExecStart"]
    python, script, *rest = shlex.split(start)
    assert (python, script) == ("/opt/hermes/.venv/bin/python", "manage.py")
    for option, value in instead.items():
        rest[rest.index(f"--{option.replace('_', '-')}") + 1] = value
    return rest


def with_paths(text: str, paths: dict[str, str]) -> str:
    """Put a test's own paths and ports for those of a host; each must be there to be replaced."""
    for old, new in paths.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
