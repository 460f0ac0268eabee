"""Cloud Run's server as a process: its start, its end, and what it must not do."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.adapters import JSON_HEADERS, ROOT, Call, cloud_run, free_port

SLOW_BATCH = json.dumps({"texts": ["a long day with many words " * 60] * 16}).encode()
COMMAND = [sys.executable, "-m", "gunicorn", "--config", "handlers/gunicorn.conf.py"]


def start(**environment: str) -> subprocess.CompletedProcess[str]:
    """A start that is expected to fail at once."""
    return subprocess.run(
        COMMAND, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


def test_requests_in_flight_are_answered_after_sigterm(tmp_path: Path) -> None:
    with (
        cloud_run(tmp_path / "log", CLASSIFIER_CONCURRENCY="4") as server,
        ThreadPoolExecutor() as pool,
    ):
        assert server.send(Call("GET", "/health")).status == 200
        calls = [
            pool.submit(server.send, Call("POST", "/predict/batch", SLOW_BATCH)) for _ in range(3)
        ]
        while b"classifier_running 3" not in server.send(Call("GET", "/metrics")).body:
            assert not any(call.done() for call in calls), "too fast to be caught in flight"
        server.process.terminate()
        assert [call.result(30).status for call in calls] == [200, 200, 200]
        assert server.process.wait(5) == 0
        with pytest.raises(OSError):
            server.send(Call("GET", "/health/live"))


def test_sigterm_with_an_idle_connection_ends_the_server(tmp_path: Path) -> None:
    with (
        cloud_run(tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", server.port)) as idle,
    ):
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        server.process.terminate()
        assert server.process.wait(5) == 0


def test_sigterm_while_the_model_loads_ends_the_server(tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log") as server:
        server.process.terminate()
        assert server.process.wait(5) == 0


@pytest.mark.parametrize("port", ["http", "0", "70000", "80 80", "-1"])
def test_a_port_that_is_no_port_is_a_clear_line(port: str) -> None:
    failed = start(PORT=port)
    assert failed.returncode == 1
    assert failed.stderr.startswith(f"error: PORT={port!r} is not accepted")
    assert "Traceback" not in failed.stderr


def test_a_taken_port_is_a_clear_line() -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", free_port()))
        other.listen()
        failed = start(PORT=str(other.getsockname()[1]))
    assert failed.returncode == 1
    assert "cannot be used: Address already in use" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_missing_model_is_told_by_health_and_the_server_stays(tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log", CLASSIFIER_MODEL=str(tmp_path / "none")) as server:
        health = server.send(Call("GET", "/health"))
        assert health.status == 503
        assert "none is no directory" in health.json()["reason"]
        assert server.send(Call("POST", "/predict", b'{"text": "a"}')).status == 503
        assert server.send(Call("GET", "/health/live")).status == 200


def test_a_start_writes_no_file_and_opens_no_connection(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    with cloud_run(tmp_path / "log", **environment) as server:
        assert server.send(Call("POST", "/predict", b'{"text": "a"}')).status == 200
        workers = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
        for pid in workers.split():
            assert not connected(int(pid), server.port)
    assert list(home.rglob("*")) == []
    assert list((tmp_path / "tmp").rglob("*")) == []


def connected(pid: int, own_port: int) -> list[str]:
    """Remote ends of the process's TCP sockets, its own server's connections aside."""
    sockets = {
        match[1]
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if (match := re.match(r"socket:\[(\d+)\]", os.readlink(link)))
    }
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [
        row[2]
        for row in rows
        if row[9] in sockets
        and not row[2].endswith(":0000")
        and not row[1].endswith(f":{own_port:04X}")
    ]


def test_a_chunked_body_is_read_and_bounded(tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log") as server:
        for size, status in [(10, b"200"), (2_000_000, b"413")]:
            body = b'{"text": "' + b"a" * size + b'"}'
            assert raw_status(server.port, chunked(body)) == status


def chunked(body: bytes) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def raw_status(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline().split()[1]


def test_a_keepalive_connection_survives_a_refused_body(tmp_path: Path) -> None:
    import http.client

    with cloud_run(tmp_path / "log") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for body, status in [(b" " * 1_500_000, 413), (b'{"text": "a"}', 200), (b"", 400)]:
            connection.request("POST", "/predict", body, JSON_HEADERS)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == status
        connection.close()


def test_many_clients_at_once_get_their_own_answers(tmp_path: Path) -> None:
    texts = [f"have a lovely day number {i} {'very ' * (i % 17)}nice" for i in range(64)]
    calls = [Call("POST", "/predict", json.dumps({"text": text}).encode()) for text in texts]
    barrier = threading.Barrier(16)

    with cloud_run(tmp_path / "log") as server:
        alone = [server.send(call).json()["all_scores"] for call in calls]

        def client(offset: int) -> list[dict[str, float]]:
            barrier.wait(30)
            return [server.send(call).json()["all_scores"] for call in calls[offset::16]]

        with ThreadPoolExecutor(16) as pool:
            together = list(pool.map(client, range(16)))
    for offset, scores in enumerate(together):
        assert scores == alone[offset::16]
