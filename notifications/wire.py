"""Wire: AWS's JSON protocol for calls that are made all day. Used by intake.sqs, access.token_store, registry.tables.

A call through boto3's client costs 2.5 ms of CPU and more: half of all that a relay did, and a third of what ten
thousand idle sockets cost. Endpoint, region, credentials, signature and the meaning of errors stay botocore's; what is
ours is a connection that is kept (exchange), and how its bytes are read: httptools in place of http.client.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import httptools
from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import CredentialResolver, Credentials, RefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
    SSLError,
)
from botocore.httpsession import get_cert_path
from botocore.parsers import create_parser
from botocore.utils import get_environ_proxies

from notifications.exchange import Connection

CONNECT_SECONDS = 2
_RETRIES = 1  # of what the service calls its own failure; what it refuses is for who called
InThread = Callable[..., Awaitable[Any]]  # runs a function, with its arguments, in a thread
_LOOK_SECONDS = 1.0  # between two looks for credentials: one that asks a host's own service may take as long


class UnreadableAnswer(BotoCoreError):
    """An answer that is not AWS's, such as a page of a proxy's that wants a login, or a broken balancer's."""

    fmt = "What {endpoint_url} answers with HTTP {status} is no JSON object"


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
        self._idle: deque[Connection] = deque()  # no more than the threads that ask at once
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
            BotoCoreError: it does not answer, what answers is not AWS, or there are no credentials.
        """
        if self._has_proxy:
            answer: dict[str, Any] = getattr(self._client, xform_name(operation))(**arguments)
            return answer
        signed = self._signed(operation, arguments)
        status, headers, said = self._exchange(signed)
        for _ in range(_RETRIES):
            if status >= 500:
                status, headers, said = self._exchange(signed)
        return self._understood(operation, status, headers, said)

    async def call_here(self, operation: str, in_thread: InThread, **arguments: Any) -> dict[str, Any]:
        """Make a call as `call` does, on an event loop: what may be slow beside the answer itself goes to a thread.

        Args:
            operation, arguments: as for `call`.
            in_thread: runs a function in a thread of the caller's.
        """
        if self._has_proxy or self._must_look():
            answer: dict[str, Any] = await in_thread(functools.partial(self.call, operation, **arguments))
            return answer
        signed = self._signed(operation, arguments)
        status, headers, said = await self._exchange_here(signed, in_thread)
        for _ in range(_RETRIES):
            if status >= 500:
                status, headers, said = await self._exchange_here(signed, in_thread)
        return self._understood(operation, status, headers, said)

    def _must_look(self) -> bool:
        """Whether signing may wait, for a file or for a host's own service that has the credentials."""
        found = self._credentials.found if isinstance(self._credentials, _Later) else self._credentials
        if isinstance(found, RefreshableCredentials):
            return found.refresh_needed()
        return type(found) is not Credentials  # of a kind that we do not know

    def _signed(self, operation: str, arguments: dict[str, Any]) -> bytes:
        headers = {**self._headers, "X-Amz-Target": f"{self._target}.{operation}"}
        body = json.dumps(arguments).encode()
        request = AWSRequest("POST", self._url, data=body, headers=headers)
        # Asked each time: a role's credentials are renewed in here.
        credentials = self._credentials and self._credentials.get_frozen_credentials()
        SigV4Auth(credentials, self._signed_for, self._client.meta.region_name).add_auth(request)
        lines = "".join([f"{name}: {value}\r\n" for name, value in request.headers.items()])
        return f"{self._request_line}{lines}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body

    def _understood(self, operation: str, status: int, headers: dict[str, str], said: bytes) -> dict[str, Any]:
        """Return what an answer means, or raise it."""
        try:
            answered = json.loads(said) if said else {}
        except ValueError:
            answered = None
        if not isinstance(answered, dict):
            if status < 300:
                raise UnreadableAnswer(endpoint_url=self._url, status=status)
            said = b""  # a balancer's own refusal: nothing but its status has a meaning
        elif status < 300:
            return answered
        model = self._client.meta.service_model.operation_model(operation)
        refusal = self._parser.parse({"status_code": status, "headers": headers, "body": said}, model.output_shape)
        error = refusal.get("Error", {})
        kind = self._client.exceptions.from_code(error.get("QueryErrorCode", error.get("Code")))
        raise kind(refusal, operation)

    def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request over a kept connection, or over a new one if the service has closed that meanwhile."""
        while (kept := self._kept()) is not None:
            if kept.is_quiet:
                with suppress(ConnectionClosedError):
                    return self._answer(kept, request)
                break
            kept.close()
        return self._answer(self._connect(), request)

    async def _exchange_here(self, request: bytes, in_thread: InThread) -> tuple[int, dict[str, str], bytes]:
        while (kept := self._kept()) is not None:
            if kept.is_quiet:
                with suppress(ConnectionClosedError), self._turn(kept):
                    return await kept.ask_here(request)
                break
            kept.close()
        connection: Connection = await in_thread(self._connect)
        with self._turn(connection):
            return await connection.ask_here(request)

    def _kept(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _answer(self, connection: Connection, request: bytes) -> tuple[int, dict[str, str], bytes]:
        with self._turn(connection):
            return connection.ask(request)

    @contextmanager
    def _turn(self, connection: Connection) -> Iterator[None]:
        """Keep a connection after its turn, or close it, and call what went wrong as botocore does."""
        try:
            yield
        except TimeoutError as error:
            connection.close()
            raise ReadTimeoutError(endpoint_url=self._url, error=error) from error
        except (OSError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            connection.close()
            raise ConnectionClosedError(endpoint_url=self._url, error=error) from error
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable:
            self._idle.append(connection)
        else:
            connection.close()

    def _connect(self) -> Connection:
        try:
            made = socket.create_connection((self._host, self._port), self._connect_seconds)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                made = self._tls.wrap_socket(made, server_hostname=self._host)
        except ssl.SSLError as error:
            raise SSLError(endpoint_url=self._url, error=error) from error
        except OSError as error:
            raise EndpointConnectionError(endpoint_url=self._url, error=error) from error
        return Connection(made, self._answer_seconds)


class _Later(Credentials):
    """Credentials that nobody had at the start: looked for whenever something is to be signed, until there are some.

    botocore looks once for each client, and a host's own service, or a file that is mounted, may be late.

    Args:
        resolver: who finds them; it finds these where nothing else is found.
    """

    METHOD = "hermes-later"

    def __init__(self, resolver: CredentialResolver) -> None:
        super().__init__("", "", method=self.METHOD)
        self._others = CredentialResolver(list(resolver.providers))
        self._looking = threading.Lock()
        self.found: Any = None
        self._looked_at = time.monotonic()
        providers: list[Any] = resolver.providers
        providers.append(self)

    def load(self) -> Credentials:
        """Be what is found, as botocore asks each of its providers."""
        return self

    def get_frozen_credentials(self) -> Any:
        """Return what there is by now, to sign with.

        Raises:
            NoCredentialsError: there is nothing.
        """
        with self._looking:
            if self.found is None and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
                self.found = self._others.load_credentials()
                self._looked_at = time.monotonic()
        if self.found is None:
            raise NoCredentialsError
        return self.found.get_frozen_credentials()


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
    if core.get_credentials() is None:
        _Later(core.get_component("credential_provider"))
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


def _close(connections: deque[Connection]) -> None:
    while connections:
        connections.pop().close()
