"""docs/operations.md, the days after the installation: commands that change files and queues, run on the test's own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from notifications.conf import Environment, Stage, redis_place
from tests.conftest import Aws
from tests.deploy import manual
from tests.deploy.conftest import need
from tests.documents import ROOT
from tests.waiting import wait_until

STAND_IN = Path(__file__).parent / "stand_ins/aws"
PASSWORD = "of-letters-and-digits"


def test_a_secret_that_has_leaked_is_replaced_and_none_is_accepted_beside_it(
    host: Callable[..., str], tmp_path: Path
) -> None:
    secrets = tmp_path / "etc/hermes/secrets"
    for name in ("jwt-secret", "jwt-secret-2"):
        (secrets / name).write_text("leaked\n", encoding="utf-8")
    command, _, restart = manual.command("Rotate keys", "/jwt-secret && : >").rpartition(" && ")
    assert restart == "systemctl restart hermes-web"
    host(command)
    assert len((secrets / "jwt-secret").read_text(encoding="utf-8").strip()) == 128
    assert (secrets / "jwt-secret-2").read_text(encoding="utf-8") == ""


def test_a_rotation_ends_with_the_old_secret_taken_out(host: Callable[..., str], tmp_path: Path) -> None:
    secrets = tmp_path / "etc/hermes/secrets"
    for name in ("jwt-secret", "jwt-secret-2"):
        (secrets / name).write_text(f"{name}\n", encoding="utf-8")
    words = ": > /etc/hermes/secrets/jwt-secret-2 && systemctl reload hermes-web"
    command, _, reload = manual.command("Rotate keys", words).rpartition(" && ")
    assert reload == "systemctl reload hermes-web"
    host(command)
    assert (secrets / "jwt-secret").read_text(encoding="utf-8") == "jwt-secret\n"
    assert (secrets / "jwt-secret-2").read_text(encoding="utf-8") == ""


def test_what_was_backed_up_is_there_again_after_restoring(host: Callable[..., str], tmp_path: Path) -> None:
    need("sqlite3")
    database, kept = tmp_path / "var/lib/hermes/hermes.sqlite3", tmp_path / "etc/hermes/hermes.env"
    with contextlib.closing(sqlite3.connect(database)) as sql:
        sql.execute("PRAGMA journal_mode=WAL")
        sql.executescript("CREATE TABLE auth_user (username); INSERT INTO auth_user VALUES ('alice')")
        kept.write_text("HERMES_STAGES=production\n", encoding="utf-8")
        host(manual.command("Back up and restore", ".backup"))
        host(manual.command("Back up and restore", "tar -C /etc -czf"))
        # What came later, and is to be gone: in the log beside the database, which its last life leaves there.
        sql.execute("INSERT INTO auth_user VALUES ('charlie')")
        sql.commit()
        log = database.with_name("hermes.sqlite3-wal").read_bytes()
    database.with_name("hermes.sqlite3-wal").write_bytes(log)
    kept.unlink()
    host(manual.command("Back up and restore", "tar -C /etc -xzf"))
    owner = "-o hermes -g hermes "  # a user of the host that is installed
    host(manual.with_paths(manual.command("Back up and restore", "hermes.sqlite3-wal"), {owner: ""}))
    assert kept.read_text(encoding="utf-8") == "HERMES_STAGES=production\n"
    assert database.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(database)) as sql:
        assert sql.execute("SELECT username FROM auth_user").fetchall() == [("alice",)]


def test_nginx_takes_the_files_and_connections_that_scaling_gives_it(host: Callable[..., str], tmp_path: Path) -> None:
    need("nginx")
    configuration = tmp_path / "etc/nginx/nginx.conf"
    (configuration.parent / "modules-enabled").mkdir(parents=True)
    (tmp_path / "var/log/nginx").mkdir(parents=True)
    shutil.copy2("/etc/nginx/mime.types", configuration.parent)
    text = re.sub(r"(?<!\w)/(etc|var|run)\b", rf"{tmp_path}/\1", Path("/etc/nginx/nginx.conf").read_text("utf-8"))
    configuration.write_text(text, encoding="utf-8")
    host(manual.command("Scale", "worker_rlimit_nofile"))
    host(manual.command("Scale", "worker_connections"))
    judge, _, begin = manual.command("Scale", "nginx -t").partition(" && ")
    assert begin == "systemctl reload nginx"
    shown = host(judge.replace("nginx -t", f"nginx -T -q -p {tmp_path} -c {configuration}"))
    assert "worker_rlimit_nofile 65536;" in shown
    assert "worker_connections 32768;" in shown


def settings_after(host: Callable[..., str], tmp_path: Path, *commands: str) -> dict[str, str]:
    """Return what a host's settings are when these commands have been typed."""
    written = tmp_path / "etc/hermes/hermes.env"
    shutil.copy2(ROOT / "deploy/hermes.env", written)
    (tmp_path / "root/redis-authority.pem").write_text("a certificate\n", encoding="utf-8")
    for command in commands:
        host(command, PASSWORD=PASSWORD)
    return manual.variables(written.read_text(encoding="utf-8"))


def test_the_address_of_a_redis_of_all_hosts_is_in_a_file_for_the_service_alone(
    host: Callable[..., str], tmp_path: Path
) -> None:
    variables = settings_after(host, tmp_path, manual.command("Scale", "rediss://"))
    assert "REDIS_URL" not in variables
    assert Path(variables["REDIS_URL_FILE"]).stat().st_mode & 0o007 == 0
    assert Path(variables["REDIS_CA_FILE"]).read_text(encoding="utf-8") == "a certificate\n"
    url = Environment(variables).url("REDIS_URL", "", ("rediss",))
    assert url == f"rediss://hermes:{PASSWORD}@redis.example.org:6379/0"
    assert redis_place(url).is_tls


def test_sentinels_take_the_place_of_the_address(host: Callable[..., str], tmp_path: Path) -> None:
    name, _, restart = manual.command("Scale", "redis+sentinel://").rpartition("; ")
    assert restart == "systemctl restart hermes-relay hermes-web)"
    variables = settings_after(host, tmp_path, manual.command("Scale", "rediss://"), f"{name})")
    place = redis_place(Environment(variables).url("REDIS_URL", "", ("redis+sentinel",)))
    assert [port for _, port in place.sentinels] == [26379] * 3
    assert (place.service, place.username, place.password, place.database) == ("hermes", "hermes", PASSWORD, 0)


def test_dead_letters_are_read_where_they_are_and_deleted_when_somebody_says_so(
    host: Callable[..., str], tmp_path: Path, aws: Aws, stage: Stage
) -> None:
    (tmp_path / "etc/hermes/hermes.env").write_text(f"HERMES_DLQ_NAME={stage.dlq_name}\n", encoding="utf-8")
    program = tmp_path / "bin/aws"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nENDPOINT = {aws.url!r}\n{STAND_IN.read_text('utf-8')}", encoding="utf-8")
    program.chmod(0o755)
    where = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
    }
    url = aws.sqs.get_queue_url(QueueName=stage.dlq_name)["QueueUrl"]
    why = {"hermes-error": {"DataType": "String", "StringValue": "not_json: The body is no JSON."}}
    aws.sqs.send_message(QueueUrl=url, MessageBody="to no room", MessageAttributes=why)

    def count() -> str:
        names = ["ApproximateNumberOfMessages"]
        answer = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return str(answer["Attributes"][names[0]])

    shown = host(manual.command("When an alarm rings", "receive-message"), **where)
    assert "to no room" in shown
    assert "not_json: The body is no JSON." in shown
    wait_until(lambda: count() == "1", what="reading took nothing away")
    host(manual.command("When an alarm rings", "purge-queue"), **where)
    wait_until(lambda: count() == "0", what="they are deleted")
