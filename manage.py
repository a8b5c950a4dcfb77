#!/usr/bin/env python
"""Django's command line: `manage.py serve`, `relay_sqs`, `provision`, `doctor`, `send`, `demo` and Django's."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hermes_site.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:  # it names the variable and what it must be, which is all there is to know
        sys.exit(f"{error}")
