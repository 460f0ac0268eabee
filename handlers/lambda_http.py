"""FastAPI behind Mangum: HTTP on AWS Lambda. Decode, call the service, encode.

May import: fastapi, mangum, `handlers.service`, `handlers.wire`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from starlette.types import Receive, Scope, Send

from handlers import wire
from handlers.service import Service

# Kept of the time that Lambda leaves, for the answer's own way out.
MARGIN_S = 0.5

# FastAPI would send spans to whatever the environment names. It is also what lets its telemetry's
# imports stay deferred.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


class Answer:
    """An ASGI application that hands each request to the service.

    It answers in the event loop itself: a Lambda instance has one request at a time.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = self._service.handle(
            wire.Request(
                method=request.method,
                path=scope["path"],
                headers={name.lower(): value for name, value in request.headers.items()},
                body=await request.body(),
                timeout_s=_time_left_s(scope.get("aws.context")),
            )
        )
        await Response(answer.body, answer.status, answer.headers)(scope, receive, send)


def create_app(service: Service) -> FastAPI:
    """The FastAPI application of `service`; its routes, 404 and 405 are the service's own."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=NO_TELEMETRY)
    answer = Answer(service)
    for path in service.paths:
        app.router.add_route(path, answer)  # type: ignore[arg-type]  # an ASGI app is one, too
    app.router.default = answer
    app.router.redirect_slashes = False
    # The service answers every error itself; these are for errors of parameters and forms.
    app.exception_handlers.clear()
    app.openapi = service.openapi_document  # type: ignore[method-assign]
    return app


def create_handler(service: Service) -> Mangum:
    """Takes the HTTP events of API Gateway (REST, HTTP), Function URLs and load balancers."""
    return Mangum(
        create_app(service),
        # Mangum would run startup and shutdown around every single invocation.
        lifespan="off",
        # API Gateway's REST APIs do not decode base64 unless they are told to.
        text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, wire.PROBLEM],
    )


def is_http(event: Mapping[str, Any]) -> bool:
    """Tells HTTP events (payload formats 1.0 and 2.0, and load balancers') from all others."""
    context = event.get("requestContext")
    if not isinstance(context, dict):
        return False
    if event.get("version") == "2.0":
        return "http" in context
    return "httpMethod" in event and ("elb" in context or "resource" in event)


def _time_left_s(context: Any) -> float | None:
    if context is None:
        return None
    left_s = context.get_remaining_time_in_millis() / 1e3
    return max(0.0, float(left_s) - MARGIN_S)
