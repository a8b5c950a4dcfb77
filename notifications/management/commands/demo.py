"""`manage.py demo`, behind `make run`: all of Hermes on one machine until Ctrl-C. Calls hermes_site.demo_stack."""

from __future__ import annotations

import os
import signal
import threading
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from hermes_site.children import ChildError
from hermes_site.demo_stack import ADMINISTRATOR, MEMBERS, DemoError, DemoStack, create_members


class Command(BaseCommand):
    """Start everything, say where it is, and stop everything on the first signal; die on the second."""

    help = "Run engines, server and relay on loopback until Ctrl-C. For trying Hermes out; never for production."
    # The secrets that the checks ask for are made here.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the port and the directory."""
        parser.add_argument("--port", type=int, default=8000, help="where to listen; a free one if taken (8000)")
        parser.add_argument(
            "--directory", type=Path, default=settings.VAR_DIR, help="for data, logs and demo.env (var)"
        )
        parser.add_argument(
            "--prepare",
            action="store_true",
            help="only migrate, provision and create the demo's members, with the environment as it is",
        )

    def handle(self, *, port: int, directory: Path, prepare: bool, verbosity: int, **_: Any) -> None:
        """Run until told to stop."""
        if prepare:
            return self._prepare(verbosity)
        stop = threading.Event()
        stack = DemoStack(directory, port, os.environ, self._say, stop)

        def on_signal(number: int, _frame: FrameType | None) -> None:
            if stop.is_set():
                stack.kill()
                os._exit(128 + number)
            stop.set()

        previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            stack.start()
            if not stop.is_set():
                self._welcome(stack)
            stack.watch()
        except (ChildError, DemoError) as error:
            raise CommandError(str(error)) from error
        finally:
            self._say("Stopping.")
            stack.stop()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return None

    def _prepare(self, verbosity: int) -> None:
        call_command("migrate", interactive=False, verbosity=verbosity)
        call_command("provision", verbosity=verbosity)
        create_members(os.environ["HERMES_DEMO_PASSWORD"])

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _welcome(self, stack: DemoStack) -> None:
        room, queue = next(iter(MEMBERS.values())), next(iter(settings.HERMES_STAGES.values())).queue_name
        everyone = ", ".join(f"{name} ({code})" for name, code in MEMBERS.items())
        body = f'{{"user_id": 0, "room_id": "{room}", "data": {{"type": "info", "data": "Hello from SQS"}}}}'
        self._say(
            f"""
Hermes runs at {stack.url}/

  Sign in as   {everyone}, or {ADMINISTRATOR} at /admin/
  Password     {stack.environment["HERMES_DEMO_PASSWORD"]}
  Logs         {os.path.relpath(stack.directory / "log")}

Send a message from another shell, with any AWS CLI or SDK:

  set -a; . {os.path.relpath(stack.env_file)}; set +a
  aws --endpoint-url $AWS_ENDPOINT_URL sqs send-message --queue-url $AWS_ENDPOINT_URL/000000000000/{queue} \\
      --message-body '{body}'

Ctrl-C stops all of it.
"""
        )
