"""Somebody who follows docs/operations.md: types the Install steps, in order, into a clean root. Called by its test.

What the world would be is brought along: AWS is the embedded endpoint, a local authority stands in for the public one,
and `stand_ins/systemctl` runs the units' lines where systemd is not PID 1. All else is done by the commands.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.certificates import make_certificate
from tests.deploy import manual
from tests.deploy.clean_root import CleanRoot, Door
from tests.deploy.cloud import Cloud
from tests.documents import ROOT

HOST = "notify.example.net"
STAND_INS = Path(__file__).parent / "stand_ins"
APT = "apt-get install -y --no-install-recommends"
STEP_SECONDS = 600.0  # a slow mirror's packages; a step of ours takes seconds


class Newcomer:
    """A newcomer at a bare host.

    Args:
        root: the host; it runs, and nothing of Hermes is on it.
        directory: for what the world needs.
        aws: which answers as AWS; it runs.
    """

    def __init__(self, root: CleanRoot, directory: Path, aws: Cloud) -> None:
        self.root, self.directory = root, directory
        self.password = secrets.token_urlsafe(16)
        self.typed: list[manual.Step] = []
        # What the machine does between two steps, and no command of the page: by a word of the step before.
        self.after: dict[str, Callable[[], None]] = {
            "cloudformation deploy": aws.complete,
            "deploy/hermes.env": self._lead_to_aws,
        }
        self.variables = ""
        self.authority = make_certificate(directory / "authority", "unused.pem", "unused.key")
        # On the same port as out here: SQS gives its queues' addresses out.
        self.aws_url, self.door = aws.url, Door(root, aws.port, aws.port)
        self._clone()
        root.write("/root/authority/authority.pem", self.authority.read_text(encoding="utf-8"))
        key = (directory / "authority/authority.key").read_text(encoding="utf-8")
        root.write("/root/authority/authority.key", key, 0o600)
        root.write("/root/.aws/credentials", "[default]\naws_access_key_id=tests\naws_secret_access_key=tests\n", 0o600)
        root.write("/etc/hosts", f"127.0.0.1 localhost {HOST}\n")
        root.write("/usr/local/bin/systemctl", (STAND_INS / "systemctl").read_text(encoding="utf-8"), 0o755)

    def _clone(self) -> None:
        """Give the newcomer a clone of this very code, with what is not committed yet."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        clone = self.directory / "clone"
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, clone / name)
        identity = ("-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "init.defaultBranch=main")
        for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "As it is")):
            subprocess.run(["git", *identity, *command], cwd=clone, check=True, capture_output=True)
        shutil.copytree(clone, self.root.path("/root/hermes"))

    def type(self, step: manual.Step) -> str:
        """Type a step's command into the newcomer's shell, in the clone; return what it writes."""
        command = step.command
        if step.number == 1:
            command = command.replace("hermes.example.org", HOST)  # a host's own name is what the step is for
        # One shell for a newcomer; here what it has exported is carried from one to the next.
        script = (
            f"cd /root/hermes; [ ! -e /run/shell ] || . /run/shell; {self.variables}\n{command}\n"
            "status=$?; export -p > /run/shell; exit $status"
        )
        if "createsuperuser" in command:
            asked = [("Password:", self.password), ("Password (again):", self.password)]
            status, output = self.root.answer(script, asked)
        else:
            done = self.root.run(script, STEP_SECONDS)
            status, output = done.returncode, done.stdout
        assert status == 0, f"{step}: {command}\n{output}\n{self.logs()}"
        self.typed.append(step)
        for word, what in self.after.items():
            if word in command:
                what()
        return output

    def _lead_to_aws(self) -> None:
        """Say where AWS is: on a real host nobody has to."""
        with self.root.path("/etc/hermes/hermes.env").open("a", encoding="utf-8") as file:
            file.write(f"AWS_ENDPOINT_URL={self.aws_url}\n")

    def trust_the_authority(self) -> None:
        """Have the host trust the local authority as it trusts the world's."""
        certificate = self.authority.read_text(encoding="utf-8")
        self.root.write("/usr/local/share/ca-certificates/tests.crt", certificate)
        done = self.root.run("update-ca-certificates")
        assert done.returncode == 0, done.stdout

    def logs(self) -> str:
        """Return what the services have written."""
        found = []
        for name in ("hermes-web", "hermes-relay", "nginx/error"):
            log = self.root.path(f"/var/log/{name}.log")
            found.append(log.read_text(encoding="utf-8", errors="replace")[-4000:] if log.exists() else "")
        return "\n".join(found)

    @contextmanager
    def member(self, again: str = "") -> Iterator[subprocess.Popen[str]]:
        """Do in a browser what the page says between its last two steps; the member listens when it is given out.

        Args:
            again: ``again``, where somebody has done it before.
        """
        who = f"{HOST} '{self.password}' {again}"
        process = self.root.start(f"cd /root/hermes; exec /opt/hermes/.venv/bin/python -m tests.deploy.member {who}")
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def leave(self) -> None:
        """Close the way out."""
        self.door.close()


def heard_by(process: subprocess.Popen[str], until: str) -> list[str]:
    """Return a member's lines up to one that begins with a word.

    Raises:
        AssertionError: it ended without; with what it said.
    """
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(until):
            return lines
    raise AssertionError("\n".join(lines))
