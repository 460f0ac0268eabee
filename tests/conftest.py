"""What all tests share: the default classifier, and both adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from core.classifier import Classifier
from core.settings import DEFAULT_MODEL
from tests.adapters import CloudRun, Lambda, cloud_run

# The same examples in every CI run, so that a change fails for what it changed; new ones elsewhere.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")

LAMBDA_SHAPES = ("http_api_v2", "rest_api_v1", "function_url", "load_balancer")


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    """The default model, as it is served."""
    return Classifier.load(DEFAULT_MODEL, threads=1)


@pytest.fixture(scope="session")
def cloud_run_adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudRun]:
    with cloud_run(tmp_path_factory.mktemp("cloudrun") / "log") as adapter:
        yield adapter


@pytest.fixture(scope="session")
def lambda_adapter() -> Lambda:
    return Lambda("http_api_v2")


@pytest.fixture(params=LAMBDA_SHAPES)
def any_lambda_adapter(request: pytest.FixtureRequest) -> Lambda:
    return Lambda(request.param)


@pytest.fixture(params=["cloud_run_adapter", "lambda_adapter"])
def adapter(request: pytest.FixtureRequest) -> CloudRun | Lambda:
    """Each adapter in turn."""
    chosen: CloudRun | Lambda = request.getfixturevalue(request.param)
    return chosen
