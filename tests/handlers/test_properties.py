"""Both adapters, driven by what their own OpenAPI document says of them, valid and invalid."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from requests.adapters import BaseAdapter
from schemathesis import Case, GenerationMode
from schemathesis.openapi.loaders import from_dict
from schemathesis.specs.openapi.schemas import OpenApiSchema
from urllib3 import HTTPResponse

from tests.adapters import Adapter, Answer, Call, CloudRun, Lambda

LAMBDA_URL = "http://lambda.invalid"

each_operation = settings(max_examples=40, suppress_health_check=list(HealthCheck), database=None)


class LambdaTransport(BaseAdapter):
    """Sends what `requests` prepared to the Lambda handler, as an event."""

    def __init__(self, adapter: Lambda) -> None:
        super().__init__()
        self._adapter = adapter

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        body = request.body or b""
        raw = body.encode() if isinstance(body, str) else bytes(body)  # type: ignore[arg-type]
        headers = {name: str(value) for name, value in request.headers.items()}
        answer = self._adapter.send(Call(str(request.method), request.path_url, raw, headers))
        return as_requests(answer, request)

    def close(self) -> None:
        pass


def as_requests(answer: Answer, request: requests.PreparedRequest) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    response.raw = HTTPResponse(body=answer.body, headers=answer.headers)
    response._content = answer.body
    response.request, response.url = request, str(request.url)
    return response


def own_document(adapter: Adapter) -> OpenApiSchema:
    adapter.send(Call("GET", "/health"))  # waits for the model, whose labels the document names
    return from_dict(adapter.send(Call("GET", "/openapi.json")).json())


OPERATIONS = [
    ("/predict", "POST"),
    ("/predict/batch", "POST"),
    ("/health", "GET"),
    ("/model", "GET"),
]


def drive(adapter: Adapter, path: str, method: str, mode: GenerationMode, **how: Any) -> None:
    """Calls one operation with generated requests; every answer must be as the document says."""
    operation = own_document(adapter)[path][method]

    @each_operation
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Case[Any]) -> None:
        case.call_and_validate(**how)

    check()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), OPERATIONS[:2])
def test_cloud_run_keeps_its_document(
    path: str, method: str, mode: GenerationMode, cloud_run_adapter: CloudRun
) -> None:
    url = f"http://127.0.0.1:{cloud_run_adapter.port}"
    drive(cloud_run_adapter, path, method, mode, base_url=url)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("path", "method"), OPERATIONS[:2])
def test_lambda_keeps_its_document(
    path: str, method: str, mode: GenerationMode, lambda_adapter: Lambda
) -> None:
    session = requests.Session()
    session.mount(LAMBDA_URL, LambdaTransport(lambda_adapter))
    drive(lambda_adapter, path, method, mode, base_url=LAMBDA_URL, session=session)


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/model", "/docs", "/metrics"])
def test_the_answers_without_a_body_keep_it_too(path: str, adapter: Adapter) -> None:
    operation = own_document(adapter)[path]["GET"]
    answer = adapter.send(Call("GET", path))
    operation.validate_response(
        as_requests(answer, requests.Request("GET", f"http://x{path}").prepare())
    )
