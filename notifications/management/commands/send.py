"""`manage.py send ROOM JSON`: put a message on the queue. Hands to hermes.notify."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from notifications import hermes
from notifications.exceptions import HermesError, MessageRefused
from notifications.stream.message import load_json


class Command(BaseCommand):
    """Sends one message from a shell."""

    help = """Put a message on the queue, e.g. manage.py send acme '{"type": "info", "data": "Hello"}'"""

    def add_arguments(self, parser: CommandParser) -> None:
        """Parse."""
        parser.add_argument("room", help="the room's code")
        parser.add_argument("data", help="the payload, as JSON")
        parser.add_argument("--to", action="append", metavar="USER_ID", help="only this member; may be repeated")
        parser.add_argument("--id", help="idempotency key")
        parser.add_argument("--user", help="who it is from")
        parser.add_argument("--stage", help="by default the first")

    def handle(self, *args: Any, **options: Any) -> None:
        """Wire and run."""
        try:
            data = load_json(options["data"])
        except MessageRefused as error:
            raise CommandError(f"{error.detail} Strings need quotes of their own: '\"Hello\"'.") from error
        try:
            hermes.notify(
                options["room"], data, options["to"], options["id"], user=options["user"], stage=options["stage"]
            )
        except (HermesError, TypeError, ValueError) as error:
            raise CommandError(str(error)) from error
        except KeyError as error:
            raise CommandError(f"There is no stage {error}.") from error
        self.stdout.write(f"Sent to room {options['room']}.")
