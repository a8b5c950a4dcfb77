"""System checks: combinations of settings that cannot work, each with an id and a cure. Registered by apps.

`manage.py check`, `serve` and `relay_sqs` run them; docs/settings.md lists the ids.
"""
