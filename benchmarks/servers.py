"""A server of each kind, as a process: started, asked, stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from benchmarks.lambda_runtime_api import LambdaRuntimeApi

ROOT = Path(__file__).resolve().parent.parent
ARTIFACT = ROOT / "models" / "default"
CHECKPOINT = ROOT / "build" / "checkpoint"
CONNECT_EVERY_S = 0.002
START_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0


class Server(Protocol):
    """A running server; `predict` waits until it answers."""

    process: subprocess.Popen[bytes]

    def predict(self, text: str) -> dict[str, Any]: ...

    def health(self) -> dict[str, Any]: ...


class HttpServer:
    """A server that listens on a port of this machine."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def predict(self, text: str) -> dict[str, Any]:
        self._wait_until_open()
        return self._ask("POST", "/predict", json.dumps({"text": text}))

    def health(self) -> dict[str, Any]:
        return self._ask("GET", "/health")

    def _ask(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_LIMIT_S)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {answer}")
        return dict(answer)

    def _wait_until_open(self) -> None:
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(CONNECT_EVERY_S)
        raise RuntimeError(f"the server did not listen; exit code {self.process.poll()}")


class LambdaServer:
    """The Lambda adapter under the runtime interface client; invoked as by an HTTP API."""

    def __init__(self, process: subprocess.Popen[bytes], api: LambdaRuntimeApi) -> None:
        self.process = process
        self._api = api
        self._event = json.loads((ROOT / "tests/events/http_api_v2.json").read_text())

    def predict(self, text: str) -> dict[str, Any]:
        return self._ask({**self._event, "body": json.dumps({"text": text})})

    def health(self) -> dict[str, Any]:
        http = {**self._event["requestContext"]["http"], "method": "GET", "path": "/health"}
        context = {**self._event["requestContext"], "http": http}
        return self._ask(
            {**self._event, "rawPath": "/health", "body": "", "requestContext": context}
        )

    def _ask(self, event: dict[str, Any]) -> dict[str, Any]:
        answer = self._api.invoke(event)
        if answer["statusCode"] != 200:
            raise RuntimeError(f"status {answer['statusCode']}: {answer['body']}")
        return dict(json.loads(answer["body"]))


# What is run instead of a server's command, given that command; its process is the server's own or
# that of a program that watches it.
Wrap = Callable[[list[str]], list[str]]


def as_it_is(command: list[str]) -> list[str]:
    return command


@contextmanager
def cloud_run(wrap: Wrap = as_it_is) -> Iterator[HttpServer]:
    """Our Cloud Run adapter, by the container's command."""
    port = free_port()
    command = ["-m", "handlers.serve"]
    with _process(command, wrap, PORT=str(port)) as process:
        yield HttpServer(process, port)


@contextmanager
def aws_lambda(wrap: Wrap = as_it_is) -> Iterator[LambdaServer]:
    """Our Lambda adapter, by the container's command."""
    api = LambdaRuntimeApi()
    environment = {
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "classifier",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
    }
    try:
        command = ["-m", "awslambdaric", "handlers.aws_lambda.handler"]
        with _process(command, wrap, **environment) as process:
            yield LambdaServer(process, api)
    finally:
        api.close()


@contextmanager
def plain_torch(model: Path = CHECKPOINT, wrap: Wrap = as_it_is) -> Iterator[HttpServer]:
    with _uvicorn("benchmarks.plain_torch:app", model, wrap) as server:
        yield server


@contextmanager
def plain_onnx(model: Path = ARTIFACT, wrap: Wrap = as_it_is) -> Iterator[HttpServer]:
    with _uvicorn("benchmarks.plain_onnx:app", model, wrap) as server:
        yield server


@contextmanager
def _uvicorn(app: str, model: Path, wrap: Wrap) -> Iterator[HttpServer]:
    port = free_port()
    command = ["-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]
    with _process(command, wrap, MODEL_DIR=str(model)) as process:
        yield HttpServer(process, port)


@contextmanager
def _process(
    arguments: list[str], wrap: Wrap, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with children of its own, in a group that ends with this block."""
    process = subprocess.Popen(
        wrap([sys.executable, *arguments]),
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Starter = Callable[..., Any]
STARTERS: dict[str, Starter] = {
    "plain torch": plain_torch,
    "plain ONNX": plain_onnx,
    "ours, Cloud Run": cloud_run,
    "ours, Lambda": aws_lambda,
}
