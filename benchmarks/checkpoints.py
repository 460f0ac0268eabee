"""The Hugging Face directory that the torch baseline serves.

The default model's own checkpoint where `make model` has left one; else a model of the same shape
with random weights, which takes as long and answers nonsense.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.servers import ARTIFACT, CHECKPOINT, ROOT


def torch_checkpoint() -> tuple[Path, bool]:
    """The directory, and whether its weights are those of the default model."""
    if (CHECKPOINT / "model.safetensors").exists():
        return CHECKPOINT, True
    stand_in = ROOT / "build" / "random-checkpoint"
    if not (stand_in / "model.safetensors").exists():
        _write_random(stand_in)
    return stand_in, False


def _write_random(directory: Path) -> None:
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    shape = BertConfig(
        num_hidden_layers=6,
        hidden_size=384,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=3,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(ARTIFACT / "tokenizer.json"), pad_token="[PAD]"
    )
    BertForSequenceClassification(shape).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
