"""Wire: AWS's JSON protocol for calls that are made all day. Used by intake.sqs, access.token_store, registry.tables.

A call through boto3's client costs 2.5 ms of CPU and more: half of all that a relay did, and a third of what ten
thousand idle sockets cost. Endpoint, region, credentials, signature and the meaning of errors stay botocore's; what is
ours is a connection that is kept, and how its bytes are read: httptools in place of http.client.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import weakref
from collections import deque
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import httptools
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
        self._credentials: Any = session.get_credentials()
        self._url: str = client.meta.endpoint_url
        parts = urlsplit(self._url)
        self._host, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._request_line = f"POST {parts.path or '/'} HTTP/1.1\r\n"
        self._headers = {
            "Host": parts.netloc.rpartition("@")[2],  # named, so that what is signed is what is sent
            "Content-Type": f"application/x-amz-json-{service.metadata['jsonVersion']}",
        }
        if "awsQueryCompatible" in service.metadata:
            self._headers["X-Amzn-Query-Mode"] = "true"  # errors are called what they have always been called
        # As botocore chooses whom to trust.
        bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
        trusted = bundle or get_cert_path(True)
        self._tls = ssl.create_default_context(cafile=trusted) if parts.scheme == "https" else None
        self._connect_seconds: float = client.meta.config.connect_timeout
        self._answer_seconds = answer_seconds
        # Between us and AWS stands somebody whom boto3 knows how to speak to.
        self._has_proxy = bool(get_environ_proxies(self._url) or client.meta.config.proxies)
        self._idle: deque[_Connection] = deque()  # no more than the threads that ask at once
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
        body = json.dumps(arguments).encode()
        request = AWSRequest("POST", self._url, data=body, headers=headers)
        # Asked each time: a role's credentials are renewed in here.
        credentials = self._credentials and self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, self._signed_for, self._client.meta.region_name).add_auth(request)
        lines = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
        signed = f"{self._request_line}{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
        status, headers, said = self._exchange(signed)
        for _ in range(_RETRIES):
            if status >= 500:
                status, headers, said = self._exchange(signed)
        if status < 300:
            answered: dict[str, Any] = json.loads(said) if said else {}
            return answered
        model = self._client.meta.service_model.operation_model(operation)
        refusal = self._parser.parse({"status_code": status, "headers": headers, "body": said}, model.output_shape)
        error = refusal.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode", error.get("Code")))
        raise kind(refusal, operation)

    def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request over a kept connection, or over a new one if the service has closed that meanwhile."""
        try:
            kept = self._idle.pop()
        except IndexError:
            kept = None
        if kept is not None:
            with suppress(ConnectionClosedError):
                return self._answer(kept, request)
        return self._answer(self._connect(), request)

    def _answer(self, connection: _Connection, request: bytes) -> tuple[int, dict[str, str], bytes]:
        try:
            answer = connection.ask(request)
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except (OSError, httptools.HttpParserError) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=self._url, error=error) from error
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _connect(self) -> _Connection:
        try:
            made = socket.create_connection((self._host, self._port), self._connect_seconds)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                made = self._tls.wrap_socket(made, server_hostname=self._host)
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        made.settimeout(self._answer_seconds)
        return _Connection(made)


class _Connection:
    """One connection: a request out, its answer in, as httptools tells of it.

    Args:
        connected: its socket, with the deadline for an answer.
    """

    __slots__ = ("_body", "_headers", "_is_whole", "_parser", "_socket", "is_reusable")

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.is_reusable = True

    def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request and wait for its answer.

        Returns:
            Its status, its headers by their names in small letters, and its body.

        Raises:
            OSError: it ended, or did not come in time (``TimeoutError``).
            httptools.HttpParserError: it is no HTTP.
        """
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._is_whole = self.is_reusable = False
        self._parser = parser = httptools.HttpResponseParser(self)
        self._socket.sendall(request)
        while not self._is_whole:
            data = self._socket.recv(64 * 1024)
            if not data:
                if not self._headers or self._headers.keys() & {"content-length", "transfer-encoding"}:
                    raise ConnectionResetError("it ended before its answer did")
                break  # an answer without a length is whole when the connection ends: a balancer's own, perhaps
            parser.feed_data(data)
        return parser.get_status_code(), self._headers, bytes(self._body)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    # ── For httptools ────────────────────────────────────────────────────────────────────────────────────────────────
    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Take note of the end; of an interim answer (1xx) it is none."""
        self._is_whole = self._parser.get_status_code() >= 200
        self.is_reusable = self._parser.should_keep_alive()


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


def _close(connections: deque[_Connection]) -> None:
    while connections:
        connections.pop().close()
