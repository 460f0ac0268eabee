"""How the images are built: the same each time, of shared layers, of the allowed files alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from tests.adapters import ROOT
from tests.containers.conftest import alter, built
from tests.containers.engine import Engine, make, run, unique_name

# Layers that follow the base: what is removed of it, and the packages of serving.txt.
REMOVED, SERVING, LIBRARY, FRONT, MODEL = range(5)
ALLOWED = (
    *(r"core/[a-z_]+\.py", r"handlers/[a-z_.]+\.py", r"handlers/static/[a-z]+\.html"),
    *(r"models/[^/]+/[A-Za-z0-9_][A-Za-z0-9._-]*", r"requirements/[a-z-]+\.txt"),
    r"deploy/prepare_image\.py",
)


@contextmanager
def tagged(engine: Engine) -> Iterator[str]:
    """A name for an image, which is removed at the end."""
    name = unique_name()
    try:
        yield name
    finally:
        engine.run("image", "rm", "--force", name)


def test_two_builds_give_the_same_layers(engine: Engine, base_image: str) -> None:
    if "podman" not in Path(engine.program).name:
        pytest.skip("Docker's own image store keeps the times at which a layer was written")
    dry = make("--dry-run", "image-lambda", f"ENGINE={engine.program}", f"BASE={base_image}")
    command = shlex.split(dry.stdout.splitlines()[-1])
    # Right before, that no edit of the checkout comes between.
    first = engine.layers(built(engine, base_image, "lambda"))
    with tagged(engine) as name:
        command[command.index("classifier-lambda")] = name
        again = run([*command[:2], "--no-cache", *command[2:]])
        assert again.exit_code == 0, again.stderr[-3000:]
        assert engine.layers(name) == first


def test_packages_and_model_are_the_same_layers_in_both_images(
    engine: Engine, base_image: str, cloudrun_image: str, lambda_image: str
) -> None:
    base = engine.layers(base_image)
    one, other = engine.layers(cloudrun_image), engine.layers(lambda_image)
    assert one[: len(base)] == other[: len(base)] == base
    one, other = one[len(base) :], other[len(base) :]
    assert [one[i] == other[i] for i in range(len(one))] == [
        i not in (LIBRARY, FRONT) for i in range(len(one))
    ]
    assert len(one) == len(other) > MODEL


def test_an_altered_model_fails_the_build(
    engine: Engine, base_image: str, model_in_checkout: Path
) -> None:
    # The weights: a start looks at their size only, the build at every byte.
    alter(model_in_checkout / "model.onnx.data")
    model = model_in_checkout.relative_to(ROOT)
    failed = make(
        "image-cloudrun", f"ENGINE={engine.program}", f"BASE={base_image}", f"MODEL={model}"
    )
    assert failed.exit_code != 0
    assert "model.onnx.data was altered" in failed.stdout + failed.stderr


def test_a_build_gets_nothing_but_what_is_allowed(
    engine: Engine, base_image: str, model_in_checkout: Path, tmp_path: Path
) -> None:
    for name in (".token", "left.pyc", "__pycache__/left.txt"):
        (model_in_checkout / name).parent.mkdir(exist_ok=True)
        (model_in_checkout / name).write_text("must not reach a build")
    recipe = tmp_path / "Dockerfile"
    recipe.write_text(f"FROM {base_image}\nCOPY . /context\n")
    with tagged(engine) as name:
        engine.output("build", "--file", str(recipe), "--tag", name, str(ROOT))
        with engine.files(name) as archive:
            paths = [PurePosixPath(entry.name) for entry in archive if not entry.isdir()]
    got = [str(path.relative_to("context")) for path in paths if path.parts[0] == "context"]
    assert {"core/classifier.py", f"models/{model_in_checkout.name}/model.onnx"} <= set(got)
    assert [path for path in got if not re.fullmatch("|".join(ALLOWED), path)] == []
    assert [path for path in got if path.endswith(".pyc")] == []
