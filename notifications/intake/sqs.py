"""Sqs: this process's clients of SQS, boto3's and the wire. Used by queue and dead_letters; knows wire."""

from __future__ import annotations

import base64
import functools
import threading
from typing import TYPE_CHECKING, Any

from django.conf import settings

from notifications.wire import Wire, connect

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_POOL = 32
_MAKING = threading.Lock()


def clients(answer_seconds: int = 0) -> tuple[SQSClient, Wire]:
    """Return this process's clients of SQS: boto3's, and ours for what is asked all day.

    Args:
        answer_seconds: how long an answer may take; by default longer than a long poll, and shorter than the visibility
            of what a lost answer may have carried.
    """
    with _MAKING:  # half a second of CPU, for one of those who come at once
        seconds = answer_seconds or settings.HERMES_WAIT_SECONDS + 5
        return _clients_for(settings.AWS_ENDPOINT_URL, settings.AWS_REGION, seconds)


def with_bytes(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Decode the bytes in messages' attributes, in place: on the wire they are Base64. Behind a proxy, boto3 has."""
    for message in messages:
        for attribute in message.get("MessageAttributes", {}).values():
            if isinstance(attribute.get("BinaryValue"), str):
                attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
    return messages


@functools.cache
def _clients_for(endpoint: str | None, region: str, answer_seconds: int) -> tuple[SQSClient, Wire]:
    return connect("sqs", endpoint=endpoint, region=region, answer_seconds=answer_seconds, pool=_POOL)
