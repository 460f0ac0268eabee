"""Prometheus' text format."""

from __future__ import annotations

import re

from handlers.metrics import BUCKETS_S, Metrics

LINE = re.compile(
    r'[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\[\\"n])*"(,[a-z]+="(?:[^"\\\n]|\\[\\"n])*")*\})? [0-9.e+-]+'
)


def samples(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(LINE.fullmatch(line) for line in lines)
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_texts_and_tokens_are_counted() -> None:
    metrics = Metrics()
    metrics.record("/predict", 200, 0.003, texts=1, tokens=6)
    metrics.record("/predict", 200, 0.3, texts=2, tokens=5)
    metrics.record("/predict", 422, 0.001, texts=0, tokens=0)
    found = samples(metrics.render(2, 3, {}, {}))
    assert found['classifier_requests_total{route="/predict",status="200"}'] == 2
    assert found['classifier_requests_total{route="/predict",status="422"}'] == 1
    assert found["classifier_texts_total"] == 3
    assert found["classifier_tokens_total"] == 11
    assert (found["classifier_running"], found["classifier_waiting"]) == (2, 3)


def test_buckets_are_cumulative_and_include_their_bound() -> None:
    metrics = Metrics()
    for seconds in (BUCKETS_S[0], BUCKETS_S[0] * 1.01, 1e9):
        metrics.record("/", 200, seconds, 0, 0)
    found = samples(metrics.render(0, 0, {}, {}))
    name = 'classifier_request_seconds_bucket{route="/",le="%s"}'
    assert [found[name % le] for le in ("0.005", "0.01", "25", "+Inf")] == [1, 2, 2, 3]
    assert found['classifier_request_seconds_count{route="/"}'] == 3


def test_label_values_are_escaped() -> None:
    text = Metrics().render(0, 0, {"name": 'a"b\\c\nd'}, {"ready": 250.0})
    found = samples(text)
    assert found['classifier_model_info{name="a\\"b\\\\c\\nd"}'] == 1
    assert found['classifier_startup_seconds{phase="ready"}'] == 0.25


def test_help_and_type_come_before_their_samples() -> None:
    lines = Metrics().render(0, 0, {"name": "m"}, {"ready": 1.0}).splitlines()
    seen: set[str] = set()
    for line in lines:
        if line.startswith("# TYPE "):
            seen.add(line.split()[2])
        elif not line.startswith("#"):
            assert re.split(r"[{ ]", line)[0] in seen
