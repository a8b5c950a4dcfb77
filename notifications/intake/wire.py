"""Wire: SQS's JSON protocol for the calls that a relay makes all day. Made and used by queue.

A call through boto3's client costs 2.5 ms of CPU, and ten messages cost two: half of all that a relay did. Endpoint,
region, credentials, signature and the meaning of errors stay botocore's; what is ours is a connection that is kept.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import ssl
import threading
import weakref
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError, SSLError
from botocore.httpsession import get_cert_path
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies
from django.conf import settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_MAKING = threading.Lock()


class Wire:
    """Calls SQS; thread-safe.

    Args:
        client: boto3's, for SQS.
        session: botocore's, that the client was made of.
        answer_seconds: how long an answer may take.
    """

    def __init__(self, client: Any, session: botocore.session.Session, answer_seconds: float) -> None:
        self._client = client
        self._credentials: Any = session.get_credentials()
        self._url: str = client.meta.endpoint_url
        parts = urlsplit(self._url)
        self._path = parts.path or "/"
        self._host, self._port = parts.hostname or "", parts.port
        # As botocore chooses whom to trust.
        bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        trusted = bundle or get_cert_path(True)
        self._tls = ssl.create_default_context(cafile=trusted) if parts.scheme == "https" else None
        self._connect_seconds: float = client.meta.config.connect_timeout
        self._answer_seconds = answer_seconds
        # Between us and SQS stands somebody whom boto3 knows how to speak to.
        self._has_proxy = bool(get_environ_proxies(self._url) or client.meta.config.proxies)
        self._idle: deque[HTTPConnection] = deque()  # no more than the threads that ask at once
        weakref.finalize(self, _close, self._idle)
        self._parser: Any = create_parser("json")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Make a call.

        Args:
            operation: as AWS names it, e.g. ``ReceiveMessage``.
            arguments: as boto3's client takes them, none of them bytes.

        Returns:
            What SQS answers, as boto3's client gives it.

        Raises:
            ClientError: SQS refuses.
            BotoCoreError: SQS does not answer, or there are no credentials.
        """
        if self._has_proxy:
            answer: dict[str, Any] = getattr(self._client, xform_name(operation))(**arguments)
            return answer
        request = AWSRequest(
            "POST",
            self._url,
            data=json.dumps(arguments).encode(),
            headers={
                "Content-Type": "application/x-amz-json-1.0",
                "X-Amz-Target": f"AmazonSQS.{operation}",
                "X-Amzn-Query-Mode": "true",  # errors are called what they have always been called
            },
        )
        # Asked each time: a role's credentials are renewed in here.
        credentials = self._credentials and self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, "sqs", self._client.meta.region_name).add_auth(request)
        status, headers, body = self._exchange(request)
        if status < 300:
            return _with_bytes(json.loads(body)) if body else {}
        model = self._client.meta.service_model.operation_model(operation)
        refusal = self._parser.parse({"status_code": status, "headers": headers, "body": body}, model.output_shape)
        error = refusal.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode", error.get("Code")))
        raise kind(refusal, operation)

    def _exchange(self, request: AWSRequest) -> tuple[int, dict[str, str], bytes]:
        """Send a request over a kept connection, or over a new one if SQS has closed that meanwhile."""
        try:
            kept = self._idle.pop()
        except IndexError:
            kept = None
        if kept is not None:
            with suppress(ConnectionClosedError):
                return self._answer(kept, request)
        return self._answer(self._connect(), request)

    def _answer(self, connection: HTTPConnection, request: AWSRequest) -> tuple[int, dict[str, str], bytes]:
        try:
            connection.request("POST", self._path, body=request.data, headers=dict(request.headers.items()))
            response = connection.getresponse()
            body = response.read()
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except (OSError, HTTPException) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=self._url, error=error) from error
        if response.will_close:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, {name.lower(): value for name, value in response.getheaders()}, body

    def _connect(self) -> HTTPConnection:
        connection: HTTPConnection
        if self._tls is not None:
            connection = HTTPSConnection(self._host, self._port, timeout=self._connect_seconds, context=self._tls)
        else:
            connection = HTTPConnection(self._host, self._port, timeout=self._connect_seconds)
        try:
            connection.connect()
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        connection.sock.settimeout(self._answer_seconds)
        return connection


def _with_bytes(answer: dict[str, Any]) -> dict[str, Any]:
    """Decode the bytes in a message's attributes: on the wire they are Base64."""
    for message in answer.get("Messages", ()):
        for attribute in message.get("MessageAttributes", {}).values():
            if "BinaryValue" in attribute:
                attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
    return answer


def clients(answer_seconds: int = 0) -> tuple[SQSClient, Wire]:
    """Return this process's clients of SQS: boto3's, and ours for what is asked all day.

    Args:
        answer_seconds: how long an answer may take; by default longer than a long poll, and shorter than the visibility
            of what a lost answer may have carried.
    """
    with _MAKING:  # half a second of CPU, for one of those who come at once
        seconds = answer_seconds or settings.HERMES_WAIT_SECONDS + 5
        return _clients_for(settings.AWS_ENDPOINT_URL, settings.AWS_REGION, seconds)


@functools.cache
def _clients_for(endpoint: str | None, region: str, answer_seconds: int) -> tuple[SQSClient, Wire]:
    """Clients are thread-safe, sessions are not: one of each per endpoint and process."""
    core = botocore.session.get_session()
    session = boto3.session.Session(region_name=region, botocore_session=core)
    config = Config(
        connect_timeout=2,
        read_timeout=answer_seconds,
        retries={"max_attempts": 2, "mode": "standard"},
        max_pool_connections=32,
        parameter_validation=False,  # our own requests need no checking
    )
    client = session.client("sqs", endpoint_url=endpoint, config=config)
    return client, Wire(client, core, answer_seconds)


def _close(connections: deque[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()
