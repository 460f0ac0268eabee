"""Cloud Run's image as Cloud Run runs it: under the hardest limits, in trouble, and at its end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters import Call, CloudRun, ask, event_of
from tests.containers.engine import LIMITS, Container, Engine, mounted

Server = tuple[Container, int]

STOP_S = 5
HAPPY = b'{"text": "have a lovely day"}'
TEXTS = (
    "have a lovely day",
    "i hate every one of you",
    "the train to the coast leaves at nine",
    "RT @someone: what a game!!! #football http://example.org/x?y=1",
    "&quot;quoted&quot; &amp; &lt;escaped&gt; 100%",
    "na\u00efve caf\u00e9, \u00fcber \u00c5ngstr\u00f6m",
    "\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059",
    "\U0001f600\U0001f44d\U0001f3fd so happy \U0001f389",
    'one\nline\tand \\ another "quote"',
    "shut up you fool",
    "word " * 150,
    "x",
)
# Runs beside the server, in its network and out of its reach: four clients that send one request
# after the other until a connection is refused. Tells what became of them as JSON.
LOAD = """
import http.client, json, threading, time
counts = {"answered": 0, "refused": 0}
lost = []
lock = threading.Lock()
body = json.dumps({"text": "a long day with many words " * 20})
end = time.monotonic() + 30
def client():
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=20)
        try:
            connection.connect()
        except ConnectionRefusedError:
            with lock: counts["refused"] += 1
            return
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
            with lock:
                if status == 200: counts["answered"] += 1
                else: lost.append(status)
        except Exception as error:
            with lock: lost.append(repr(error))
        finally:
            connection.close()
        if counts["answered"] == 20: print("busy", flush=True)
threads = [threading.Thread(target=client) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({**counts, "lost": lost}), flush=True)
"""
POST_INSIDE = """
import json, urllib.request
request = urllib.request.Request("http://127.0.0.1:8080/predict", b'{"text": "have a lovely day"}',
                                 {"Content-Type": "application/json"})
answer = urllib.request.urlopen(request, timeout=30)
print(answer.status, json.load(answer)["predicted_label"])
"""
# Answers events as Lambda's handler does, without its runtime.
HANDLE = """
import json, sys
from handlers.aws_lambda import handler
class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 30_000)
for event in json.load(sys.stdin):
    print("answer:" + json.dumps(handler(event, Context)))
"""


def prediction_of(text: str) -> Call:
    return Call("POST", "/predict", json.dumps({"text": text}).encode())


def without_times(body: bytes) -> bytes:
    timeless, times = re.subn(rb'("inference_time_ms": ?)[0-9.e+-]+', rb"\g<1>0", body)
    assert times == 1, body
    return timeless


@pytest.fixture(scope="module")
def server(engine: Engine, cloudrun_image: str) -> Iterator[Server]:
    with engine.server(cloudrun_image) as running:
        yield running


def test_the_right_answer_under_the_hardest_limits(server: Server) -> None:
    container, port = server
    answer = ask(port, Call("POST", "/predict", HAPPY))
    assert answer.status == 200
    assert answer.json()["predicted_label"] == "neither"
    assert ask(port, Call("GET", "/health")).json()["status"] == "healthy"
    assert not container.state()["OOMKilled"]


def test_its_user_has_no_rights(server: Server) -> None:
    container, _ = server
    assert container.exec("id", "-u").stdout.strip() == "65532"
    assert container.exec("id", "-g").stdout.strip() == "65532"
    status = container.exec("cat", "/proc/1/status").stdout
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^Uid:(\s+65532){4}$", status, re.M)


def test_answers_are_those_of_the_server_outside(
    server: Server, cloud_run_adapter: CloudRun
) -> None:
    _, port = server
    for text in TEXTS:
        inside, outside = (
            ask(port, prediction_of(text)),
            cloud_run_adapter.send(prediction_of(text)),
        )
        assert inside.status == outside.status == 200
        assert without_times(inside.body) == without_times(outside.body)


def test_answers_are_those_of_lambdas_image(
    engine: Engine, server: Server, lambda_image: str
) -> None:
    _, port = server
    events = [event_of("http_api_v2", prediction_of(text)) for text in TEXTS]
    options = (*LIMITS, "--user", "65532:65532", "--entrypoint", "python")
    handled = engine.finish(lambda_image, "-c", HANDLE, options=options, stdin=json.dumps(events))
    assert handled.exit_code == 0, handled.stderr
    results = [json.loads(found) for found in re.findall("^answer:(.*)$", handled.stdout, re.M)]
    assert len(results) == len(TEXTS)
    for text, result in zip(TEXTS, results, strict=True):
        assert result["statusCode"] == 200
        expected = without_times(ask(port, prediction_of(text)).body)
        assert without_times(result["body"].encode()) == expected


def test_the_health_check_tells_a_whole_model(engine: Engine, server: Server) -> None:
    container, _ = server
    probe = health_command(engine)
    assert container.exec(*probe).exit_code == 0


def health_command(engine: Engine) -> list[str]:
    """HEALTHCHECK's command, from the image where the engine tells it."""
    image = engine.image("classifier-cloudrun")
    told = (
        image.get("HealthCheck") or image.get("Healthcheck") or image["Config"].get("Healthcheck")
    )
    expected = ["python", "-m", "handlers.probe"]
    if told:
        assert told["Test"] == ["CMD", *expected]
        assert (told["Interval"], told["StartPeriod"], told["Retries"]) == (30e9, 40e9, 3)
    return expected


def test_without_a_network(engine: Engine, cloudrun_image: str) -> None:
    with engine.container(cloudrun_image, options=(*LIMITS, "--network", "none")) as container:
        assert wait_for_probe(container) == 0
        answer = container.exec("python", "-c", POST_INSIDE)
        assert (answer.exit_code, answer.stdout.split()) == (0, ["200", "neither"]), answer.stderr


def wait_for_probe(container: Container) -> int:
    """The health check's exit code, once the server listens or 15 s went by."""
    code = 1
    for _ in range(30):
        code = container.exec("python", "-m", "handlers.probe").exit_code
        if code == 0 or not container.running():
            break
        time.sleep(0.5)
    return code


def test_a_model_that_is_nowhere(engine: Engine, cloudrun_image: str) -> None:
    options = (*LIMITS, "--env", "CLASSIFIER_MODEL=/nowhere")
    check_broken(engine, cloudrun_image, options, "/nowhere is no directory")


def test_a_model_whose_directory_is_empty(
    engine: Engine, cloudrun_image: str, empty_model: Path
) -> None:
    options = (*LIMITS, *mounted(empty_model, "/app/models/default"))
    check_broken(engine, cloudrun_image, options, "manifest.json cannot be read")


def test_a_model_that_was_altered(engine: Engine, cloudrun_image: str, altered_model: Path) -> None:
    options = (*LIMITS, *mounted(altered_model, "/app/models/default"))
    check_broken(engine, cloudrun_image, options, "model.json was altered")


def check_broken(engine: Engine, image: str, options: tuple[str, ...], reason: str) -> None:
    with engine.server(image, options=options) as (container, port):
        health = ask(port, Call("GET", "/health"))
        assert health.status == 503
        assert reason in health.json()["reason"]
        assert ask(port, Call("POST", "/predict", HAPPY)).status == 503
        assert ask(port, Call("GET", "/health/live")).status == 200
        assert container.exec(*health_command(engine)).exit_code == 1
        assert container.running()
        container.terminate()
        assert container.exit_code(STOP_S) == 0


@pytest.mark.parametrize("port", ["http", "0", "70000", "80 80"])
def test_a_port_that_is_no_port_is_a_clear_line(
    engine: Engine, cloudrun_image: str, port: str
) -> None:
    failed = engine.finish(cloudrun_image, options=(*LIMITS, "--env", f"PORT={port}"))
    assert failed.exit_code == 1
    assert f"error: PORT={port!r} is not accepted" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_another_port(engine: Engine, cloudrun_image: str) -> None:
    options = (*LIMITS, "--env", "PORT=9090", "--network", "none")
    with engine.container(cloudrun_image, options=options) as container:
        assert wait_for_probe(container) == 0


def test_sigterm_under_load_loses_no_request(engine: Engine, cloudrun_image: str) -> None:
    with engine.server(cloudrun_image) as (container, _):
        beside = ("--network", f"container:{container.name}", "--read-only")
        client = ("--entrypoint", "python", *beside)
        with engine.container(cloudrun_image, "-u", "-c", LOAD, options=client) as load:
            wait_until_logged(load, "busy")
            container.terminate()
            assert container.exit_code(STOP_S) == 0
            load.exit_code(30)
            told = json.loads(load.logs().splitlines()[-1])
    assert told["lost"] == []
    assert told["refused"] == 4
    assert told["answered"] >= 20


def wait_until_logged(container: Container, line: str) -> None:
    for _ in range(200):
        if line in container.logs():
            return
        time.sleep(0.1)
    raise TimeoutError(f"no {line!r} in:\n{container.logs()}")


@pytest.mark.parametrize("delay_ms", [200, 300, 500, 800])
def test_sigterm_during_the_start_ends_it_at_once(
    engine: Engine, cloudrun_image: str, delay_ms: int
) -> None:
    with engine.container(cloudrun_image, options=LIMITS) as container:
        time.sleep(delay_ms / 1000)
        container.terminate()
        assert container.exit_code(STOP_S) in (0, 143)


def test_nothing_is_written(engine: Engine, cloudrun_image: str) -> None:
    # What the engine itself puts into a container is there without the server too.
    with engine.container(
        cloudrun_image, "-c", "import time; time.sleep(120)",
        options=("--entrypoint", "python", "--tmpfs", "/tmp"),
    ) as idle:  # fmt: skip
        by_engine = idle.changes()
    with engine.server(cloudrun_image, options=("--tmpfs", "/tmp")) as (container, port):
        assert ask(port, Call("POST", "/predict", HAPPY)).status == 200
        assert container.changes() - by_engine == set()
        assert container.exec("ls", "-A", "/tmp").stdout == ""
