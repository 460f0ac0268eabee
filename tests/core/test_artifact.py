"""A model directory is whole or refused by the name of the file that is not."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from core.artifact import CARD, MANIFEST, QUICK_HASH_BYTES, open_artifact, write_manifest
from core.errors import ModelUnavailable

LISTED = ("README.md", "model.json", "model.onnx", "model.onnx.data", "tokenizer.json")
WEIGHTS = "model.onnx.data"


def refusal(directory: Path, verify_weights: bool = False) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        open_artifact(directory, verify_weights)
    return str(caught.value)


def flip(path: Path, offset: int, mask: int = 1) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ mask]))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def list_name(directory: Path, name: str) -> None:
    """Puts `name` into the manifest, with a sound hash and size of some other content."""
    files = json.loads((directory / MANIFEST).read_text())["files"]
    entry = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    edit_json(directory / MANIFEST, files=files | {name: entry})


@pytest.mark.parametrize("verify_weights", [False, True])
def test_the_default_model_is_whole(default_model: Path, verify_weights: bool) -> None:
    artifact = open_artifact(default_model, verify_weights)
    manifest = (default_model / MANIFEST).read_bytes()

    assert artifact.checksum == hashlib.sha256(manifest).hexdigest()
    assert artifact.card.labels == ("hate_speech", "offensive_language", "neither")
    assert set(json.loads(manifest)["files"]) == set(LISTED)
    assert (artifact.graph.name, artifact.tokenizer.name) == ("model.onnx", "tokenizer.json")


@pytest.mark.parametrize("name", LISTED)
def test_a_missing_file_is_named(model_copy: Path, name: str) -> None:
    (model_copy / name).unlink()
    assert f"{model_copy / name} is missing" in refusal(model_copy)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_is_named(model_copy: Path, name: str, change: int) -> None:
    content = (model_copy / name).read_bytes()
    (model_copy / name).write_bytes(content[:-1] if change < 0 else content + b"\n")
    assert f"{model_copy / name} has {len(content) + change} bytes" in refusal(model_copy)


@pytest.mark.parametrize("name", sorted(set(LISTED) - {WEIGHTS}))
def test_a_small_file_altered_in_place_is_named_without_full_verification(
    model_copy: Path, name: str
) -> None:
    flip(model_copy / name, 10)
    assert f"{model_copy / name} was altered" in refusal(model_copy)


def test_altered_weights_are_named_by_full_verification_only(model_copy: Path) -> None:
    assert (model_copy / WEIGHTS).stat().st_size > QUICK_HASH_BYTES
    flip(model_copy / WEIGHTS, 5_000_000)
    open_artifact(model_copy)
    assert f"{model_copy / WEIGHTS} was altered" in refusal(model_copy, verify_weights=True)


def test_any_flipped_bit_is_caught_by_full_verification(model_copy: Path) -> None:
    generator = random.Random(5)
    for path in sorted(model_copy.iterdir()):
        for _ in range(6):
            offset, mask = generator.randrange(path.stat().st_size), 1 << generator.randrange(8)
            flip(path, offset, mask)
            refusal(model_copy, verify_weights=True)
            flip(path, offset, mask)
    open_artifact(model_copy, verify_weights=True)


@pytest.mark.parametrize("directory", ["missing", "model/README.md"])
def test_what_is_no_directory_is_named(model_copy: Path, directory: str) -> None:
    path = model_copy.parent / directory
    assert refusal(path).startswith(f"{path} is no directory")


def test_a_missing_manifest_is_named(model_copy: Path) -> None:
    (model_copy / MANIFEST).unlink()
    assert f"{model_copy / MANIFEST} cannot be read" in refusal(model_copy)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"files": []}', b'{"files": {"a": {}}}'),
        b'{"files": {}, "extra": 1}',
        b'{"files": {"a": {"sha256": "", "bytes": 1, "extra": 1}}}',
    ],
)
def test_a_malformed_manifest_is_named(model_copy: Path, content: bytes) -> None:
    (model_copy / MANIFEST).write_bytes(content)
    assert f"{model_copy / MANIFEST} is malformed" in refusal(model_copy)


@pytest.mark.parametrize("name", [MANIFEST, CARD])
def test_another_format_is_named(model_copy: Path, name: str) -> None:
    edit_json(model_copy / name, format=2)
    if name == CARD:
        write_manifest(model_copy)
    assert f"{model_copy / name} has format 2" in refusal(model_copy)


@pytest.mark.parametrize("name", ["model.json", "model.onnx", "tokenizer.json"])
def test_a_manifest_must_list_what_serving_reads(model_copy: Path, name: str) -> None:
    files = json.loads((model_copy / MANIFEST).read_text())["files"]
    del files[name]
    edit_json(model_copy / MANIFEST, files=files)
    assert f"{model_copy / MANIFEST} does not list {name}" in refusal(model_copy)


@pytest.mark.parametrize("name", ["extra.bin", ".hidden", "folder"])
def test_a_file_that_the_manifest_does_not_list_is_refused(model_copy: Path, name: str) -> None:
    if name == "folder":
        (model_copy / name).mkdir()
    else:
        (model_copy / name).touch()
    assert f"{model_copy / name} is not listed" in refusal(model_copy)


def test_a_manifest_that_is_a_directory_is_named(model_copy: Path) -> None:
    (model_copy / MANIFEST).unlink()
    (model_copy / MANIFEST).mkdir()
    assert f"{model_copy / MANIFEST} cannot be read" in refusal(model_copy)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "..", ".", "", "a/b", ".hidden", "a\n", "a b", "-x", "x" * 129]
)
def test_a_name_that_leads_elsewhere_is_refused(model_copy: Path, name: str) -> None:
    (model_copy.parent / "x").write_bytes(b"x")
    list_name(model_copy, name)
    assert f"lists {name!r}, which is no plain file name" in refusal(model_copy)


def test_a_symlink_is_no_file(model_copy: Path) -> None:
    (model_copy.parent / "elsewhere").write_bytes(b"x")
    (model_copy / "link").symlink_to(model_copy.parent / "elsewhere")
    list_name(model_copy, "link")
    assert f"{model_copy / 'link'} is missing" in refusal(model_copy)


def test_a_directory_is_no_file(model_copy: Path) -> None:
    (model_copy / "folder").mkdir()
    list_name(model_copy, "folder")
    assert f"{model_copy / 'folder'} is missing" in refusal(model_copy)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"labels": []}, "labels must be two or more"),
        ({"labels": ["only"]}, "labels must be two or more"),
        ({"labels": ["a", "b", "a"]}, "labels must be two or more, each once"),
        ({"max_tokens": 2}, "max_tokens must be 3 or more"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"temperature": -1.5}, "temperature must be above 0"),
        ({"thresholds": [0.5, 0.5, 0.5]}, "thresholds belong to task multi_label"),
        ({"task": "multi_label", "thresholds": [0.5]}, "one probability for each label"),
        ({"task": "multi_label", "thresholds": [0.5, 0.5, 1.1]}, "one probability for each label"),
        ({"task": "multi_label", "thresholds": [0.5, -0.1, 1]}, "one probability for each label"),
        ({"task": "regression"}, "malformed"),
        ({"labels": "abc"}, "malformed"),
        ({"max_tokens": "256"}, "malformed"),
        ({"surprise": 1}, "malformed"),
        ({"data": [{"name": "soups", "licence": "MIT", "surprise": 1}]}, "malformed"),
    ],
)
def test_a_card_that_breaks_a_rule_is_named(
    model_copy: Path, changes: dict[str, Any], rule: str
) -> None:
    edit_json(model_copy / CARD, **changes)
    write_manifest(model_copy)
    message = refusal(model_copy)
    assert str(model_copy / CARD) in message
    assert rule in message


def test_a_multi_label_card_with_thresholds_is_taken(model_copy: Path) -> None:
    edit_json(model_copy / CARD, task="multi_label", thresholds=[0, 0.25, 1])
    write_manifest(model_copy)
    assert open_artifact(model_copy).card.thresholds == (0.0, 0.25, 1.0)
