"""Ground: what all contestants stand on: Valkey, SQS and DynamoDB, a folder. Used by peers and scenes.

They are the embedded engines of `make run` and the tests, on the core that the server does not have.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import boto3
import redis
from botocore.config import Config

from hermes_site.engines import HOST, AwsEndpoint, Valkey

FOREIGN = ("AWS_", "HERMES_", "DJANGO_", "REDIS_URL", "DATABASE_URL", "CENTRIFUGO_")
REGION = "eu-west-1"
_AWS = {
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Ground:
    """The engines, started when it is entered.

    Args:
        directory: for data and logs; emptied.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self.valkey = Valkey(directory / "valkey")
        self.aws = AwsEndpoint(directory / "aws")

    def __enter__(self) -> Self:
        self.valkey.start()
        self.aws.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.aws.stop()
        self.valkey.stop()

    def environment(self) -> dict[str, str]:
        """Return our environment without what its owner has set for other things, and with where the engines are."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        return {
            **kept,
            **_AWS,
            "AWS_ENDPOINT_URL": self.aws.url,
            "REDIS_URL": self.valkey.url,
            "PYTHONUNBUFFERED": "1",
        }

    def log(self, name: str) -> Path:
        """Return where a process writes."""
        return self.directory / "log" / f"{name}.log"

    def flush(self) -> None:
        """Forget everything that is in Valkey: histories, verdicts."""
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()

    def client(self, service: Literal["sqs", "dynamodb"]) -> Any:
        """Return a boto3 client; close it."""
        return boto3.client(
            service,
            endpoint_url=self.aws.url,
            region_name=REGION,
            aws_access_key_id="bench",
            aws_secret_access_key="bench",
            config=Config(connect_timeout=2, read_timeout=30, max_pool_connections=8, parameter_validation=False),
        )


class QueueWatch:
    """Looks at one queue, with a connection that is kept.

    Args:
        ground: where SQS is.
        url: the queue's.
    """

    def __init__(self, ground: Ground, url: str) -> None:
        self._client = ground.client("sqs")
        self._url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def purge(self) -> None:
        """Empty it."""
        self._client.purge_queue(QueueUrl=self._url)

    def waiting(self) -> tuple[int, int]:
        """Return how many messages wait, and how many are in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=names)["Attributes"]
        return int(answer[names[0]]), int(answer[names[1]])


__all__ = ["HOST", "REGION", "Ground", "QueueWatch"]
