"""The engine and both images, or the reason why there are none.

The images are built with the targets that people use; layers of an earlier build are used again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.settings import DEFAULT_MODEL
from tests.adapters import ROOT
from tests.containers.engine import Engine, find_program, make

BASE = os.environ.get("BASE") or "python:3.11-slim-bookworm"
IMAGES = ("cloudrun", "lambda")
# Where docker-py, and so SAM, looks without DOCKER_HOST.
DOCKER_SOCKET = Path("/var/run/docker.sock")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Skips where none works."""
    program = find_program()
    if program is None:
        pytest.skip(f"no container engine: ENGINE={os.environ.get('ENGINE')!r}, PATH has none")
    engine = Engine(program)
    state = engine.run("info", timeout_s=60)
    if state.exit_code:
        pytest.skip(f"{program} does not work: {state.stderr.strip()[-300:]}")
    return engine


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """Skips where it is neither here nor to be had from a registry."""
    if engine.run("image", "inspect", BASE).exit_code:
        pulled = engine.run("pull", BASE)
        if pulled.exit_code:
            pytest.skip(f"no base image {BASE}: {pulled.stderr.strip()[-300:]}")
    return BASE


def built(engine: Engine, base: str, name: str) -> str:
    made = make(f"image-{name}", f"ENGINE={engine.program}", f"BASE={base}", "MODEL=models/default")
    assert made.exit_code == 0, made.stdout[-3000:] + made.stderr[-3000:]
    return f"classifier-{name}"


@pytest.fixture(scope="session")
def cloudrun_image(engine: Engine, base_image: str) -> str:
    return built(engine, base_image, "cloudrun")


@pytest.fixture(scope="session")
def lambda_image(engine: Engine, base_image: str) -> str:
    return built(engine, base_image, "lambda")


@pytest.fixture(params=IMAGES, scope="session")
def image(request: pytest.FixtureRequest) -> str:
    """Each image in turn."""
    chosen: str = request.getfixturevalue(f"{request.param}_image")
    return chosen


@pytest.fixture
def altered_model(tmp_path: Path) -> Path:
    """A copy of the default model in which one byte of its card is another, readable by all."""
    directory = tmp_path / "altered"
    shutil.copytree(DEFAULT_MODEL, directory)
    directory.chmod(0o755)
    alter(directory / "model.json")
    return directory


@pytest.fixture
def empty_model(tmp_path: Path) -> Path:
    directory = tmp_path / "empty"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


@pytest.fixture
def model_in_checkout() -> Iterator[Path]:
    """A copy of the default model where a build can reach it."""
    directory = ROOT / "models" / f"container-test-{os.getpid()}"
    try:
        yield Path(shutil.copytree(DEFAULT_MODEL, directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def alter(path: Path) -> None:
    """Flips the lowest bit of the last byte: the size stays."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    path.chmod(0o644)
