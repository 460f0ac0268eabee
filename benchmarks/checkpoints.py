"""The Hugging Face directories that the torch baselines serve.

Random weights answer nonsense, but load and run as long as any others.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.servers import ARTIFACT, CHECKPOINT, ROOT


def torch_checkpoint() -> tuple[Path, bool]:
    """Of the default model, and whether its weights are real.

    Its own checkpoint where `make model` has left one; else a model of the same shape with random
    weights.
    """
    if (CHECKPOINT / "model.safetensors").exists():
        return CHECKPOINT, True
    from transformers import BertConfig

    shape = BertConfig(
        num_hidden_layers=6,
        hidden_size=384,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=3,
    )
    return _random("random-minilm", shape), False


def distilbert_checkpoint() -> Path:
    """Of DistilBERT-base's shape (66 million parameters), with random weights."""
    from transformers import DistilBertConfig

    return _random("random-distilbert", DistilBertConfig(num_labels=3))


def _random(name: str, shape: object) -> Path:
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    directory = ROOT / "build" / name
    if not (directory / "model.safetensors").exists():
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(ARTIFACT / "tokenizer.json"),
            pad_token="[PAD]",
            model_input_names=["input_ids", "attention_mask"],
        )
        tokenizer.save_pretrained(directory)
        AutoModelForSequenceClassification.from_config(shape).save_pretrained(directory)
    return directory
