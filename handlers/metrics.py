"""Counters of one process in Prometheus' text format (version 0.0.4).

Hand-written: prometheus_client's import would be paid at every cold start.
May import: the standard library.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)


class Metrics:
    """What was answered since the start; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = defaultdict(int)
        self._durations: dict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_S) + 1))
        self._seconds: dict[str, float] = defaultdict(float)
        self._texts = 0
        self._tokens = 0

    def record(self, route: str, status: int, seconds: float, texts: int, tokens: int) -> None:
        bucket = sum(seconds > bound for bound in BUCKETS_S)
        with self._lock:
            self._requests[route, status] += 1
            self._durations[route][bucket] += 1
            self._seconds[route] += seconds
            self._texts += texts
            self._tokens += tokens

    def render(
        self, running: int, waiting: int, model: Mapping[str, str], startup_ms: Mapping[str, float]
    ) -> str:
        """The exposition; `model` and `startup_ms` are empty until the model is loaded."""
        with self._lock:
            lines = [*self._lines(), *_gauges(running, waiting, model, startup_ms)]
        return "\n".join(lines) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from _head("classifier_requests_total", "counter", "Requests answered.")
        for (route, status), count in sorted(self._requests.items()):
            yield f"classifier_requests_total{_labels(route=route, status=str(status))} {count}"
        yield from _head("classifier_texts_total", "counter", "Texts classified.")
        yield f"classifier_texts_total {self._texts}"
        yield from _head("classifier_tokens_total", "counter", "Tokens read by the model.")
        yield f"classifier_tokens_total {self._tokens}"
        name = "classifier_request_seconds"
        yield from _head(name, "histogram", "Time from a request's arrival to its answer.")
        for route, counts in sorted(self._durations.items()):
            running = 0
            for bound, count in zip((*BUCKETS_S, float("inf")), counts, strict=True):
                running += count
                le = "+Inf" if bound == float("inf") else f"{bound:g}"
                yield f"{name}_bucket{_labels(route=route, le=le)} {running}"
            yield f"{name}_sum{_labels(route=route)} {self._seconds[route]:.6f}"
            yield f"{name}_count{_labels(route=route)} {running}"


def _gauges(
    running: int, waiting: int, model: Mapping[str, str], startup_ms: Mapping[str, float]
) -> Iterator[str]:
    yield from _head("classifier_running", "gauge", "Requests that are being classified.")
    yield f"classifier_running {running}"
    yield from _head("classifier_waiting", "gauge", "Requests that wait for a run.")
    yield f"classifier_waiting {waiting}"
    if model:
        yield from _head("classifier_model_info", "gauge", "The model that is loaded.")
        yield f"classifier_model_info{_labels(**model)} 1"
    if startup_ms:
        yield from _head("classifier_startup_seconds", "gauge", "Phases of this process's start.")
    for phase, milliseconds in startup_ms.items():
        yield f"classifier_startup_seconds{_labels(phase=phase)} {milliseconds / 1e3:.6f}"


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _labels(**labels: str) -> str:
    pairs = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
