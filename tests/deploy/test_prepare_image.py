"""What makes an image small and quick, on small trees; the images' own tests see the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from deploy import prepare_image
from tests.adapters import ROOT

UNCHECKED_HASH = 0b01
TARGETS = ("cloudrun", "lambda")


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("value = 1\n")
    return root


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def flags(pyc: Path) -> int:
    return int.from_bytes(pyc.read_bytes()[4:8], "little")


def prepare(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "deploy/prepare_image.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_prune_removes_what_serving_never_reads(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *("numpy/__init__.py", "numpy/_core/multiarray.py", "numpy/random/mtrand.py"),
        *("numpy/_core/tests/test_a.py", "numpy/__init__.pyi", "numpy/_core/include/a.h"),
        *("onnxruntime/capi/libonnxruntime.so.1.32.0", "onnxruntime/capi/state.so"),
        *("uvicorn/main.py", "uvicorn-0.30.dist-info/METADATA", "bin/uvicorn", "a/deep/test/b.py"),
        *("flask/testing.py", "flask/README.md"),
    )
    prepare_image.prune(tmp_path, [])
    assert files(tmp_path) == {
        *("numpy/__init__.py", "numpy/_core/multiarray.py"),
        *("onnxruntime/capi/state.so", "flask/testing.py"),
    }


def test_prune_keeps_what_it_is_told_to_keep(tmp_path: Path) -> None:
    tree(tmp_path, "anyio/__init__.py", "anyio/tests/test_a.py", "idna/core.py", "h11/a.py")
    assert prepare("prune", str(tmp_path), "--keep", "anyio*", "idna*").returncode == 0
    assert files(tmp_path) == {"anyio/__init__.py", "idna/core.py"}


def test_prune_of_an_empty_directory_is_no_error(tmp_path: Path) -> None:
    prepare_image.prune(tmp_path, [])
    assert files(tmp_path) == set()


def test_compile_puts_an_unchecked_pyc_beside_every_source(tmp_path: Path) -> None:
    tree(tmp_path, "one/a.py", "one/deep/b.py", "two/dotted.conf.py", "two/page.html")
    made = prepare("compile", str(tmp_path / "one"), str(tmp_path / "two"))
    assert made.returncode == 0, made.stderr
    version = sys.implementation.cache_tag
    compiled = {path for path in files(tmp_path) if path.endswith(".pyc")}
    assert compiled == {
        f"one/__pycache__/a.{version}.pyc",
        f"one/deep/__pycache__/b.{version}.pyc",
        f"two/__pycache__/dotted.conf.{version}.pyc",
    }
    assert {flags(tmp_path / path) for path in compiled} == {UNCHECKED_HASH}


def test_compile_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    pyc = tree(tmp_path, "a.py") / "__pycache__" / f"a.{sys.implementation.cache_tag}.pyc"
    prepare_image.compile_tree(tmp_path)
    first = pyc.read_bytes()
    pyc.unlink()
    os.utime(tmp_path / "a.py", (0, 0))
    prepare_image.compile_tree(tmp_path)
    assert pyc.read_bytes() == first


def test_compile_fails_on_what_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def\n")
    failed = prepare("compile", str(tmp_path))
    assert failed.returncode != 0
    assert "broken.py" in failed.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_library_compiles_what_a_start_imports_of_it(tmp_path: Path, target: str) -> None:
    made = prepare("library", str(tmp_path), target)
    assert made.returncode == 0, made.stderr
    library = Path(sysconfig.get_path("stdlib"))
    compiled = files(tmp_path)
    assert f"json/__pycache__/decoder.{sys.implementation.cache_tag}.pyc" in compiled
    for path in map(Path, compiled):
        assert flags(tmp_path / path) == UNCHECKED_HASH
        source = library / path.parent.parent / f"{path.name.partition('.')[0]}.py"
        assert source.is_file()
        assert "site-packages" not in path.parts


@pytest.mark.parametrize("target", TARGETS)
def test_library_fails_when_the_server_does_not_answer(tmp_path: Path, target: str) -> None:
    failed = prepare("library", str(tmp_path), target, CLASSIFIER_MODEL="/nowhere")
    assert failed.returncode != 0
    assert "/nowhere is no directory" in failed.stdout + failed.stderr
    assert files(tmp_path) == set()
