"""The two adapters as a caller sees them: a call in, an answer out.

Cloud Run's is the real server process on a local port. Lambda's is its handler, given events in the
shapes that AWS sends (`tests/events`), which went through JSON as they do there.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

ROOT = Path(__file__).resolve().parent.parent
EVENTS = ROOT / "tests" / "events"
JSON_HEADERS = {"content-type": "application/json"}


@dataclass(frozen=True)
class Call:
    """An HTTP request; `path` is percent-encoded, as it is sent."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)


@dataclass(frozen=True)
class Answer:
    """Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Adapter(Protocol):
    def send(self, call: Call) -> Answer: ...


@dataclass(frozen=True)
class CloudRun:
    """The server of the Cloud Run container, listening on `port`."""

    port: int
    process: subprocess.Popen[str]

    def send(self, call: Call) -> Answer:
        return ask(self.port, call)


def ask(port: int, call: Call) -> Answer:
    """Sends `call` to whatever listens on `port` of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = dict(call.headers)
        connection.request(call.method, call.path, body=call.body or None, headers=headers)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


class Context:
    """What the handler uses of Lambda's context object."""

    def __init__(self, remaining_ms: int = 30_000) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms


@dataclass(frozen=True)
class Lambda:
    """The Lambda handler, called with events of the shape in `tests/events/SHAPE.json`."""

    shape: str

    def send(self, call: Call) -> Answer:
        from handlers.aws_lambda import handler

        event = json.loads(json.dumps(event_of(self.shape, call)))
        result = json.loads(json.dumps(handler(event, Context())))
        body = result["body"]
        raw = base64.b64decode(body) if result["isBase64Encoded"] else body.encode()
        headers = result.get("headers") or {}
        return Answer(
            result["statusCode"], {name.lower(): value for name, value in headers.items()}, raw
        )


def event_of(shape: str, call: Call) -> dict[str, Any]:
    """A recorded event of that shape, with the call's own method, path, headers and body."""
    event: dict[str, Any] = json.loads((EVENTS / f"{shape}.json").read_text())
    event["headers"] = dict(call.headers)
    raw_path, _, query = call.path.partition("?")
    path = unquote(raw_path)
    if event.get("version") == "2.0":
        event |= {"rawPath": raw_path, "rawQueryString": query}
        event["requestContext"]["http"] |= {"method": call.method, "path": path}
    else:
        event |= {"path": raw_path if shape == "load_balancer" else path}
        event |= {"httpMethod": call.method, "queryStringParameters": dict(parse_qsl(query))}
    if "multiValueHeaders" in event:
        event["multiValueHeaders"] = {name: [value] for name, value in call.headers.items()}
    try:
        event |= {"body": call.body.decode() or None, "isBase64Encoded": False}
    except UnicodeDecodeError:
        event |= {"body": base64.b64encode(call.body).decode(), "isBase64Encoded": True}
    return event


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def cloud_run(log: Path, **environment: str) -> Iterator[CloudRun]:
    """Cloud Run's server as its container starts it; what it prints goes to `log`."""
    port = free_port()
    command = [sys.executable, "-m", "handlers.serve"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"PORT": str(port)} | environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        _wait_until_open(port, process, log)
        yield CloudRun(port, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait_until_open(port: int, process: subprocess.Popen[str], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no server on port {port} after 30 s:\n{log.read_text()}")
