"""Configuration: the environment's text becomes typed values once. Called by hermes_site.settings; read by every room.

Pure but for reading the environment and the files that ``NAME_FILE`` variables point at.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# A stage is part of Redis keys, of channel-layer group names (< 100 ASCII characters) and of URLs.
STAGE_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}\Z")
# What is accepted beside the first secret: a rotation has an old and a new one, and another may begin before it ends.
ACCEPTED = (2, 3)


@dataclass(frozen=True, slots=True)
class Stage:
    """One environment of the service: rooms, queues, tables and secrets never cross it.

    Secrets never appear in a repr, so that they reach no log. ``jwt_secret`` signs and ``passcode`` makes digests;
    the others are accepted beside them, so that either can be rotated while members stay.
    """

    name: str
    queue_name: str = "hermes-messageQueue"
    dlq_name: str = "hermes-messageQueue-dead"
    connections_table: str = "hermesConnections"
    tokens_table: str = "hermesTokens"
    audit_table: str = "hermesAudit"
    jwt_secret: str = field(default="", repr=False)
    passcode: str = field(default="", repr=False)
    other_jwt_secrets: tuple[str, ...] = field(default=(), repr=False)
    other_passcodes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def jwt_secrets(self) -> tuple[str, ...]:
        """Every secret whose signature counts, the one that signs first; without empty ones, which anybody has."""
        return tuple(filter(None, (self.jwt_secret, *self.other_jwt_secrets)))

    @property
    def passcodes(self) -> tuple[str, ...]:
        """Every passcode whose digests count, the one that makes them first; without empty ones."""
        return tuple(filter(None, (self.passcode, *self.other_passcodes)))


SENTINEL_PORT = 26379
_SENTINEL = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:,@/]+)(?::([0-9]{1,5}))?\Z")
_SENTINEL_URL = "redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/database]"


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """Where Redis is: one server, or the primary of a service that sentinels watch.

    ``sentinels`` are hosts and ports, and there is none where ``url`` itself leads to the server; ``service`` is what
    they call it. ``username``, ``password`` and ``database`` are the server's, and read of sentinels' URLs alone.
    """

    url: str = field(repr=False)
    is_tls: bool
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0


def redis_place(url: str, name: str = "REDIS_URL") -> RedisPlace:
    """Read a Redis URL: ``redis``, ``rediss``, ``unix``, or one of them ``+sentinel``.

    Args:
        url: the text.
        name: the variable it comes from, for the errors.

    Raises:
        ImproperlyConfigured: it is none; the message leaves the value out, which may hold a password.
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    loose = sorted({"ssl_cert_reqs", "ssl_check_hostname"} & set(parse_qs(query)))
    if loose:
        raise ImproperlyConfigured(
            f"{name} sets {' and '.join(loose)}: Redis's certificate is always verified. Leave that out, and let "
            "REDIS_CA_FILE name the certificate of your own authority."
        )
    if scheme not in {"redis+sentinel", "rediss+sentinel"}:
        return RedisPlace(url, scheme == "rediss")
    authority, _, path = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    username, _, password = credentials.partition(":")
    found = [_SENTINEL.match(host.strip()) for host in hosts.split(",")]
    service, _, database = path.strip("/").partition("/")
    sentinels = tuple(
        (match[1].strip("[]"), int(match[2] or SENTINEL_PORT))
        for match in found
        if match and 0 < int(match[2] or SENTINEL_PORT) < 2**16
    )
    if len(sentinels) < len(found) or not service or not (database or "0").isdecimal() or query:
        raise ImproperlyConfigured(f"{name} is no whole URL of sentinels: it must look like {_SENTINEL_URL}.")
    return RedisPlace(
        url,
        scheme == "rediss+sentinel",
        sentinels,
        unquote(service),
        unquote(username) or None,
        unquote(password) or None,
        int(database or 0),
    )


class Environment:
    """Typed access to environment variables; every error names the variable and says what to do.

    Args:
        variables: usually ``os.environ``.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str = "") -> str:
        """Return the variable's value; ``NAME_FILE`` names a file to read it from (trailing newline dropped).

        Raises:
            ImproperlyConfigured: both are set, or the file cannot be read.
        """
        value, path = self._variables.get(name), self._variables.get(f"{name}_FILE")
        if value is not None and path is not None:
            raise ImproperlyConfigured(f"{name} and {name}_FILE are both set: keep one of them.")
        if path is not None:
            try:
                return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise ImproperlyConfigured(f"{name}_FILE={path!r} cannot be read: {error}.") from error
        return default if value is None else value

    def integer(self, name: str, default: int, *, minimum: int = 0, maximum: int = 2**53) -> int:
        """Return the variable as a whole number within bounds.

        Raises:
            ImproperlyConfigured: it is no whole number, or out of bounds.
        """
        text = self.text(name)
        if not text:
            return default
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            raise ImproperlyConfigured(f"{name}={text!r} must be a whole number from {minimum} to {maximum}.")
        return number

    def boolean(self, name: str, default: bool) -> bool:
        """Return the variable as a truth value: 1, true, yes, on; or 0, false, no, off.

        Raises:
            ImproperlyConfigured: it is something else.
        """
        text = self.text(name).lower()
        if not text:
            return default
        if text in {"1", "true", "yes", "on"}:
            return True
        if text in {"0", "false", "no", "off"}:
            return False
        raise ImproperlyConfigured(f"{name}={text!r} must be true or false.")

    def words(self, name: str, default: list[str]) -> list[str]:
        """Return a comma-separated variable as a list without blanks."""
        text = self.text(name)
        return [word.strip() for word in text.split(",") if word.strip()] if text else default

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return the variable if it is one of ``choices``.

        Raises:
            ImproperlyConfigured: it is none of them.
        """
        text = self.text(name, default)
        if text not in choices:
            raise ImproperlyConfigured(f"{name}={text!r} must be one of {', '.join(choices)}.")
        return text

    def url(self, name: str, default: str, schemes: tuple[str, ...]) -> str:
        """Return the variable as a URL of one of ``schemes``; empty where variable and default are.

        Raises:
            ImproperlyConfigured: it is none; the message leaves the value out, which may hold a password.
        """
        text = self.text(name) or default
        if not text:
            return ""
        scheme = text.partition("://")[0]
        if scheme in schemes and scheme.startswith("redis"):
            place = redis_place(text, name)
            if place.sentinels:  # several hosts are no URL's that urlsplit knows
                return text
        try:
            parts = urlsplit(text)
            # Of a file or a Unix socket the path is all there is.
            valid = parts.scheme in schemes and (parts.scheme in {"sqlite", "unix"} or bool(parts.hostname))
            if parts.scheme != "sqlite":  # sqlite://:memory: has no port
                valid = valid and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise ImproperlyConfigured(
                f"{name} must be a whole URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}."
            )
        return text

    def certificates(self, name: str) -> str:
        """Return the variable, usually read from ``NAME_FILE``, as certificates in PEM; empty where it is not set.

        Raises:
            ImproperlyConfigured: it holds none.
        """
        text = self.text(name)
        if not text:
            return ""
        try:
            ssl.create_default_context(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            raise ImproperlyConfigured(
                f"{name}_FILE must name a file of certificates in PEM (-----BEGIN CERTIFICATE-----): {error}."
            ) from error
        return text

    def stages(self) -> dict[str, Stage]:
        """Read ``HERMES_STAGES`` and each stage's settings; a variable with the suffix ``_<STAGE>`` wins.

        Returns:
            The stages by name, in the order given; pages get tokens for the first.

        Raises:
            ImproperlyConfigured: there is none, or a stage's name cannot be part of a key, a group name and a URL.
        """
        names = self.words("HERMES_STAGES", ["development"])
        if not names:
            raise ImproperlyConfigured("HERMES_STAGES names no stage: leave it out, or name one.")
        return {name: self._stage(name) for name in names}

    def _stage(self, name: str) -> Stage:
        if not STAGE_NAME.match(name):
            raise ImproperlyConfigured(
                f"HERMES_STAGES names {name!r}: a stage is at most 20 of a-z, 0-9 and '-', beginning with a letter."
            )
        if f"-{name}".endswith("-file"):
            raise ImproperlyConfigured(
                f"HERMES_STAGES names {name!r}: its variables would end in _FILE, which names files. Rename it."
            )
        suffix = name.upper().replace("-", "_")

        def read(variable: str, default: str = "") -> str:
            return self.text(f"{variable}_{suffix}") or self.text(variable, default)

        def others(variable: str) -> tuple[str, ...]:
            # A variable for each and no separator, which some secret might hold (`openssl rand -base64 64` makes two
            # lines). No stage's suffix can be a digit, so that no stage's own secret has one of these names.
            return tuple(filter(None, (read(f"{variable}_{number}") for number in ACCEPTED)))

        queue = read("HERMES_QUEUE_NAME", "hermes-messageQueue")
        return Stage(
            name=name,
            queue_name=queue,
            # A FIFO queue's dead-letter queue must be FIFO too, and its name must say so.
            dlq_name=read("HERMES_DLQ_NAME", queue.removesuffix(".fifo") + "-dead" + ".fifo" * queue.endswith(".fifo")),
            connections_table=read("HERMES_CONNECTIONS_TABLE", "hermesConnections"),
            tokens_table=read("HERMES_TOKENS_TABLE", "hermesTokens"),
            audit_table=read("HERMES_AUDIT_TABLE", "hermesAudit"),
            jwt_secret=read("HERMES_JWT_SECRET"),
            passcode=read("HERMES_PASSCODE"),
            other_jwt_secrets=others("HERMES_JWT_SECRET"),
            other_passcodes=others("HERMES_PASSCODE"),
        )
