"""What a message may be: every refusal by its code, and nothing but refusals, whatever the text."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.exceptions import MessageRefused
from notifications.stream.message import (
    MAX_DEPTH,
    MAX_IDENTIFIER,
    check_depth,
    encode_data,
    identifier,
    load_json,
    require_unicode,
)

# What JSON can say: text without lone surrogates, finite numbers.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(), children, max_size=5),
    max_leaves=20,
)


def refusal(text: str) -> MessageRefused:
    """Return why a text is refused."""
    with pytest.raises(MessageRefused) as caught:
        load_json(text)
    return caught.value


@pytest.mark.parametrize("text", ["", " ", "hello", "{", "[1,]", "{'a': 1}", "[]]", "01", '"\n"', "\ufeff{}", "{} {}"])
def test_what_is_not_json_is_refused(text: str) -> None:
    assert refusal(text).code == "not_json"


def test_the_refusal_says_where_and_fits_queue_and_browser_alike() -> None:
    assert refusal("[1,]").detail.startswith("This is not JSON: ")
    assert "character 3" in refusal("[1,]").detail


def test_the_refusal_holds_nothing_of_the_payload() -> None:
    assert "secret" not in str(refusal('{"key": secret'))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": 1, "\\u0061": 2}', '[{"deep": {"a": 1, "a": 1}}]'])
def test_a_repeated_key_is_refused_at_any_depth(text: str) -> None:
    assert refusal(text).code == "duplicate_key"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "[NaN]", "1e400", "-1e400", '{"a": 1E+999}'])
def test_a_number_that_is_not_finite_is_refused(text: str) -> None:
    assert refusal(text).code == "not_finite"


def test_a_number_too_small_to_tell_from_zero_is_zero() -> None:
    assert load_json("1e-400") == 0


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, f'{{"a": [{"1" * 5000}]}}'])
def test_a_whole_number_of_five_thousand_digits_is_refused(text: str) -> None:
    assert refusal(text).code == "number_too_long"


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 100_000])
def test_nesting_deeper_than_32_is_refused(opening: str, depth: int) -> None:
    assert refusal(opening * depth).code == "too_deep"


def test_nesting_of_32_is_let_in() -> None:
    value = load_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == []


def test_siblings_add_nothing_to_the_depth() -> None:
    check_depth("[" + ",".join(["[{}]"] * 100) + "]")


@pytest.mark.parametrize("text", ['"' + "[" * 100 + '"', '"\\"' + "[" * 100 + '"', '"' + "{" * 100])
def test_brackets_inside_a_string_are_no_nesting(text: str) -> None:
    check_depth(text)


def test_brackets_after_a_string_that_ends_in_a_backslash_count() -> None:
    with pytest.raises(MessageRefused):
        check_depth('"\\\\"' + "[" * (MAX_DEPTH + 1))


def test_closing_brackets_first_do_not_pay_for_opening_ones_later() -> None:
    assert refusal("]" * 100_000 + "[" * 100_000).code == "not_json"


@pytest.mark.parametrize(
    "unit", ['"', '\\"', "\\", '"\\', '""', '"\\"', "[]", "[", '"a', '"[', "\\u"], ids=lambda unit: repr(unit)
)
def test_looking_for_depth_takes_time_linear_in_the_text(unit: str) -> None:
    def seconds(size: int) -> float:
        text, best = unit * (size // len(unit)), float("inf")
        for _ in range(5):  # the best of five, by this thread's own clock: the machine has other work as well
            begun = time.thread_time()
            with contextlib.suppress(MessageRefused):
                check_depth(text)
            best = min(best, time.thread_time() - begun)
        return best

    assert seconds(256 * 1024) < 8 * seconds(64 * 1024) + 0.001, "four times the text; a quadratic scan takes 16 times"


@pytest.mark.parametrize(
    "data", ["\ud800", {"\udfff": 1}, ["a", {"b": "\ud83d"}], load_json('"\\ud83d"'), load_json('{"\\ude00": 0}')]
)
def test_a_lone_surrogate_is_refused_in_keys_and_values(data: Any) -> None:
    with pytest.raises(MessageRefused) as caught:
        encode_data(data)
    assert caught.value.code == "lone_surrogate"


def test_an_escaped_pair_is_one_character() -> None:
    assert encode_data(load_json('"\\ud83d\\ude00"')) == '"😀"'
    require_unicode("😀")


@pytest.mark.parametrize("kind", ["hermes.", "hermes.hello", "hermes.anything"])
def test_a_reserved_type_is_refused(kind: str) -> None:
    with pytest.raises(MessageRefused) as caught:
        encode_data({"type": kind})
    assert caught.value.code == "reserved_type"


@pytest.mark.parametrize(
    "data", [{"type": "hermes"}, {"type": "Hermes.x"}, {"type": 1}, {"data": {"type": "hermes.x"}}, "hermes.x", None]
)
def test_what_no_client_takes_for_a_control_frame_is_let_in(data: Any) -> None:
    assert json.loads(encode_data(data)) == data


@settings(deadline=None)  # a laden machine is no mistake
@given(JSON)
def test_what_json_can_say_comes_back_as_it_was(data: Any) -> None:
    try:
        text = encode_data(data)
    except MessageRefused as error:
        assert error.code == "reserved_type"  # noqa: PT017  whether it is refused is the generator's to decide
        return
    assert load_json(text) == data
    text.encode()


@settings(deadline=None)  # a laden machine is no mistake
@given(st.text(alphabet='[]{}":,\\0123456789.eE+-aunltrfsN \n\ud800') | st.text())
def test_any_text_is_a_value_or_a_refusal(text: str) -> None:
    try:
        load_json(text)
    except MessageRefused as error:
        assert error.code in {"not_json", "too_deep", "duplicate_key", "not_finite", "number_too_long"}  # noqa: PT017


@pytest.mark.parametrize(
    ("value", "expected"), [("acme", "acme"), (42, "42"), (-1, "-1"), (0, "0"), ("Größe 😀", "Größe 😀"), (" ", " ")]
)
def test_an_id_is_compared_as_a_string(value: Any, expected: str) -> None:
    assert identifier(value, "room_id") == expected


@pytest.mark.parametrize("value", [None, True, False, 1.0, [], {}, b"acme"])
def test_an_id_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(MessageRefused, match=r"^bad_field: room_id must be a string or a whole number"):
        identifier(value, "room_id")


@pytest.mark.parametrize("value", ["", "x" * (MAX_IDENTIFIER + 1), 10**MAX_IDENTIFIER])
def test_an_id_that_is_empty_or_too_long_is_refused(value: Any) -> None:
    with pytest.raises(MessageRefused, match=r"^bad_field: id must have 1 to 128 characters"):
        identifier(value, "id")


def test_an_id_of_128_characters_is_let_in() -> None:
    assert identifier("😀" * MAX_IDENTIFIER, "id") == "😀" * MAX_IDENTIFIER


@pytest.mark.parametrize("character", ["\x00", "\n", "\r", "\t", "\x1f", "\x7f"])
def test_an_id_with_a_control_character_is_refused(character: str) -> None:
    with pytest.raises(MessageRefused, match=r"^bad_field: id holds a control character"):
        identifier(f"a{character}b", "id")


def test_an_id_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(MessageRefused) as caught:
        identifier("a\ud800", "id")
    assert caught.value.code == "lone_surrogate"
