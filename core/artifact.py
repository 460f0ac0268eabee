"""A model's directory on disk: what it holds, and the proof that it is whole.

    model.onnx, model.onnx.data    the graph, and its weights in a file that is mapped
    tokenizer.json                 Hugging Face's fast tokenizer
    model.json                     `ModelCard`: labels, limits, calibration, metrics, provenance
    manifest.json                  SHA-256 and size of each file above
    README.md                      the card for people

May import: msgspec, the standard library.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from core.errors import ModelUnavailable

MANIFEST = "manifest.json"
CARD = "model.json"
GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
FORMAT = 1
# Files up to this size are hashed at every start (2 ms in all); larger ones only by their size, so
# that the weights stay mapped and unread.
QUICK_HASH_BYTES = 1_000_000

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A base model or a data set that the model was made from."""

    name: str
    licence: str


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`model.json`: all that serving needs to know of a model besides its weights.

    `temperature` divides the logits before the softmax or sigmoid. `thresholds` (multi-label only)
    has one probability per label, in the labels' order. `decode_html_entities` tells that the model
    was trained on texts with their HTML entities decoded.
    """

    name: str
    version: str
    task: Literal["single_label", "multi_label"]
    labels: tuple[str, ...]
    max_tokens: int
    temperature: float = 1.0
    thresholds: tuple[float, ...] | None = None
    decode_html_entities: bool = False
    metrics: dict[str, float] = {}
    base_model: Source | None = None
    data: tuple[Source, ...] = ()
    format: int = FORMAT


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    files: dict[str, FileEntry]
    format: int = FORMAT


class Artifact(msgspec.Struct, frozen=True):
    """A verified model directory. `checksum` is the manifest's SHA-256: it names every byte."""

    directory: Path
    card: ModelCard
    checksum: str

    @property
    def graph(self) -> Path:
        return self.directory / GRAPH

    @property
    def tokenizer(self) -> Path:
        return self.directory / TOKENIZER


def open_artifact(directory: Path, verify_weights: bool = False) -> Artifact:
    """Checks `directory` against its manifest and reads its card.

    Sizes of all files and hashes of the small ones are checked; `verify_weights` hashes all.
    Raises `ModelUnavailable` naming the file that is missing, truncated, altered or malformed.
    """
    if not directory.is_dir():
        raise ModelUnavailable(f"{directory} is no directory: there is no model")
    raw = _read(directory / MANIFEST)
    manifest = _decode(directory / MANIFEST, raw, Manifest)
    for required in (CARD, GRAPH, TOKENIZER):
        if required not in manifest.files:
            raise ModelUnavailable(f"{directory / MANIFEST} does not list {required}")
    _refuse_unlisted(directory, manifest)
    for name, entry in manifest.files.items():
        _verify(directory, name, entry, verify_weights)
    card = _decode(directory / CARD, _read(directory / CARD), ModelCard)
    _check_card(directory / CARD, card)
    return Artifact(directory, card, hashlib.sha256(raw).hexdigest())


def write_manifest(directory: Path) -> None:
    """Lists every file of `directory` in its manifest, sorted by name."""
    files = {
        path.name: FileEntry(_sha256(path), path.stat().st_size)
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    }
    document = msgspec.json.encode({"format": FORMAT, "files": files})
    (directory / MANIFEST).write_bytes(msgspec.json.format(document, indent=2) + b"\n")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror}") from error


def _decode(path: Path, raw: bytes, shape: type[Any]) -> Any:
    try:
        value = msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelUnavailable(f"{path} is malformed: {error}") from error
    if value.format != FORMAT:
        raise ModelUnavailable(f"{path} has format {value.format}; this release reads {FORMAT}")
    return value


def _verify(directory: Path, name: str, entry: FileEntry, verify_weights: bool) -> None:
    # A manifest may come from elsewhere: its names must not lead out of the directory.
    if not _FILE_NAME.fullmatch(name):
        raise ModelUnavailable(
            f"{directory / MANIFEST} lists {name!r}, which is no plain file name"
        )
    path = directory / name
    if path.is_symlink() or not path.is_file():
        raise ModelUnavailable(f"{path} is missing, though the manifest lists it")
    size = path.stat().st_size
    if size != entry.bytes:
        raise ModelUnavailable(f"{path} has {size} bytes, the manifest says {entry.bytes}")
    if (verify_weights or size <= QUICK_HASH_BYTES) and _sha256(path) != entry.sha256:
        raise ModelUnavailable(f"{path} was altered: its SHA-256 is not the manifest's")


def _refuse_unlisted(directory: Path, manifest: Manifest) -> None:
    """A graph may name any file beside it for its weights: none may lie there unverified."""
    for path in directory.iterdir():
        if path.name != MANIFEST and path.name not in manifest.files:
            raise ModelUnavailable(f"{path} is not listed in the manifest")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror}") from error


def _check_card(path: Path, card: ModelCard) -> None:
    labels = len(card.labels)
    problems = {
        "labels must be two or more, each once": labels < 2 or len(set(card.labels)) != labels,
        "max_tokens must be 3 or more": card.max_tokens < 3,
        "temperature must be above 0": not 0 < card.temperature < math.inf,
        "thresholds belong to task multi_label, one probability for each label": (
            not _thresholds_fit(card)
        ),
    }
    for rule, broken in problems.items():
        if broken:
            raise ModelUnavailable(f"{path}: {rule}")


def _thresholds_fit(card: ModelCard) -> bool:
    if card.thresholds is None:
        return True
    return (
        card.task == "multi_label"
        and len(card.thresholds) == len(card.labels)
        and all(0 <= threshold <= 1 for threshold in card.thresholds)
    )
