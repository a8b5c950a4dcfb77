"""Wire: AWS's JSON protocol for calls that are made all day. Used by intake.sqs, access.token_store, registry.tables.

A call through boto3's client costs 2.5 ms of CPU and more: half of all that a relay did, and a third of what ten
thousand idle sockets cost. Endpoint, region, credentials, signature and the meaning of errors stay botocore's; what is
ours is a connection that is kept.
"""

from __future__ import annotations

import json
import os
import ssl
import weakref
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
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

CONNECT_SECONDS = 2
_RETRIES = 1  # of what the service calls its own failure; what it refuses is for who called


class Wire:
    """Calls a service whose protocol is JSON, SQS or DynamoDB; thread-safe.

    Args:
        client: boto3's, for the service.
        session: botocore's, that the client was made of.
        answer_seconds: how long an answer may take.
    """

    def __init__(self, client: Any, session: botocore.session.Session, answer_seconds: float) -> None:
        self._client = client
        service = client.meta.service_model
        self._signed_for: str = service.signing_name
        self._target: str = service.metadata["targetPrefix"]
        self._headers = {"Content-Type": f"application/x-amz-json-{service.metadata['jsonVersion']}"}
        if "awsQueryCompatible" in service.metadata:
            self._headers["X-Amzn-Query-Mode"] = "true"  # errors are called what they have always been called
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
        # Between us and AWS stands somebody whom boto3 knows how to speak to.
        self._has_proxy = bool(get_environ_proxies(self._url) or client.meta.config.proxies)
        self._idle: deque[HTTPConnection] = deque()  # no more than the threads that ask at once
        weakref.finalize(self, _close, self._idle)
        self._parser: Any = create_parser("json")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Make a call.

        Args:
            operation: as AWS names it, e.g. ``ReceiveMessage``; one that may be made twice.
            arguments: as boto3's client takes them, none of them bytes.

        Returns:
            What the service answers, as boto3's client gives it; but bytes are Base64.

        Raises:
            ClientError: the service refuses, or fails.
            BotoCoreError: it does not answer, or there are no credentials.
        """
        if self._has_proxy:
            answer: dict[str, Any] = getattr(self._client, xform_name(operation))(**arguments)
            return answer
        headers = {**self._headers, "X-Amz-Target": f"{self._target}.{operation}"}
        request = AWSRequest("POST", self._url, data=json.dumps(arguments).encode(), headers=headers)
        # Asked each time: a role's credentials are renewed in here.
        credentials = self._credentials and self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, self._signed_for, self._client.meta.region_name).add_auth(request)
        status, headers, body = self._exchange(request)
        for _ in range(_RETRIES):
            if status >= 500:
                status, headers, body = self._exchange(request)
        if status < 300:
            answered: dict[str, Any] = json.loads(body) if body else {}
            return answered
        model = self._client.meta.service_model.operation_model(operation)
        refusal = self._parser.parse({"status_code": status, "headers": headers, "body": body}, model.output_shape)
        error = refusal.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode", error.get("Code")))
        raise kind(refusal, operation)

    def _exchange(self, request: AWSRequest) -> tuple[int, dict[str, str], bytes]:
        """Send a request over a kept connection, or over a new one if the service has closed that meanwhile."""
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


def connect(service: str, *, endpoint: str | None, region: str, answer_seconds: float, pool: int) -> tuple[Any, Wire]:
    """Make a service's clients: boto3's, and ours for what is asked all day. Half a second of CPU.

    Args:
        service: as boto3 names it, ``sqs`` or ``dynamodb``.
        endpoint, region: where it is; without an endpoint, at AWS.
        answer_seconds: how long an answer may take.
        pool: connections that boto3's client keeps.
    """
    # Clients are thread-safe, sessions are not: one of each.
    core = botocore.session.get_session()
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=answer_seconds,
        retries={"max_attempts": 2, "mode": "standard"},
        max_pool_connections=pool,
        parameter_validation=False,  # our own requests need no checking, and it costs as much as sending them
    )
    session = boto3.session.Session(region_name=region, botocore_session=core)
    client = session.client(service, endpoint_url=endpoint, config=config)  # type: ignore[call-overload]
    return client, Wire(client, core, answer_seconds)


def _close(connections: deque[HTTPConnection]) -> None:
    while connections:
        connections.pop().close()
