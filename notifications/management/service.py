"""Service: a command that runs until it is told to stop. What serve and relay_sqs share."""

from __future__ import annotations

import logging

from django.conf import settings
from django.core.management.base import BaseCommand

logger = logging.getLogger(__name__)


class Service(BaseCommand):
    """Says how it goes in the format of its log: whoever reads JSON is told nothing that is none."""

    def say(self, text: str) -> None:
        """Say in one line how it goes: to people on standard output, to programs as an event of the log.

        Args:
            text: a sentence.
        """
        if settings.HERMES_LOG_FORMAT == "json":
            logger.info(text)
            return
        self.stdout.write(text)
        self.stdout.flush()
