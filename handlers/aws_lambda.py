"""AWS Lambda's entrypoint: `python -m awslambdaric handlers.aws_lambda.handler`.

HTTP events go to FastAPI behind Mangum; any other event is refused by name.
"""

from __future__ import annotations

import base64
import gc
import os
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from snapshot_restore_py import register_before_snapshot

from core.settings import Settings
from handlers import startup
from handlers.deferred import ENGINE, FASTAPI, defer

gc.disable()  # until all is imported: nothing of that is garbage
defer(ENGINE)

from handlers.service import Service  # noqa: E402

# The model loads in a thread while the frameworks below are imported.
_service = Service(Settings.from_env(os.environ))
defer(FASTAPI)

from handlers.lambda_http import create_handler, is_http  # noqa: E402

_answer_http = create_handler(_service)
# Lambda counts the time until here as initialisation, at full CPU. A model that does not load fails
# the start, so that Lambda replaces the instance instead of sending it requests.
_service.wait_until_loaded()
startup.settle()


PRIMING_EVENT = {
    "version": "2.0",
    "requestContext": {"http": {"method": "POST", "path": "/predict", "sourceIp": "127.0.0.1"}},
    "headers": {"content-type": "application/json"},
    "body": '{"text": "have a lovely day"}',
}

# Callers choose these, and Mangum fails on a host that is no HOST or HOST:PORT.
UNPARSEABLE_HEADERS = ("host", "x-forwarded-port")


class UnsupportedEvent(Exception):
    """An event of a kind that this function does not take."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answers one Lambda invocation. Raises `UnsupportedEvent` for what is no HTTP request."""
    if isinstance(event, dict) and is_http(event):
        return _answer_http(_plain(event), context)
    raise UnsupportedEvent(
        f"this function takes HTTP events (API Gateway REST and HTTP APIs, function URLs,"
        f" application load balancers); this one {_describe(event)}"
    )


@register_before_snapshot  # type: ignore[untyped-decorator]
def prime() -> None:
    """Answers a request before SnapStart takes its snapshot: what a first one warms is in it.

    Raises `RuntimeError` when the answer is not right: a snapshot of that must not be used.
    """
    answer = handler(PRIMING_EVENT, None)
    if answer["statusCode"] != HTTPStatus.OK:
        raise RuntimeError(f"the priming request was answered with {answer['statusCode']}")


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    """The event with what Mangum would stumble over put right; nothing of it is needed here."""
    plain = {**event, "body": _body(event), "isBase64Encoded": False}
    plain |= {"queryStringParameters": None, "multiValueQueryStringParameters": None}
    plain["headers"] = _headers(event.get("headers"))
    if "multiValueHeaders" in event:
        plain["multiValueHeaders"] = _headers(event["multiValueHeaders"])
    context = event["requestContext"]
    if "http" in context:
        # Mangum decodes this path, which is decoded already; the raw one is not.
        path = event.get("rawPath") or context["http"].get("path")
        http = {"sourceIp": "", **context["http"], "path": path}
        plain["requestContext"] = {**context, "http": http}
    elif "elb" not in context:
        plain["path"] = quote(event.get("path") or "/")  # decoded already, too
    return plain


def _headers(headers: Any) -> dict[str, Any]:
    """Those with a value, as Unicode, but for the unparseable ones."""
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in (headers or {}).items()
        if value is not None and name.lower() not in UNPARSEABLE_HEADERS
    }


def _body(event: dict[str, Any]) -> bytes:
    """The body's bytes. What is no base64, or no Unicode, is left for the service to refuse."""
    body = event.get("body") or ""
    if event.get("isBase64Encoded"):
        try:
            return base64.b64decode(body, validate=True)
        except ValueError:
            pass
    return str(body).encode(errors="surrogatepass")


def _describe(event: Any) -> str:
    if not isinstance(event, dict):
        return f"is a {type(event).__name__}"
    records = event.get("Records")
    if isinstance(records, list) and records and isinstance(records[0], dict):
        source = records[0].get("eventSource") or records[0].get("EventSource")
        return f"holds records of {str(source)[:40]}"
    return f"has the keys {sorted(str(key)[:40] for key in event)[:10]}"
