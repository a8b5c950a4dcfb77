"""Django settings, one section per stop on a notification's way and in its order; docs/settings.md explains each.

Every value comes from the environment, is read once, and stops the process at once, naming its variable, when it
is not understood. What can only be judged together (missing secrets, stages that share a queue) is judged by
`notifications.checks`.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path

import environ
from django.core.exceptions import ImproperlyConfigured

from hermes_site.admin_look import UNFOLD  # noqa: F401  read by unfold from here
from notifications.access.origins import parse_origin
from notifications.conf import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"
env = Environment(os.environ)

# ── Django ───────────────────────────────────────────────────────────────────────────────────────────────────────────
DEBUG = env.boolean("DJANGO_DEBUG", False)
SECRET_KEY = env.text("DJANGO_SECRET_KEY", "development-only-" * 4 if DEBUG else "")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "DJANGO_SECRET_KEY is not set: give it 50 random characters, "
        "or start with `make run`, which makes a development environment."
    )
ALLOWED_HOSTS = env.words("DJANGO_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.words("DJANGO_CSRF_TRUSTED_ORIGINS", [])

INSTALLED_APPS = [
    "unfold",  # before django.contrib.admin, whose templates it restyles
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "notifications",  # before staticfiles, whose `runserver` speaks no WebSocket
    "django.contrib.staticfiles",
    "channels",
]
MIDDLEWARE = [
    "hermes_site.request_ids.request_ids",  # before all others, whose lines and responses have the id as well
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "hermes_site.urls"
ASGI_APPLICATION = "hermes_site.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in/"
SESSION_COOKIE_HTTPONLY = True
# Pages served over TLS set this; on plain http a secure cookie would sign nobody in.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.boolean("HERMES_SECURE_COOKIES", False)
if env.boolean("HERMES_TRUST_PROXY_TLS", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "/static/"
# Without hashed names nothing is collected, and WhiteNoise would warn of a directory that is not there.
STATIC_ROOT = VAR_DIR / "static" if env.boolean("HERMES_HASHED_STATIC", False) else None
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # A plain `collectstatic` gives hashed names; without it (development, tests) the finders serve the sources.
    "staticfiles": {
        "BACKEND": "hermes_site.storage.HashedModulesStorage"
        if env.boolean("HERMES_HASHED_STATIC", False)
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not env.boolean("HERMES_HASHED_STATIC", False)

# ── The database: rooms, members, who is connected ───────────────────────────────────────────────────────────────────
_DATABASE_URL = env.url(
    "DATABASE_URL", f"sqlite:///{VAR_DIR / 'hermes.sqlite3'}", ("sqlite", "postgres", "postgresql", "pgsql", "psql")
)
DATABASES = {"default": environ.Env.db_url_config(_DATABASE_URL)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Several processes write: readers must not block the writer (WAL), a writer takes its lock when it begins
    # (IMMEDIATE; a lock taken in the middle fails at once, whatever the timeout), and it waits for its turn.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
else:
    # A database host that vanished must fail in seconds: the kernel's own patience is a quarter of an hour to two
    # hours, and the registry's one thread, a page, or the end of a process would wait for it.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "options": "-c lock_timeout=10000",
        **DATABASES["default"].get("OPTIONS", {}),
    }

# ── Stages ───────────────────────────────────────────────────────────────────────────────────────────────────────────
HERMES_STAGES = env.stages()

# ── Intake: from SQS ─────────────────────────────────────────────────────────────────────────────────────────────────
AWS_ENDPOINT_URL = env.url("AWS_ENDPOINT_URL", "", ("http", "https")) or None
AWS_REGION = env.text("AWS_REGION") or env.text("AWS_DEFAULT_REGION") or "eu-west-1"
HERMES_MESSAGE_MAX_BYTES = env.integer("HERMES_MESSAGE_MAX_BYTES", 64 * 1024, minimum=1024, maximum=1024 * 1024)
# Stopping the relay takes as long as a poll; an idle poller at 5 s costs some 0.20 dollars a month.
HERMES_WAIT_SECONDS = env.integer("HERMES_WAIT_SECONDS", 5, minimum=1, maximum=20)
HERMES_VISIBILITY_SECONDS = env.integer("HERMES_VISIBILITY_SECONDS", 60, minimum=10, maximum=43_200)
HERMES_MAX_RECEIVES = env.integer("HERMES_MAX_RECEIVES", 10, minimum=1, maximum=1000)

# ── Stream: a room's history, in Redis ───────────────────────────────────────────────────────────────────────────────
REDIS_URL = env.url(
    "REDIS_URL", "redis://127.0.0.1:6379/0", ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
)
REDIS_CA = env.certificates("REDIS_CA")
REDIS_SENTINEL_USER = env.text("REDIS_SENTINEL_USER")
REDIS_SENTINEL_PASSWORD = env.text("REDIS_SENTINEL_PASSWORD")
HERMES_HISTORY_ENTRIES = env.integer("HERMES_HISTORY_ENTRIES", 1000, minimum=1, maximum=100_000)
HERMES_HISTORY_SECONDS = env.integer("HERMES_HISTORY_SECONDS", 24 * 3600, minimum=1)
HERMES_IDEMPOTENCY_SECONDS = env.integer("HERMES_IDEMPOTENCY_SECONDS", 3600, minimum=60)
HERMES_DURABILITY = env.choice("HERMES_DURABILITY", "memory", ("memory", "replica", "fsync"))
HERMES_DURABILITY_SECONDS = env.integer("HERMES_DURABILITY_SECONDS", 2, minimum=1, maximum=60)
HERMES_REPLICAS = env.integer("HERMES_REPLICAS", 1, minimum=1)
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "notifications.stream.hint_layer.HintLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": REDIS_URL,
                    # A dead Redis must fail a publish in seconds, not hang it: the entry is in the history by then.
                    "socket_connect_timeout": 2,
                    "socket_timeout": 5,
                    "health_check_interval": 10,
                }
            ],
            "prefix": "hermes.",
        },
    }
}

# ── Sockets: from the history to browsers ────────────────────────────────────────────────────────────────────────────
HERMES_PING_SECONDS = env.integer("HERMES_PING_SECONDS", 25, minimum=1, maximum=3600)
HERMES_FOLLOW_SECONDS = env.integer("HERMES_FOLLOW_SECONDS", 1, minimum=1, maximum=60)
HERMES_REPLAY_ENTRIES = env.integer("HERMES_REPLAY_ENTRIES", 1000, minimum=1, maximum=100_000)
HERMES_REPLAY_BYTES = env.integer("HERMES_REPLAY_BYTES", 1024 * 1024, minimum=1024)
HERMES_QUEUE_FRAMES = env.integer("HERMES_QUEUE_FRAMES", 512, minimum=16)
HERMES_QUEUE_BYTES = env.integer("HERMES_QUEUE_BYTES", 1024 * 1024, minimum=65_536)
HERMES_CONNECTIONS_PER_USER = env.integer("HERMES_CONNECTIONS_PER_USER", 20, minimum=1)
# Whose X-Forwarded-For is believed: addresses or networks of proxies, or "direct" where clients connect themselves.
HERMES_TRUSTED_PROXIES = env.words("HERMES_TRUSTED_PROXIES", [])
if HERMES_TRUSTED_PROXIES != ["direct"]:
    for _proxy in HERMES_TRUSTED_PROXIES:
        try:
            ipaddress.ip_network(_proxy)
        except ValueError as _error:
            raise ImproperlyConfigured(
                f"HERMES_TRUSTED_PROXIES names {_proxy!r}: it lists addresses or networks (10.0.0.0/8), or is just "
                f"'direct' where no proxy is in front ({_error})."
            ) from _error
HERMES_CONNECTIONS_PER_ADDRESS = env.integer("HERMES_CONNECTIONS_PER_ADDRESS", 0, minimum=0)
HERMES_CLIENT_SEND = env.boolean("HERMES_CLIENT_SEND", True)
HERMES_CLIENT_RATE = env.integer("HERMES_CLIENT_RATE", 10, minimum=1)
HERMES_CLIENT_BURST = env.integer("HERMES_CLIENT_BURST", 20, minimum=1)
HERMES_FRAME_MAX_BYTES = env.integer("HERMES_FRAME_MAX_BYTES", 64 * 1024, minimum=1024, maximum=1024 * 1024)

# ── Access: who may join ─────────────────────────────────────────────────────────────────────────────────────────────
HERMES_ALLOWED_ORIGINS = env.words("HERMES_ALLOWED_ORIGINS", ["http://localhost:8000", "http://127.0.0.1:8000"])
for _origin in HERMES_ALLOWED_ORIGINS:
    if not _origin.startswith(("http://", "https://")) or parse_origin(_origin) is None:
        raise ImproperlyConfigured(
            f"HERMES_ALLOWED_ORIGINS names {_origin!r}: an origin is scheme://host[:port] and nothing after it."
        )
HERMES_TOKEN_TTL = env.integer("HERMES_TOKEN_TTL", 3600, minimum=60)
HERMES_TOKEN_MAX_TTL = env.integer("HERMES_TOKEN_MAX_TTL", 24 * 3600, minimum=60)
HERMES_ACCEPT_SHORT_SECRETS = env.boolean("HERMES_ACCEPT_SHORT_SECRETS", False)
HERMES_PUBLIC_URL = env.url("HERMES_PUBLIC_URL", "", ("ws", "wss"))

# ── Registry: who is here ────────────────────────────────────────────────────────────────────────────────────────────
HERMES_LEASE_SECONDS = env.integer("HERMES_LEASE_SECONDS", 30, minimum=3, maximum=300)
HERMES_AUDIT_DAYS = env.integer("HERMES_AUDIT_DAYS", 90, minimum=1)
HERMES_CLOSED_ROWS_DAYS = env.integer("HERMES_CLOSED_ROWS_DAYS", 30, minimum=1)
HERMES_CLOSED_PENDING = env.integer("HERMES_CLOSED_PENDING", 200_000, minimum=100)

# ── Health and the admin ─────────────────────────────────────────────────────────────────────────────────────────────
HERMES_METRICS_TOKEN = env.text("HERMES_METRICS_TOKEN")
# Two ports, because a host's server and its relay read the same environment.
HERMES_METRICS_HOST = env.text("HERMES_METRICS_HOST", "127.0.0.1")
HERMES_METRICS_PORT = env.integer("HERMES_METRICS_PORT", 0, maximum=65535)
HERMES_RELAY_METRICS_PORT = env.integer("HERMES_RELAY_METRICS_PORT", 0, maximum=65535)

# ── Logs: one line an event; no token, secret or payload ─────────────────────────────────────────────────────────────
HERMES_LOG_FORMAT = env.choice("HERMES_LOG_FORMAT", "human", ("human", "json"))
HERMES_LOG_LEVEL = env.choice("HERMES_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "request": {"()": "hermes_site.request_ids.AddRequestId"},
        "brief": {"()": "hermes_site.brief_log.BriefBadRequests"},
        "redact": {"()": "notifications.access.redaction.RedactTokens"},
    },
    "formatters": {
        "human": {
            "()": "hermes_site.human_log.HumanFormatter",
            "format": "{asctime} {levelname:<7} {name}: {message}",
            "style": "{",
        },
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "format": "{asctime}{levelname}{name}{message}",
            "style": "{",
        },
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": HERMES_LOG_FORMAT,
            "filters": ["request", "brief", "redact"],
        },
    },
    "root": {"handlers": ["stderr"], "level": HERMES_LOG_LEVEL},
    "loggers": {
        # These bring handlers of their own, which would log a WebSocket's query string, and with it its token.
        name: {"handlers": [], "propagate": True}
        for name in ("django", "django.server", "django.channels.server", "daphne", "uvicorn.access")
    }
    | {
        "uvicorn.error": {"level": "WARNING"},  # three lines a connection, and none of them ours
        "channels_redis": {
            "level": "CRITICAL"
        },  # a traceback at each attempt while Redis is down; the hub says it once
        "botocore": {"level": "WARNING"},  # where it found its credentials, for every client
    },
}
