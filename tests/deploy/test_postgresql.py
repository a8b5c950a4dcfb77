"""docs/operations.md, PostgreSQL: its commands, in their order, from a SQLite with people in it to a server of its own.

Nothing but systemd and Debian's packages is stood in for: psql, pg_dump and pg_restore ask a real PostgreSQL, over TLS.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hermes_site.engines import HOST
from tests.certificates import make_certificate
from tests.deploy import manual
from tests.deploy.conftest import leave_out, need
from tests.documents import ROOT
from tests.environment import without_foreign
from tests.postgres import Postgres, binaries

SECTION = "PostgreSQL"
PASSWORD = "of-letters-and-digits"
# A user whose id is not the next one, somebody who is switched off, a right of a user's own, and one of a group.
PEOPLE = """
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from notifications.models import Membership, Room
User.objects.create_user("long gone").delete()
admin = User.objects.create_superuser("admin")
alice, bob = User.objects.create_user("alice", password="her own"), User.objects.create_user("bob", is_active=False)
helpers = Group.objects.create(name="helpers")
helpers.permissions.add(Permission.objects.get(codename="redrive"))
alice.groups.add(helpers)
alice.user_permissions.add(Permission.objects.get(codename="send_message"))
acme, globex = Room.objects.create(code="acme", name="Acme Ä"), Room.objects.create(code="globex")
for room, user in ((acme, alice), (globex, alice), (acme, bob)):
    Membership.objects.create(room=room, user=user)
LogEntry.objects.create(
    user=admin, content_type=ContentType.objects.get_for_model(Room), object_id=str(acme.pk), object_repr="acme",
    action_flag=ADDITION, change_message="Added.",
)
"""
# Past Hermes's own signal, which would revoke tokens.
LOSE_ONE = """
from notifications.models import Membership
last = Membership.objects.order_by("pk").last()
Membership.objects.filter(pk=last.pk)._raw_delete("default")
"""
LOOK = """
from notifications import doctor
(check,) = [each for each in doctor.checks() if each.name == "database"]
(line,) = doctor.examine([check])
try:
    doctor.insist(check)
    ready = "ready"
except doctor.Unwell as reason:
    ready = f"not ready: {reason}"
print(line.finding.status, line.finding.found, line.finding.cure, ready, sep="; ")
"""
TELL = """
import json
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from notifications.models import Membership
alice = User.objects.get(username="alice")
log = LogEntry.objects.get()
print(json.dumps({
    "people": list(User.objects.order_by("pk").values_list("pk", "username", "is_active")),
    "rooms": list(Membership.objects.order_by("pk").values_list("pk", "room__code", "room__name", "user__username")),
    "rights": sorted(alice.get_all_permissions()),
    "password": alice.check_password("her own"),
    "log": [log.user.username, log.content_type.model, log.object_id, log.change_message],
}))
"""


class OfItsOwn(Postgres):
    """A PostgreSQL that lets nobody in but its owner, as Debian's does; there by name, here by address."""

    superuser = "postgres"

    def command(self) -> Sequence[str]:
        """Return the server's command line."""
        rules = self.data / "pg_hba.conf"
        if "hostssl" not in rules.read_text(encoding="utf-8").replace("#", ""):
            rules.write_text("host all postgres 127.0.0.1/32 trust\n", encoding="utf-8")
        return super().command()

    def answers(self) -> bool:
        """Return whether it lets its owner in, and has mended what being killed has left."""
        try:
            psycopg.connect(
                host=HOST, port=self.port, user=self.superuser, dbname="postgres", connect_timeout=1
            ).close()
        except psycopg.OperationalError:
            return False
        return True


class Host:
    """A host with Hermes on SQLite, and the database's own, both in one directory.

    Args:
        run: runs a command there.
        directory: stands for the host's root.
        server: the database's.
    """

    def __init__(self, run: Callable[..., str], directory: Path, server: OfItsOwn) -> None:
        self._run, self.directory, self.server = run, directory, server
        self.here = {
            "db.example.org:5432": f"localhost:{server.port}",
            "10.0.0.0/8": "127.0.0.0/8",
            "/etc/postgresql/": f"{server.directory}/",
        }
        self.programs = directory / "bin"
        self.programs.mkdir()
        secrets, settings = directory / "etc/hermes/secrets", directory / "etc/hermes/hermes.env"
        self._program("runuser", f"PGHOST=127.0.0.1 PGPORT={server.port} PGUSER=postgres; export PGHOST PGPORT PGUSER")
        self._program("hermes-manage", f'set -a; . {settings}; cd {ROOT}; set -- - - - {sys.executable} manage.py "$@"')
        self._run(manual.command("Install", "openssl rand"))
        assert secrets.exists()
        written = (ROOT / "deploy/hermes.env").read_text(encoding="utf-8").replace("/etc/", f"{directory}/etc/")
        settings.write_text(written.replace("/var/", f"{directory}/var/"), encoding="utf-8")

    def _program(self, name: str, prepare: str) -> None:
        """Install a program that prepares something, and runs what follows its first three arguments."""
        path = self.programs / name
        path.write_text(f'#!/bin/sh\nset -eu\n{prepare}\nshift 3\nexec "$@"\n', encoding="utf-8")
        path.chmod(0o755)

    def do(self, words: str, **instead: str) -> str:
        """Run the section's one command that has these words; return what it writes."""
        return self.type(manual.command(SECTION, words), **instead)

    def type(self, command: str) -> str:
        """Run a command, with this host's addresses for the page's."""
        for page, here in self.here.items():
            command = command.replace(page, here)
        command = command.replace("-o hermes -g hermes ", "")  # a user of the host that is installed
        path = os.pathsep.join([str(self.programs), str(self.server.binaries), os.environ["PATH"]])
        return self._run(command, PATH=path, PASSWORD=PASSWORD)

    def shell(self, program: str) -> str:
        """Run a program of Python in Hermes; return what it writes."""
        return self.type(f"hermes-manage shell --verbosity 0 -c '{program}'")

    def told(self) -> dict[str, Any]:
        """Return what Hermes finds in its database."""
        found: dict[str, Any] = json.loads(self.shell(TELL))
        return found


@pytest.fixture
def there(host: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host on SQLite with people in it, and a PostgreSQL in which there is nothing."""
    if binaries() is None:
        leave_out("PostgreSQL")
    for program in ("sqlite3", "openssl", "awk"):
        need(program)
    for name in os.environ.keys() - without_foreign(dict(os.environ)).keys():
        monkeypatch.delenv(name)
    # PostgreSQL's user does not come through pytest's folders.
    with tempfile.TemporaryDirectory(prefix="hermes-database-") as directory:
        server = OfItsOwn(Path(directory) / "postgres").start()
        try:
            found = Host(host, tmp_path, server)
            found.type("hermes-manage migrate --verbosity 0")
            found.shell(PEOPLE)
            yield found
        finally:
            server.kill()


def make_server(there: Host) -> None:
    """Type what is for the database's host."""
    there.do("CREATE ROLE hermes")
    folder = there.server.directory
    authority = make_certificate(folder, "server.pem", "server.key")
    shutil.copy2(authority, there.directory / "root/postgresql-authority.pem")
    for path in (folder / "server.pem", folder / "server.key"):
        path.chmod(0o600)
        if user := there.server.user():
            shutil.chown(path, user)
    there.do("ssl_cert_file")
    allow, _, restart = manual.command(SECTION, "hostssl").rpartition(" && ")
    assert restart == "systemctl restart postgresql"
    there.type(allow)
    there.server.kill()
    there.server.start()


def move(there: Host) -> None:
    """Type what is for Hermes's host, but for systemd and packages."""
    for words in ("pgpass &&", "sslmode=verify-full", "SELECT version()", "dumpdata", "s|^DATABASE_URL="):
        there.do(words)
    (migrate,) = [step.command for step in manual.steps() if step.section == SECTION and step.number == 12]
    there.type(migrate)
    there.do("loaddata")


def test_everybody_is_in_postgresql_by_the_same_id_with_the_same_rights_and_who_is_not_is_missed(there: Host) -> None:
    before = there.told()
    assert len(before["people"]) == 3
    make_server(there)
    move(there)
    counted = there.do("they differ")
    assert "notifications_membership 3 3\n" in counted
    assert "auth_user 3 3\n" in counted
    assert there.told() == before
    assert there.shell("from django.db import connection; print(connection.vendor)") == "postgresql\n"
    next_one = there.shell('from django.contrib.auth.models import User; print(User.objects.create_user("charlie").pk)')
    assert int(next_one) > max(pk for pk, *_ in before["people"]), "an id that nobody has"
    for path in ("etc/hermes/secrets/pgpass", "var/backups/hermes.json"):
        assert (there.directory / path).stat().st_mode & 0o077 == 0, path
    there.shell(LOSE_ONE)
    with pytest.raises(AssertionError, match=r"notifications_membership 3 2\\nthey differ"):
        there.do("they differ")
    there.do("mv /var/lib/hermes/hermes.sqlite3")
    assert not list((there.directory / "var/lib/hermes").iterdir())
    # SQLite's backup would have made an empty file, and nobody would have noticed.
    with pytest.raises(AssertionError, match="unable to open database file"):
        there.type(manual.command("Back up and restore", ".backup"))


def test_a_database_that_shows_another_authority_s_certificate_is_not_asked(there: Host) -> None:
    make_server(there)
    for words in ("pgpass &&", "sslmode=verify-full"):
        there.do(words)
    assert "PostgreSQL" in there.do("SELECT version()")
    other = make_certificate(there.directory / "other", "server.pem", "server.key")
    shutil.copy2(other, there.directory / "etc/hermes/postgresql-authority.pem")
    with pytest.raises(AssertionError, match="certificate verify failed"):
        there.do("SELECT version()")
    there.do("s|^DATABASE_URL=")
    with pytest.raises(AssertionError, match="certificate verify failed"):
        there.type("hermes-manage migrate")


@pytest.mark.parametrize("is_lost", [False, True], ids=["into what is there", "into a new database"])
def test_what_was_backed_up_is_there_again_and_what_came_later_is_gone(there: Host, is_lost: bool) -> None:
    make_server(there)
    move(there)
    before = there.told()
    there.do("pg_dump --format")
    assert (there.directory / "var/backups/hermes.pgdump").stat().st_mode & 0o077 == 0
    there.shell('from notifications.models import Room; Room.objects.create(code="later")')
    if is_lost:
        anew = "DROP DATABASE hermes; DROP ROLE hermes;"
        there.type(f'echo "{anew}" | runuser -u postgres -- psql --quiet --set ON_ERROR_STOP=1')
        there.do("CREATE ROLE hermes")
    there.do("pg_restore")
    migrate, _, start = manual.command(SECTION, "hermes-manage migrate &&").partition(" && ")
    assert start == "systemctl start hermes-relay hermes-web"
    assert "No migrations to apply" in there.type(migrate)
    assert there.told() == before
    count = 'from notifications.models import Room; print(Room.objects.filter(code="later").count())'
    assert there.shell(count) == "0\n"


def test_a_database_that_takes_no_writes_as_a_standby_is_told_with_its_cure_and_is_not_ready(there: Host) -> None:
    make_server(there)
    move(there)
    assert re.fullmatch(r"ok; PostgreSQL [\d.]+; ; ready\n", there.shell(LOOK))
    there.type(
        'echo "ALTER DATABASE hermes SET default_transaction_read_only = on" | runuser -u postgres -- psql --quiet '
        "--set ON_ERROR_STOP=1"
    )
    status, found, cure, ready = there.shell(LOOK).strip().split("; ", 3)
    assert (status, ready) == ("fail", f"not ready: {found}")
    assert "is read-only: nobody can sign in" in found
    assert cure.startswith("Have DATABASE_URL lead to the primary")
