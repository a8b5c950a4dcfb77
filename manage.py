#!/usr/bin/env python
"""Django's command line: `manage.py serve`, `relay_sqs`, `provision`, `send`, `demo` and Django's own commands."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hermes_site.settings")
    execute_from_command_line(sys.argv)
