"""The Lambda Runtime API (version 2018-06-01) on this machine, for the runtime interface client.

The client asks for the next invocation, runs the handler and posts its answer; `invoke` hands it an
event and waits for that answer. AWS's own emulator does the same and much else; this one adds no
process and no file to what is measured.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PREFIX = "/2018-06-01/runtime"
TIMEOUT_S = 60.0


class InvocationFailed(Exception):
    """The handler, or the function's start, raised; the message is what it reported."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is stopped breaks its long poll: nothing to tell."""


class LambdaRuntimeApi:
    """Listens on `address` from construction on, until `close`."""

    def __init__(self) -> None:
        self._events: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        """What AWS_LAMBDA_RUNTIME_API must be."""
        return f"127.0.0.1:{self._server.server_port}"

    def invoke(self, event: Any) -> Any:
        """The handler's answer to `event`. Raises `InvocationFailed`, or `queue.Empty` in time."""
        self._events.put(json.dumps(event).encode())
        kind, body = self._answers.get(timeout=TIMEOUT_S)
        if kind != "response":
            raise InvocationFailed(body.decode())
        return json.loads(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        events, answers = self._events, self._answers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                event = events.get()
                self.send_response(200)
                deadline_ms = int((time.time() + TIMEOUT_S) * 1e3)
                for name, value in {
                    "Lambda-Runtime-Aws-Request-Id": "00000000-0000-4000-8000-000000000000",
                    "Lambda-Runtime-Deadline-Ms": str(deadline_ms),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:local:0:function:f",
                    "Content-Type": "application/json",
                    "Content-Length": str(len(event)),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answers.put((self.path.rpartition("/")[2], body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
