"""Events: the recorded ones, those Mangum would stumble over, and those that are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import snapshot_restore_py

from handlers.aws_lambda import UnsupportedEvent, handler, prime
from tests.adapters import EVENTS, ROOT, Call, Context, Lambda, event_of

SHAPES = sorted(path.stem for path in EVENTS.glob("*.json"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_recorded_event_is_answered(shape: str) -> None:
    event = json.loads((EVENTS / f"{shape}.json").read_text())
    answer = handler(event, Context())
    assert answer["statusCode"] == 200
    assert answer["isBase64Encoded"] is False
    assert json.loads(answer["body"])["predicted_label"] == "neither"
    headers = {name.lower(): value for name, value in answer["headers"].items()}
    assert headers["x-request-id"] == "1-65a1b2c3-0123456789abcdef01234567"


@pytest.mark.parametrize("shape", SHAPES)
def test_problems_are_text_for_gateways_that_do_not_decode_base64(shape: str) -> None:
    answer = handler(event_of(shape, Call("GET", "/nothing")), Context())
    assert answer["isBase64Encoded"] is False
    assert json.loads(answer["body"])["code"] == "not_found"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("host", ["a:b:c", "[::1]:8080", "a:x", "", "\u00e9"])
def test_a_strange_host_is_no_error(shape: str, host: str) -> None:
    call = Call("GET", "/health/live", headers={"host": host, "x-forwarded-port": "none"})
    assert Lambda(shape).send(call).status == 200


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("empty", [None, {}])
def test_an_event_without_headers_is_no_error(shape: str, empty: Any) -> None:
    event = event_of(shape, Call("GET", "/health/live")) | {"headers": empty}
    event.pop("multiValueHeaders", None)
    assert handler(event, Context())["statusCode"] == 200


@pytest.mark.parametrize("shape", SHAPES)
def test_a_lone_surrogate_in_an_event_is_a_400(shape: str) -> None:
    event = event_of(shape, Call("POST", "/predict")) | {"body": '{"text": "\ud800"}'}
    answer = handler(event, Context())
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_body_that_is_no_base64_is_a_400(shape: str) -> None:
    event = event_of(shape, Call("POST", "/predict")) | {"body": "a", "isBase64Encoded": True}
    assert handler(event, Context())["statusCode"] == 400


def test_headers_of_a_multi_value_load_balancer_are_answered_in_kind() -> None:
    event = json.loads((EVENTS / "load_balancer.json").read_text())
    event["multiValueHeaders"] = {name: [value] for name, value in event.pop("headers").items()}
    answer = handler(event, Context())
    assert answer["statusCode"] == 200
    assert answer["multiValueHeaders"]["content-type"] == ["application/json"]


def test_no_time_left_is_told_in_time() -> None:
    event = json.loads((EVENTS / "http_api_v2.json").read_text())
    answer = handler(event, Context(remaining_ms=100))
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (503, "deadline_exceeded")


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"Records": [{"eventSource": "aws:sqs", "body": "private"}]}, "aws:sqs"),
        ({"Records": [{"EventSource": "aws:sns"}]}, "aws:sns"),
        ({"source": "aws.events", "detail-type": "Scheduled Event"}, "source"),
        ({"texts": ["private"]}, "texts"),
        ({}, "[]"),
        ([1], "list"),
        (None, "NoneType"),
        ({"requestContext": "private"}, "requestContext"),
    ],
)
def test_any_other_event_is_refused_by_name(event: Any, named: str) -> None:
    with pytest.raises(UnsupportedEvent, match="HTTP events") as caught:
        handler(event, Context())
    assert named in str(caught.value)
    assert "private" not in str(caught.value)


def test_the_snapshots_hook_is_registered_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert prime in [function for function, _, _ in snapshot_restore_py.get_before_snapshot()]
    prime()
    assert '"status":200' in capsys.readouterr().out


def test_a_model_that_does_not_load_fails_the_start(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", "import handlers.aws_lambda"],
        cwd=ROOT,
        env=os.environ | {"CLASSIFIER_MODEL": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode != 0
    assert "ModelUnavailable" in run.stderr and "none is no directory" in run.stderr
