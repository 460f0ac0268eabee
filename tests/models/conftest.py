"""What the tests of `models` share: checkpoints so small that they export at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from models.export import main as export_main

# For properties: how long an example takes says nothing of it on a busy machine.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What torch's legacy exporter says of itself and of transformers' code; `models.export` checks
# the graph's logits against torch's afterwards.
EXPORT_WARNINGS = [
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:Exporting aten..index operator:UserWarning"),
]

LABELS = ("dull", "nice")
MAX_POSITIONS = 64
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NICE = ("sunny", "tasty", "lovely", "warm")
DULL = ("rainy", "bland", "dreary", "cold")
VOCABULARY = (*SPECIAL, *NICE, *DULL, "soup", "day", "tea", "the", "a", "is", ".", "##s", "##y")


def save_tokenizer(directory: Path) -> None:
    """A WordPiece tokenizer of a few words, as BERT's."""
    ids = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=MAX_POSITIONS,
    ).save_pretrained(directory)


def bert_config(**changes: Any) -> Any:
    small = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": MAX_POSITIONS,
    }
    return BertConfig(**small | changes)


def save_classifier(
    directory: Path, kind: str, labels: Sequence[str] = LABELS, **more: Any
) -> Path:
    """A random sequence classifier, the same at each call, whose answers differ by text."""
    torch.manual_seed(3)
    more |= {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    if kind == "bert":
        model = BertForSequenceClassification(bert_config(initializer_range=0.2, **more))
    else:
        config = DistilBertConfig(
            vocab_size=len(VOCABULARY),
            dim=32,
            n_layers=2,
            n_heads=2,
            hidden_dim=64,
            max_position_embeddings=MAX_POSITIONS,
            initializer_range=0.2,
            **more,
        )
        model = DistilBertForSequenceClassification(config)
    spread_answers(model)
    model.save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def spread_answers(model: Any) -> None:
    """Makes the logits of random texts differ, around zero, so that probabilities are not alike."""
    model.eval()
    with torch.no_grad():
        model.classifier.weight.mul_(4)
        logits = model(torch.randint(len(VOCABULARY), (32, 8))).logits
        model.classifier.bias.sub_(logits.mean(dim=0))


def save_encoder(directory: Path) -> Path:
    """A random BERT without a head: what training starts from."""
    torch.manual_seed(3)
    BertModel(bert_config()).save_pretrained(directory)
    save_tokenizer(directory)
    return directory


def write_csv(path: Path, each: int = 40) -> Path:
    """`each` nice and as many dull texts, told apart by one word, and none like another."""
    rows = ["text,label"]
    for i in range(each):
        for label, words in (("nice", NICE), ("dull", DULL)):
            rows.append(f"the soup is {words[i % 4]} {label}{i}a {label}{i}b {label}{i}c,{label}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT classifier; not to be altered."""
    directory = save_classifier(tmp_path_factory.mktemp("checkpoint"), "bert")
    notes = {"temperature": 2.0, "decode_html_entities": True}
    (directory / "training.json").write_text(json.dumps(notes))
    return directory


@pytest.fixture(scope="session")
def artifact(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`checkpoint` as it is served; not to be altered. Its users bear `EXPORT_WARNINGS`."""
    directory = tmp_path_factory.mktemp("artifact") / "tiny"
    assert export_main([str(checkpoint), str(directory), "--base-model", "random=MIT"]) == 0
    return directory
