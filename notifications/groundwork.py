"""Groundwork: what must be right before any room can work: settings, keys, database, migrations. Called by doctor."""

from __future__ import annotations

from collections.abc import Iterator

import django.db
from django.conf import settings
from django.core.checks import CheckMessage, run_checks
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from notifications.checks import check_settings
from notifications.conf import Stage
from notifications.findings import Finding, fail, ok, warn

# Those of `notifications.checks` that are about one stage's secrets.
OF_KEYS = frozenset({"hermes.E001", "hermes.E002", "hermes.E003", "hermes.E004", "hermes.E014"})
DJANGO_KEY_LENGTH = 50  # Django's own measure
# A key of 64 random bytes in hex has 16 different characters, now and then 15.
DIFFERENT = 10


def system_checks() -> Iterator[Finding]:
    """Find what Django's and Hermes's system checks say, but for keys."""
    messages = [message for message in run_checks() if not message.is_silenced()]
    found = [_told(message) for message in messages if message.id not in OF_KEYS]
    if settings.DEBUG:
        found.append(warn("DJANGO_DEBUG is on: errors show source code", "Unset it in production."))
    yield from found
    if not found:
        names = ", ".join(settings.HERMES_STAGES)
        yield ok(f"stages {names}" if len(settings.HERMES_STAGES) > 1 else f"stage {names}")


def keys() -> Iterator[Finding]:
    """Find keys that are missing, too short, or easy to guess; says which and never what they are."""
    found = [_told(message) for message in check_settings(None) if message.id in OF_KEYS]
    found += _django_key()
    stages: dict[str, Stage] = settings.HERMES_STAGES
    for stage in stages.values():
        for name, secrets in (("HERMES_JWT_SECRET", stage.jwt_secrets), ("HERMES_PASSCODE", stage.passcodes)):
            for number, secret in enumerate(secrets, 1):
                which = name if number == 1 else f"{name}_{number}"
                if reason := guessable(secret):
                    judge = warn if settings.HERMES_ACCEPT_SHORT_SECRETS else fail
                    cure = f"Make one with `openssl rand -base64 64`; docs/security.md says how to rotate {name}."
                    found.append(judge(f"stage {stage.name}: {which} {reason}", cure))
    yield from found
    if not found:
        yield ok("long, and not easy to guess")


def database() -> Iterator[Finding]:
    """Find whether the database answers, and takes writes: after a failover its old address may lead to a standby."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_read_only" if connection.vendor == "postgresql" else "SELECT 'off'")
            is_read_only = cursor.fetchone() == ("on",)
        name = f"{connection.display_name} {'.'.join(map(str, connection.get_database_version()))}"
        if is_read_only:
            cure = "Have DATABASE_URL lead to the primary, and turn default_transaction_read_only off where it is on."
            yield fail(f"{name} is read-only: nobody can sign in, and nobody is entered as connected", cure)
        else:
            yield ok(name)
    except django.db.Error as error:
        yield _away(error)
    finally:
        connection.close()


def migrations() -> Iterator[Finding]:
    """Find whether the database has this release's tables."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        unknown = [
            name
            for app, name in executor.loader.applied_migrations
            if app == "notifications" and (app, name) not in (executor.loader.disk_migrations or {})
        ]
    except django.db.Error as error:
        yield _away(error)
        return
    finally:
        connection.close()
    if plan:
        first = f"{plan[0][0].app_label}.{plan[0][0].name}"
        yield fail(f"migrations that are not applied: {len(plan)}, {first} first", "Run manage.py migrate.")
    if unknown:
        yield warn(
            f"the database has migrations that this release does not know: {', '.join(sorted(unknown))}",
            "Run the release that brought them, or take them back with it (manage.py migrate notifications).",
        )
    if not plan and not unknown:
        yield ok("all applied")


def guessable(secret: str) -> str:
    """Return why a secret is easy to guess; empty where it does not look so.

    >>> guessable("abcabcabc")
    'repeats a shorter text'
    """
    if secret in (secret + secret)[1:-1]:
        return "repeats a shorter text"
    if len(set(secret)) < DIFFERENT:
        return f"has fewer than {DIFFERENT} different characters"
    return ""


def _told(message: CheckMessage) -> Finding:
    judge = fail if message.is_serious() else warn
    return judge(f"{message.id}: {message.msg}", str(message.hint or "Look the check up in docs/settings.md."))


def _django_key() -> Iterator[Finding]:
    key = str(settings.SECRET_KEY)
    reason = f"has fewer than {DJANGO_KEY_LENGTH} characters" if len(key) < DJANGO_KEY_LENGTH else guessable(key)
    if reason:
        judge = warn if settings.DEBUG else fail
        cure = "Set it to 50 random characters (`openssl rand -base64 48`): it signs sessions and CSRF tokens."
        yield judge(f"DJANGO_SECRET_KEY {reason}", cure)


def _away(error: django.db.Error) -> Finding:
    first = str(error).strip().partition("\n")[0]
    return fail(
        f"{connection.display_name}: {type(error).__name__}: {first}",
        "Look at DATABASE_URL, and whether the database runs and this host reaches it.",
    )
