"""Turns a Hugging Face sequence classifier into the artifact that both clouds serve.

    python -m models.export build/checkpoint models/mine --name my-model --version 1.0.0

torch -> ONNX -> transformer fusions -> 8-bit weights -> external data. The fused graph's logits are
held against transformers' own before anything is written; what 8 bits change is for
`models.evaluate` to tell. The artifact appears whole or not at all.

May import: torch, transformers, onnx, onnxruntime's tools, `core`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.optimizer import optimize_model
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from core.artifact import CARD, GRAPH, TOKENIZER, ModelCard, Source, write_manifest
from core.engine_onnx import INPUTS, OnnxEngine

OPSET = 17
# transformers' model_type -> the fusions of ONNX Runtime's optimiser that know its layers.
FUSIONS = {"bert": "bert", "distilbert": "bert"}
# fp32 graph against torch: sums in another order, nothing else.
FP32_TOLERANCE = 1e-4
# Weights smaller than this stay in the graph's file.
EXTERNAL_DATA_BYTES = 1024
CHECK_LENGTHS = (3, 8, 27, 61)


class ExportError(Exception):
    """A source that cannot become an artifact; the message says what is missing or unsupported."""


@dataclass(frozen=True)
class Checkpoint:
    """A Hugging Face directory, loaded: the fp32 reference, and what training left beside it."""

    directory: Path
    config: Any
    model: Any
    tokenizer: Any
    training: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.config.id2label[i] for i in range(self.config.num_labels))

    def logits(self, input_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits (batch, labels) of (batch, sequence) ids, by transformers in fp32."""
        with torch.inference_mode():
            ids = torch.from_numpy(input_ids)
            result = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return np.asarray(result.float().numpy())


def load_checkpoint(directory: Path) -> Checkpoint:
    """Loads from safetensors only: nothing is unpickled. Raises `ExportError`."""
    for needed in ("config.json", "tokenizer.json"):
        if not (directory / needed).is_file():
            raise ExportError(f"{directory} has no {needed}: a Hugging Face directory is needed")
    if not any(directory.glob("*.safetensors")):
        raise ExportError(f"{directory} has no .safetensors weights; pickled ones are not read")
    try:
        config = AutoConfig.from_pretrained(directory)
    except (ValueError, OSError) as error:
        raise ExportError(f"{directory / 'config.json'} is not understood: {error}") from error
    if config.model_type not in FUSIONS:
        raise ExportError(
            f"models of type {config.model_type!r} are not supported; {sorted(FUSIONS)} are"
        )
    if not any("SequenceClassification" in name for name in config.architectures or ()):
        raise ExportError(f"{directory} is no sequence classifier: {config.architectures}")
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, attn_implementation="eager", use_safetensors=True
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    notes = directory / "training.json"
    training = json.loads(notes.read_text()) if notes.is_file() else {}
    return Checkpoint(directory, config, model, tokenizer, training)


def export(source: Path, target: Path, card: ModelCard) -> None:
    """Writes the artifact of `source` to `target`, replacing what is there.

    Raises `ExportError` when the graph's logits stray from transformers'.
    """
    checkpoint = load_checkpoint(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        work, artifact = Path(scratch), Path(scratch) / "artifact"
        artifact.mkdir()
        _export_fp32(checkpoint, work / "fp32.onnx")
        _fuse(checkpoint, work / "fp32.onnx", work / "fused.onnx")
        _check_fp32(checkpoint, work / "fused.onnx")
        quantize_dynamic(
            work / "fused.onnx",
            work / "int8.onnx",
            per_channel=True,
            # Signed 8-bit weights saturate on CPUs without VNNI.
            weight_type=QuantType.QUInt8,
            # What ONNX's shape inference cannot tell behind a fused operator.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        _optimize(work / "int8.onnx", work / "optimized.onnx")
        _save_with_external_data(work / "optimized.onnx", artifact / GRAPH)
        _write_tokenizer(source / "tokenizer.json", artifact / TOKENIZER)
        write_card(artifact, card, f"# {card.name} {card.version}\n\nNot evaluated yet.\n")
        _replace(artifact, target)


def write_card(directory: Path, card: ModelCard, readme: str) -> None:
    """Writes `model.json` and `README.md`, then the manifest over all files."""
    document = msgspec.json.format(msgspec.json.encode(card), indent=2)
    (directory / CARD).write_bytes(document + b"\n")
    (directory / "README.md").write_text(readme, encoding="utf-8")
    write_manifest(directory)


def card_of(
    checkpoint: Checkpoint,
    name: str,
    version: str,
    max_tokens: int | None,
    base_model: Source | None,
    data: Sequence[Source],
) -> ModelCard:
    """The card of a checkpoint: labels and limits from its own files, calibration from training."""
    limit = min(checkpoint.config.max_position_embeddings, checkpoint.tokenizer.model_max_length)
    if max_tokens is not None and not 3 <= max_tokens <= limit:
        raise ExportError(f"--max-tokens must be from 3 to {limit}, the model's own limit")
    multi_label = checkpoint.config.problem_type == "multi_label_classification"
    return ModelCard(
        name=name,
        version=version,
        task="multi_label" if multi_label else "single_label",
        labels=checkpoint.labels,
        max_tokens=max_tokens or limit,
        temperature=checkpoint.training.get("temperature", 1.0),
        decode_html_entities=checkpoint.training.get("decode_html_entities", False),
        base_model=base_model,
        data=tuple(data),
    )


class _LogitsOnly(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def _export_fp32(checkpoint: Checkpoint, path: Path) -> None:
    ids = torch.from_numpy(_sample_ids(checkpoint, 2, 16))
    axes = {0: "batch", 1: "sequence"}
    # dynamo=False: the fusions below know the patterns of this exporter.
    torch.onnx.export(
        _LogitsOnly(checkpoint.model).eval(),
        (ids, torch.ones_like(ids)),
        str(path),
        input_names=list(INPUTS[:2]),
        output_names=["logits"],
        dynamic_axes={INPUTS[0]: axes, INPUTS[1]: axes, "logits": {0: "batch"}},
        opset_version=OPSET,
        dynamo=False,
    )


def _fuse(checkpoint: Checkpoint, source: Path, target: Path) -> None:
    config = checkpoint.config
    fused = optimize_model(
        str(source),
        model_type=FUSIONS[config.model_type],
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    )
    attentions = fused.get_fused_operator_statistics()["Attention"]
    if attentions != config.num_hidden_layers:
        raise ExportError(
            f"only {attentions} of {config.num_hidden_layers} attention layers could be fused"
        )
    fused.save_model_to_file(str(target))


def _check_fp32(checkpoint: Checkpoint, graph: Path) -> None:
    engine = OnnxEngine(graph, threads=1)
    limit = checkpoint.config.max_position_embeddings
    for length in {min(length, limit) for length in CHECK_LENGTHS}:
        ids = _sample_ids(checkpoint, 1, length)
        difference = float(np.abs(engine.run(ids) - checkpoint.logits(ids)).max())
        if not difference <= FP32_TOLERANCE:
            raise ExportError(f"the graph strays from torch by {difference} at {length} tokens")


def _sample_ids(checkpoint: Checkpoint, batch: int, length: int) -> NDArray[np.int64]:
    """Reproducible ids (batch, length) int64 from the whole vocabulary."""
    generator = np.random.default_rng(length)
    return generator.integers(0, checkpoint.config.vocab_size, (batch, length), dtype=np.int64)


def _optimize(source: Path, target: Path) -> None:
    """ONNX Runtime's own fusions, made once here instead of at every start."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _save_with_external_data(source: Path, target: Path) -> None:
    onnx.save_model(
        onnx.load(str(source)),
        str(target),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=target.name + ".data",
        size_threshold=EXTERNAL_DATA_BYTES,
    )


def _write_tokenizer(source: Path, target: Path) -> None:
    """Without the padding and truncation that training left in it: serving sets its own."""
    document = json.loads(source.read_text(encoding="utf-8"))
    document["padding"] = document["truncation"] = None
    target.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")), "utf-8")


def _replace(artifact: Path, target: Path) -> None:
    for path in artifact.iterdir():
        path.chmod(
            0o644
        )  # onnx writes the weights for their owner only; a container's user differs
    artifact.chmod(0o755)
    if target.exists():
        os.rename(target, artifact.with_name("old"))
    os.rename(artifact, target)


def source_argument(text: str) -> Source:
    """`NAME=LICENCE` of the command line."""
    name, equals, licence = text.partition("=")
    if not (name and equals and licence):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LICENCE")
    return Source(name, licence)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.export", description=__doc__)
    parser.add_argument("source", type=Path, help="Hugging Face directory with safetensors")
    parser.add_argument("target", type=Path, help="directory of the artifact; replaced if there")
    parser.add_argument("--name", help="default: the target's name")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--max-tokens", type=int, help="default: the model's own limit")
    parser.add_argument("--base-model", type=source_argument, metavar="NAME=LICENCE")
    parser.add_argument(
        "--data", type=source_argument, action="append", default=[], metavar="NAME=LICENCE"
    )
    options = parser.parse_args(arguments)
    try:
        checkpoint = load_checkpoint(options.source)
        card = card_of(
            checkpoint,
            options.name or options.target.name,
            options.version,
            options.max_tokens,
            options.base_model,
            options.data,
        )
        export(options.source, options.target, card)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in sorted(options.target.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
