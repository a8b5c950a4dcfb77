"""Dockerfile and deploy/compose.yaml: their parsers take them, and they say what the systemd units say."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import manual
from tests.deploy.conftest import need
from tests.documents import ROOT, read

COMPOSE = "deploy/compose.yaml"
UNIT_OF = {"web": "hermes-web", "relay": "hermes-relay"}
services = pytest.mark.parametrize("service", UNIT_OF)


@pytest.fixture(scope="session")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Compose makes of the file, with environment files that are there."""
    need("docker-compose")
    directory = tmp_path_factory.mktemp("compose")
    for name in ("hermes.env", "web.env", "relay.env"):
        (directory / name).write_text(read("deploy/hermes.env") if name == "hermes.env" else "", encoding="utf-8")
    (directory / "deploy").mkdir()
    file = directory / "deploy" / "compose.yaml"
    file.write_text(read(COMPOSE).replace("/etc/hermes/", f"{directory}/"), encoding="utf-8")
    done = compose(file, HERMES_USER="990:990")
    assert done.returncode == 0, done.stderr
    parsed: dict[str, Any] = yaml.safe_load(done.stdout)
    return parsed


def compose(file: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = "/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        ["docker-compose", "--file", str(file), "config"],
        env={"PATH": path, "HOME": str(file.parent), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def instructions(stage: int) -> list[tuple[str, str]]:
    """Return a stage's instructions, their continued lines joined."""
    text = re.sub(r"^#.*\n", "", read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    stages = re.split(r"^(?=FROM )", text, flags=re.MULTILINE)[1:]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in stages[stage].splitlines() if line)]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--config", ROOT / ".hadolint.yaml", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_compose_asks_for_the_user_who_may_read_the_secrets(tmp_path: Path) -> None:
    need("docker-compose")
    done = compose(ROOT / COMPOSE)
    assert done.returncode != 0
    assert "HERMES_USER" in done.stderr


def test_compose_starts_what_a_host_runs(composed: dict[str, Any]) -> None:
    assert set(composed["services"]) == {"redis", "migrate", "web", "relay"}


@services
def test_a_service_is_given_what_its_unit_gives(composed: dict[str, Any], service: str) -> None:
    mine, name = composed["services"][service], UNIT_OF[service]
    command = mine["command"] if isinstance(mine["command"], list) else shlex.split(mine["command"])
    assert command == manual.arguments(name)
    unit = manual.unit(name)
    (seconds,) = unit["TimeoutStopSec"]
    assert mine["stop_grace_period"] == f"{seconds}s"
    assert [str(mine["ulimits"]["nofile"])] == unit["LimitNOFILE"] if "LimitNOFILE" in unit else "ulimits" not in mine
    assert mine["environment"]["HERMES_TRUSTED_PROXIES"] == "127.0.0.1", "the settings of a host"


@services
def test_a_service_may_do_little(composed: dict[str, Any], service: str) -> None:
    mine = composed["services"][service]
    assert mine["read_only"] is True
    assert mine["cap_drop"] == ["ALL"]
    assert mine["security_opt"] == ["no-new-privileges:true"]
    assert mine["user"] == "990:990"
    written = [volume for volume in mine["volumes"] if not str(volume).endswith(":ro")]
    assert len(written) == 1, "the state directory alone"


@services
def test_a_service_begins_when_tables_and_redis_are_there(composed: dict[str, Any], service: str) -> None:
    assert composed["services"][service]["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "redis": {"condition": "service_healthy"},
    }


def test_redis_listens_to_this_host_alone_and_evicts_nothing(composed: dict[str, Any]) -> None:
    command = composed["services"]["redis"]["command"]
    assert command[command.index("--bind") + 1] == "127.0.0.1"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert command[command.index("--appendonly") + 1] == "yes"


def test_the_image_holds_what_the_code_needs_and_nothing_else() -> None:
    copied = {rest.split()[0] for word, rest in instructions(0) if word == "COPY"}
    let_in = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert copied == let_in
    assert read(".dockerignore").splitlines()[1] == "*", "who is not named stays out"
    tracked = {path.split("/")[0] for path in git("ls-files").splitlines()}
    others = {".ci", "bench", "deploy", "docs", "tests"}
    folders = {name for name in tracked if (ROOT / name).is_dir()}
    assert folders - others == {name for name in copied if (ROOT / name).is_dir()}


def test_the_image_runs_the_command_of_a_server_as_a_user_of_its_own() -> None:
    last = dict(instructions(1))
    entry, command = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    assert [*entry, *command] == [
        "/opt/hermes/.venv/bin/python",
        "manage.py",
        *manual.arguments("hermes-web", host="0.0.0.0"),  # noqa: S104  a container's network is its own
    ]
    assert last["USER"] == "990"
    assert last["STOPSIGNAL"] == manual.unit("hermes-web")["KillSignal"][0]


def test_every_command_of_the_page_is_one_that_a_shell_reads() -> None:
    blocks = re.findall(r"^ +```sh\n(.*?)^ +```", read("docs/containers.md"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    for block in blocks:
        subprocess.run(["sh", "-n", "-c", block], check=True, timeout=10)
        assert block.strip().startswith(("docker ", "export "))


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout
