"""Request ids, the clouds' field names, and stack traces without messages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.settings import Settings
from handlers import request_log

TRACE = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-cloud-trace-context": f"{TRACE}/123;o=1"}, TRACE),
        ({"x-cloud-trace-context": TRACE}, TRACE),
        ({"traceparent": f"00-{TRACE}-0123456789abcdef-01"}, TRACE),
        ({"x-amzn-trace-id": "Root=1-65a1b2c3-0123;Parent=5;Sampled=1"}, "1-65a1b2c3-0123"),
        ({"x-amzn-trace-id": "Self=1-2-3;Root=1-65a1b2c3-0123"}, "1-65a1b2c3-0123"),
        ({"x-request-id": "my-own_id.1"}, "my-own_id.1"),
        ({"x-request-id": "mine", "x-cloud-trace-context": TRACE}, TRACE),
        ({"x-request-id": "mine", "x-cloud-trace-context": "rubbish"}, "mine"),
    ],
)
def test_the_platforms_id_is_taken_else_the_callers(headers: dict[str, str], expected: str) -> None:
    assert request_log.request_id(headers, "local") == expected


@pytest.mark.parametrize("hostile", ["", "a b", "a\r\nSet-Cookie: x", "é", "a" * 129, "<script>"])
@pytest.mark.parametrize("name", ["x-request-id", "traceparent", "x-cloud-trace-context"])
def test_what_is_no_id_is_replaced(name: str, hostile: str) -> None:
    made = request_log.request_id({name: hostile}, "local")
    assert len(made) == 32 and int(made, 16) >= 0
    assert request_log.request_id({name: hostile}, "local") != made


FORGED = {"x-cloud-trace-context": TRACE, "x-amzn-trace-id": "Root=1-aa-bb", "x-request-id": "me"}


def test_each_platform_believes_its_own_front_end_only() -> None:
    assert request_log.request_id(FORGED, "cloud_run") == TRACE
    assert request_log.request_id(FORGED, "lambda") == "1-aa-bb"
    assert request_log.request_id({"x-cloud-trace-context": TRACE}, "lambda") != TRACE
    assert request_log.request_id({"x-amzn-trace-id": "Root=1-aa-bb"}, "cloud_run") != "1-aa-bb"


def test_each_platform_has_its_own_field() -> None:
    local = Settings.from_env({})
    cloud = replace(local, platform="cloud_run", google_cloud_project="p")
    field = {"logging.googleapis.com/trace": f"projects/p/traces/{TRACE}"}
    assert request_log.trace_fields(cloud, FORGED) == field
    aws = replace(local, platform="lambda")
    assert request_log.trace_fields(aws, FORGED) == {"xray_trace_id": "1-aa-bb"}
    assert request_log.trace_fields(local, FORGED) == {}
    for settings in (cloud, aws):
        assert request_log.trace_fields(settings, {"x-request-id": "me"}) == {}


def test_a_stack_trace_names_classes_and_frames_but_no_message() -> None:
    try:
        try:
            raise ValueError("private words")
        except ValueError as error:
            raise RuntimeError("more private words") from error
    except RuntimeError as error:
        trace = request_log.stack_trace(error)
    assert "builtins.RuntimeError" in trace and "builtins.ValueError" in trace
    assert "test_request_log.py" in trace
