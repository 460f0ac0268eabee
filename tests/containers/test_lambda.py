"""Lambda's image behind the Runtime Interface Emulator, as a mere user, and behind SAM."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters import EVENTS, ROOT, Call, ask
from tests.conftest import LAMBDA_SHAPES
from tests.containers.conftest import DOCKER_SOCKET
from tests.containers.engine import LIMITS, Engine, EngineError, make, mounted

EMULATOR = "aws-lambda-rie-x86_64"
INVOCATIONS = "/2015-03-31/functions/function/invocations"
AS_LAMBDA = (
    *(*LIMITS, "--user", "65532:65532", "--entrypoint", "/emulator"),
    *("--env", "AWS_LAMBDA_FUNCTION_NAME=classifier", "--env", "AWS_LAMBDA_FUNCTION_TIMEOUT=30"),
    *("--env", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=1769"),
)
# What Lambda starts: the image's own entrypoint and command, which an emulator takes as arguments.
COMMAND = ("/usr/local/bin/python", "-m", "awslambdaric", "handlers.aws_lambda.handler")
NO_HTTP = {"Records": [{"eventSource": "aws:sqs", "body": "a"}]}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that any user can run. Skips where there is none."""
    named = shutil.which("aws-lambda-rie")
    below = f"lib/python3*/site-packages/samcli/local/rapid/{EMULATOR}"
    found = [Path(named)] if named else sorted(ROOT.glob(f".venv-sam/{below}"))
    if not found:
        pytest.skip("no Runtime Interface Emulator: neither aws-lambda-rie nor .venv-sam is there")
    copy = Path(shutil.copy(found[0], tmp_path_factory.mktemp("emulator") / "rie"))
    copy.chmod(0o755)
    return copy


@pytest.fixture(scope="module")
def function(engine: Engine, lambda_image: str, emulator: Path) -> Iterator[int]:
    """The port of a function under test; it takes one request at a time."""
    options = (*AS_LAMBDA, *mounted(emulator, "/emulator"))
    with engine.server(lambda_image, *COMMAND, options=options) as (_, port):
        yield port


def invoke(port: int, event: object) -> Any:
    answer = ask(port, Call("POST", INVOCATIONS, json.dumps(event).encode()))
    return json.loads(answer.body)


def event(shape: str) -> Any:
    return json.loads((EVENTS / f"{shape}.json").read_text())


@pytest.mark.parametrize("shape", LAMBDA_SHAPES)
def test_every_kind_of_http_event(function: int, shape: str) -> None:
    result = invoke(function, event(shape))
    assert result["statusCode"] == 200, result
    assert json.loads(result["body"])["predicted_label"] == "neither"


def test_an_event_that_is_no_request_is_named(function: int) -> None:
    failure = invoke(function, NO_HTTP)
    assert failure["errorType"] == "UnsupportedEvent"
    assert "holds records of aws:sqs" in failure["errorMessage"]


def test_the_function_goes_on_after_a_failure(function: int) -> None:
    invoke(function, NO_HTTP)
    assert invoke(function, event("http_api_v2"))["statusCode"] == 200


def test_the_images_own_command_is_the_one_tested(engine: Engine, lambda_image: str) -> None:
    config = engine.image(lambda_image)["Config"]
    assert [*config["Entrypoint"], *config["Cmd"]] == ["python", *COMMAND[1:]]


def test_snapstart_is_allowed(engine: Engine, lambda_image: str) -> None:
    labels = engine.image(lambda_image)["Config"]["Labels"]
    assert labels["com.amazonaws.lambda.feature.snapstart"] == "Allow"


def test_a_broken_model_fails_the_invocation(
    engine: Engine, lambda_image: str, emulator: Path
) -> None:
    options = (
        *(*AS_LAMBDA, *mounted(emulator, "/emulator")),
        *("--env", "CLASSIFIER_MODEL=/nowhere"),
    )
    # The emulator answers with the failure of the initialisation; nothing waits for a model.
    with engine.server(lambda_image, *COMMAND, options=options) as (container, port):
        answer = ask(port, Call("POST", INVOCATIONS, json.dumps(event("http_api_v2")).encode()))
        assert b"statusCode" not in answer.body
        assert "/nowhere is no directory" in answer.body.decode() + container.logs()


def test_a_broken_model_fails_the_initialisation(
    engine: Engine, lambda_image: str, altered_model: Path
) -> None:
    options = (
        *(*LIMITS, "--user", "65532:65532", "--env", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9"),
        *mounted(altered_model, "/app/models/default"),
    )
    ended = engine.finish(lambda_image, options=options)
    assert ended.exit_code != 0
    assert "model.json was altered" in ended.stdout + ended.stderr


@pytest.mark.parametrize("shape", LAMBDA_SHAPES)
def test_sam_invokes_the_image(engine: Engine, lambda_image: str, shape: str) -> None:
    if not (shutil.which("sam") or (ROOT / ".venv-sam" / "bin" / "sam").exists()):
        pytest.skip("no SAM: `make lambda-invoke` installs it into .venv-sam")
    if not (os.environ.get("DOCKER_HOST") or DOCKER_SOCKET.exists()):
        pytest.skip(f"SAM needs Docker's API: DOCKER_HOST is not set, {DOCKER_SOCKET} is not there")
    made = make(
        "lambda-invoke", f"ENGINE={engine.program}", f"EVENT=tests/events/{shape}.json",
        "MODEL=models/default",
    )  # fmt: skip
    if made.exit_code:
        raise EngineError(made.stdout[-2000:] + made.stderr[-2000:])
    answers = [line for line in made.stdout.splitlines() if line.startswith('{"statusCode"')]
    assert len(answers) == 1, made.stdout
    result = json.loads(answers[0])
    assert result["statusCode"] == 200
    assert json.loads(result["body"])["predicted_label"] == "neither"
