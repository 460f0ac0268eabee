"""Who may import whom, and what a serving process must never load."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters import ROOT

PACKAGES = ("core", "handlers", "models", "deploy", "benchmarks", "tests")
ALLOWED = {
    "core": {"core"},
    "handlers": {"core", "handlers"},
    "models": {"core", "models"},
    "deploy": {"deploy"},
    "benchmarks": set(PACKAGES),
    "tests": set(PACKAGES),
}
# A third-party package -> the only files of core and handlers that import it.
HOMES = {
    "tokenizers": {"core/tokenizer.py"},
    "onnxruntime": {"core/engine_onnx.py"},
    "numpy": {"core/types.py", "core/tokenizer.py", "core/engine_onnx.py", "core/classifier.py"},
    "tqdm": {"core/__main__.py"},
    "msgspec": {
        "core/artifact.py",
        "core/records.py",
        "core/__main__.py",
        "handlers/wire.py",
        "handlers/openapi.py",
        "handlers/request_log.py",
    },
    "flask": {"handlers/cloudrun.py"},
    "functions_framework": {"handlers/cloudrun.py", "handlers/server.py"},
    "gunicorn": {"handlers/server.py"},
    "fastapi": {"handlers/lambda_http.py"},
    "starlette": {"handlers/lambda_http.py"},
    "mangum": {"handlers/lambda_http.py"},
    "snapshot_restore_py": {"handlers/aws_lambda.py"},
}
ADAPTERS = {
    "cloudrun": {"handlers/cloudrun.py", "handlers/serve.py", "handlers/server.py"},
    "lambda": {"handlers/aws_lambda.py", "handlers/lambda_http.py"},
}


def sources(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found or packages == ("deploy",)
    return found


def imported(path: Path) -> set[str]:
    """Every module that the file imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def roots(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_run_one_way(package: str) -> None:
    for path in sources(package):
        assert roots(path) & set(PACKAGES) <= ALLOWED[package], path


def test_each_library_has_its_home() -> None:
    for path in sources("core", "handlers"):
        name = str(path.relative_to(ROOT))
        for library in roots(path) - set(PACKAGES) - set(sys.stdlib_module_names):
            assert name in HOMES.get(library, set()), f"{name} imports {library}"


def test_the_adapters_do_not_know_each_other() -> None:
    own = {path: side for side, paths in ADAPTERS.items() for path in paths}
    modules = {path[:-3].replace("/", "."): side for path, side in own.items()}
    for path in sources("handlers"):
        name = str(path.relative_to(ROOT))
        for module in imported(path) & set(modules):
            assert own.get(name) == modules[module], f"{name} imports {module}"


def test_nothing_imports_the_functions_source() -> None:
    for path in sources(*PACKAGES):
        assert "handlers.cloudrun" not in imported(path), path


def test_only_settings_are_read_from_the_environment() -> None:
    """`environ` is given to `Settings.from_env`, or written; nothing else looks into it."""
    for path in sources("core", "handlers"):
        for line in path.read_text().splitlines():
            if "os.environ" in line and path.name != "settings.py":
                assert (
                    "from_env(os.environ)" in line
                    or "os.environ[" in line.split("=")[0]
                    or ("os.environ.setdefault(" in line)
                ), f"{path}: {line}"


SERVE_ON_CLOUD_RUN = """
import functions_framework
client = functions_framework.create_app("classify", "handlers/cloudrun.py").test_client()
status = client.post("/predict", json={"text": "have a lovely day"}).status_code
"""
SERVE_ON_LAMBDA = """
from handlers.aws_lambda import handler
class Context:
    get_remaining_time_in_millis = staticmethod(lambda: 30000)
event = json.load(open("tests/events/http_api_v2.json"))
status = handler(event, Context())["statusCode"]
"""
NEVER = {
    "torch", "transformers", "huggingface_hub", "onnx", "flatbuffers", "google.protobuf",
    "boto3", "botocore", "moto", "models", "benchmarks", "tests", "matplotlib", "tqdm", "sympy",
}  # fmt: skip


@pytest.mark.parametrize(
    ("serve", "never"),
    [
        (SERVE_ON_CLOUD_RUN, NEVER | {"fastapi", "pydantic", "mangum", "awslambdaric", "asyncio"}),
        (SERVE_ON_LAMBDA, NEVER | {"flask", "werkzeug", "functions_framework", "gunicorn"}),
    ],
)
def test_a_serving_process_loads_what_it_needs_only(serve: str, never: set[str]) -> None:
    program = f"import json, sys\n{serve}\nprint(json.dumps([status, *sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    status, *modules = json.loads(run.stdout.splitlines()[-1])
    assert status == 200
    assert "onnxruntime" in modules
    assert never & set(modules) == set()
