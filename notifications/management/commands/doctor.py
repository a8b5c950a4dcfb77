"""`manage.py doctor`: is everything as Hermes needs it, one line each with the cure. Hands to notifications.doctor."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from notifications import doctor
from notifications.doctor import Line
from notifications.findings import Role, Status


class Command(BaseCommand):
    """Examines what Hermes needs, and changes nothing."""

    help = (
        "Look at settings, keys, database, Redis, channel layer, clocks, queues and tables, and say what is wrong and "
        "what cures it. Exit status 1 if something fails."
    )
    # They are among what it tells.
    requires_system_checks: list[str] = []
    _is_process = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as the process that this is for, and not called by another program."""
        self._is_process = True
        super().run_from_argv(argv)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Parse."""
        parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
        parser.add_argument("--strict", action="store_true", help="exit status 1 for warnings, too")
        parser.add_argument(
            "--role",
            choices=[str(role) for role in Role],
            default=str(Role.ALL),
            help="look only at what this role needs: web (serve), relay (relay_sqs); default %(default)s",
        )
        parser.add_argument(
            "--deadline",
            type=float,
            default=doctor.DEADLINE_SECONDS,
            help="how long each check may take, all at once, in seconds (default %(default)g)",
        )

    def handle(self, *, json: bool, strict: bool, role: str, deadline: float, **_: Any) -> None:
        """Examine, tell, and exit with 1 if something is wrong."""
        if not 0 < deadline <= 600:
            raise CommandError("--deadline must be more than 0 and at most 600.")
        lines = doctor.examine(doctor.checks(role=Role(role)), deadline)
        statuses = {line.finding.status for line in lines}
        worst = next(status for status in (Status.FAIL, Status.WARN, Status.OK) if status in statuses)
        self.stdout.write(_as_json(lines, worst) if json else self._as_text(lines))
        status = int(worst is Status.FAIL or (strict and worst is Status.WARN))
        self.stdout.flush()
        if self._is_process and any(line.is_late for line in lines):
            os._exit(status)  # what hangs, looking a name up perhaps, may have threads that Python would wait for
        if status:
            sys.exit(status)

    def _as_text(self, lines: Sequence[Line]) -> str:
        styles = {Status.OK: self.style.SUCCESS, Status.WARN: self.style.WARNING, Status.FAIL: self.style.ERROR}
        width = max(len(line.name) for line in lines)
        told = []
        for line in lines:
            finding = line.finding
            cure = f" → {finding.cure}" if finding.cure else ""
            told.append(
                f"{line.name:<{width}}  {styles[finding.status](f'{finding.status:<4}')}  {finding.found}{cure}"
            )
        return "\n".join(told)


def _as_json(lines: Sequence[Line], worst: Status) -> str:
    told = [
        {
            "name": line.name,
            "status": line.finding.status,
            "found": line.finding.found,
            "cure": line.finding.cure,
            "ms": round(line.seconds * 1000, 1),
        }
        for line in lines
    ]
    return json.dumps({"status": worst, "checks": told}, ensure_ascii=False)
