"""The routes with a fake model: loading, failing, queueing, logging."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from core.artifact import ModelCard
from core.classifier import Classifier
from core.errors import ModelUnavailable
from handlers.wire import Request
from tests.handlers.fakes import (
    FixedLogits,
    Gate,
    ask,
    content,
    fake_classifier,
    service,
)

TEXT = {"text": "private words"}


def raising(error: Exception) -> FixedLogits:
    """An engine that fails on every text but the probe of the start."""
    calls = iter(range(10**6))

    def fail(ids: list[int]) -> None:
        if next(calls) > 0:
            raise error

    return FixedLogits([0.0, 1.0], fail)


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]


def test_requests_wait_for_a_loading_model() -> None:
    start = threading.Event()

    def load() -> Classifier:
        assert start.wait(30)
        return fake_classifier()

    slow = service(load)
    with ThreadPoolExecutor(2) as pool:
        health = pool.submit(ask, slow, "GET", "/health")
        answer = pool.submit(ask, slow, "POST", "/predict", TEXT)
        assert ask(slow, "GET", "/health/live").status == 200
        assert not health.done() and not answer.done()
        start.set()
        assert health.result(30).status == answer.result(30).status == 200


def test_a_model_that_takes_too_long_is_unavailable() -> None:
    never = threading.Event()

    def load() -> Classifier:
        never.wait(30)
        return fake_classifier()

    slow = service(load, deadline_s=0.05)
    answer = ask(slow, "POST", "/predict", TEXT)
    never.set()
    assert (answer.status, content(answer)["code"]) == (503, "model_unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ModelUnavailable("model.onnx is missing"), "model.onnx is missing"), (OSError("x"), "OSErr")],
)
def test_a_model_that_fails_to_load_is_told_and_nothing_hangs(
    error: Exception, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> Classifier:
        raise error

    broken = service(load)
    health = ask(broken, "GET", "/health")
    assert health.status == 503
    assert content(health)["status"] == "unhealthy"
    assert content(health)["model_loaded"] is False
    assert reason in content(health)["reason"]
    for method, path, body in [("POST", "/predict", TEXT), ("GET", "/model", None)]:
        answer = ask(broken, method, path, body)
        assert (answer.status, content(answer)["code"]) == (503, "model_unavailable")
    for path in ("/health/live", "/openapi.json", "/metrics", "/", "/docs"):
        assert ask(broken, "GET", path).status == 200
    # Where it failed is told for a defect, not for a model that is not there.
    assert ("stack_trace" in capsys.readouterr().out) is isinstance(error, OSError)


def test_a_full_queue_refuses_at_once_and_recovers() -> None:
    gate = Gate()
    busy = service(
        lambda: fake_classifier(FixedLogits([0.0, 1.0], gate)), concurrency=1, queue_limit=1
    )
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, busy, "POST", "/predict", TEXT)
        assert gate.reached.acquire(timeout=30)
        waiting = pool.submit(ask, busy, "POST", "/predict", TEXT)
        wait_for_waiting(busy, 1)
        refused = ask(busy, "POST", "/predict", TEXT)
        assert (refused.status, content(refused)["code"]) == (429, "queue_full")
        assert refused.headers["Retry-After"] == "1"
        assert ask(busy, "GET", "/health").status == 200
        gate.open()
        assert running.result(30).status == waiting.result(30).status == 200
    assert ask(busy, "POST", "/predict", TEXT).status == 200


def wait_for_waiting(busy: Any, count: int) -> None:
    for _ in range(10**6):
        if f"classifier_waiting {count}" in ask(busy, "GET", "/metrics").body.decode():
            return
    raise AssertionError("nobody waits")


def test_a_request_that_waits_too_long_is_told() -> None:
    gate = Gate()
    busy = service(
        lambda: fake_classifier(FixedLogits([0.0, 1.0], gate)), concurrency=1, deadline_s=0.2
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, busy, "POST", "/predict", TEXT)
        assert gate.reached.acquire(timeout=30)
        late = ask(busy, "POST", "/predict", TEXT)
        gate.open()
        assert running.result(30).status == 200
    assert (late.status, content(late)["code"]) == (503, "deadline_exceeded")


def test_a_batch_stops_between_its_texts() -> None:
    """The second text comes to the engine after the deadline: the third never does."""
    seen: list[list[int]] = []
    passed = threading.Event()

    def slow(ids: list[int]) -> None:
        seen.append(ids)
        if ids == [1]:
            passed.wait(0.3)

    late = service(lambda: fake_classifier(FixedLogits([0.0, 1.0], slow)), deadline_s=0.2)
    answer = ask(late, "POST", "/predict/batch", {"texts": ["a", "bb", "ccc"]})
    assert (answer.status, content(answer)["code"]) == (503, "deadline_exceeded")
    assert [2] not in seen and [3] not in seen


def test_a_batch_stops_at_its_deadline() -> None:
    answer = service(deadline_s=60.0).handle(
        Request(
            "POST",
            "/predict/batch",
            {"content-type": "application/json"},
            b'{"texts": ["a", "b"]}',
            timeout_s=0.0,
        )
    )
    assert answer.status == 503


@pytest.mark.parametrize(
    "engine", [raising(RuntimeError("private words")), FixedLogits([0.0, float("nan")])]
)
def test_a_defect_is_a_fixed_body_and_its_trace_is_in_the_log_only(
    engine: FixedLogits, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> Classifier:
        return fake_classifier(engine)

    answer = ask(service(load), "POST", "/predict", TEXT)
    assert (answer.status, content(answer)["code"]) == (500, "internal_error")
    assert b"RuntimeError" not in answer.body and b"private" not in answer.body
    printed = capsys.readouterr().out
    line = msgspec.json.decode(printed.splitlines()[-1])
    assert line["severity"] == "ERROR"
    assert "classify_one" in line["stack_trace"]
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert "private" not in printed


def test_no_log_line_holds_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    healthy = service()
    for body in (TEXT, {**TEXT, "private": 1}, {"text": ["private words"]}, {"texts": ["private"]}):
        ask(healthy, "POST", "/predict", body)
        ask(healthy, "POST", "/predict/batch", body)
    ask(healthy, "GET", "/private")
    ask(healthy, "GET", "/health", x_request_id="private words")
    assert "private" not in capsys.readouterr().out


def test_a_request_is_one_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    healthy = service()
    ask(healthy, "POST", "/predict", TEXT)
    loaded, line = log_lines(capsys)
    assert loaded["message"] == "model loaded"
    assert line["message"] == "POST /predict"
    assert (line["status"], line["texts"], line["tokens"]) == (200, 1, 2)
    assert line["model_version"] == "1"
    assert {"queue_ms", "tokenize_ms", "infer_ms", "total_ms"} <= set(line)


def test_every_answer_has_the_standing_headers() -> None:
    for path in ("/health", "/nothing", "/"):
        headers = ask(service(), "GET", path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_cold_is_told_once_with_the_first_prediction() -> None:
    fresh = service()
    assert "cold" not in ask(fresh, "GET", "/health").headers["Server-Timing"]
    assert "cold;dur=" in ask(fresh, "POST", "/predict", TEXT).headers["Server-Timing"]
    assert "cold" not in ask(fresh, "POST", "/predict", TEXT).headers["Server-Timing"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/prod/health/live", 200),
        ("/health/live", 200),
        ("/prod", 200),
        ("/prod/", 200),
        ("/production/health/live", 404),
        ("/prod/prod/health/live", 404),
    ],
)
def test_a_base_path_is_taken_off(path: str, status: int) -> None:
    assert ask(service(base_path="/prod"), "GET", path).status == status


def test_a_multi_label_model_gives_all_labels_above_their_threshold() -> None:
    card = ModelCard(
        "fake", "1", "multi_label", ("a", "b", "c"), max_tokens=8, thresholds=(0.5, 0.9, 0.1)
    )

    def load() -> Classifier:
        return fake_classifier(FixedLogits([1.0, 2.0, -2.0]), card)

    answer = content(ask(service(load), "POST", "/predict", TEXT))
    assert answer["predicted_label"] is None
    assert answer["predicted_labels"] == ["a", "c"]
    assert list(answer["all_scores"]) == ["b", "a", "c"]


def test_pages_load_nothing_from_elsewhere() -> None:
    for path in ("/", "/docs"):
        answer = ask(service(), "GET", path)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert b"//" not in answer.body.replace(b"// ", b"")
