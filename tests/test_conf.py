"""Reading the environment: each value typed, each mistake an error that names its variable."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from notifications.conf import Environment, Stage, redis_place
from tests.certificates import make_certificate

MANAGE = Path(__file__).parent.parent / "manage.py"


def env(**variables: str) -> Environment:
    """An environment of these variables and no others."""
    return Environment(variables)


def test_a_text_is_as_it_stands() -> None:
    assert env(NAME=" a value ").text("NAME", "default") == " a value "
    assert env(NAME="").text("NAME", "default") == ""
    assert env().text("NAME", "default") == "default"
    assert env().text("NAME") == ""


def test_a_text_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("of the file é\r\n\n", encoding="utf-8")
    assert env(NAME_FILE=str(file)).text("NAME", "default") == "of the file é"


def test_a_variable_and_its_file_cannot_both_be_set(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="NAME and NAME_FILE are both set"):
        env(NAME="", NAME_FILE=str(tmp_path / "secret")).text("NAME")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfd"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match=f"NAME_FILE='{file}' cannot be read"):
        env(NAME_FILE=str(file)).text("NAME")


@pytest.mark.parametrize(("text", "expected"), [("", 7), ("0", 0), ("12", 12), (" 12 ", 12)])
def test_a_whole_number(text: str, expected: int) -> None:
    assert env(NAME=text).integer("NAME", 7) == expected
    assert env().integer("NAME", 7) == 7


@pytest.mark.parametrize("text", ["x", "1.5", "-1", "4", "11", "9" * 5000])
def test_what_is_no_whole_number_within_bounds_is_an_error(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^NAME=.* must be a whole number from 5 to 10\.$"):
        env(NAME=text).integer("NAME", 7, minimum=5, maximum=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", True),
        ("TRUE", True),
        ("yes", True),
        ("On", True),
        ("0", False),
        ("false", False),
        ("No", False),
        ("off", False),
        ("", True),
    ],
)
def test_a_truth_value(text: str, expected: bool) -> None:
    assert env(NAME=text).boolean("NAME", True) is expected


def test_a_truth_value_that_is_not_set_is_its_default() -> None:
    assert env().boolean("NAME", False) is False


@pytest.mark.parametrize("text", ["x", "2", "ja", " true"])
def test_what_is_neither_true_nor_false_is_an_error(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^NAME='.*' must be true or false\.$"):
        env(NAME=text).boolean("NAME", True)


@pytest.mark.parametrize(("text", "expected"), [("a", ["a"]), (" a , b,,", ["a", "b"]), (",", []), ("", ["default"])])
def test_words(text: str, expected: list[str]) -> None:
    assert env(NAME=text).words("NAME", ["default"]) == expected


def test_a_choice() -> None:
    assert env(NAME="a").choice("NAME", "b", ("a", "b")) == "a"
    assert env().choice("NAME", "b", ("a", "b")) == "b"
    with pytest.raises(ImproperlyConfigured, match=r"^NAME='c' must be one of a, b\.$"):
        env(NAME="c").choice("NAME", "b", ("a", "b"))


@pytest.mark.parametrize(
    "text",
    ["redis://localhost", "redis://user:password@localhost:6379/0", "redis://[::1]:6379", "unix:///run/valkey.sock"],
)
def test_a_url(text: str) -> None:
    assert env(NAME=text).url("NAME", "", ("redis", "unix")) == text


@pytest.mark.parametrize("text", ["sqlite:///a/file", "sqlite://:memory:"])
def test_a_url_of_a_file(text: str) -> None:
    assert env(NAME=text).url("NAME", "", ("sqlite", "postgres")) == text


def test_a_url_that_is_not_set_is_its_default() -> None:
    assert env(NAME="").url("NAME", "redis://here", ("redis",)) == "redis://here"
    assert env().url("NAME", "", ("redis",)) == ""


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "localhost:6379",
        "//localhost",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://localhost:0",
        "redis://localhost:99999",
        "redis://localhost:port",
        "redis://[",
    ],
)
def test_what_is_no_such_url_is_an_error_without_the_value(text: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        env(NAME=text).url("NAME", "", ("redis", "rediss"))
    assert str(caught.value) == "NAME must be a whole URL that begins with redis:// or rediss://."


def test_without_any_variable_there_is_one_stage() -> None:
    assert env().stages() == {"development": Stage("development")}


def test_stages_stand_in_the_order_given() -> None:
    assert list(env(HERMES_STAGES="production, development").stages()) == ["production", "development"]


def test_a_stages_own_variable_wins() -> None:
    stages = env(
        HERMES_STAGES="development,pre-production",
        HERMES_QUEUE_NAME="queue",
        HERMES_QUEUE_NAME_PRE_PRODUCTION="its-queue",
        HERMES_DLQ_NAME="dead",
        HERMES_CONNECTIONS_TABLE="connections",
        HERMES_TOKENS_TABLE="tokens",
        HERMES_TOKENS_TABLE_PRE_PRODUCTION="its-tokens",
        HERMES_AUDIT_TABLE="audit",
        HERMES_JWT_SECRET="secret",
        HERMES_JWT_SECRET_PRE_PRODUCTION="its-secret",
        HERMES_PASSCODE="passcode",
    ).stages()
    common = {"dlq_name": "dead", "connections_table": "connections", "audit_table": "audit", "passcode": "passcode"}
    assert stages == {
        "development": Stage("development", queue_name="queue", tokens_table="tokens", jwt_secret="secret", **common),
        "pre-production": Stage(
            "pre-production", queue_name="its-queue", tokens_table="its-tokens", jwt_secret="its-secret", **common
        ),
    }


def test_a_stages_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the file\n")
    stages = env(HERMES_JWT_SECRET="common", HERMES_JWT_SECRET_DEVELOPMENT_FILE=str(tmp_path / "secret")).stages()
    assert stages["development"].jwt_secret == "of the file"


def test_two_more_secrets_and_passcodes_are_accepted_each_in_a_variable_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "third").write_text("a secret with\na newline, as openssl writes them\n")
    stages = env(
        HERMES_STAGES="development,production",
        HERMES_JWT_SECRET="first",
        HERMES_JWT_SECRET_2="second, with a comma",
        HERMES_JWT_SECRET_3_FILE=str(tmp_path / "third"),
        HERMES_JWT_SECRET_2_PRODUCTION="its second",
        HERMES_JWT_SECRET_3_PRODUCTION="its third",
        HERMES_PASSCODE="first code",
        HERMES_PASSCODE_3="third code",
    ).stages()
    development, production = stages.values()
    third = "a secret with\na newline, as openssl writes them"
    assert development.jwt_secrets == ("first", "second, with a comma", third)
    assert production.jwt_secrets == ("first", "its second", "its third")
    assert development.passcodes == production.passcodes == ("first code", "third code")


def test_a_single_secret_is_all_there_is() -> None:
    (stage,) = env(HERMES_JWT_SECRET="first\nwith, commas", HERMES_JWT_SECRET_2="").stages().values()
    assert stage.jwt_secrets == ("first\nwith, commas",)
    assert stage.passcodes == ()


def test_the_dead_letter_queue_is_named_after_the_queue() -> None:
    def dlq(queue: str) -> str:
        return env(HERMES_QUEUE_NAME=queue).stages()["development"].dlq_name

    assert dlq("orders") == "orders-dead"
    assert dlq("orders.fifo") == "orders-dead.fifo"


@pytest.mark.parametrize("name", ["Production", "1st", "a_b", "a.b", "ä", "x" * 21, "-a", "a b"])
def test_a_stage_that_fits_no_key_group_and_url_is_an_error(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^HERMES_STAGES names '{name}'"):
        env(HERMES_STAGES=name).stages()


@pytest.mark.parametrize("name", ["file", "a-file"])
def test_a_stage_whose_variables_would_name_files_is_an_error(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^HERMES_STAGES names '{name}'"):
        env(HERMES_STAGES=name).stages()
    assert env(HERMES_STAGES="profile").stages()


def test_no_stage_at_all_is_an_error() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^HERMES_STAGES names no stage"):
        env(HERMES_STAGES=" , ").stages()


def test_a_stages_secrets_stand_in_no_repr() -> None:
    text = repr(Stage("development", "q", "d", "c", "t", "a", "hush-1", "hush-2", ("hush-3",), ("hush-4",)))
    assert "hush" not in text


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    """Start a process whose settings read these variables over the tests' own."""
    return subprocess.run(
        [sys.executable, str(MANAGE), "check"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_url_of_sentinels_is_read() -> None:
    place = redis_place("rediss+sentinel://alice:p%40ss@s1,[::1]:26380,10.0.0.3:5000/hermes/2")
    assert place.sentinels == (("s1", 26379), ("::1", 26380), ("10.0.0.3", 5000))
    assert (place.is_tls, place.service, place.database) == (True, "hermes", 2)
    assert (place.username, place.password) == ("alice", "p@ss")
    plain = redis_place("redis+sentinel://s1/hermes")
    assert (plain.is_tls, plain.username, plain.password, plain.database) == (False, None, None, 0)


def test_a_place_shows_no_password() -> None:
    for url in ("redis+sentinel://:the-password@s1/hermes", "redis://:the-password@host/0"):
        assert "the-password" not in repr(redis_place(url))


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://:the-password@",
        "redis+sentinel://:the-password@s1",
        "redis+sentinel://:the-password@s1/",
        "redis+sentinel://:the-password@s1,/hermes",
        "redis+sentinel://:the-password@s1:70000/hermes",
        "redis+sentinel://:the-password@s1:0/hermes",
        "redis+sentinel://:the-password@s1/hermes/one",
        "redis+sentinel://:the-password@s1/hermes?socket_timeout=9",
        "rediss+sentinel://:the-password@s1/hermes?ssl_cert_reqs=none",
        "rediss://:the-password@host/0?ssl_cert_reqs=none",
        "rediss://:the-password@host/0?ssl_check_hostname=false",
        "sentinel://:the-password@s1/hermes",
    ],
)
def test_a_redis_that_cannot_be_or_is_not_verified_is_refused_without_its_password(url: str) -> None:
    schemes = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
    with pytest.raises(ImproperlyConfigured, match=r"^REDIS_URL ") as refused:
        Environment({"REDIS_URL": url}).url("REDIS_URL", "", schemes)
    assert "the-password" not in str(refused.value)


def test_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "authority.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n", encoding="utf-8")
    with pytest.raises(ImproperlyConfigured, match=r"^REDIS_CA_FILE must name a file of certificates"):
        Environment({"REDIS_CA_FILE": str(path)}).certificates("REDIS_CA")
    authority = make_certificate(tmp_path, "server.pem", "server.key")
    variables = {"REDIS_CA_FILE": str(authority)}
    assert Environment(variables).certificates("REDIS_CA").startswith("-----BEGIN CERTIFICATE-----")
    assert Environment({}).certificates("REDIS_CA") == ""


BAD: dict[str, str] = {
    "DJANGO_SECRET_KEY": "",
    "DATABASE_URL": "rubbish",
    "AWS_ENDPOINT_URL": "localhost:4566",
    "REDIS_URL": "http://localhost",
    "HERMES_ALLOWED_ORIGINS": "http://[",
    "HERMES_PUBLIC_URL": "https://hermes.example",
    "HERMES_LOG_LEVEL": "loud",
    "HERMES_WAIT_SECONDS": "21",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_stops_the_process_naming_its_variable(name: str) -> None:
    ended = start(**{name: BAD[name]})
    assert ended.returncode != 0
    assert name in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("origin", ["https://hermes.example/path", "hermes.example", "ws://hermes.example:80"])
def test_an_allowed_origin_must_be_one(origin: str, make_settings: Callable[..., Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^HERMES_ALLOWED_ORIGINS names '{origin}'"):
        make_settings(HERMES_ALLOWED_ORIGINS=origin)


@pytest.fixture
def make_settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that reads the settings' module again with other variables, beside the one in use."""

    def make(**variables: str) -> Any:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        source = (MANAGE.parent / "hermes_site" / "settings.py").read_text(encoding="utf-8")
        module: dict[str, Any] = {"__file__": str(MANAGE.parent / "hermes_site" / "settings.py"), "__name__": "again"}
        exec(compile(source, module["__file__"], "exec"), module)  # noqa: S102  our own file
        return module

    return make


def test_a_development_process_needs_no_secret_key(
    make_settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DJANGO_SECRET_KEY")
    assert make_settings(DJANGO_DEBUG="true")["SECRET_KEY"]
    with pytest.raises(ImproperlyConfigured, match=r"^DJANGO_SECRET_KEY is not set"):
        make_settings(DJANGO_DEBUG="false")


def test_the_proxys_word_on_tls_counts_only_where_it_is_trusted(make_settings: Callable[..., Any]) -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in make_settings()
    trusting = make_settings(HERMES_TRUST_PROXY_TLS="true", HERMES_SECURE_COOKIES="true")
    assert trusting["SECURE_PROXY_SSL_HEADER"] == ("HTTP_X_FORWARDED_PROTO", "https")
    assert trusting["SESSION_COOKIE_SECURE"] is trusting["CSRF_COOKIE_SECURE"] is True


def test_each_database_gets_its_own_deadlines(make_settings: Callable[..., Any]) -> None:
    sqlite = make_settings(DATABASE_URL="sqlite:////tmp/hermes.sqlite3")["DATABASES"]["default"]
    assert sqlite["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    postgres = make_settings(DATABASE_URL="postgres://u:p@localhost/hermes?connect_timeout=9")["DATABASES"]["default"]
    assert postgres["OPTIONS"]["tcp_user_timeout"] == 10_000
    assert int(postgres["OPTIONS"]["connect_timeout"]) == 9
