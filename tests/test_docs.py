"""The documents are held to the code: what they name exists, what exists is named, and the numbers are the same."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import get_commands, load_command_class

from notifications import conf, doctor
from notifications.sockets.protocol import Close
from notifications.stream import keys
from tests.documents import DOCS, ROOT, blocks, first_words, imports, modules, names, read, rows, section, slug, spans
from tests.environment import FOREIGN

ROOMS = ("intake", "stream", "sockets", "access", "registry")
COMMANDS = {name for name, app in get_commands().items() if app == "notifications"}
every_document = pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)


# ── Every document ───────────────────────────────────────────────────────────────────────────────────────────────────
@every_document
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        page = document.parent / path if path else document
        assert page.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


@every_document
def test_files_that_are_named_exist(document: Path) -> None:
    top = r"(?:notifications|hermes_site|static|templates|tests|docs|deploy|bench|\.ci)/[\w./-]*"
    for span in spans(document.read_text(encoding="utf-8")):
        if re.fullmatch(top, span) and not span.startswith("notifications/token"):
            assert (ROOT / span).exists(), span


@every_document
def test_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), flags=re.MULTILINE))
    code = [*spans(text), *blocks(text, "sh")]
    for command in re.findall(r"^make ([a-z-]+)", "\n".join(code), flags=re.MULTILINE):
        assert command in targets, command
    for command in re.findall(r"manage\.py ([a-z_]+)", "\n".join(code)):
        assert command in get_commands(), command
    options = {
        option
        for name in COMMANDS
        for action in load_command_class("notifications", name).create_parser("manage.py", name)._actions
        for option in action.option_strings
    }
    for span in spans(text):
        if span.startswith("--"):
            assert span in options, span


@every_document
def test_nothing_is_left_for_later(document: Path) -> None:
    assert not re.search(r"\b(TODO|TBD|FIXME|coming soon|lorem)\b", document.read_text(encoding="utf-8"), re.IGNORECASE)


def test_pictures_are_drawings_that_name_what_they_show() -> None:
    for path in (ROOT / "docs/images").glob("*.svg"):
        drawing = ElementTree.parse(path).getroot()  # noqa: S314  our own file
        tags = [element.tag.rpartition("}")[2] for element in drawing.iter()]
        assert {"title", "desc"} <= set(tags)
        assert "script" not in tags


# ── docs/settings.md ─────────────────────────────────────────────────────────────────────────────────────────────────
class Recorder(conf.Environment):
    """An environment that remembers which variables it was asked for."""

    asked: dict[str, tuple[str, str, str]]

    def __init__(self, variables: Any) -> None:
        super().__init__(variables)
        Recorder.asked = {}

    def text(self, name: str, default: str = "") -> str:
        self.asked.setdefault(name, ("text", default, ""))
        return super().text(name, default)

    def integer(self, name: str, default: int, *, minimum: int = 0, maximum: int = 2**53) -> int:
        bounds = f"{minimum} or more" if maximum == 2**53 else f"{minimum}–{maximum}"
        self.asked.setdefault(name, ("integer", str(default), bounds))
        return super().integer(name, default, minimum=minimum, maximum=maximum)

    def boolean(self, name: str, default: bool) -> bool:
        self.asked.setdefault(name, ("truth", str(default).lower(), ""))
        return super().boolean(name, default)

    def words(self, name: str, default: list[str]) -> list[str]:
        self.asked.setdefault(name, ("list", ",".join(default), ""))
        return super().words(name, default)

    def url(self, name: str, default: str, schemes: tuple[str, ...]) -> str:
        self.asked.setdefault(name, ("URL", default, ", ".join(schemes)))
        return super().url(name, default, schemes)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        self.asked.setdefault(name, ("choice", default, ", ".join(choices)))
        return super().choice(name, default, choices)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str, str]]:
    """Every variable that the settings read from an empty environment: kind, default, bounds."""
    for name in [name for name in os.environ if name.startswith(FOREIGN)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DJANGO_SECRET_KEY", "for this test only")
    monkeypatch.setattr(conf, "Environment", Recorder)
    values = runpy.run_path(str(ROOT / "hermes_site/settings.py"))
    found = {name: kind for name, kind in Recorder.asked.items() if not name.endswith("_DEVELOPMENT")}
    # Two whose default is made in the settings and not in the call.
    assert found["DATABASE_URL"][1].endswith("/var/hermes.sqlite3")
    found["DATABASE_URL"] = ("URL", "var/hermes.sqlite3", found["DATABASE_URL"][2])
    found["AWS_REGION"] = ("text", values["AWS_REGION"], "")
    return found


def documented_settings() -> dict[str, list[str]]:
    text = read("docs/settings.md").partition("\n## The demo and the tests\n")[0]
    return {names(cells[0])[0]: cells for cells in rows(text)}


def test_every_setting_is_documented_and_no_other(asked: dict[str, Any]) -> None:
    assert documented_settings().keys() == asked.keys()


def test_defaults_and_bounds_are_documented_as_they_are(asked: dict[str, tuple[str, str, str]]) -> None:
    for name, (_, kind, default, bounds, meaning) in documented_settings().items():
        real_kind, real_default, real_bounds = asked[name]
        assert ",".join(names(default)) == real_default, name
        assert meaning.endswith("."), name
        if real_kind in ("truth", "list", "choice", "URL"):
            assert kind == real_kind, name
        if real_bounds:
            assert bounds.replace("`", "") == real_bounds, name


def test_variables_of_the_demo_and_the_tests_are_read_there() -> None:
    code = [
        read("Makefile"),
        *(p.read_text("utf-8") for top in ("hermes_site", "tests") for p in ROOT.glob(f"{top}/*.py")),
    ]
    for cells in rows(section("docs/settings.md", "## The demo and the tests")):
        assert any(re.search(rf"\b{names(cells[0])[0]}\b", text) for text in code), cells[0]


def test_every_check_is_documented_and_no_other() -> None:
    ids = {f"hermes.{number}" for number in re.findall(r"\b[EW]\d{3}\b", read("notifications/checks.py"))}
    assert {names(cells[0])[0] for cells in rows(section("docs/settings.md", "## Checks"))} == ids


# ── docs/protocol.md ─────────────────────────────────────────────────────────────────────────────────────────────────
def codes(heading: str, column: int = 0) -> set[str]:
    return {code for cells in rows(section("docs/protocol.md", heading)) for code in names(cells[column])}


def test_every_refusal_of_a_message_is_documented_and_no_other() -> None:
    assert codes("### Refused messages") == first_words("MessageRefused")


def test_every_refusal_of_a_token_is_documented_and_no_other() -> None:
    assert codes("### Refused tokens") == first_words("TokenRefused")


def test_every_error_of_a_client_is_documented_and_no_other() -> None:
    rules = modules()["notifications.stream.message"]
    of_payloads = {
        code
        for function in rules.body
        if isinstance(function, ast.FunctionDef) and function.name != "identifier"  # a client's frame has no ids
        for code in first_words("MessageRefused", under=function)
    }
    assert codes("### Errors") == first_words("ClientError", "connection.error") | of_payloads


def test_every_refusal_over_http_is_documented_and_no_other() -> None:
    views = modules()["notifications.access.views"]
    assert codes("### POST /notifications/token", 1) == first_words("NoRoom", "_error", under=views)


def test_every_close_code_is_documented_and_no_other() -> None:
    table = {int(cells[0]) for cells in rows(section("docs/protocol.md", "## Close codes"))}
    assert table == {int(code) for code in Close}
    assert {int(number) for number in re.findall(r"\b4[14]\d\d\b", read("docs/protocol.md"))} <= table


def test_every_golden_frame_stands_in_the_document() -> None:
    examples = [json.loads(block) for block in blocks(read("docs/protocol.md"), "json")]
    frames = {path.name: json.loads(path.read_text("utf-8")) for path in (ROOT / "tests/wire").glob("*.json")}
    assert [name for name, frame in frames.items() if frame not in examples] == []
    shown = [each for each in examples if "action" in each or str(each.get("data", {}))[:18] == "{'type': 'hermes.'"]
    assert [frame for frame in shown if frame not in frames.values()] == []


def test_every_kind_of_frame_has_its_section() -> None:
    headings = re.findall(r"^### (\w+)$", section("docs/protocol.md", "## Frames from the server"), re.MULTILINE)
    kinds = {path.stem for path in (ROOT / "tests/wire").glob("*.json") if not path.stem.startswith("client_")}
    assert set(headings) == kinds - {"hello_lost"}


# ── docs/how-it-works.md ─────────────────────────────────────────────────────────────────────────────────────────────
HOW = "docs/how-it-works.md"


def test_limits_and_deadlines_are_those_of_the_code() -> None:
    for module, constant, value, _ in rows(section(HOW, "## Limits and deadlines")):
        path = names(module)[0].removesuffix(".py").replace("/", ".")
        assert getattr(importlib.import_module(path), names(constant)[0]) == float(value), constant


def test_every_module_of_the_five_rooms_has_its_line() -> None:
    listed = {names(cells[0])[0] for cells in rows(section(HOW, "## The five rooms")) if names(cells[0])}
    there = {
        f"notifications/{room}/{path.name}"
        for room in ROOMS
        for path in (ROOT / "notifications" / room).iterdir()
        if path.suffix in (".py", ".lua") and path.name != "__init__.py"
    }
    assert listed == there


def test_rooms_import_only_as_the_table_says() -> None:
    allowed = {
        cells[0]: set() if cells[1] == "none" else set(cells[1].split(", "))
        for cells in rows(section(HOW, "## The five rooms"))
        if cells[0] in ROOMS
    }
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, imported in imports().items():
        room = module.split(".")[1]
        if room in ROOMS:
            found[room] |= {each.split(".")[1] for each in imported} & set(ROOMS) - {room}
    assert found == allowed


def test_tasks_and_threads_are_named_there() -> None:
    text = section(HOW, "## Processes, tasks and threads")
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "notifications").rglob("*.py"))
    tasks = re.findall(r'create_task\([^\n]*name="(hermes-[\w-]+)"', code)
    threads = re.findall(r'thread_name_prefix=f?"(hermes-[\w-]*\w)', code)
    assert {name for name in {*tasks, *threads} if f"`{name}" not in text} == set()


def test_keys_in_redis_are_those_of_the_code() -> None:
    text = section(HOW, "### Redis")
    for key in (
        keys.head_key("development", "acme"),
        keys.log_key("development", "acme"),
        keys.once_key("development", "acme", "5fea7756"),
        keys.activity_key("development", keys.partition("acme")),
        keys.pace_key("development"),
        keys.relays_key("development"),
        keys.relay_key("development", "<relay>"),
        keys.group_name("development", "acme"),
    ):
        assert f"`{key}`" in text


def test_every_check_of_the_doctor_is_named_there() -> None:
    stages = "|".join(settings.HERMES_STAGES)
    checks = {re.sub(rf"\.({stages})(?=\.|$)", ".<stage>", check.name) for check in doctor.checks()}
    assert {names(cells[0])[0] for cells in rows(section(HOW, "## Doctor"))} == checks


def test_every_call_that_aws_must_permit_is_one_that_is_made() -> None:
    code = "".join(
        read(f"notifications/{path}.py") for path in ("intake/queue", "access/token_store", "registry/tables")
    )
    for cells in rows(section("docs/settings.md", "## What AWS must permit")):
        for action in names(cells[1]):
            call = action.partition(":")[2]
            boto3s = re.sub(r"(?<!^)(?=[A-Z])", "_", call).lower()
            assert re.search(rf'[."]({boto3s}(_batch)?|{call}(Batch)?)\b', code), action


def test_every_sql_table_is_named_there() -> None:
    tables = {
        model._meta.db_table for model in apps.get_app_config("notifications").get_models() if model._meta.managed
    }
    assert {names(cells[0])[0] for cells in rows(section(HOW, "### SQL"))} == tables
