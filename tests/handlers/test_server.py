"""Cloud Run's server as a process: its start, its end, and what it must not do."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from benchmarks.processes import memory_of_tree
from tests.adapters import JSON_HEADERS, ROOT, Call, ask, cloud_run, free_port

SLOW_BATCH = json.dumps({"texts": ["a long day with many words " * 60] * 8}).encode()
COMMAND = [sys.executable, "-m", "handlers.serve"]


def chunked(body: bytes) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[i : i + 50_000] for i in range(0, len(body), 50_000)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


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
        until(lambda: refused(server.port))
        assert not all(call.done() for call in calls), "the port was open to the end"
        assert [call.result(30).status for call in calls] == [200, 200, 200]
        assert server.process.wait(5) == 0
        with pytest.raises(OSError):
            server.send(Call("GET", "/health/live"))


def until(true: Callable[[], bool], limit_s: float = 30) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_an_interrupt_waits_for_no_request(number: signal.Signals, tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log") as server:
        assert server.send(Call("GET", "/health")).status == 200
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(b"GET / HT")
            time.sleep(0.2)  # until a thread has taken it
            server.process.send_signal(number)
            assert server.process.wait(5) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_request_that_never_ends_does_not_hold_up_a_stop(workers: str, tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log", CLASSIFIER_WORKERS=workers) as server:
        assert server.send(Call("GET", "/health")).status == 200
        with socket.create_connection(("127.0.0.1", server.port)) as half:
            half.sendall(b"GET / HT")
            time.sleep(0.2)  # until a thread has taken it
            server.process.terminate()
            assert server.process.wait(9) == 0


def test_more_connections_than_descriptors_wait_and_nothing_ends(tmp_path: Path) -> None:
    port = free_port()
    start = f"ulimit -n 120; exec {' '.join(COMMAND)} >{tmp_path / 'log'} 2>&1"
    environment = os.environ | {"PORT": str(port)}
    with subprocess.Popen(["sh", "-c", start], cwd=ROOT, env=environment) as process:
        try:
            until(lambda: not refused(port))
            assert ask(port, Call("GET", "/health")).status == 200
            with ExitStack() as clients:
                for _ in range(200):
                    clients.enter_context(socket.create_connection(("127.0.0.1", port)))
                until(lambda: "No room for another connection" in (tmp_path / "log").read_text())
            assert ask(port, Call("GET", "/health")).status == 200
        finally:
            process.terminate()
    assert process.returncode == 0


def test_a_worker_that_dies_is_told_and_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with cloud_run(log, CLASSIFIER_WORKERS="2") as server:
        assert server.send(Call("GET", "/health")).status == 200
        master = server.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        until(lambda: log.read_text().count('"model loaded"') == 3)
        assert server.send(Call("GET", "/health")).status == 200
    assert f"Worker (pid:{children[0]}) was sent SIGKILL" in log.read_text()


def test_a_trace_that_gunicorn_logs_holds_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    from handlers.server import JsonLog

    text = "private words"
    try:
        raise ValueError(text)
    except ValueError:
        JsonLog(None).exception("Error handling request %s %s", "POST", text)
    line = json.loads(capsys.readouterr().out)
    assert line["message"] == "Error handling request … …"
    assert "ValueError" in line["stack_trace"] and "private" not in json.dumps(line)


def test_connections_that_wait_in_the_kernel_are_answered_after_sigterm(tmp_path: Path) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    with cloud_run(tmp_path / "log") as server, ExitStack() as clients:
        assert server.send(Call("GET", "/health")).status == 200
        server.process.send_signal(signal.SIGSTOP)
        waiting = [
            clients.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(8)
        ]
        for client in waiting:
            client.sendall(request)
        server.process.terminate()
        server.process.send_signal(signal.SIGCONT)
        assert [client.recv(12) for client in waiting] == [b"HTTP/1.1 200"] * 8
        assert server.process.wait(5) == 0


def test_clients_that_never_close_keep_nobody_waiting(tmp_path: Path) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with cloud_run(tmp_path / "log") as server, ExitStack() as clients:
        assert server.send(Call("GET", "/health")).status == 200
        address = ("127.0.0.1", server.port)
        open_ = [clients.enter_context(socket.create_connection(address, 15)) for _ in range(20)]
        for client in open_:
            client.sendall(request)
        # The last one first: waiting for the end of each before it, at two seconds each, takes 38.
        assert [client.recv(12) for client in reversed(open_)] == [b"HTTP/1.1 200"] * 20
        server.process.terminate()
        assert server.process.wait(8) == 0


def test_the_server_outlives_who_started_it(tmp_path: Path) -> None:
    port = free_port()
    start = f"{' '.join(COMMAND)} >{tmp_path / 'log'} 2>&1 & echo $!"
    environment = os.environ | {"PORT": str(port)}
    shell = subprocess.run(
        ["sh", "-c", start], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    try:
        time.sleep(2.5)  # gunicorn looks for its parent every second
        assert ask(port, Call("GET", "/health")).status == 200
    finally:
        os.kill(int(shell.stdout), signal.SIGTERM)


def test_several_workers_serve_and_end(tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log", CLASSIFIER_WORKERS="2") as server:
        assert server.send(Call("GET", "/health")).status == 200
        assert server.send(Call("POST", "/predict", b'{"text": "a"}')).status == 200
        server.process.terminate()
        assert server.process.wait(8) == 0
    assert (tmp_path / "log").read_text().count('"model loaded"') == 2


def test_what_gunicorn_says_is_json_without_the_request(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with cloud_run(log, K_SERVICE="classifier") as server:
        assert server.send(Call("GET", "/health")).status == 200
        assert raw_status(server.port, b"GET / HTTP/9.9 private\r\n\r\n") == b"400"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["severity"] for line in lines} == {"INFO", "WARNING"}
    assert "private" not in log.read_text()


def test_sigterm_with_an_idle_connection_ends_the_server(tmp_path: Path) -> None:
    with (
        cloud_run(tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", server.port)) as idle,
    ):
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(12) == b"HTTP/1.1 200"
        server.process.terminate()
        assert server.process.wait(5) == 0


@pytest.mark.parametrize("delay_ms", range(0, 300, 25))
def test_sigterm_during_the_start_ends_the_server(delay_ms: int, tmp_path: Path) -> None:
    # From when it listens on, and whatever it does then: loading, importing, beginning to serve.
    with cloud_run(tmp_path / "log") as server:
        time.sleep(delay_ms / 1e3)
        server.process.terminate()
        assert server.process.wait(5) == 0, (tmp_path / "log").read_text()


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
        assert connected(server.process.pid, server.port) == []
    assert list(home.rglob("*")) == []
    assert list((tmp_path / "tmp").rglob("*")) == []


def test_a_start_maps_no_library_that_serving_never_calls(tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log") as server:
        assert server.send(Call("POST", "/predict", b'{"text": "a"}')).status == 200
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in mapped
    assert "/_umath_linalg" not in mapped and "/_ssl" not in mapped


def connected(pid: int, own_port: int) -> list[str]:
    """Remote ends of the process's TCP sockets, its own server's connections aside."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            if match := re.match(r"socket:\[(\d+)\]", os.readlink(link)):
                sockets.add(match[1])
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


def raw_status(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline().split()[1]


@pytest.mark.parametrize(
    "request_",
    [
        chunked(b"")[: -len(b"0\r\n\r\n")] + b'{"text": "private words"}\r\n',
        chunked(b'{"text": "private words"}')[:-30],
        b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n"
        b'Content-Type: application/json\r\n\r\n{"text": "private words"}',
    ],
    ids=["no chunks", "cut chunk", "cut body"],
)
def test_a_body_that_breaks_off_is_a_400_and_not_logged(request_: bytes, tmp_path: Path) -> None:
    with cloud_run(tmp_path / "log") as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert answer.split()[1] == b"400"
        assert b'"malformed_json"' in answer
        assert "private" not in (tmp_path / "log").read_text()


def test_a_megabyte_without_white_space_costs_no_memory(tmp_path: Path) -> None:
    body = json.dumps({"text": "!" * 999_900}).encode()
    with cloud_run(tmp_path / "log") as server:
        server.send(Call("POST", "/predict", b'{"text": "a"}'))
        before = memory_of_tree(server.process.pid).rss_mib
        answer = server.send(Call("POST", "/predict", body))
        assert answer.json()["truncated"] is True
        assert memory_of_tree(server.process.pid).rss_mib - before < 60


def test_more_clients_than_the_queue_holds_get_429(tmp_path: Path) -> None:
    environment = {"CLASSIFIER_CONCURRENCY": "1", "CLASSIFIER_QUEUE": "1"}
    call = Call("POST", "/predict/batch", SLOW_BATCH)
    with cloud_run(tmp_path / "log", **environment) as server, ThreadPoolExecutor(6) as pool:
        statuses = [answer.status for answer in pool.map(server.send, [call] * 6)]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2


def test_the_reason_of_a_failed_load_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with cloud_run(log, CLASSIFIER_MODEL=str(tmp_path / "none")) as server:
        server.send(Call("GET", "/health"))
    [line] = [json.loads(line) for line in log.read_text().splitlines() if "failed to load" in line]
    assert line["severity"] == "ERROR" and "none is no directory" in line["reason"]
    assert "stack_trace" not in line  # a missing model is no defect of the code


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
