"""deploy/systemd: systemd takes the units, they may do little, and they leave the drain its time."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from notifications.access import verdicts
from notifications.intake import relay
from notifications.management.commands import serve
from tests.deploy import clean_root, manual
from tests.deploy.conftest import leave_out, need
from tests.documents import ROOT, read

UNITS = ("hermes-web", "hermes-relay")
# systemd's own scale: 10 is a service that may do everything, and below 2.0 it says "OK".
EXPOSURE = 1.5
# It needs a name that the world can reach and a service that it cannot do without: all the rest is forbidden.
EXPOSED = {
    "PrivateNetwork",  # SQS, Redis, clients
    "IPAddressDeny",  # AWS has no addresses of its own that last
    "RootDirectory=/RootImage",  # /opt/hermes and Python are read where they are
    "RestrictAddressFamilies=~AF_(INET|INET6)",
    "RestrictAddressFamilies=~AF_UNIX",  # journald; Redis and PostgreSQL on the same host
    "SystemCallFilter=~@resources",  # the threads that compute bcrypt lower their own priority
    "DeviceAllow",
}
every_unit = pytest.mark.parametrize("name", UNITS)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    need("systemd-analyze")
    return subprocess.run(["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True)


def seconds(name: str, setting: str) -> float:
    (value,) = manual.unit(name)[setting]
    return float(value)


def option(name: str, wanted: str) -> float:
    """Return what a unit gives for an option of `manage.py`."""
    arguments = manual.arguments(name)
    return float(arguments[arguments.index(wanted) + 1])


@every_unit
def test_systemd_understands_every_line(name: str, tmp_path: Path) -> None:
    text = read(f"deploy/systemd/{name}.service")
    # It wants to see that the program is there.
    copy = tmp_path / f"{name}.service"
    copy.write_text(manual.with_paths(text, {"/opt/hermes/.venv/bin/python": sys.executable}), encoding="utf-8")
    done = analyze("verify", "--man=no", str(copy))
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


@every_unit
def test_a_service_may_do_little(name: str) -> None:
    path = str(ROOT / f"deploy/systemd/{name}.service")
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE * 10:g}", path)
    assert done.returncode == 0, done.stdout


@every_unit
def test_what_a_service_may_is_what_it_needs(name: str) -> None:
    done = analyze("security", "--offline=true", str(ROOT / f"deploy/systemd/{name}.service"))
    exposed = set(re.findall(r"^✗ (\S+?)=? ", done.stdout, flags=re.MULTILINE))
    assert exposed <= EXPOSED, done.stdout


@every_unit
def test_manage_py_understands_how_it_is_started(name: str) -> None:
    from django.core.management import load_command_class

    command, *arguments = manual.arguments(name)
    load_command_class("notifications", command).create_parser("manage.py", command).parse_args(arguments)


def test_stopping_takes_no_longer_than_systemd_waits() -> None:
    drain = option("hermes-web", "--drain-seconds") + serve.STOP_GRACE_SECONDS
    assert drain + 10 <= seconds("hermes-web", "TimeoutStopSec"), "with time for the registry's last rows"
    assert option("hermes-relay", "--grace-seconds") == relay.GRACE_SECONDS
    assert seconds("hermes-relay", "TimeoutStopSec") >= relay.GRACE_SECONDS + 10
    for name in UNITS:
        assert manual.unit(name)["KillSignal"] == ["SIGTERM"]
        assert manual.unit(name)["KillMode"] == ["mixed"], "the relay would take a second signal for impatience"


def test_a_reload_is_a_rolling_restart() -> None:
    assert manual.unit("hermes-web")["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert option("hermes-web", "--workers") >= 2, "a single process would end on SIGHUP"
    assert "ExecReload" not in manual.unit("hermes-relay"), "it knows no SIGHUP"


@every_unit
def test_a_service_that_fails_again_and_again_is_started_again_and_again(name: str) -> None:
    unit = manual.unit(name)
    assert unit["Restart"] == ["always"]
    assert float(unit["RestartSec"][0]) >= 1, "and gives the host a rest in between"
    assert unit["StartLimitIntervalSec"] == ["0"], (
        "systemd would give it up for good after five failures in ten seconds"
    )


def test_a_worker_that_the_kernel_ends_for_lack_of_memory_takes_no_other_along() -> None:
    """The first process replaces it, as tests/sockets/test_workers.py and tests/e2e/test_workers.py have it."""
    assert option("hermes-web", "--workers") >= 2
    assert manual.unit("hermes-web")["OOMPolicy"] == ["continue"]


def test_bcrypt_may_give_way() -> None:
    """Were `nice` forbidden, the threads that compute bcrypt would not start, and nobody could join."""
    assert verdicts.BCRYPT_NICE > 0

    def calls(group: str) -> set[str]:
        lines = analyze("syscall-filter", group).stdout.split()
        return {call for word in lines for call in (calls(word) if word.startswith("@") and word != group else {word})}

    assert manual.unit("hermes-web")["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert {"nice", "setpriority"} <= calls("@system-service") - calls("@privileged")


# What a service says of itself, seen from its own `/proc`.
TELL = """
import json, django
django.setup()
from notifications import exposition
print(json.dumps({name: value for family in exposition.take() for name, _, value in family["samples"]}))
"""


@every_unit
def test_a_service_tells_of_its_memory_and_files_with_what_its_unit_leaves_of_proc(name: str) -> None:
    """With another `/proc` over this one, mounted as systemd mounts it for the unit."""
    (subset,), (hidden,) = manual.unit(name)["ProcSubset"], manual.unit(name)["ProtectProc"]
    mount = f"mount -t proc -o subset={subset},hidepid={hidden} proc /proc"
    unshare = ["unshare", "--mount", "/bin/sh", "-c"]
    if not clean_root.may_be_made() or subprocess.run([*unshare, mount], capture_output=True).returncode:
        leave_out("namespaces", can_be_installed=False)
    asked = f'{mount} && [ ! -e /proc/stat ] && exec "$0" -c "$1"'
    done = subprocess.run([*unshare, asked, sys.executable, TELL], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert 0 < told["process_open_fds"] < told["process_max_fds"], "what HermesOpenFiles is judged by"
    assert told["process_resident_memory_bytes"] > 0
    assert told["process_cpu_seconds_total"] > 0
    assert abs(told["process_start_time_seconds"] - time.time()) < 60


def test_both_read_the_same_settings_and_each_its_own_role() -> None:
    for name, role in (("hermes-web", "web"), ("hermes-relay", "relay")):
        assert manual.unit(name)["EnvironmentFile"] == ["/etc/hermes/hermes.env", f"-/etc/hermes/{role}.env"]
        (start,) = manual.unit(name)["ExecStart"]
        assert shlex.split(start)[0].startswith("/opt/hermes/.venv/")
