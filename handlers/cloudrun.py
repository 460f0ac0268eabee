"""Google Cloud Run: the Functions Framework's entrypoint. Started by `handlers.server`.

The framework loads this file by its path, within its application's context. Nothing else may
import it: that would be a second module with a second model.
"""

from __future__ import annotations

import io
import os

import flask
import functions_framework

from core.settings import Settings
from handlers import wire
from handlers.service import Service

# What is read of a body that is refused anyway, so that its sender gets to see the refusal: as much
# as Cloud Run's front end lets through.
MAX_DRAINED_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 64 * 1024

_service = Service(Settings.from_env(os.environ))


@functions_framework.http  # type: ignore[untyped-decorator]
def classify(request: flask.Request) -> flask.Response:
    """Answers every HTTP request that reaches the container."""
    answer = _service.handle(
        wire.Request(
            method=request.method,
            path=_path(request),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=_read_body(request),
        )
    )
    # No body at all for HEAD: an empty one would make Flask state the length 0.
    return flask.Response(answer.body or None, answer.status, answer.headers)


def _path(request: flask.Request) -> str:
    """The path as it was sent, decoded; Flask's own has leading slashes merged."""
    return str(request.environ["PATH_INFO"]).encode("latin-1").decode(errors="replace")


def _read_body(request: flask.Request) -> bytes | None:
    """The body, or its first bytes when it is larger than any that is accepted.

    None when it breaks off, or is not framed as its headers say.
    """
    try:
        body = request.stream.read(wire.MAX_BODY_BYTES + 1)
        if len(body) > wire.MAX_BODY_BYTES:
            _drain(request, len(body))
        elif len(body) < (request.content_length or 0):
            return None
        return body
    except Exception:  # the server's classes for this share no base, and quote the body
        return None
    finally:
        # The framework reads what is left into memory before it answers: leave it nothing.
        request.stream = io.BytesIO()


def _drain(request: flask.Request, read: int) -> None:
    while read < MAX_DRAINED_BYTES and (chunk := request.stream.read(CHUNK_BYTES)):
        read += len(chunk)


@flask.current_app.before_request
def _answer_unrouted() -> flask.Response | None:
    """Answers what the framework keeps from the function, with an HTML page or a redirect.

    Those are /robots.txt and /favicon.ico, methods that Flask does not know, and `//` in a path.
    """
    return None if flask.request.endpoint == "run" else classify(flask.request)
