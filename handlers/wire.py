"""The JSON of requests and answers, and error -> HTTP status: one truth for both clouds.

May import: msgspec, `core.errors`, the standard library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from core.errors import (
    ClassifierError,
    DeadlineExceeded,
    InferenceFailed,
    InputUnreadable,
    InvalidInput,
    ModelUnavailable,
    QueueFull,
    SettingsError,
)

# The least of the front ends' caps (a load balancer's 1 MB): both clouds refuse the same.
MAX_BODY_BYTES = 1_000_000
MAX_TEXTS = 256
# No request needs more than 2; a fixed bound refuses the same bodies whatever the stack's depth is.
MAX_DEPTH = 32

JSON = "application/json"
PROBLEM = "application/problem+json"
RETRY_AFTER_S = "1"

# An error's nearest class in this table decides its status. 500 answers get a fixed body.
STATUS: dict[type[ClassifierError], HTTPStatus] = {
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineExceeded: HTTPStatus.SERVICE_UNAVAILABLE,
    ModelUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    InferenceFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    InputUnreadable: HTTPStatus.INTERNAL_SERVER_ERROR,
    SettingsError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class Request(msgspec.Struct, frozen=True):
    """An HTTP request as the routes see it: header names in lower case, the path decoded.

    `body` is None when it could not be read to its end. `timeout_s` is the time that the platform
    leaves for the answer, where it tells one.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout_s: float | None = None


class Response(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes


class PredictRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    truncate: bool = True


class BatchRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    texts: Annotated[list[str], msgspec.Meta(min_length=1, max_length=MAX_TEXTS)]
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    truncate: bool = True


class HttpError(Exception):
    """A request that is refused for its HTTP or JSON, before any text is looked at."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


Shape = TypeVar("Shape", PredictRequest, BatchRequest)


def decode(request: Request, shape: type[Shape]) -> Shape:
    """The request's body as `shape`.

    Raises `HttpError`: 413 for a body over `MAX_BODY_BYTES`, 415 unless its type is JSON in UTF-8,
    400 when it is not JSON (RFC 8259, names unique, no lone surrogates), 422 when a field is wrong.
    """
    if request.body is None:
        _malformed("the body could not be read to its end")
    if len(request.body) > MAX_BODY_BYTES:
        raise HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body_too_large",
            f"the body is larger than {MAX_BODY_BYTES:,} bytes; send fewer or shorter texts",
        )
    _check_content_type(request.headers.get("content-type", ""))
    try:
        return msgspec.convert(parse_json(request.body), shape)
    except msgspec.ValidationError as error:
        raise HttpError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_field", str(error)) from error


def parse_json(body: bytes) -> Any:
    """Raises `HttpError` 400 saying what makes `body` no JSON."""
    if not body:
        _malformed('the body is empty; send {"text": "…"}')
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        _malformed(f"the body is not UTF-8 at byte {error.start}", error)
    if text.startswith("\ufeff"):
        _malformed("the body starts with a byte-order mark")
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        _malformed("a string holds a lone surrogate", error)
    except ValueError as error:
        _malformed(f"the body is not JSON: {error}", error)
    return value


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def problem(error: ClassifierError | HttpError) -> Response:
    """The error as `application/problem+json` (RFC 9457) with a stable `code`."""
    if isinstance(error, HttpError):
        return _problem(error.status, error.code, str(error), error.headers)
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return internal_error()
    headers = {"Retry-After": RETRY_AFTER_S} if status in (429, 503) else {}
    return _problem(status, error.code, str(error), headers)


def status_of(error: ClassifierError) -> HTTPStatus:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def internal_error() -> Response:
    return _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "something went wrong here; the log has it under this answer's X-Request-Id",
        {},
    )


def _problem(status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str]) -> Response:
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "code": code,
        "detail": detail,
    }
    return Response(status.value, {"Content-Type": PROBLEM, **headers}, encode(body))


def _malformed(detail: str, cause: Exception | None = None) -> NoReturn:
    raise HttpError(HTTPStatus.BAD_REQUEST, "malformed_json", detail) from cause


def _check_content_type(value: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in value.split(";"))
    charsets = [p.removeprefix("charset=") for p in parameters if p.startswith("charset=")]
    if media_type != JSON or any(charset.strip('"') != "utf-8" for charset in charsets):
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"the Content-Type must be {JSON}, in UTF-8",
        )


# Possessive, so that no body makes it backtrack; an unclosed string runs to the end.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            _malformed(f"the body nests deeper than {MAX_DEPTH} levels")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("an object has the same name twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _number(literal: str) -> int | float:
    """2.0 is an integer to JSON Schema, and so to `top_k`."""
    value = float(literal)
    return int(value) if value.is_integer() else value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_constant=_refuse_constant, parse_float=_number
)
