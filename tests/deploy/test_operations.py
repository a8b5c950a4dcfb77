"""docs/operations.md: every step is a command that works, or at least one that its program understands."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import botocore.session
import jmespath
import jwt
import pytest
from botocore import xform_name
from django.core.management import get_commands, load_command_class

from tests.deploy import manual
from tests.deploy.conftest import need
from tests.deploy.deployment import Deployment
from tests.documents import ROOT, names, read, rows
from tests.e2e.client import Client
from tests.e2e.test_workers import children_of
from tests.waiting import eventually, wait_until

STEPS = manual.steps()
COMMANDS = [step for step in STEPS if step.command]
# What the page installs, and what each package is for.
PROGRAMS = {
    "adduser": "adduser",
    "awscli": "aws",
    "ca-certificates": "",
    "certbot": "certbot",
    "curl": "curl",
    "git": "git",
    "nginx": "nginx",
    "openssl": "openssl",
    "procps": "ps",
    "python3-venv": "python3",
    "redis-server": "redis-cli",
    "sqlite3": "sqlite3",
}
# `aws cloudformation deploy` is the AWS CLI's own, and no operation of AWS's.
DEPLOY = {"--stack-name", "--template-file", "--capabilities", "--no-fail-on-empty-changeset"}
GLOBAL = {"--query", "--output"}
MAIN_PID = '"$(systemctl show --property MainPID --value hermes-web)"'


def each_that_has(words: str) -> pytest.MarkDecorator:
    """Run a test for every command with these words in it."""
    return pytest.mark.parametrize("step", [step for step in COMMANDS if words in step.command], ids=str)


def test_steps_are_numbered_and_a_bare_host_takes_less_than_thirty() -> None:
    assert len([step for step in STEPS if step.section == "Install"]) < 30
    wordless = [str(step) for step in STEPS if not step.command]
    assert wordless == ["Scale 4"]
    for before, after in itertools.pairwise(STEPS):
        assert after.number in (before.number + 1, 1), str(after)


@each_that_has("")
def test_a_shell_understands_the_command(step: manual.Step) -> None:
    done = subprocess.run(["/bin/sh", "-n", "-c", step.command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n" not in step.command, "one command a step"


@each_that_has("/opt/hermes")
def test_files_of_ours_that_a_command_names_exist(step: manual.Step) -> None:
    for path in re.findall(r"/opt/hermes/([\w./-]+)", step.command):
        if not path.startswith((".venv", "var/")):
            assert (ROOT / path).exists(), path


def test_what_the_commands_need_is_installed_and_nothing_else() -> None:
    line = manual.command("Install", "apt-get install")
    packages = {word for word in line.split()[2:] if not word.startswith("-")}
    assert packages == PROGRAMS.keys()
    others = "\n".join(step.command for step in COMMANDS if step.command != line)
    for package, program in PROGRAMS.items():
        assert re.search(rf"(^|[\s(\"]){program}\b", others, flags=re.MULTILINE), package


@each_that_has("hermes-manage ")
def test_manage_py_understands_what_it_is_given(step: manual.Step) -> None:
    for text in re.findall(r"hermes-manage ([^&|<>]+)", step.command):
        if text.startswith("/"):
            continue  # it is being installed
        command, *arguments = shlex.split(text)
        parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
        parser.parse_args(arguments)


@each_that_has("aws ")
def test_aws_understands_what_it_is_given(step: manual.Step) -> None:
    session = botocore.session.get_session()
    for service, operation, rest in re.findall(r"\baws ([a-z]+) ([a-z-]+)([^$|;)]*)", step.command):
        options = set(re.findall(r"(?<=\s)--[a-z-]+", rest)) - GLOBAL
        if (service, operation) == ("cloudformation", "deploy"):
            assert options <= DEPLOY
            continue
        model = session.get_service_model(service)
        (name,) = [each for each in model.operation_names if xform_name(each, "-") == operation]
        shape = model.operation_model(name).input_shape
        known = {f"--{xform_name(member, '-')}": member for member in shape.members}
        # Where a value is made by another command, the options behind it are cut off here.
        assert options <= known.keys()
        if "$(" not in step.command:
            assert {known[option] for option in options} >= set(shape.required_members)
    for query in re.findall(r'--query "([^"]+)"', step.command):
        jmespath.compile(query)


def test_each_unit_and_file_of_the_folder_has_its_place_on_the_page() -> None:
    listed = {names(cells[0])[0] for cells in rows(read(manual.PAGE).partition("\n## ")[0])}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "deploy").rglob("*") if path.is_file()}
    assert listed == there
    commands = "\n".join([*(step.command for step in COMMANDS), read("docs/containers.md")])
    for path in there:
        assert f"/opt/hermes/{path}" in commands


def test_every_setting_that_is_named_is_one() -> None:
    settings = {names(cells[0])[0] for cells in rows(read("docs/settings.md")) if names(cells[0])}
    named = set(re.findall(r"\b(?:HERMES|DJANGO)_[A-Z0-9_]+|\bDATABASE_URL\b|\bREDIS_[A-Z_]+\b", read(manual.PAGE)))
    assert {name.removesuffix("_FILE") for name in named} <= settings
    written = {name.removesuffix("_FILE") for name in manual.variables(read("deploy/hermes.env"))}
    assert written <= settings
    needed = re.findall(r"cannot do without are (.*?)\. ", read("docs/settings.md"), flags=re.DOTALL)
    assert set(names(needed[0])) <= written


def test_the_wrapper_runs_manage_py_with_the_service_s_settings(deployed: Deployment) -> None:
    """The settings that the page writes satisfy every check, and the role's own file is optional."""
    done = wrapped(deployed, "check")
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (0 silenced).\n"), done.stderr


@pytest.mark.parametrize(("variables", "key"), [({}, "of-web"), ({"ROLE": "relay"}, "of-relay")])
def test_the_wrapper_has_the_credentials_of_the_role_that_is_asked_for(
    deployed: Deployment, variables: dict[str, str], key: str
) -> None:
    files = {role: deployed.etc / f"{role}.env" for role in ("web", "relay")}
    try:
        for role, file in files.items():
            file.write_text(f"AWS_ACCESS_KEY_ID=of-{role}\n", encoding="utf-8")
        ask = "import os; print(os.environ['AWS_ACCESS_KEY_ID'])"
        done = wrapped(deployed, "shell", "--verbosity", "0", "-c", ask, AWS_ACCESS_KEY_ID="of-root", **variables)
        assert (done.returncode, done.stdout) == (0, f"{key}\n"), done.stderr
    finally:
        for file in files.values():
            file.unlink()


def wrapped(deployed: Deployment, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the wrapper as the test's own user, with no other environment than what it reads for itself and variables."""
    script = read("deploy/hermes-manage")
    python = deployed.opt / ".venv/bin/python"
    user = "setpriv --reuid=hermes --regid=hermes --init-groups "
    python.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        python.symlink_to(sys.executable)
    wrapper = deployed.directory / "hermes-manage"
    wrapper.write_text(deployed.here(manual.with_paths(script, {user: ""})), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path[1:]), **variables}
    return subprocess.run(["/bin/sh", wrapper, *arguments], env=environment, capture_output=True, text=True)


def test_the_service_says_how_it_is(deployed: Deployment) -> None:
    need("curl")

    def ask(words: str) -> str:
        return deployed.run(manual.command("Health", words).replace("127.0.0.1:8000", f"127.0.0.1:{deployed.port}"))

    assert json.loads(ask("/healthz")) == {"status": "alive"}
    wait_until(lambda: json.loads(ask("/readyz"))["status"] == "ready", 30, "it is ready")
    assert "hermes_ready{" in ask("8000/metrics")
    relay = manual.command("Health", ":9465/metrics").replace(":9465", f":{deployed.relay_metrics_port}")
    assert "hermes_relay_answered_timestamp_seconds{" in deployed.run(relay)


async def test_the_jwt_secret_is_rotated_by_its_steps_and_nobody_is_refused(deployed: Deployment) -> None:
    """Secrets are files, which the workers of a rolling restart read anew."""
    need("ps")

    async def do(words: str) -> None:
        command, _, reload = manual.command("Rotate keys", words).rpartition(" && ")
        assert reload == "systemctl reload hermes-web"
        assert manual.unit("hermes-web")["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
        deployed.run(command)
        server = deployed.processes["server"].pid
        before = children_of(server)
        shown = manual.command("Rotate keys", "ps -o").replace(MAIN_PID, str(server))
        assert {int(line.split()[0]) for line in deployed.run(shown).splitlines()} == before
        os.kill(server, signal.SIGHUP)
        await eventually(lambda: len(children_of(server) - before) == 2 and not before & children_of(server), 30)
        await eventually(lambda: asyncio.to_thread(deployed.is_alive))

    old = await asyncio.to_thread(deployed.token, "alice")
    async with Client(deployed, "alice", token=old, stay=True) as alice:
        await alice.hello()
        await do("openssl rand -hex 64 > /etc/hermes/secrets/jwt-secret-2")
        await do("cp jwt-secret-2 jwt-secret-new")
        new = await asyncio.to_thread(deployed.token, "alice")
        assert jwt.get_unverified_header(new)["kid"] != jwt.get_unverified_header(old)["kid"]
        await alice.until(lambda: len(alice.control("hello")) >= 2)
        assert set(alice.close_codes) == {4112}, "sent away twice at most, and never refused"
    async with Client(deployed, "alice", token=new) as other:
        await other.hello()


def test_a_backup_has_everybody_and_every_secret(deployed: Deployment) -> None:
    need("sqlite3")
    deployed.run(manual.command("Back up and restore", ".backup"))
    deployed.run(manual.command("Back up and restore", "tar -C /etc -czf"))
    backups = deployed.root / "var/backups"
    with sqlite3.connect(backups / "hermes.sqlite3") as copy:
        people = {name for (name,) in copy.execute("SELECT username FROM auth_user")}
    copy.close()
    assert people >= {"alice", "admin"}
    with tarfile.open(backups / "hermes-etc.tar.gz") as archive:
        kept = {Path(name).name for name in archive.getnames()}
    assert kept >= {"hermes.env", "jwt-secret", "passcode", "django-secret-key"}
    assert {path.stat().st_mode & 0o077 for path in backups.iterdir()} == {0}, "for nobody else's eyes"


def test_secrets_are_long_enough_and_for_the_group_s_eyes_at_most(deployed: Deployment) -> None:
    for path in (deployed.etc / "secrets").iterdir():
        assert path.stat().st_mode & 0o007 == 0, path.name
        assert len(path.read_text(encoding="utf-8").strip()) in (0, 128), path.name
