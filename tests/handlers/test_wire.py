"""JSON in, JSON out, error -> status."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import errors
from handlers import wire
from handlers.wire import HttpError, Request


def every_error(root: type[errors.ClassifierError]) -> list[type[errors.ClassifierError]]:
    found = [root]
    for child in root.__subclasses__():
        found += every_error(child)
    return found


@pytest.mark.parametrize("kind", every_error(errors.ClassifierError)[1:])
def test_every_error_has_a_status(kind: type[errors.ClassifierError]) -> None:
    if kind is not errors.Overloaded:  # never raised itself
        status = wire.status_of(kind("x"))
        assert 400 <= status < 600


def test_codes_are_unique_and_drawn_in_the_tree() -> None:
    kinds = every_error(errors.ClassifierError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert errors.__doc__ is not None
    assert all(kind.__name__ in errors.__doc__ for kind in kinds)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_whatever_is_json_is_read_as_it_is(value: object) -> None:
    text = json.dumps(value, allow_nan=False)
    assert wire.parse_json(text.encode()) == json.loads(text)


@given(st.binary())
def test_any_bytes_are_json_or_a_400(body: bytes) -> None:
    try:
        value = wire.parse_json(body)
    except HttpError as error:
        assert error.status == 400
    else:
        json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("depth", [1, wire.MAX_DEPTH])
def test_nesting_up_to_the_bound_is_read(depth: int) -> None:
    body = b"[" * depth + b"]" * depth
    assert json.dumps(wire.parse_json(body)).encode() == body


@pytest.mark.parametrize("depth", [wire.MAX_DEPTH + 1, 5_000])
def test_deeper_nesting_is_refused(depth: int) -> None:
    with pytest.raises(HttpError, match="nests deeper"):
        wire.parse_json(b"[" * depth + b"]" * depth)


def test_brackets_in_strings_are_no_nesting() -> None:
    assert wire.parse_json(json.dumps(['["', "{" * 100, "\\", '\\"[' * 50]).encode())


def test_the_largest_hostile_bodies_are_refused_without_backtracking() -> None:
    for body in (b'"' + b'\\"' * 499_000, b'"\\' * 499_000, b"[" * 40 + b'"' * 900_000):
        with pytest.raises(HttpError):
            wire.parse_json(body)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; profile=x",
    ],
)
def test_json_in_utf8_is_taken(content_type: str) -> None:
    request = Request("POST", "/predict", {"content-type": content_type}, b'{"text": "a"}')
    assert wire.decode(request, wire.PredictRequest).text == "a"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/json", "application/jsonp", "application/json; charset=utf-16", ";", "a, b"],
)
def test_other_types_are_refused(content_type: str) -> None:
    request = Request("POST", "/predict", {"content-type": content_type}, b'{"text": "a"}')
    with pytest.raises(HttpError) as caught:
        wire.decode(request, wire.PredictRequest)
    assert caught.value.status == 415
