"""The locks: whole, hashed, and free of what serving must not carry."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.adapters import ROOT

REQUIREMENTS = ROOT / "requirements"
HASHED = ("serving", "cloudrun", "lambda", "cli")
UNWANTED = {
    "torch", "transformers", "huggingface-hub", "onnx", "setuptools", "pip", "wheel", "scipy",
    "boto3", "botocore", "pytest", "moto", "cython",
}  # fmt: skip


def pinned(path: Path) -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==([^ \n;\\]+)", path.read_text(), re.MULTILINE)
    return dict(lines)


@pytest.mark.parametrize("name", HASHED)
def test_serving_sets_are_hashed_and_lean(name: str) -> None:
    path = REQUIREMENTS / f"{name}.txt"
    packages = pinned(path)
    assert packages
    assert not UNWANTED & set(packages)
    entries = re.split(r"^(?=[A-Za-z0-9])", path.read_text(), flags=re.MULTILINE)[1:]
    assert len(entries) == len(packages)
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.name)
def test_no_lock_names_an_index_or_a_path(path: Path) -> None:
    assert not re.search(r"://|--index|--extra-index|--find-links| @ ", path.read_text())


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.in")), ids=lambda path: path.name)
def test_every_input_is_in_its_lock(path: Path) -> None:
    lines = path.read_text().splitlines()
    wanted = {line for line in lines if line and line[0] not in "#-"}
    assert wanted
    assert wanted <= set(pinned(path.with_suffix(".txt")))


def test_all_sets_agree_on_versions() -> None:
    sets = [pinned(path) for path in sorted(REQUIREMENTS.glob("*.txt"))]
    versions: dict[str, str] = {}
    for packages in sets:
        for name, version in packages.items():
            assert versions.setdefault(name, version) == version, name
