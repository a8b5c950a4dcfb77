"""`manage.py relay_sqs`: run the relay of one stage, or of all, until a signal. Hands to intake.relay."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from notifications.intake.queue import Queue
from notifications.intake.relay import Relay
from notifications.stream.history import History
from notifications.stream.publish import Publisher


class Command(BaseCommand):
    """Carries messages from SQS to the rooms."""

    help = "Carry messages from SQS to the rooms' histories, until SIGTERM or SIGINT; a second signal exits at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Parse."""
        parser.add_argument("--stage", choices=sorted(settings.HERMES_STAGES), help="by default every stage")
        parser.add_argument(
            "--pollers",
            type=int,
            choices=range(1, 17),
            default=2,
            help="batches in flight per stage (1 to 16, default 2)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Wire and run."""
        asyncio.run(
            self._run([options["stage"]] if options["stage"] else list(settings.HERMES_STAGES), options["pollers"])
        )

    async def _run(self, stages: list[str], pollers: int) -> None:
        history = History()
        publisher = Publisher(history)
        relays = [Relay(name, Queue(settings.HERMES_STAGES[name]), publisher, pollers=pollers) for name in stages]

        def stop() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, os._exit, 128 + number)
            for relay in relays:
                relay.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        self.stdout.write(f"Relaying {', '.join(stages)} with {pollers} pollers each.")
        async with asyncio.TaskGroup() as group:
            for relay in relays:
                group.create_task(relay.run())
        await history.aclose()
        self.stdout.write("The relay has stopped.")
