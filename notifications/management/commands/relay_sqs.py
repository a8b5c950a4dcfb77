"""`manage.py relay_sqs`: run the relay of one stage, or of all, until a signal. Hands to intake.relay."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import uvloop
from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from notifications import exposition
from notifications.intake.heartbeat import Heartbeat
from notifications.intake.queue import Queue
from notifications.intake.relay import GRACE_SECONDS, POLLERS, Relay
from notifications.management.service import Service
from notifications.stream.history import History
from notifications.stream.publish import Publisher


class Command(Service):
    """Carries messages from SQS to the rooms."""

    help = "Carry messages from SQS to the rooms' histories, until SIGTERM or SIGINT; a second signal exits at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Parse."""
        parser.add_argument("--stage", choices=sorted(settings.HERMES_STAGES), help="by default every stage")
        parser.add_argument(
            "--pollers",
            type=int,
            choices=range(1, 17),
            default=POLLERS,
            help="batches in flight per stage at most, while its queue is deep (1 to 16, default %(default)d)",
        )
        parser.add_argument(
            "--grace-seconds",
            type=float,
            default=GRACE_SECONDS,
            help="how long stopping may take: what is not finished by then is given back (default %(default)g)",
        )

        parser.add_argument(
            "--metrics-port",
            type=int,
            default=settings.HERMES_RELAY_METRICS_PORT,
            help="answers /metrics, on HERMES_METRICS_HOST (default HERMES_RELAY_METRICS_PORT; 0: none)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Wire and run."""
        if not 0 < options["grace_seconds"] <= 3600:
            raise CommandError("--grace-seconds must be more than 0 and at most 3600.")
        stages = [options["stage"]] if options["stage"] else list(settings.HERMES_STAGES)
        running = self._run(stages, options["pollers"], options["grace_seconds"], options["metrics_port"])
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                is_hung = runner.run(running)
        except exposition.PortUnavailable as error:
            raise CommandError(str(error)) from error
        self.say("The relay has stopped.")
        if is_hung:  # a thread that waits for an SQS that hangs would hold the process up beyond the grace period
            os._exit(0)

    async def _run(self, stages: list[str], pollers: int, grace: float, metrics_port: int) -> bool:
        history = History()
        publisher = Publisher(history)
        relays = [
            Relay(name, Queue(settings.HERMES_STAGES[name]), publisher, pollers=pollers, grace_seconds=grace)
            for name in stages
        ]

        if metrics_port:  # only now there is something to say
            exposition.serve(settings.HERMES_METRICS_HOST, metrics_port)

        def stop() -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, os._exit, 128 + number)
            for relay in relays:
                relay.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        self.say(f"Relaying {', '.join(stages)} with up to {pollers} pollers each.")
        beats = [
            asyncio.create_task(Heartbeat(name, relay.tally, relay.hold).run(), name="hermes-heartbeat")
            for name, relay in zip(stages, relays, strict=True)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for relay in relays:
                    group.create_task(relay.run())
        finally:
            for beat in beats:
                beat.cancel()
            await asyncio.gather(*beats, return_exceptions=True)
        await history.aclose()
        return any(relay.is_hung for relay in relays)
