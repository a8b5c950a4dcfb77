"""Fixtures: engines for the whole run, the members Alice, Bob and Charlie, and Hermes itself as processes.

The engines start before Django's settings are imported, because the settings read where they are. For that the
settings' module is named here and not in pyproject.toml, which pytest-django would obey before any conftest is read.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis
from botocore.config import Config
from django.conf import settings

from hermes_site.engines import AwsEndpoint, Valkey
from tests.environment import environment, sqlite_url, without_foreign
from tests.postgres import Postgres
from tests.processes import Hermes

_DIRECTORY = pytest.StashKey[Path]()
_TEST_SECONDS = 120
_LEFT_OUT = pytest.StashKey[bool]()
_NO_CHROMIUM = "no Chromium on this machine"
_ENGINES: dict[str, Any] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Start the engines, and only then let Django read its settings."""
    if config.getoption("help") or config.getoption("version"):
        return
    if settings.configured:
        raise pytest.UsageError("Unset DJANGO_SETTINGS_MODULE: tests/conftest.py sets it once the engines run.")
    directory = Path(tempfile.mkdtemp(prefix="hermes-tests-"))
    config.stash[_DIRECTORY] = directory
    _ENGINES["valkey"] = Valkey(directory / "valkey").start()
    _ENGINES["aws"] = AwsEndpoint(directory / "aws").start()
    database_url = os.environ.get("TEST_DATABASE_URL") or sqlite_url(directory / "hermes.sqlite3")
    if os.environ.get("HERMES_TEST_POSTGRES"):
        _ENGINES["postgres"] = Postgres(directory / "postgres").start()
        database_url = _ENGINES["postgres"].url
    variables = environment(aws_url=_ENGINES["aws"].url, redis_url=_ENGINES["valkey"].url, database_url=database_url)
    kept = without_foreign(dict(os.environ))
    os.environ.clear()
    os.environ.update(kept, **variables, DJANGO_SETTINGS_MODULE="hermes_site.settings")
    # pytest-django sets Django up after this hook, if the settings are loaded by then.
    assert settings.INSTALLED_APPS


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the engines and forget their data."""
    while _ENGINES:
        _ENGINES.popitem()[1].stop()
    if directory := config.stash.get(_DIRECTORY, None):
        shutil.rmtree(directory, ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the browser tests last; without a Chromium leave them out, but where CI=true they run, and fail."""
    # Playwright's loop stays the running one of the thread until the last browser is closed; no other test could start
    # a loop of its own.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if _on_postgres():
        without_sql = [item for item in items if not _touches_sql(item)]
        config.hook.pytest_deselected(items=without_sql)
        items[:] = [item for item in items if _touches_sql(item)]
    if chromium() or os.environ.get("CI") == "true":
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=_NO_CHROMIUM))
            config.stash[_LEFT_OUT] = True


def _touches_sql(item: pytest.Item) -> bool:
    """Whether a database makes a difference: pytest-django lets no other test come near one.

    What is refused at the door comes to no table, and tests/hosts is about Redis.
    """
    if item.path.parent.name in {"bad_inputs", "hosts"} or item.path.name in {"test_door.py", "test_refused.py"}:
        return False
    has_database = {"db", "transactional_db", "hermes", "own_hermes", "make_hermes"} & set(
        getattr(item, "fixturenames", ())
    )
    return bool(has_database or item.get_closest_marker("django_db"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say loudly what was left out."""
    if config.stash.get(_LEFT_OUT, False):
        terminalreporter.section("LEFT OUT: the browser tests", sep="!", red=True, bold=True)
        terminalreporter.write_line(f"{_NO_CHROMIUM}: apt-get install chromium, or run `make test` as root.")
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", ())]
    reasons = {where[2].removeprefix("Skipped: ") for where in skipped if isinstance(where, tuple)}
    for reason in sorted(reason for reason in reasons if reason.startswith("LEFT OUT")):
        terminalreporter.section(reason, sep="!", red=True, bold=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """End a test that hangs, with the place where it does; every wait of ours has a shorter deadline."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"{item.nodeid} runs for more than {_TEST_SECONDS} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_TEST_SECONDS)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the test database in a file: in memory, SQLite's threads would share one lock that nobody waits for."""
    database = settings.DATABASES["default"]
    if "sqlite" in database["ENGINE"]:
        database.setdefault("TEST", {})["NAME"] = str(tmp_path_factory.mktemp("database") / "tests.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Before the test database goes, end the sessions that our threads hold: PostgreSQL drops none in use."""
    yield
    if _on_postgres():
        from django.db import connection

        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """The run's Valkey, emptied."""
    engine: Valkey = _ENGINES["valkey"]
    with redis.Redis.from_url(engine.url) as client:
        client.flushall()
    yield engine
    if not engine.running:
        engine.start()


def _on_postgres() -> bool:
    return "postgresql" in settings.DATABASES["default"]["ENGINE"]


def whole_chromium() -> str | None:
    """Return the path of the machine's Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def chromium() -> str | None:
    """Return its headless shell, at half of the cost, or Chromium itself; None where there is none.

    The shell is Chromium without windows, and without the cache that back and forward take pages out of.
    """
    return shutil.which("chromium-headless-shell") or whole_chromium()


class Aws:
    """The run's AWS endpoint as the tests use it."""

    def __init__(self, engine: AwsEndpoint) -> None:
        self.engine = engine
        self.url = engine.url
        self.endpoint = engine.url
        config = Config(connect_timeout=2, read_timeout=30, retries={"max_attempts": 2, "mode": "standard"})
        self.sqs = boto3.client("sqs", endpoint_url=engine.url, region_name=settings.AWS_REGION, config=config)
        self.dynamodb = boto3.client(
            "dynamodb", endpoint_url=engine.url, region_name=settings.AWS_REGION, config=config
        )

    def purge(self) -> None:
        """Empty every queue and every table, and leave them there."""
        for queue in self.sqs.list_queues().get("QueueUrls", []):
            self.sqs.purge_queue(QueueUrl=queue)
        for table in self.dynamodb.list_tables()["TableNames"]:
            keys = [
                part["AttributeName"] for part in self.dynamodb.describe_table(TableName=table)["Table"]["KeySchema"]
            ]
            for item in self.items(table):
                self.dynamodb.delete_item(TableName=table, Key={key: item[key] for key in keys})

    def items(self, table: str) -> list[dict[str, Any]]:
        """Return every item of a table, in DynamoDB's notation."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def close(self) -> None:
        """Close the clients' connections."""
        self.sqs.close()
        self.dynamodb.close()


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[Aws]:
    """The AWS endpoint of the whole run, as it is: nothing provisioned, nothing purged."""
    aws = Aws(_ENGINES["aws"])
    yield aws
    aws.close()


@pytest.fixture(scope="session")
def provisioned(aws_endpoint: Aws) -> Aws:
    """The AWS endpoint with every stage's queues and tables."""
    from django.core.management import call_command

    call_command("provision", verbosity=0)
    return aws_endpoint


@pytest.fixture
def aws(provisioned: Aws) -> Aws:
    """The AWS endpoint with every stage's queues and tables, all of them empty."""
    provisioned.purge()
    return provisioned


@pytest.fixture
def stage() -> Any:
    """The first stage, ``development``."""
    return settings.HERMES_STAGES["development"]


@pytest.fixture
def production() -> Any:
    """The other stage."""
    return settings.HERMES_STAGES["production"]


def _member(name: str, room: str) -> Any:
    from django.contrib.auth import get_user_model

    from notifications.models import Membership, Room

    user = get_user_model().objects.create_user(name)
    Membership.objects.create(room=Room.objects.get_or_create(code=room)[0], user=user)
    return user


@pytest.fixture
def alice(db: None) -> Any:
    """Alice, a member of acme."""
    return _member("alice", "acme")


@pytest.fixture
def bob(db: None) -> Any:
    """Bob, a member of acme."""
    return _member("bob", "acme")


@pytest.fixture
def charlie(db: None) -> Any:
    """Charlie, a member of globex: what is acme's is never his."""
    return _member("charlie", "globex")


def _make_postgres_database() -> str:
    """Create a database beside the tests' own; return its URL."""
    name = f"hermes_{secrets.token_hex(6)}"
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return f"{url.rsplit('/', 1)[0]}/{name}"


@pytest.fixture(scope="session")
def make_hermes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Hermes]:
    """Return a function that makes a Hermes of its own, not started yet; arguments are environment variables."""

    def make(**overrides: str) -> Hermes:
        directory = tmp_path_factory.mktemp("hermes")
        return Hermes(
            directory, without_foreign(dict(os.environ)), _make_postgres_database if _on_postgres() else None, overrides
        )

    return make


@pytest.fixture(scope="session")
def hermes(make_hermes: Callable[..., Hermes]) -> Iterator[Hermes]:
    """The Hermes that tests share; who breaks something takes ``own_hermes``."""
    shared = make_hermes()
    try:
        yield shared.start()
    finally:
        shared.stop()


@pytest.fixture(scope="module")
def own_hermes(make_hermes: Callable[..., Hermes]) -> Iterator[Hermes]:
    """A Hermes for one module of tests, which may stop and kill parts of it."""
    own = make_hermes()
    try:
        yield own.start()
    finally:
        own.stop()
