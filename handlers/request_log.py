"""One JSON line a request, with the clouds' own field names; never a text.

May import: msgspec, `core.settings`, the standard library.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import msgspec

from core.settings import Settings

_SAFE_ID = re.compile(r"[A-Za-z0-9._:=;-]{1,128}")
_W3C_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/.*)?")
_XRAY_ROOT = re.compile(r"(?:.*;)?Root=([0-9a-fA-F-]{1,64})(?:;.*)?")


def request_id(headers: Mapping[str, str]) -> str:
    """The platform's trace id; else the caller's own `X-Request-Id` if it is sane; else a new one.

    Header values enter logs and answers: only what matches a strict pattern is taken.
    """
    for name, pattern in (
        ("x-cloud-trace-context", _CLOUD_TRACE),
        ("x-amzn-trace-id", _XRAY_ROOT),
        ("traceparent", _W3C_TRACE),
    ):
        if match := pattern.fullmatch(headers.get(name, "")):
            return match[1]
    own = headers.get("x-request-id", "")
    return own if _SAFE_ID.fullmatch(own) else os.urandom(16).hex()


def write(severity: str, message: str, **fields: Any) -> None:
    """One line on standard output, where both clouds collect it."""
    line = msgspec.json.encode({"severity": severity, "message": message, **fields})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def trace_fields(settings: Settings, identifier: str) -> dict[str, str]:
    """The field by which the platform's log viewer groups a request's lines."""
    if settings.platform == "cloud_run" and settings.google_cloud_project:
        trace = f"projects/{settings.google_cloud_project}/traces/{identifier}"
        return {"logging.googleapis.com/trace": trace}
    return {"xray_trace_id": identifier} if settings.platform == "lambda" else {}


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
