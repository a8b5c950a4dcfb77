"""What an SQS body may be: as the article's Ruby sends it, as anybody else does, and every refusal by its code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.exceptions import MessageRefused
from notifications.intake.envelope import decode, encode
from notifications.stream.message import MAX_ADDRESSEES, Message

MAX_BYTES = 64 * 1024
FIELDS: dict[str, Any] = {"user_id": 42, "room_id": "acme", "data": {"type": "info"}}
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=128)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=15,
)


def read(body: str) -> Message:
    """Decode a body that came with the MessageId ``sqs-1``."""
    return decode(body, "sqs-1", max_bytes=MAX_BYTES)


def body(**fields: Any) -> str:
    """A body that would be accepted, with some fields changed."""
    return json.dumps({**FIELDS, **fields})


def refusal(text: str) -> MessageRefused:
    """Return why a body is refused."""
    with pytest.raises(MessageRefused) as caught:
        read(text)
    return caught.value


def test_a_body_as_the_articles_ruby_sends_it() -> None:
    text = '{"user_id":42,"room_id":7,"data":{"type":"danger","data":"Backup failed"}}'
    assert read(text) == Message(
        id="sqs-1", user_id=42, room_id="7", data='{"type":"danger","data":"Backup failed"}', to=None, expires_at=None
    )


def test_a_body_with_everything() -> None:
    text = body(user_id="alice", to=["alice", 7, "7", "bob"], expires_at=1_900_000_000.9, id=12, else_="ignored")
    message = read(text)
    assert (message.id, message.user_id, message.room_id) == ("12", "alice", "acme")
    assert message.to == ("alice", "7", "bob")
    assert message.expires_at == 1_900_000_000


@pytest.mark.parametrize("name", ["to", "expires_at", "id"])
def test_null_is_as_if_the_field_were_not_there(name: str) -> None:
    assert read(body(**{name: None})) == read(body())


@pytest.mark.parametrize("data", [None, 0, False, "", [], {}])
def test_data_may_be_anything(data: Any) -> None:
    assert json.loads(read(body(data=data)).data) == data


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"', "true"])
def test_what_is_not_an_object_is_refused(text: str) -> None:
    assert refusal(text).code == "not_an_object"


@pytest.mark.parametrize("name", ["user_id", "room_id", "data"])
def test_a_missing_field_is_named(name: str) -> None:
    error = refusal(json.dumps({key: value for key, value in FIELDS.items() if key != name}))
    assert error.code == "missing_field"
    assert name in error.detail


@pytest.mark.parametrize("name", ["user_id", "room_id", "id"])
@pytest.mark.parametrize("value", [True, 1.5, "", "a\nb", "x" * 129, [], {}])
def test_an_id_that_is_none_is_refused_by_its_name(name: str, value: Any) -> None:
    error = refusal(body(**{name: value}))
    assert error.code == "bad_field"
    assert error.detail.startswith(name)


@pytest.mark.parametrize("name", ["user_id", "room_id"])
def test_null_is_no_id(name: str) -> None:
    assert refusal(body(**{name: None})).code == "bad_field"


@pytest.mark.parametrize("to", [[], "alice", {}, 1, False, [True], [None], [""], ["a", 1.0], [["alice"]]])
def test_addressees_must_be_a_list_of_ids_that_is_not_empty(to: Any) -> None:
    assert refusal(body(to=to)).code == "bad_field"


def test_at_most_a_thousand_addressees() -> None:
    assert len(read(body(to=list(range(MAX_ADDRESSEES)))).to or ()) == MAX_ADDRESSEES
    assert "1000" in refusal(body(to=list(range(MAX_ADDRESSEES + 1)))).detail


@pytest.mark.parametrize("expires_at", [True, "1900000000", 0, -1, 2**53, 1e300, [], {}])
def test_an_expiry_that_is_no_time_is_refused(expires_at: Any) -> None:
    assert refusal(body(expires_at=expires_at)).code == "bad_field"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not json", "not_json"),
        ('{"room_id": 1, "room_id": 2}', "duplicate_key"),
        ('{"user_id": 1, "room_id": 1, "data": NaN}', "not_finite"),
        ('{"user_id": 1, "room_id": 1, "data": 1e400}', "not_finite"),
        ('{"user_id": 1, "room_id": 1, "data": "\\ud800"}', "lone_surrogate"),
        ('{"user_id": 1, "room_id": "\\ud800", "data": 1}', "lone_surrogate"),
        ('{"user_id": 1, "room_id": 1, "data": 1, "to": ["\\ud800"]}', "lone_surrogate"),
        ('{"user_id": 1, "room_id": 1, "data": 1, "id": "\\udfff"}', "lone_surrogate"),
        ('{"user_id": 1, "room_id": 1, "data": {"type": "hermes.hello"}}', "reserved_type"),
        ('{"user_id": 1, "room_id": 1, "data": ' + "[" * 60_000, "too_deep"),
    ],
)
def test_what_no_payload_may_be_is_refused_here_too(text: str, code: str) -> None:
    assert refusal(text).code == code


def test_a_depth_of_a_hundred_thousand_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MessageRefused) as caught:
        decode("[" * 100_000, "sqs-1", max_bytes=10**6)
    assert caught.value.code == "too_deep"


def test_the_size_is_counted_in_bytes_and_not_in_characters() -> None:
    text = body(data="é" * 100)
    small = len(json.dumps({**FIELDS, "data": "é" * 100}, ensure_ascii=False))
    assert decode(text, "sqs-1", max_bytes=len(text)).data == '"' + "é" * 100 + '"'
    with pytest.raises(MessageRefused) as caught:
        decode(json.dumps({**FIELDS, "data": "é" * 100}, ensure_ascii=False), "sqs-1", max_bytes=small + 99)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("text", ["x" * (300 * 1024), "\ud800" * (30 * 1024)])
def test_a_body_that_is_too_large_is_refused_whatever_it_holds(text: str) -> None:
    assert refusal(text).code == "too_large"


@settings(deadline=None)  # a laden machine is no mistake
@given(
    user=TEXT | st.integers(-(10**20), 10**20),
    room=TEXT,
    data=JSON,
    to=st.none() | st.lists(TEXT | st.integers(0, 10**20), min_size=1, max_size=4),
    key=st.none() | TEXT,
)
def test_what_is_encoded_is_decoded_as_it_was(
    user: str | int, room: str, data: Any, to: list[str | int] | None, key: str | None
) -> None:
    try:
        message = read(encode(user, room, data, to=to, id=key))
    except (MessageRefused, ValueError):
        return  # what JSON or UTF-8 cannot say, or a forged type
    assert (message.id, message.user_id, message.room_id) == ("sqs-1" if key is None else key, user, room)
    assert json.loads(message.data) == data
    assert message.to == (None if to is None else tuple(dict.fromkeys(map(str, to))))


@settings(deadline=None)
@given(
    st.text(st.characters())
    | JSON.map(json.dumps)
    | st.dictionaries(st.sampled_from([*FIELDS, "to", "id", "expires_at"]), JSON).map(json.dumps)
)
def test_decoding_raises_nothing_but_refusals(text: str) -> None:
    try:
        read(text)
    except MessageRefused as error:
        assert len(str(error)) < 300  # noqa: PT017  it fits a message attribute


@pytest.mark.parametrize("data", [object(), {1, 2}, b"bytes"])
def test_encoding_what_json_cannot_say_is_a_type_error(data: Any) -> None:
    with pytest.raises(TypeError):
        encode(1, "acme", data)


def test_encoding_a_number_that_json_cannot_say_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(1, "acme", float("nan"))


def test_encoding_what_is_nested_too_deep_is_refused() -> None:
    data: Any = []
    for _ in range(100_000):
        data = [data]
    with pytest.raises(MessageRefused, match="too_deep"):
        encode(1, "acme", data)
