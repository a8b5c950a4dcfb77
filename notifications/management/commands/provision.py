"""`manage.py provision`: queues and tables of every stage. Calls intake.queue, access.token_store, registry.mirror."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from notifications.access import token_store
from notifications.exceptions import Unavailable
from notifications.intake import queue
from notifications.registry import mirror


class Command(BaseCommand):
    """Make what is missing; what is there stays as it is, so that it can be run at every start."""

    help = "Create each stage's queue, dead-letter queue and tables where they are missing. For development and tests."
    # The checks speak of secrets, which making queues and tables does not need.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the stage."""
        parser.add_argument("--stage", choices=list(settings.HERMES_STAGES), help="only this stage (default: all)")

    def handle(self, *, stage: str | None, verbosity: int, **_: Any) -> None:
        """Provision, one line for each thing made or found."""
        for chosen in [settings.HERMES_STAGES[stage]] if stage else settings.HERMES_STAGES.values():
            for provision, names in (
                (queue.provision, f"queue {chosen.queue_name}, dead letters in {chosen.dlq_name}"),
                (token_store.provision, f"tokens table {chosen.tokens_table}"),
                (mirror.provision, f"connections table {chosen.connections_table}, audit table {chosen.audit_table}"),
            ):
                try:
                    provision(chosen)
                except Unavailable as error:
                    raise CommandError(f"{chosen.name}: {names}: {error}") from error
                if verbosity:
                    self.stdout.write(f"{chosen.name}: {names}")
