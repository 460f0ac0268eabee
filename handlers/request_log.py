"""One JSON line a request, with the clouds' own field names; never a text.

May import: msgspec, `core.settings`, the standard library.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from core.settings import Platform, Settings

_SAFE_ID = re.compile(r"[A-Za-z0-9._:=;-]{1,128}")
_W3C_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/.*)?")
_XRAY_ROOT = re.compile(r"(?:.*;)?Root=([0-9a-fA-F-]{1,64})(?:;.*)?")


_GOOGLE = ("x-cloud-trace-context", _CLOUD_TRACE)
_AWS = ("x-amzn-trace-id", _XRAY_ROOT)
_W3C = ("traceparent", _W3C_TRACE)
# Which headers a platform's own front end writes: any other may be the caller's.
_TRACE_HEADERS = {
    "cloud_run": (_GOOGLE, _W3C),
    "lambda": (_AWS,),
    "local": (_GOOGLE, _AWS, _W3C),
}


def trace_id(headers: Mapping[str, str], platform: Platform) -> str | None:
    """The platform's trace id. Header values enter logs and answers: strict patterns only."""
    for name, pattern in _TRACE_HEADERS[platform]:
        if match := pattern.fullmatch(headers.get(name, "")):
            return match[1]
    return None


def request_id(headers: Mapping[str, str], platform: Platform) -> str:
    """The platform's trace id; else the caller's own `X-Request-Id` if sane; else a new one."""
    own = headers.get("x-request-id", "")
    fallback = own if _SAFE_ID.fullmatch(own) else os.urandom(16).hex()
    return trace_id(headers, platform) or fallback


def write(severity: str, message: str, **fields: Any) -> None:
    """One line on standard output, where both clouds collect it."""
    line = msgspec.json.encode({"severity": severity, "message": message, **fields})
    with suppress(OSError, ValueError, AttributeError):  # a closed log stops no answer
        sys.stdout.write(line.decode() + "\n")
        sys.stdout.flush()


def trace_fields(settings: Settings, headers: Mapping[str, str]) -> dict[str, str]:
    """The field by which the platform's log viewer groups a request's lines."""
    trace = trace_id(headers, settings.platform)
    if trace is None or settings.platform == "local":
        return {}
    if settings.platform == "lambda":
        return {"xray_trace_id": trace}
    if not settings.google_cloud_project:
        return {}
    return {
        "logging.googleapis.com/trace": f"projects/{settings.google_cloud_project}/traces/{trace}"
    }


def stack_trace(error: BaseException) -> str:
    """The frames and classes of `error` and its causes, without their messages.

    A library's message may quote what it was given: a text could leak through it.
    """
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append(f"{type(cause).__module__}.{type(cause).__qualname__}\n")
        lines += traceback.format_tb(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    return "".join(lines)
