"""The environment that the tests' settings are read from. Called by conftest before Django's settings are imported."""

from __future__ import annotations

from pathlib import Path

STAGES = "development,production"
# What the machine's owner has set must reach neither the tests nor the processes that they start.
FOREIGN = ("AWS_", "HERMES_", "DJANGO_", "REDIS_", "DATABASE_URL")
# Only the last one can be taken away without an order that no release ever had.
LAST_MIGRATION = max(path.stem for path in (Path(__file__).parent.parent / "notifications/migrations").glob("0*.py"))


def secrets() -> dict[str, str]:
    """Return secrets that satisfy every check, different for the two stages."""
    return {
        "DJANGO_SECRET_KEY": "tests-only-django-" * 4,
        "HERMES_JWT_SECRET": "tests-only-jwt-development-" * 3,
        "HERMES_PASSCODE": "tests-only-passcode-development-" * 2,
        "HERMES_JWT_SECRET_PRODUCTION": "tests-only-jwt-production-" * 3,
        "HERMES_PASSCODE_PRODUCTION": "tests-only-passcode-production-" * 2,
    }


def environment(*, aws_url: str, redis_url: str, database_url: str) -> dict[str, str]:
    """Return every variable of Hermes that the tests set.

    Args:
        aws_url: where SQS and DynamoDB are.
        redis_url: where the histories are.
        database_url: where SQL is.
    """
    return {
        **secrets(),
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "REDIS_URL": redis_url,
        "DATABASE_URL": database_url,
        "HERMES_STAGES": STAGES,
        "HERMES_QUEUE_NAME_PRODUCTION": "hermes-messageQueue-production",
        "HERMES_TOKENS_TABLE_PRODUCTION": "hermesTokens-production",
        # The shortest lease there is, so that a dead server's rows are seen to go within seconds.
        "HERMES_LEASE_SECONDS": "3",
    }


def without_foreign(variables: dict[str, str]) -> dict[str, str]:
    """Return ``variables`` without those of Hermes, Django and AWS."""
    return {name: value for name, value in variables.items() if not name.startswith(FOREIGN)}


def sqlite_url(path: Path) -> str:
    """Return the DATABASE_URL of a SQLite file."""
    return f"sqlite:///{path}"
